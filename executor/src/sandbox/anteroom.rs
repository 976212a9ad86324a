//! Where a process waits for the root of its step: an empty root filesystem of its own, from which the host's files are out of reach already.
//!
//! To leave the host's mounts behind, the kernel has to wait for all processors, which can take as long as the rest of a start. So a process
//! that waits does it while it waits. What of a step is at paths of the host is opened, and its overlay made, in a moment's visit to the mount namespace
//! that the process comes from; nothing is attached to anything there. The step's root is mounted over the empty one, as a system's is over the
//! first one of the kernel: below it there is an empty directory that nobody can write to.

use super::Network;
use super::error::Failure;
use super::kernel_trees::{Ground, KernelTrees, new_nothing};
use super::mounts::{self, attach, attach_above_host, new_filesystem};
use super::plan::KernelAction;
use super::root::Root;
use super::waiting::Kind;
use crate::sys::{self, Context as _, Error, Reach, Result};
use nix::sched::{CloneFlags, setns};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, UnmountFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The directory in the empty root on which mounts wait.
const PLACE: &str = "place";

/// Where `/sys` waits if many have it from one [`Hall`], and an empty directory that nobody can write to.
const SYSTEM: &str = "sys";
const NOTHING: &str = "nothing";

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

/// An anteroom as root of a mount namespace, which all copies of it begin with.
#[derive(Debug)]
pub(super) struct Hall {
    host: OwnedFd,
    /// What is still to be made in each.
    missing: Vec<KernelAction>,
}

impl Hall {
    /// Makes one in this process's own mount namespace, where nothing may be shared with others, and leaves `host`, where it comes from.
    pub(super) fn enter(
        host: OwnedFd,
        kind: Kind,
        actions: Vec<KernelAction>,
    ) -> std::result::Result<Self, Failure> {
        let failure = |cause| Failure::Setup {
            stage: "leave the host's mounts".into(),
            cause,
        };
        let refused = || failure(Error::new("setns", "CLONE_NEWNS", nix::libc::EPERM));
        let anteroom = Anteroom::make(host).map_err(failure)?;
        let anteroom = anteroom.ok_or_else(refused)?;
        // The same for all, if they see the same network.
        let is_shared = |action: &KernelAction| {
            kind.network == Network::Host && Path::new(action.path()).starts_with("/sys")
        };
        let (shared, missing): (Vec<_>, _) = actions.into_iter().partition(is_shared);
        let ground = anteroom.hall_ground().map_err(failure)?;
        drop(KernelTrees::make(&shared, kind.rung, ground)?);
        match anteroom.leave_host().map_err(failure)? {
            true => Ok(Self {
                host: anteroom.host,
                missing,
            }),
            false => Err(refused()),
        }
    }

    /// The anteroom of a copy of the process that has made this, in a mount namespace of its own, and all that belongs in a step's root.
    pub(super) fn furnish(
        &self,
        kind: Kind,
    ) -> std::result::Result<(Anteroom, KernelTrees), Failure> {
        let failure = |cause| Failure::Setup {
            stage: "make a place to wait".into(),
            cause,
        };
        let root = open_directory(CWD, "/").map_err(failure)?;
        let ground = copied_ground(&root).map_err(failure)?;
        let trees = KernelTrees::make(&self.missing, kind.rung, ground)?;
        let host = self.host.try_clone();
        let host = host.call("fcntl", || "F_DUPFD_CLOEXEC".into());
        let anteroom = Anteroom {
            host: host.map_err(failure)?,
            own: trees.mount_namespace().map_err(failure)?,
            root,
        };
        Ok((anteroom, trees))
    }
}

/// What is in a copy of a [`Hall`].
fn copied_ground(root: &OwnedFd) -> Result<Ground> {
    let system = Root::new(open_directory(root, SYSTEM)?, None);
    Ok(Ground {
        trees: system
            .exists_without_links("kernel")?
            .then_some(("/sys", system))
            .into_iter()
            .collect(),
        place: open_directory(root, PLACE)?,
        nothing: Some(open_directory(root, NOTHING)?),
    })
}

fn open_directory(at: impl AsFd, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty()).call("openat", || name.into())
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
        for name in [PLACE, SYSTEM, NOTHING] {
            rustix::fs::mkdirat(&root, name, Mode::from_raw_mode(0o700)).ok()?;
        }
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
        sys::mount_setattr(&root, read_only, Reach::Mount).ok()?;
        Some(Self { host, own, root })
    }

    /// Where filesystems for a step can be made.
    pub(super) fn ground(&self) -> Result<Ground> {
        open_directory(&self.root, PLACE).map(Ground::at)
    }

    /// The same for what many steps have.
    fn hall_ground(&self) -> Result<Ground> {
        let nothing = new_nothing()?;
        attach(&nothing, open_directory(&self.root, NOTHING)?, NOTHING)?;
        Ok(Ground {
            nothing: Some(nothing),
            ..Ground::at(open_directory(&self.root, SYSTEM)?)
        })
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
