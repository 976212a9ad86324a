//! Where a path of the caller leads, with a `/proc`, a `/dev` and a `/sys` that are not really there.
//!
//! Links of the image are read in its root, which is this process's. Links of `/proc` are followed in here, as they differ from caller to
//! caller. One that leads to a directory is read as text and followed inside the root, so no path gets out by one.

use super::caller::Caller;
use nix::libc;
use rustix::fs::CWD;
use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Links followed before giving up, as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// A path below some directory, in parts.
pub(super) type Parts = Vec<Vec<u8>>;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// To something that the kernel finds as well.
    Elsewhere,
    /// To something in the root, by way of `/proc`: its path.
    Inside(Vec<u8>),
    /// To `/proc` or below.
    Proc(Parts),
    /// To `/dev` or below.
    Device(Parts),
    /// To `/sys` or below.
    System(Parts),
}

/// What is needed to follow links.
pub(super) struct Resolver<'a> {
    pub(super) caller: Caller<'a>,
    /// The caller's process, which is `self`.
    pub(super) process: i32,
    /// The step's first process, which is 1.
    pub(super) first: i32,
    pub(super) proc: &'a OwnedFd,
    /// The container's `/sys`.
    pub(super) sys: Option<Rc<OwnedFd>>,
}

/// A way that is being gone.
struct Walk {
    /// Where it is, without links.
    behind: Parts,
    /// Parts still to go.
    ahead: VecDeque<Vec<u8>>,
    links: usize,
    /// Whether it came through `/proc`.
    through: bool,
}

impl Resolver<'_> {
    /// Follows `path` from the directory `base`, both as the caller sees them. A link at the end is followed if `follow`; one of
    /// `/proc` that leads to an open object is left to the caller of this.
    pub(super) fn resolve(&self, base: &[u8], path: &[u8], follow: bool) -> Result<Place, i32> {
        let follow = follow || path.ends_with(b"/");
        let base = if path.starts_with(b"/") { b"" } else { base };
        let mut walk = Walk {
            behind: Parts::new(),
            ahead: parts(base).chain(parts(path)).map(<[u8]>::to_vec).collect(),
            links: 0,
            through: false,
        };
        while let Some(part) = walk.ahead.pop_front() {
            if part == b".." {
                walk.behind.pop();
                continue;
            }
            walk.behind.push(part);
            let is_last = walk.ahead.is_empty();
            let Some(target) = self.link(&mut walk, is_last, follow)? else {
                continue;
            };
            walk.follow(&target)?;
        }
        Ok(walk.place())
    }

    /// The text of the link that the walk stands on, if that is to be followed.
    fn link(&self, walk: &mut Walk, is_last: bool, follow: bool) -> Result<Option<Vec<u8>>, i32> {
        if let ([top, rest @ ..], Some(sys)) = (walk.behind.as_slice(), &self.sys)
            && top == b"sys"
            && !rest.is_empty()
        {
            // Its links are relative, and stay in it.
            let text = || rustix::fs::readlinkat(&**sys, joined(rest), Vec::new()).ok();
            let is_followed = !is_last || follow;
            return Ok(is_followed.then(text).flatten().map(CString::into_bytes));
        }
        if walk.behind[0] != b"proc" {
            return Ok(match !is_last || follow {
                true => link_in_root(&walk.behind),
                false => None,
            });
        }
        if walk.behind.len() == 1 {
            return Ok(None);
        }
        walk.through = true;
        if walk.behind[1] == b"1" {
            walk.behind[1] = self.first.to_string().into_bytes();
        }
        if is_last && !follow {
            return Ok(None);
        }
        if let Some(text) = self.own_link(&walk.behind[1..]) {
            return Ok(Some(text.into_bytes()));
        }
        if is_last || !is_magic(&walk.behind[1..]) {
            return Ok(None);
        }
        let target = rustix::fs::readlinkat(self.proc, joined(&walk.behind[1..]), Vec::new());
        match target.map(CString::into_bytes) {
            Ok(target) if target.starts_with(b"/") => Ok(Some(target)),
            Ok(_) => Err(libc::ENOTDIR),
            Err(errno) => Err(errno.raw_os_error()),
        }
    }

    /// Links that lead to a part of `/proc`.
    pub(super) fn own_link(&self, parts: &[Vec<u8>]) -> Option<String> {
        let [name] = parts else { return None };
        match name.as_slice() {
            b"self" => Some(self.process.to_string()),
            b"thread-self" => Some(format!("{}/task/{}", self.process, self.caller.note.thread)),
            b"mounts" => Some("self/mounts".into()),
            b"net" => Some("self/net".into()),
            _ => None,
        }
    }
}

