//! System calls as the recorder sees them: which, and where their arguments are.

use super::Scope;
use crate::sandbox::attribute::{self, Request};
use crate::sys::Notification;
use nix::libc;

/// A path in the memory of the caller, relative to one of its descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    /// `AT_FDCWD` or a descriptor.
    pub(super) directory: i32,
    /// Where the path is; `None` for the descriptor itself.
    pub(super) path: Option<u64>,
    /// Whether a link at the end is followed.
    pub(super) follow: bool,
    /// Whether an empty path means the descriptor itself.
    pub(super) empty: bool,
}

/// A call, its arguments by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Chown {
        at: At,
        uid: u32,
        gid: u32,
    },
    Stat {
        at: At,
        out: u64,
    },
    Statx {
        at: At,
        flags: i32,
        mask: u32,
        out: u64,
    },
    Open {
        at: At,
        flags: i32,
        mode: u32,
    },
    MakeDirectory {
        at: At,
        mode: u32,
    },
    MakeNode {
        at: At,
        mode: u32,
        device: u64,
    },
    MakeLink {
        text: u64,
        at: At,
    },
    Remove {
        at: At,
    },
    Rename {
        from: At,
        to: At,
    },
    HardLink {
        from: At,
        to: At,
    },
    ChangeMode {
        at: At,
        mode: u32,
    },
    ChangeTimes {
        at: At,
        times: Times,
    },
    /// truncate(2).
    Truncate {
        at: At,
    },
    /// bind(2), which makes a socket's file; where the name is, and how long.
    Bind {
        address: u64,
        length: u32,
    },
    /// access(2).
    Access {
        at: At,
        mode: i32,
    },
    /// chdir(2).
    Enter {
        at: At,
    },
    /// readlink(2).
    ReadLink {
        at: At,
    },
    Execute {
        at: At,
    },
    ChangeAttribute {
        at: At,
        request: Request,
    },
    /// The value of the attribute with the name at `name` is written to `out`, at most `size` bytes.
    ShowAttribute {
        at: At,
        name: u64,
        out: u64,
        size: u64,
    },
    /// Names of attributes are written to `out`, at most `size` bytes.
    ListAttributes {
        at: At,
        out: u64,
        size: u64,
    },
    Identity(IdentityCall),
    /// prctl(2).
    Control {
        option: i32,
        values: [u64; 4],
    },
    /// capget(2); where it says of what, and where the sets go.
    ShowCapabilities {
        header: u64,
        sets: u64,
    },
    /// capset(2) likewise.
    SetCapabilities {
        header: u64,
        sets: u64,
    },
    /// kill(2).
    Signal {
        process: i32,
        signal: i32,
    },
    /// getsockopt(2) with `SO_PEERCRED`; where the answer goes, and where its length is.
    ShowPeer {
        socket: i32,
        out: u64,
        length: u64,
    },
    /// chroot(2), for root.
    ChangeRoot,
    /// A resource's limits are set, or written to `out`, or both.
    Limits {
        resource: u32,
        out: Option<u64>,
    },
    /// One that the filter should not have sent.
    Other,
}

/// Which times a file is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    Now,
    /// As utimensat(2) has them, here.
    At(u64),
    /// Others, as the calls before that have them.
    Old,
}

impl Times {
    const fn old(address: u64) -> Self {
        match address {
            0 => Self::Now,
            _ => Self::Old,
        }
    }
}

/// A call about users and groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdentityCall {
    User,
    EffectiveUser,
    Group,
    EffectiveGroup,
    ThreeUsers([u64; 3]),
    ThreeGroups([u64; 3]),
    Groups { size: i32, list: u64 },
    SetUser(u32),
    SetGroup(u32),
    SetTwoUsers(u32, u32),
    SetTwoGroups(u32, u32),
    SetThreeUsers([u32; 3]),
    SetThreeGroups([u32; 3]),
    SetFilesUser(u32),
    SetFilesGroup(u32),
    SetGroups { size: i32, list: u64 },
}

