//! System calls as the broker sees them: which, and where their arguments are.

use super::alter::{Alteration, Clock};
use super::attribute::Changed;
use super::node::NewNode;
use crate::sandbox::attribute::{self, Request};
use crate::sys::Notification;
use nix::libc;

/// A path in the memory of the caller, relative to one of its descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    /// `AT_FDCWD` or a descriptor.
    pub(super) directory: i32,
    /// Where the path is.
    pub(super) path: u64,
    /// Whether a link at the end is followed.
    pub(super) follow: bool,
}

/// A call, its arguments by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Any call that takes a path and looks or opens.
    On(At, Act),
    /// A link is made at a path that is told; `text` is what it holds.
    MakeLink { text: u64, at: At },
    /// mknod(2).
    MakeNode(NewNode),
    /// setxattr(2), removexattr(2) and their relatives.
    ChangeAttribute(Changed, Request),
    /// Names change at a path, or at two.
    Change(Change, Option<Change>),
    /// uname(2).
    Name { out: u64 },
    /// One that the filter should not have sent.
    Other,
}

/// What is to be done with what is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Open {
        flags: i32,
        mode: u32,
    },
    OpenAsTold {
        how: u64,
        size: u64,
    },
    Stat {
        out: u64,
    },
    Statx {
        flags: i32,
        mask: u32,
        out: u64,
    },
    StatFilesystem {
        out: u64,
    },
    ReadLink {
        out: u64,
        size: u64,
    },
    Access {
        mode: i32,
    },
    Enter,
    Execute,
    /// An extended attribute is read, or all names of them, where none is told.
    Attributes {
        name: Option<u64>,
        out: u64,
        size: u64,
    },
    /// It gets another name.
    Link {
        to: At,
    },
    /// Mode, owner, times or length change.
    Alter(Alteration),
}

/// What a call would change at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) at: At,
    pub(super) how: How,
}

/// In which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// A file is opened to be written to, and made if `makes`.
    Write { makes: bool },
    /// Nothing: whether that could be.
    Ask,
    /// A name is given.
    Make,
    /// A name goes away, or is taken from what has it.
    Remove,
    /// What has the name gets another for it.
    Move,
    /// Mode, owner or times.
    Alter,
    /// Nothing yet: it gets another name.
    Keep,
}

impl Act {
    /// Whether it is the text of a link that is asked for.
    pub(super) const fn reads_link(self) -> bool {
        matches!(self, Self::ReadLink { .. })
    }
}