impl Walk {
    /// Puts a link's text in front of what is still to go.
    fn follow(&mut self, text: &[u8]) -> Result<(), i32> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(libc::ELOOP);
        }
        self.behind.pop();
        if text.starts_with(b"/") {
            self.behind.clear();
        }
        for part in parts(text).collect::<Vec<_>>().into_iter().rev() {
            self.ahead.push_front(part.to_vec());
        }
        Ok(())
    }

    fn place(mut self) -> Place {
        match self.behind.first().map(Vec::as_slice) {
            Some(b"proc") => Place::Proc(self.behind.split_off(1)),
            Some(b"dev") => Place::Device(self.behind.split_off(1)),
            Some(b"sys") => Place::System(self.behind.split_off(1)),
            _ if self.through => Place::Inside([b"/", &*joined(&self.behind)].concat()),
            _ => Place::Elsewhere,
        }
    }
}

/// The parts of a path that lead anywhere.
pub(super) fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
}

/// A relative path.
pub(super) fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    match parts.is_empty() {
        true => b".".to_vec(),
        false => parts.join(&b'/'),
    }
}

fn link_in_root(parts: &[Vec<u8>]) -> Option<Vec<u8>> {
    let path = [b"/", &*joined(parts)].concat();
    let text = rustix::fs::readlinkat(CWD, path, Vec::new()).ok()?;
    Some(text.into_bytes())
}

/// Whether something below `/proc` is a link to an open object: `PID/exe`, `PID/fd/3`, `PID/task/TID/cwd` and so on.
pub(super) fn is_magic(parts: &[Vec<u8>]) -> bool {
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let of_process = match parts.as_slice() {
        [_, b"task", _, rest @ ..] | [_, rest @ ..] => rest,
        [] => return false,
    };
    matches!(
        of_process,
        [b"cwd" | b"root" | b"exe"] | [b"fd" | b"ns" | b"map_files", _]
    ) && is_number(parts[0])
}

/// Whether a name in `/proc` is a process's.
pub(super) fn is_number(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sys::Notification;
    use rustix::fs::{Mode, OFlags};

    fn resolve(base: &str, path: &str, follow: bool) -> Result<Place, i32> {
        let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let proc = proc.unwrap();
        let own = std::process::id().cast_signed();
        let note = Notification {
            thread: own,
            ..Notification::example(0, false, [0; 6])
        };
        let caller = Caller { note, proc: &proc };
        let resolver = Resolver {
            caller,
            process: own,
            first: 77,
            proc: &proc,
            sys: rustix::fs::open("/sys", OFlags::PATH, Mode::empty())
                .ok()
                .map(Rc::new),
        };
        resolver.resolve(base.as_bytes(), path.as_bytes(), follow)
    }

    fn proc(path: &str) -> Result<Place, i32> {
        let path = path.replace("OWN", &std::process::id().to_string());
        Ok(Place::Proc(
            parts(path.as_bytes()).map(<[u8]>::to_vec).collect(),
        ))
    }

    #[test]
    fn paths_lead_where_they_lead_for_the_caller() {
        assert_eq!(
            resolve("/", "/etc/../proc/self/maps", true),
            proc("OWN/maps")
        );
        assert_eq!(resolve("/", "/proc/mounts", true), proc("OWN/mounts"));
        assert_eq!(resolve("/", "/proc/1/comm", true), proc("77/comm"));
        assert_eq!(resolve("/proc/5", "fd/3", true), proc("5/fd/3"));
        let usr = Place::Inside(b"/usr".to_vec());
        assert_eq!(resolve("/proc/5", "../../usr", true), Ok(usr));
        assert_eq!(resolve("/", "/proc/self", false), proc("self"));
        assert_eq!(resolve("/", "/proc/self/", false), proc("OWN"));
        assert_eq!(resolve("/", "/usr/share/doc", true), Ok(Place::Elsewhere));
        let null = Place::Device(vec![b"null".to_vec()]);
        assert_eq!(resolve("/", "dev/null", true), Ok(null));
    }

    #[test]
    fn a_link_to_a_directory_leads_on_inside_the_root() {
        let inside = Place::Inside(b"/usr".to_vec());
        assert_eq!(resolve("/", "/proc/self/root/usr", true), Ok(inside));
        let top = Place::Inside(b"/.".to_vec());
        assert_eq!(resolve("/", "/proc/self/root/../../..", true), Ok(top));
    }
}