impl Call {
    /// Reads a notification.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the kernel, too, takes the low half of a register for an int"
    )]
    pub(super) fn of(note: &Notification) -> Self {
        let a = note.args;
        let (int, id) = (|n: usize| a[n] as i32, |n: usize| a[n] as u32);
        let at = |n: usize, flags: i32| At {
            directory: int(n),
            path: Some(a[n + 1]),
            follow: flags & libc::AT_SYMLINK_NOFOLLOW == 0,
            empty: flags & libc::AT_EMPTY_PATH != 0,
        };
        let fd = || At {
            directory: int(0),
            path: None,
            follow: true,
            empty: true,
        };
        let here = |n: usize, follow| At {
            directory: libc::AT_FDCWD,
            path: Some(a[n]),
            follow,
            empty: false,
        };
        let change = |at| Self::ChangeAttribute {
            at,
            request: Request::of(note),
        };
        let show = |at| Self::ShowAttribute {
            at,
            name: a[1],
            out: a[2],
            size: a[3],
        };
        let list = |at| Self::ListAttributes {
            at,
            out: a[1],
            size: a[2],
        };
        let call = attribute::number(note);
        #[cfg(target_arch = "x86_64")]
        {
            match call {
                libc::SYS_chown => {
                    return Self::Chown {
                        at: here(0, true),
                        uid: id(1),
                        gid: id(2),
                    };
                }
                libc::SYS_lchown => {
                    return Self::Chown {
                        at: here(0, false),
                        uid: id(1),
                        gid: id(2),
                    };
                }
                libc::SYS_stat => {
                    return Self::Stat {
                        at: here(0, true),
                        out: a[1],
                    };
                }
                libc::SYS_lstat => {
                    return Self::Stat {
                        at: here(0, false),
                        out: a[1],
                    };
                }
                libc::SYS_open => {
                    return Self::Open {
                        at: here(0, opens_behind_link(int(1))),
                        flags: int(1),
                        mode: id(2),
                    };
                }
                libc::SYS_utime | libc::SYS_utimes => {
                    return Self::ChangeTimes {
                        at: here(0, true),
                        times: Times::old(a[1]),
                    };
                }
                libc::SYS_futimesat => {
                    return Self::ChangeTimes {
                        at: match a[1] {
                            0 => fd(),
                            _ => at(0, 0),
                        },
                        times: Times::old(a[2]),
                    };
                }
                libc::SYS_creat => {
                    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
                    return Self::Open {
                        at: here(0, true),
                        flags,
                        mode: id(1),
                    };
                }
                libc::SYS_mkdir => {
                    return Self::MakeDirectory {
                        at: here(0, false),
                        mode: id(1),
                    };
                }
                libc::SYS_mknod => {
                    return Self::MakeNode {
                        at: here(0, false),
                        mode: id(1),
                        device: a[2],
                    };
                }
                libc::SYS_symlink => {
                    return Self::MakeLink {
                        text: a[0],
                        at: here(1, false),
                    };
                }
                libc::SYS_unlink | libc::SYS_rmdir => return Self::Remove { at: here(0, false) },
                libc::SYS_rename => {
                    return Self::Rename {
                        from: here(0, false),
                        to: here(1, false),
                    };
                }
                libc::SYS_link => {
                    return Self::HardLink {
                        from: here(0, false),
                        to: here(1, false),
                    };
                }
                libc::SYS_chmod => {
                    return Self::ChangeMode {
                        at: here(0, true),
                        mode: id(1),
                    };
                }
                libc::SYS_access => {
                    return Self::Access {
                        at: here(0, true),
                        mode: int(1),
                    };
                }
                libc::SYS_readlink => {
                    return Self::ReadLink { at: here(0, false) };
                }
                _ => {}
            }
        }
        match call {
            libc::SYS_setxattr | libc::SYS_removexattr => change(here(0, true)),
            libc::SYS_lsetxattr | libc::SYS_lremovexattr => change(here(0, false)),
            libc::SYS_fsetxattr | libc::SYS_fremovexattr => change(fd()),
            libc::SYS_getxattr => show(here(0, true)),
            libc::SYS_lgetxattr => show(here(0, false)),
            libc::SYS_fgetxattr => show(fd()),
            libc::SYS_listxattr => list(here(0, true)),
            libc::SYS_llistxattr => list(here(0, false)),
            libc::SYS_flistxattr => list(fd()),
            libc::SYS_fchown => Self::Chown {
                at: fd(),
                uid: id(1),
                gid: id(2),
            },
            libc::SYS_fchownat => Self::Chown {
                at: at(0, int(4)),
                uid: id(2),
                gid: id(3),
            },
            libc::SYS_fstat => Self::Stat {
                at: fd(),
                out: a[1],
            },
            libc::SYS_newfstatat => Self::Stat {
                at: at(0, int(3)),
                out: a[2],
            },
            libc::SYS_statx => Self::Statx {
                at: at(0, int(2)),
                flags: int(2),
                mask: id(3),
                out: a[4],
            },
            libc::SYS_openat => Self::Open {
                at: At {
                    follow: opens_behind_link(int(2)),
                    ..at(0, 0)
                },
                flags: int(2),
                mode: id(3),
            },
            libc::SYS_mkdirat => Self::MakeDirectory {
                at: at(0, libc::AT_SYMLINK_NOFOLLOW),
                mode: id(2),
            },
            libc::SYS_mknodat => {
                let at = at(0, libc::AT_SYMLINK_NOFOLLOW);
                Self::MakeNode {
                    at,
                    mode: id(2),
                    device: a[3],
                }
            }
            libc::SYS_symlinkat => Self::MakeLink {
                text: a[0],
                at: at(1, libc::AT_SYMLINK_NOFOLLOW),
            },
            libc::SYS_unlinkat => Self::Remove {
                at: at(0, libc::AT_SYMLINK_NOFOLLOW),
            },
            libc::SYS_renameat | libc::SYS_renameat2 => Self::Rename {
                from: at(0, libc::AT_SYMLINK_NOFOLLOW),
                to: at(2, libc::AT_SYMLINK_NOFOLLOW),
            },
            libc::SYS_linkat => Self::HardLink {
                from: link_source(&at(0, int(4)), int(4)),
                to: at(2, libc::AT_SYMLINK_NOFOLLOW),
            },
            libc::SYS_fchmod => Self::ChangeMode {
                at: fd(),
                mode: id(1),
            },
            libc::SYS_fchmodat => Self::ChangeMode {
                at: at(0, 0),
                mode: id(2),
            },
            FCHMODAT2 => Self::ChangeMode {
                at: at(0, int(3)),
                mode: id(2),
            },
            libc::SYS_utimensat => Self::ChangeTimes {
                at: match a[1] {
                    0 => fd(),
                    _ => at(0, int(3)),
                },
                times: match a[2] {
                    0 => Times::Now,
                    address => Times::At(address),
                },
            },
            libc::SYS_truncate => Self::Truncate { at: here(0, true) },
            libc::SYS_bind => Self::Bind {
                address: a[1],
                length: id(2),
            },
            libc::SYS_faccessat => Self::Access {
                at: at(0, 0),
                mode: int(2),
            },
            libc::SYS_faccessat2 => Self::Access {
                at: at(0, int(3)),
                mode: int(2),
            },
            libc::SYS_chdir => Self::Enter { at: here(0, true) },
            libc::SYS_readlinkat => Self::ReadLink {
                at: at(0, libc::AT_SYMLINK_NOFOLLOW),
            },
            libc::SYS_execve => Self::Execute { at: here(0, true) },
            libc::SYS_execveat => Self::Execute { at: at(0, int(4)) },
            libc::SYS_prctl => Self::Control {
                option: int(0),
                values: [a[1], a[2], a[3], a[4]],
            },
            libc::SYS_capget => Self::ShowCapabilities {
                header: a[0],
                sets: a[1],
            },
            libc::SYS_capset => Self::SetCapabilities {
                header: a[0],
                sets: a[1],
            },
            libc::SYS_kill => Self::Signal {
                process: int(0),
                signal: int(1),
            },
            libc::SYS_getsockopt if [int(1), int(2)] == [libc::SOL_SOCKET, libc::SO_PEERCRED] => {
                Self::ShowPeer {
                    socket: int(0),
                    out: a[3],
                    length: a[4],
                }
            }
            libc::SYS_chroot => Self::ChangeRoot,
            libc::SYS_setrlimit => Self::Limits {
                resource: id(0),
                out: None,
            },
            libc::SYS_getrlimit => Self::Limits {
                resource: id(0),
                out: Some(a[1]),
            },
            libc::SYS_prlimit64 => Self::Limits {
                resource: id(1),
                out: Some(a[3]).filter(|address| *address != 0),
            },
            _ => IdentityCall::of(note).map_or(Self::Other, Self::Identity),
        }
    }
}

