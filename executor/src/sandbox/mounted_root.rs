//! A root filesystem that stays mounted after its step, for a step that begins with the same one.
//!
//! Making an overlay means making a handful of files in its work directory, and taking it down removing them: more than all that a short program
//! does. Most steps change something, so the next has other layers. But after one that changed nothing, as a test does, the next begins with the
//! same layers and the same empty upper directory, and can have the same overlay.

use crate::sys::{Context as _, Result};
use rustix::fs::{AtFlags, Stat};
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// An overlay that is attached nowhere. It goes when this is dropped.
#[derive(Debug)]
pub(crate) struct MountedRoot {
    mounted: OwnedFd,
    /// As its last step found the upper directory.
    found: Changed,
}

/// When a directory was last changed in any way: its entries, owner, mode or attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Changed {
    seconds: i64,
    nanoseconds: i64,
}

impl MountedRoot {
    pub(super) fn new(mounted: OwnedFd, found: Changed) -> Self {
        Self { mounted, found }
    }

    /// The same as another step found it.
    pub(super) fn found(self, found: Changed) -> Self {
        Self { found, ..self }
    }

    /// Whether the last step has changed nothing, nor changed it back. `upper` is the overlay's upper directory.
    pub(crate) fn is_untouched(&self, upper: &Path) -> bool {
        let as_found = |now: Stat| self.found == Changed::of(&now);
        is_empty(upper) && rustix::fs::lstat(upper).is_ok_and(as_found)
    }
}

pub(super) fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

impl AsFd for MountedRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mounted.as_fd()
    }
}

impl Changed {
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_possible_wrap,
        reason = "not the same types everywhere"
    )]
    fn of(stat: &Stat) -> Self {
        Self {
            seconds: stat.st_ctime as i64,
            nanoseconds: stat.st_ctime_nsec as i64,
        }
    }

    /// A directory as it is, if every change from now on will show. On some filesystems (f2fs, ZFS) the time of a change is that of the clock's last
    /// tick, so one that comes soon after another looks the same.
    pub(super) fn find(directory: BorrowedFd<'_>) -> Result<Option<Self>> {
        let found = Self::look(directory)?;
        if found != Self::last_tick() {
            return Ok(Some(found));
        }
        // On others what was looked at gets the exact time with the next change. This is one, of nothing but the time.
        rustix::fs::chownat(directory, "", None, None, AtFlags::EMPTY_PATH)
            .call("fchownat", || "upper directory".into())?;
        let found = Self::look(directory)?;
        Ok((found != Self::last_tick()).then_some(found))
    }

    fn look(directory: BorrowedFd<'_>) -> Result<Self> {
        let stat = rustix::fs::fstat(directory).call("fstat", || "upper directory".into())?;
        Ok(Self::of(&stat))
    }

    fn last_tick() -> Self {
        let time = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
        Self {
            seconds: time.tv_sec,
            nanoseconds: time.tv_nsec,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{File, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    /// However soon it comes, and whatever the filesystem.
    #[test]
    fn a_change_shows() {
        for _ in 0..200 {
            let dir = tempfile::tempdir_in("/var/tmp").unwrap();
            let opened = File::open(dir.path()).unwrap();
            let found = Changed::find(opened.as_fd()).unwrap();
            opened
                .set_permissions(Permissions::from_mode(0o700))
                .unwrap();
            let changed = Changed::look(opened.as_fd()).unwrap();
            assert_ne!(found, Some(changed));
        }
    }
}
