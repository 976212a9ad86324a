//! A root filesystem that stays mounted after its step, for a step that begins with the same one.
//!
//! Making an overlay means making a handful of files in its work directory, and taking it down removing them: more than all that a short program
//! does. Most steps change something, so the next has other layers. But after one that changed nothing, as a test does, the next begins with the
//! same layers and the same empty upper directory, and can have the same overlay.

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
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
        let is_empty = fs::read_dir(upper).is_ok_and(|mut entries| entries.next().is_none());
        let as_found = |now: fs::Metadata| {
            self.found
                == Changed {
                    seconds: now.ctime(),
                    nanoseconds: now.ctime_nsec(),
                }
        };
        is_empty && fs::symlink_metadata(upper).is_ok_and(as_found)
    }
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
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            seconds: stat.st_ctime as i64,
            nanoseconds: stat.st_ctime_nsec as i64,
        }
    }
}