impl Call {
    /// The paths that the caller has to find the way along.
    pub(super) const fn paths(&self) -> [Option<&At>; 2] {
        match self {
            Self::Rename { from, to } | Self::HardLink { from, to } => [Some(from), Some(to)],
            Self::Chown { at, .. }
            | Self::Stat { at, .. }
            | Self::Statx { at, .. }
            | Self::Open { at, .. }
            | Self::MakeDirectory { at, .. }
            | Self::MakeNode { at, .. }
            | Self::MakeLink { at, .. }
            | Self::Remove { at }
            | Self::ChangeMode { at, .. }
            | Self::ChangeTimes { at, .. }
            | Self::Truncate { at }
            | Self::Access { at, .. }
            | Self::Enter { at }
            | Self::ReadLink { at }
            | Self::Execute { at }
            | Self::ChangeAttribute { at, .. }
            | Self::ShowAttribute { at, .. }
            | Self::ListAttributes { at, .. } => [Some(at), None],
            _ => [None, None],
        }
    }
}

impl Call {
    /// Whether nothing is changed or shown that is recorded, so that it is root's to do.
    pub(super) const fn only_reads(&self) -> bool {
        const CHANGES: i32 =
            libc::O_CREAT | TEMPORARY | libc::O_WRONLY | libc::O_RDWR | libc::O_TRUNC;
        match self {
            Self::Open { flags, .. } => *flags & CHANGES == 0,
            Self::Access { .. }
            | Self::Enter { .. }
            | Self::ReadLink { .. }
            | Self::Truncate { .. } => true,
            _ => false,
        }
    }
}

