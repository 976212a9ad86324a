//! Which processes are the step's: those that one of kiln's is an ancestor of.

use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// The step's processes, by who is above them all.
#[derive(Debug)]
pub(super) struct Family {
    head: i32,
    /// Whether that belongs to it.
    with_head: bool,
}

impl Family {
    /// That of this process.
    pub(super) fn own() -> Self {
        Self::below(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// That of `head`, which everybody's line of parents ends at, as who loses their parent gets it for one. It doesn't belong to it.
    pub(super) const fn below(head: i32) -> Self {
        let with_head = false;
        Self { head, with_head }
    }

    /// The same with `head`.
    pub(super) const fn from(head: i32) -> Self {
        let with_head = true;
        Self { head, with_head }
    }

    /// Whether the process with this number belongs to it.
    pub(super) fn has_number(&self, proc: &OwnedFd, process: i32) -> bool {
        if process == self.head {
            return self.with_head;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(proc, process.to_string(), flags, Mode::empty());
        directory.is_ok_and(|directory| self.has(proc, &directory))
    }

    /// Whether the process whose directory of `/proc` this is belongs to it.
    pub(super) fn has(&self, proc: &OwnedFd, directory: &OwnedFd) -> bool {
        let mut parent = parent_in(directory, "stat");
        // A line may be cut while it is followed, but not be a circle.
        while let Some(pid) = parent.filter(|pid| *pid > 1) {
            if pid == self.head {
                return true;
            }
            parent = parent_in(proc, &format!("{pid}/stat"));
        }
        false
    }
}

fn parent_in(directory: &OwnedFd, path: &str) -> Option<i32> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, path, flags, Mode::empty()).ok()?;
    parent(&io::read_to_string(File::from(file)).ok()?)
}

/// The parent that a line of `/proc/PID/stat` names: `pid (name) state parent …`. The name may hold anything.
pub(super) fn parent(stat: &str) -> Option<i32> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_end_of_one() {
        assert_eq!(parent("7 (a) S 1 (b) R 42 7 7 0"), Some(42));
        assert_eq!(parent("7 (sh) S 3 7 7 0"), Some(3));
        assert_eq!(parent(""), None);
    }
}