impl Call {
    /// Reads a notification.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the kernel, too, takes the low half of a register for an int"
    )]
    pub(super) fn of(note: &Notification) -> Self {
        let a = note.args;
        if let Some(changes) = Self::change(note) {
            return changes;
        }
        let (int, word) = (|n: usize| a[n] as i32, |n: usize| a[n] as u32);
        let at = |n: usize, flags: i32| At {
            directory: int(n),
            path: a[n + 1],
            follow: flags & libc::AT_SYMLINK_NOFOLLOW == 0,
        };
        let here = |n: usize, follow| At {
            directory: libc::AT_FDCWD,
            path: a[n],
            follow,
        };
        let open = |at: At, flags: i32, mode: u32| {
            let follow = flags & libc::O_NOFOLLOW == 0;
            Self::On(At { follow, ..at }, Act::Open { flags, mode })
        };
        #[cfg(target_arch = "x86_64")]
        match note.call {
            libc::SYS_open => return open(here(0, true), int(1), word(2)),
            libc::SYS_creat => {
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
                return open(here(0, true), flags, word(1));
            }
            libc::SYS_stat => return Self::On(here(0, true), Act::Stat { out: a[1] }),
            libc::SYS_lstat => return Self::On(here(0, false), Act::Stat { out: a[1] }),
            libc::SYS_readlink => {
                let (out, size) = (a[1], a[2]);
                return Self::On(here(0, false), Act::ReadLink { out, size });
            }
            libc::SYS_access => return Self::On(here(0, true), Act::Access { mode: int(1) }),
            libc::SYS_mknod => {
                return Self::MakeNode(NewNode {
                    at: here(0, false),
                    mode: word(1),
                    device: a[2],
                });
            }
            libc::SYS_symlink => {
                return Self::MakeLink {
                    text: a[0],
                    at: here(1, false),
                };
            }
            _ => {}
        }
        let change = |at| Self::ChangeAttribute(at, Request::of(note));
        let attributes = |name, out, size| Act::Attributes { name, out, size };
        let (named, listed) = (
            attributes(Some(a[1]), a[2], a[3]),
            attributes(None, a[1], a[2]),
        );
        match attribute::number(note) {
            libc::SYS_setxattr | libc::SYS_removexattr => change(Changed::At(here(0, true))),
            libc::SYS_lsetxattr | libc::SYS_lremovexattr => change(Changed::At(here(0, false))),
            libc::SYS_fsetxattr | libc::SYS_fremovexattr => change(Changed::Open(int(0))),
            libc::SYS_openat => open(at(0, 0), int(2), word(3)),
            libc::SYS_openat2 => {
                let (how, size) = (a[2], a[3]);
                Self::On(at(0, 0), Act::OpenAsTold { how, size })
            }
            libc::SYS_newfstatat => Self::On(at(0, int(3)), Act::Stat { out: a[2] }),
            libc::SYS_statx => {
                let (flags, mask, out) = (int(2), word(3), a[4]);
                Self::On(at(0, flags), Act::Statx { flags, mask, out })
            }
            libc::SYS_readlinkat => {
                let (out, size) = (a[2], a[3]);
                let at = at(0, libc::AT_SYMLINK_NOFOLLOW);
                Self::On(at, Act::ReadLink { out, size })
            }
            libc::SYS_faccessat => Self::On(at(0, 0), Act::Access { mode: int(2) }),
            libc::SYS_faccessat2 => Self::On(at(0, int(3)), Act::Access { mode: int(2) }),
            libc::SYS_getxattr => Self::On(here(0, true), named),
            libc::SYS_lgetxattr => Self::On(here(0, false), named),
            libc::SYS_listxattr => Self::On(here(0, true), listed),
            libc::SYS_llistxattr => Self::On(here(0, false), listed),
            libc::SYS_linkat => {
                let to = at(2, libc::AT_SYMLINK_NOFOLLOW);
                let follow = int(4) & libc::AT_SYMLINK_FOLLOW != 0;
                Self::On(At { follow, ..at(0, 0) }, Act::Link { to })
            }
            libc::SYS_statfs => Self::On(here(0, true), Act::StatFilesystem { out: a[1] }),
            libc::SYS_chdir => Self::On(here(0, true), Act::Enter),
            libc::SYS_execve => Self::On(here(0, true), Act::Execute),
            libc::SYS_mknodat => Self::MakeNode(NewNode {
                at: at(0, libc::AT_SYMLINK_NOFOLLOW),
                mode: word(2),
                device: a[3],
            }),
            libc::SYS_symlinkat => Self::MakeLink {
                text: a[0],
                at: at(1, libc::AT_SYMLINK_NOFOLLOW),
            },
            libc::SYS_uname => Self::Name { out: a[0] },
            _ => Self::Other,
        }
    }
}

impl Call {
    /// The calls that do nothing else than change.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the kernel, too, takes the low half of a register for an int"
    )]
    fn change(note: &Notification) -> Option<Self> {
        let a = note.args;
        let at = |n: usize, follow| At {
            directory: a[n] as i32,
            path: a[n + 1],
            follow,
        };
        let here = |n: usize, follow| At {
            directory: libc::AT_FDCWD,
            path: a[n],
            follow,
        };
        let follows = |n: usize| a[n] as i32 & libc::AT_SYMLINK_NOFOLLOW == 0;
        let one = |how, at| Self::Change(Change { at, how }, None);
        let alter = |at, how| Self::On(at, Act::Alter(how));
        let word = |n: usize| a[n] as u32;
        let owner = |n: usize| Alteration::Owner {
            uid: word(n),
            gid: word(n + 1),
        };
        let rename = |from, to, exchanged: bool| {
            let (given, taken) = (How::Move, if exchanged { How::Move } else { How::Remove });
            let change = |at, how| Change { at, how };
            Self::Change(change(from, given), Some(change(to, taken)))
        };
        #[cfg(target_arch = "x86_64")]
        match note.call {
            libc::SYS_mkdir => return Some(one(How::Make, here(0, false))),
            libc::SYS_rmdir | libc::SYS_unlink => return Some(one(How::Remove, here(0, false))),
            libc::SYS_rename => return Some(rename(here(0, false), here(1, false), false)),
            libc::SYS_link => {
                let (at, to) = (here(0, false), here(1, false));
                let from = Change { at, how: How::Keep };
                return Some(Self::Change(
                    from,
                    Some(Change {
                        at: to,
                        how: How::Make,
                    }),
                ));
            }
            libc::SYS_chmod => return Some(alter(here(0, true), Alteration::Mode(word(1)))),
            libc::SYS_chown => return Some(alter(here(0, true), owner(1))),
            libc::SYS_lchown => return Some(alter(here(0, false), owner(1))),
            libc::SYS_utime => {
                return Some(alter(
                    here(0, true),
                    Alteration::Times(a[1], Clock::Seconds),
                ));
            }
            libc::SYS_utimes => {
                let times = Alteration::Times(a[1], Clock::Microseconds);
                return Some(alter(here(0, true), times));
            }
            libc::SYS_futimesat => {
                let times = Alteration::Times(a[2], Clock::Microseconds);
                return Some(alter(at(0, true), times));
            }
            _ => {}
        }
        Some(match note.call {
            libc::SYS_mkdirat => one(How::Make, at(0, false)),
            libc::SYS_unlinkat => one(How::Remove, at(0, false)),
            libc::SYS_renameat => rename(at(0, false), at(2, false), false),
            libc::SYS_renameat2 => {
                let exchanged = word(4) & libc::RENAME_EXCHANGE != 0;
                rename(at(0, false), at(2, false), exchanged)
            }
            libc::SYS_fchmodat => alter(at(0, true), Alteration::Mode(word(2))),
            libc::SYS_fchmodat2 => alter(at(0, follows(3)), Alteration::Mode(word(2))),
            libc::SYS_fchownat => alter(at(0, follows(4)), owner(2)),
            libc::SYS_utimensat => {
                let times = Alteration::Times(a[2], Clock::Nanoseconds);
                alter(at(0, follows(3)), times)
            }
            libc::SYS_truncate => alter(here(0, true), Alteration::Length(a[1])),
            _ => return None,
        })
    }
}

