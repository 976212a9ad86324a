//! Programs that do more than their caller may, by their set-user-ID and set-group-ID bits, as `sudo`, `su`, `passwd` and `crontab`, or by
//! capabilities of their own, as `ping`.
//!
//! To answer a step's calls, kiln has mostly to renounce these for it. Few steps execute such a program, and nearly all look into
//! `/proc`. So a step has its broker until somebody but root is about to execute a program that would give them another user or group, or a
//! capability. Then it ends, and kiln begins it again without a broker. Root's programs go on: what they could be set to, they mostly can do
//! anyway.

use super::caller::Answered;
use super::*;
use crate::sandbox::{User, exec, script};
use rustix::fs::{ResolveFlags, Stat, StatVfsMountFlags};

/// Programs whose bits make no difference in a step: to mount and to make namespaces takes a capability that a step with these bits to lose
/// hasn't got anyway; the last three use theirs to hide from other programs of their user, and to write to other people's terminals.
const MAKE_NO_DIFFERENCE: [&[u8]; 11] = [
    b"mount",
    b"umount",
    b"fusermount",
    b"fusermount3",
    b"newuidmap",
    b"newgidmap",
    b"bwrap",
    b"chrome-sandbox",
    b"ssh-agent",
    b"wall",
    b"write",
];

/// Programs that need no rights where everybody may send echo requests, as in Docker's containers.
const SEND_ECHO_REQUESTS: [&[u8]; 3] = [b"ping", b"ping4", b"ping6"];

/// The one capability that counts for nothing: servers and what they are written in get it to be reached, seldom in a build.
const NET_BIND_SERVICE: u64 = 1 << 10;

impl Broker {
    /// Whether a call executes a program for which the step has to be begun again, and kiln has been told so.
    pub(super) fn has_to_begin_again(&mut self, note: Notification) -> bool {
        if self.need.is_none() {
            return false;
        }
        let Call::On(at, Act::Execute) = Call::of(&note) else {
            return false;
        };
        let proc = Rc::clone(&self.proc);
        let caller = Caller { note, proc: &proc };
        let Ok(Some(program)) = self.needed_program(&caller, at) else {
            return false; // what is wrong with the call is the kernel's to tell
        };
        let need = self.need.as_ref();
        need.is_some_and(|need| rustix::io::write(need, &program).is_ok())
    }

    /// The program that the bits are of: the one that is to be executed, or, if that is a script, the one that executes it.
    fn needed_program(&mut self, caller: &Caller<'_>, at: At) -> Answered<Option<Vec<u8>>> {
        let Status { who, bounding, .. } = caller.status()?;
        if who.uid == 0 {
            return Ok(None);
        }
        let mut path = self.string(caller, at.path)?;
        self.guise.wear(&who)?;
        if !self.shares_root(caller) {
            return Ok(None);
        }
        let base = caller.base(at.directory, &path)?;
        for _ in 0..=script::MOST {
            let stat = rustix::fs::statat(&base, &path[..], AtFlags::empty());
            let stat = stat.map_err(Errno::raw_os_error)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Ok(None);
            }
            let file = open(&base, &path);
            match file.as_ref().map_or(Start::Program, Start::of) {
                Start::Script(interpreter) => path = interpreter,
                Start::Other => return Ok(None),
                Start::Program => {
                    let lends = || file.is_some_and(|file| lends(&file, &who, bounding));
                    let is_needed = (gives(&stat, &who) || lends())
                        && can_be_executed(&base, &path)
                        && makes_a_difference(&path, &who, &self.proc);
                    return Ok(is_needed.then_some(path));
                }
            }
        }
        Ok(None)
    }
}