/// Whether open(2) with these flags looks behind a link at the end.
const fn opens_behind_link(flags: i32) -> bool {
    const ANEW: i32 = libc::O_CREAT | libc::O_EXCL;
    flags & libc::O_NOFOLLOW == 0 && flags & ANEW != ANEW
}

/// Links are followed by linkat(2) only where it is said so.
const fn link_source(at: &At, flags: i32) -> At {
    At {
        follow: flags & libc::AT_SYMLINK_FOLLOW != 0,
        ..*at
    }
}

/// fchmodat2(2), which the C library does not name yet; the number is the same everywhere.
const FCHMODAT2: i64 = 452;

impl IdentityCall {
    #[expect(clippy::cast_possible_truncation, reason = "as above")]
    fn of(note: &Notification) -> Option<Self> {
        let a = note.args;
        let (id, three) = (|n: usize| a[n] as u32, [a[0], a[1], a[2]]);
        let ids = three.map(|id| id as u32);
        let (size, list) = (a[0] as i32, a[1]);
        Some(match note.call {
            libc::SYS_getuid => Self::User,
            libc::SYS_geteuid => Self::EffectiveUser,
            libc::SYS_getgid => Self::Group,
            libc::SYS_getegid => Self::EffectiveGroup,
            libc::SYS_getresuid => Self::ThreeUsers(three),
            libc::SYS_getresgid => Self::ThreeGroups(three),
            libc::SYS_getgroups => Self::Groups { size, list },
            libc::SYS_setuid => Self::SetUser(id(0)),
            libc::SYS_setgid => Self::SetGroup(id(0)),
            libc::SYS_setreuid => Self::SetTwoUsers(id(0), id(1)),
            libc::SYS_setregid => Self::SetTwoGroups(id(0), id(1)),
            libc::SYS_setresuid => Self::SetThreeUsers(ids),
            libc::SYS_setresgid => Self::SetThreeGroups(ids),
            libc::SYS_setfsuid => Self::SetFilesUser(id(0)),
            libc::SYS_setfsgid => Self::SetFilesGroup(id(0)),
            libc::SYS_setgroups => Self::SetGroups { size, list },
            _ => return None,
        })
    }
}

/// A call, and the argument and the bits of it that matter, if not all matter.
type Wanted = (i64, Option<(usize, u32)>);