/// A call that the broker is asked about.
pub(in crate::sandbox) type Wanted = (i64, When);

/// When it is asked about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum When {
    Always,
    /// If none of these bits of this argument is set.
    Without(usize, u32),
}

/// All of them, the frequent ones first.
pub(in crate::sandbox) fn wanted() -> Vec<Wanted> {
    // What has a descriptor for a path is nothing to look up.
    let no_path = libc::AT_EMPTY_PATH.cast_unsigned();
    let mut calls: Vec<Wanted> = vec![
        (libc::SYS_openat, When::Always),
        (libc::SYS_newfstatat, When::Without(3, no_path)),
        (libc::SYS_statx, When::Without(2, no_path)),
        (libc::SYS_readlinkat, When::Always),
        (libc::SYS_faccessat, When::Always),
        (libc::SYS_faccessat2, When::Without(3, no_path)),
        (libc::SYS_openat2, When::Always),
        (libc::SYS_chdir, When::Always),
        (libc::SYS_execve, When::Always),
        (libc::SYS_symlinkat, When::Always),
        (libc::SYS_mknodat, When::Always),
        (libc::SYS_uname, When::Always),
        (libc::SYS_statfs, When::Always),
        (libc::SYS_getxattr, When::Always),
        (libc::SYS_lgetxattr, When::Always),
        (libc::SYS_listxattr, When::Always),
        (libc::SYS_llistxattr, When::Always),
        (libc::SYS_linkat, When::Always),
        (libc::SYS_mkdirat, When::Always),
        (libc::SYS_unlinkat, When::Always),
        (libc::SYS_renameat, When::Always),
        (libc::SYS_renameat2, When::Always),
        (libc::SYS_fchmodat, When::Always),
        (libc::SYS_fchmodat2, When::Always),
        (libc::SYS_fchownat, When::Without(4, no_path)),
        (libc::SYS_utimensat, When::Always),
        (libc::SYS_truncate, When::Always),
    ];
    calls.extend(attribute::CALLS.map(|call| (call, When::Always)));
    #[cfg(target_arch = "x86_64")]
    calls.extend(
        [
            libc::SYS_open,
            libc::SYS_stat,
            libc::SYS_lstat,
            libc::SYS_access,
            libc::SYS_readlink,
            libc::SYS_creat,
            libc::SYS_symlink,
            libc::SYS_mknod,
            libc::SYS_mkdir,
            libc::SYS_rmdir,
            libc::SYS_unlink,
            libc::SYS_rename,
            libc::SYS_link,
            libc::SYS_chmod,
            libc::SYS_chown,
            libc::SYS_lchown,
            libc::SYS_utime,
            libc::SYS_utimes,
            libc::SYS_futimesat,
        ]
        .map(|call| (call, When::Always)),
    );
    calls
}
