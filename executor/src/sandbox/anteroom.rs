//! Where a process waits for the root of its step: an empty root filesystem of its own, from which the host's files are out of reach already.
//!
//! To leave the host's mounts behind, the kernel has to wait for all processors, which can take as long as the rest of a start. So a process
//! that waits does it while it waits. What of a step is at paths of the host is opened, and its overlay made, in a moment's visit to the mount namespace
//! that the process comes from; nothing is attached to anything there. The step's root is mounted over the empty one, as a system's is over the
//! first one of the kernel: below it there is an empty directory that nobody can write to.

use super::error::Failure;
use super::mounts::{self, attach_above_host, new_filesystem};
use crate::sys::{self, Context as _, Error, Reach, Result};
use nix::sched::{CloneFlags, setns};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, UnmountFlags};
use std::os::fd::OwnedFd;

/// The directory in the empty root on which mounts wait.
const PLACE: &str = "place";

/// A mount namespace by its descriptor.
const NAMESPACE: &str = "/proc/self/ns/mnt";

/// The empty root, above the host's until that is left.
#[derive(Debug)]
pub(super) struct Anteroom {
    host: OwnedFd,
    own: OwnedFd,
    root: OwnedFd,
}

/// The mount namespace of this process, for those that will be cloned from it, if what a step needs of it can be had in a visit.
pub(super) fn host() -> Option<OwnedFd> {
    let namespace = mount_namespace().ok()?;
    mounts::knows_layers_by_parameter().then_some(namespace)
}

fn mount_namespace() -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(NAMESPACE, flags, Mode::empty()).call("open", || NAMESPACE.into())
}

impl Anteroom {
    /// Makes one in this process's own mount namespace, where nothing may be shared with others. `None` where `host` can't be visited. After an
    /// error the process may be among the host's mounts, and must end.
    pub(super) fn make(host: OwnedFd) -> Result<Option<Self>> {
        let Some(anteroom) = Self::with_empty_root(host) else {
            return Ok(None);
        };
        let possible = anteroom.visit_host(|| ())?.is_some();
        let attached = possible && attach_above_host(&anteroom.root).is_ok();
        Ok(attached.then_some(anteroom))
    }

    fn with_empty_root(host: OwnedFd) -> Option<Self> {
        let own = mount_namespace().ok()?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let root = new_filesystem("tmpfs", &[("mode", "0755".into())], attributes).ok()?;
        rustix::fs::mkdirat(&root, PLACE, Mode::from_raw_mode(0o700)).ok()?;
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
        sys::mount_setattr(&root, read_only, Reach::Mount).ok()?;
        Some(Self { host, own, root })
    }

    /// A directory on which mounts can wait.
    pub(super) fn place(&self) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.root, PLACE, flags, Mode::empty()).call("openat", || PLACE.into())
    }

    /// Leaves the host's mounts for good, but for visits. False where a filter around kiln refuses that, as Docker's does even to who may mount.
    pub(super) fn leave_host(&self) -> Result<bool> {
        rustix::process::fchdir(&self.root).call("fchdir", || "empty root".into())?;
        match rustix::process::pivot_root(".", ".") {
            Err(Errno::PERM) => return Ok(false),
            exchanged => exchanged.call("pivot_root", || "., .".into())?,
        }
        rustix::mount::unmount(".", UnmountFlags::DETACH)
            .call("umount2", || "old root, MNT_DETACH".into())?;
        rustix::process::chdir("/").call("chdir", || "/".into())?;
        Ok(true)
    }

    /// Does something among the host's mounts, where nothing may be attached, and comes back.
    pub(super) fn act_on_host<T>(
        &self,
        act: impl FnOnce() -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        let failure = |cause| Failure::Setup {
            stage: "visit the host's mounts".into(),
            cause,
        };
        let refused = || failure(Error::new("setns", "CLONE_NEWNS", nix::libc::EPERM));
        let visited = self.visit_host(act).map_err(failure)?;
        visited.unwrap_or_else(|| Err(refused()))
    }

    /// `None` if it can't go there; an error if it can't come back.
    fn visit_host<T>(&self, act: impl FnOnce() -> T) -> Result<Option<T>> {
        if enter(&self.host).is_err() {
            return Ok(None);
        }
        let done = act();
        enter(&self.own)?;
        Ok(Some(done))
    }
}

fn enter(namespace: &OwnedFd) -> Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNS).call("setns", || "CLONE_NEWNS".into())
}