/// openat2(2) looks for a path in ways that can't be retraced here. Programs do without it, as on Linux before 5.6.
pub(in crate::sandbox) const ABSENT: [i64; 1] = [libc::SYS_openat2];

/// The calls that the recorder answers.
pub(in crate::sandbox) fn wanted(scope: Scope) -> Vec<Wanted> {
    match scope {
        Scope::Everything => all(),
        Scope::Devices { looks } => devices(looks),
    }
}

/// Calls that make nodes, for nodes whose type has the bit that devices have and files, FIFOs and sockets don't, and calls that could write
/// the record of one.
fn devices(looks: bool) -> Vec<Wanted> {
    let makes = |argument| Some((argument, libc::S_IFCHR));
    let mut calls = vec![(libc::SYS_mknodat, makes(2))];
    #[cfg(target_arch = "x86_64")]
    calls.push((libc::SYS_mknod, makes(1)));
    calls.extend(attribute::CALLS.map(|call| (call, None)));
    if looks {
        let old = old_looks();
        let looks = [libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx];
        let all = looks.into_iter().chain(old).chain(LISTS);
        calls.extend(all.map(|call| (call, None)));
    }
    calls
}

/// Calls that list the names of attributes.
const LISTS: [i64; 3] = [
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
];

#[cfg(target_arch = "x86_64")]
fn old_looks() -> Vec<i64> {
    vec![libc::SYS_stat, libc::SYS_lstat]
}

#[cfg(not(target_arch = "x86_64"))]
fn old_looks() -> Vec<i64> {
    Vec::new()
}

fn all() -> Vec<Wanted> {
    let mut calls = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let old = [
            libc::SYS_open,
            libc::SYS_access,
            libc::SYS_readlink,
            libc::SYS_chown,
            libc::SYS_lchown,
            libc::SYS_stat,
            libc::SYS_lstat,
            libc::SYS_creat,
            libc::SYS_mkdir,
            libc::SYS_mknod,
            libc::SYS_symlink,
            libc::SYS_unlink,
            libc::SYS_rmdir,
            libc::SYS_rename,
            libc::SYS_renameat,
            libc::SYS_link,
            libc::SYS_chmod,
            libc::SYS_utime,
            libc::SYS_utimes,
            libc::SYS_futimesat,
        ];
        calls.extend(old.map(|call| (call, None)));
    }
    let files = [
        libc::SYS_openat,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_utimensat,
        libc::SYS_truncate,
        libc::SYS_bind,
        libc::SYS_chdir,
        libc::SYS_readlinkat,
        libc::SYS_fchown,
        libc::SYS_fchownat,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_mkdirat,
        libc::SYS_mknodat,
        libc::SYS_symlinkat,
        libc::SYS_unlinkat,
        libc::SYS_renameat2,
        libc::SYS_linkat,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        FCHMODAT2,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_prctl,
        libc::SYS_capget,
        libc::SYS_capset,
        libc::SYS_kill,
        libc::SYS_chroot,
        libc::SYS_setrlimit,
        libc::SYS_getrlimit,
        libc::SYS_prlimit64,
        libc::SYS_getxattr,
        libc::SYS_lgetxattr,
        libc::SYS_fgetxattr,
    ];
    calls.extend(LISTS.map(|call| (call, None)));
    let identity = [
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
        libc::SYS_getresuid,
        libc::SYS_getresgid,
        libc::SYS_getgroups,
        libc::SYS_setuid,
        libc::SYS_setgid,
        libc::SYS_setreuid,
        libc::SYS_setregid,
        libc::SYS_setresuid,
        libc::SYS_setresgid,
        libc::SYS_setfsuid,
        libc::SYS_setfsgid,
        libc::SYS_setgroups,
    ];
    let calls_of_files = files.into_iter().chain(attribute::CALLS);
    calls.extend(calls_of_files.chain(identity).map(|call| (call, None)));
    // A bit of it that most other options have not.
    let peer = Some((2, libc::SO_PEERCRED.cast_unsigned() & !1));
    calls.push((libc::SYS_getsockopt, peer));
    calls
}

/// The bit that `O_TMPFILE` has and `O_DIRECTORY` has not.
pub(super) const TEMPORARY: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