/// Whether the program that a step begins as is such a one. When that is executed, nobody can be asked.
pub(in crate::sandbox) fn is_first_needed(spec: &SandboxSpec, proc: &OwnedFd) -> bool {
    let User { uid, gid, groups } = &spec.user;
    let who = Who {
        uid: *uid,
        gid: *gid,
        groups: groups.clone(),
        capabilities: 0,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(spec.root.changes(), flags, Mode::empty());
    let (false, Ok(root)) = (who.uid == 0, root) else {
        return false;
    };
    let program = spec.argv.first().map(String::as_str).unwrap_or_default();
    let paths = exec::candidates(program, &spec.env).into_iter();
    let mut paths = paths.map(|path| match path.starts_with('/') {
        true => path.into_bytes(),
        false => format!("{}/{path}", spec.cwd).into_bytes(),
    });
    let mut found = paths.find_map(|path| Some((open_below(&root, &path)?, path)));
    for _ in 0..=script::MOST {
        let Some((file, path)) = found else {
            return false;
        };
        found = match Start::of(&file) {
            Start::Script(interpreter) => {
                open_below(&root, &interpreter).map(|file| (file, interpreter))
            }
            Start::Other => None,
            Start::Program => {
                let stat = rustix::fs::fstat(&file);
                let is_given = stat.is_ok_and(|stat| gives(&stat, &who));
                return (is_given || lends(&file, &who, spec.capabilities.mask()))
                    && has_effect(&file)
                    && makes_a_difference(&path, &who, proc);
            }
        };
    }
    false
}

/// A file that can be executed, below a root that is not the caller's.
fn open_below(root: &OwnedFd, path: &[u8]) -> Option<OwnedFd> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(root, path, READ, Mode::empty(), how).ok()?;
    let mode = rustix::fs::fstat(&file).ok()?.st_mode;
    let is_file = FileType::from_raw_mode(mode) == FileType::RegularFile;
    (is_file && mode & 0o111 != 0).then_some(file)
}

fn makes_a_difference(program: &[u8], who: &Who, proc: &OwnedFd) -> bool {
    let name = parts(program).last().unwrap_or_default();
    let makes_none = MAKE_NO_DIFFERENCE.contains(&name)
        || (SEND_ECHO_REQUESTS.contains(&name) && may_send_echo_requests(proc, who));
    !makes_none
}

/// Whether the bits of a program, had they their effect, would give somebody another user or a group that they are not in.
fn gives(stat: &Stat, who: &Who) -> bool {
    // Without the second, the first is that of files with locks.
    let group = libc::S_ISGID | libc::S_IXGRP;
    let is_in_group = || who.gid == stat.st_gid || who.groups.contains(&stat.st_gid);
    (stat.st_mode & libc::S_ISUID != 0 && stat.st_uid != who.uid)
        || (stat.st_mode & group == group && !is_in_group())
}

/// Whether a program would give somebody capabilities.
fn lends(file: &OwnedFd, who: &Who, bounding: u64) -> bool {
    let mut list = [0; 24];
    let length = rustix::fs::fgetxattr(file, "security.capability", &mut list);
    length.is_ok_and(|length| gained(&list[..length], who.capabilities, bounding))
}

/// `struct vfs_cap_data` of `linux/capability.h`: whether its capabilities, as far as they can be had, are more than are `held`.
fn gained(list: &[u8], held: u64, bounding: u64) -> bool {
    let (words, _) = list.as_chunks::<4>();
    let [head, low, _, high, ..] = words else {
        return false;
    };
    let [head, low, high] = [head, low, high].map(|word| u64::from(u32::from_le_bytes(*word)));
    let permitted = low | high << 32;
    // A program that is to have them from the start isn't executed with less.
    let is_refused = head & 1 != 0 && permitted & !bounding != 0;
    !is_refused && permitted & bounding & !held & !NET_BIND_SERVICE != 0
}

/// Whether a program can be executed, and has its bits for something where it is.
fn can_be_executed(base: &OwnedFd, path: &[u8]) -> bool {
    let allowed = rustix::fs::accessat(base, path, Access::EXEC_OK, AtFlags::EACCESS);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let there = || rustix::fs::openat(base, path, flags, Mode::empty());
    allowed.is_ok() && there().is_ok_and(|file| has_effect(&file))
}

/// Whether bits have one where it is.
fn has_effect(file: &OwnedFd) -> bool {
    let filesystem = rustix::fs::fstatvfs(file);
    filesystem.is_ok_and(|found| !found.f_flag.contains(StatVfsMountFlags::NOSUID))
}

/// A file may be anything.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

fn open(base: &OwnedFd, path: &[u8]) -> Option<OwnedFd> {
    rustix::fs::openat(base, path, READ, Mode::empty()).ok()
}

/// What a file is by its first bytes. One that can't be read is taken for a program.
enum Start {
    Program,
    /// Executed by this one.
    Script(Vec<u8>),
    /// The kernel doesn't execute it.
    Other,
}

impl Start {
    fn of(file: &OwnedFd) -> Self {
        let mut head = [0; script::START];
        let length = rustix::io::pread(file, &mut head, 0).unwrap_or_default();
        let head = &head[..length];
        match script::interpreter(head) {
            Some(interpreter) => Self::Script(interpreter.to_vec()),
            None if head.starts_with(script::ELF) => Self::Program,
            None => Self::Other,
        }
    }
}

/// `net.ipv4.ping_group_range` of icmp(7).
fn may_send_echo_requests(proc: &OwnedFd, who: &Who) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let path = "sys/net/ipv4/ping_group_range";
    let file = rustix::fs::openat(proc, path, flags, Mode::empty());
    let text = file.map(|file| std::io::read_to_string(std::fs::File::from(file)));
    text.is_ok_and(|text| text.is_ok_and(|text| are_in_range(&text, who)))
}

fn are_in_range(range: &str, who: &Who) -> bool {
    let mut ends = range.split_whitespace().map(str::parse::<u32>);
    let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else {
        return false;
    };
    let mut groups = who.groups.iter().chain([&who.gid]);
    groups.any(|group| (first..=last).contains(group))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn user() -> Who {
        Who {
            uid: 1000,
            gid: 100,
            groups: vec![27],
            capabilities: 0,
        }
    }

    #[test]
    fn bits_give_what_their_caller_has_not() {
        let of = |mode: u32, uid: u32, gid: u32| {
            let mut stat = rustix::fs::stat("/").unwrap();
            (stat.st_mode, stat.st_uid, stat.st_gid) = (libc::S_IFREG | mode, uid, gid);
            gives(&stat, &user())
        };
        for (mode, uid, gid, given) in [
            (0o755, 0, 0, false),
            (0o4755, 0, 0, true),
            (0o4755, 1000, 0, false),
            (0o2755, 0, 50, true),
            (0o2755, 0, 100, false),
            (0o2755, 0, 27, false),
            (0o2745, 0, 50, false), // locks are mandatory
            (0o6755, 1000, 50, true),
        ] {
            assert_eq!(of(mode, uid, gid), given, "{mode:o} {uid}:{gid}");
        }
    }

    #[test]
    fn capabilities_give_what_can_be_had() {
        let list = |effective: u32, permitted: u64| {
            let [low, high] = [permitted, permitted >> 32].map(|half| half as u32);
            let words = [0x0200_0000 | effective, low, 0, high, 0];
            words.map(u32::to_le_bytes).concat()
        };
        let docker = 0xa804_25fb;
        let (raw, admin) = (1 << 13, 1 << 21);
        for (list, expected) in [
            (list(1, raw), true),
            (list(0, raw | admin), true),
            (list(1, raw | admin), false), // it isn't executed
            (list(0, admin), false),
            (list(1, NET_BIND_SERVICE), false),
            (list(0, 1 << 38), false),
            (Vec::new(), false),
        ] {
            assert_eq!(gained(&list, 0, docker), expected, "{list:?}");
        }
        assert!(!gained(&list(1, raw), raw, docker));
    }

    #[test]
    fn a_script_names_its_interpreter() {
        for (head, named) in [
            (&b"#!/bin/sh\nx"[..], Some(&b"/bin/sh"[..])),
            (b"#! \t/usr/bin/sudo /bin/sh\n", Some(b"/usr/bin/sudo")),
            (b"#!/bin/sh", Some(b"/bin/sh")),
            (b"#!\n/bin/sh", None),
            (b"\x7fELF", None),
            (b"", None),
        ] {
            assert_eq!(script::interpreter(head), named);
        }
    }

    #[test]
    fn echo_requests_are_for_groups_in_a_range() {
        for (range, allowed) in [
            ("0\t2147483647\n", true),
            ("1\t0\n", false),
            ("27 27", true),
            ("101 200", false),
            ("", false),
        ] {
            assert_eq!(are_in_range(range, &user()), allowed, "{range}");
        }
    }
}
