//! Whether a rung works here: the cheapest question that the kernel answers truthfully, asked when a step is about to run.

use super::Rung;
use super::mounts::escape;
use crate::sys::{Context as _, Error, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use rustix::thread::CapabilitySet as KernelSet;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

/// Why a rung can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{reason}")]
pub struct Unavailable {
    /// What is missing.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl Unavailable {
    /// What is missing, and what to do about it.
    pub(super) fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

/// Whether this process may mount things in its user namespace.
pub(super) fn has_sys_admin() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(KernelSet::SYS_ADMIN))
}

/// The capability that a change of root, or of user, would need.
pub(super) fn lacks_for_chroot() -> Option<&'static str> {
    let held = rustix::thread::capabilities(None).map_or(KernelSet::empty(), |sets| sets.effective);
    let needed = [
        (KernelSet::SYS_CHROOT, "SYS_CHROOT"),
        (KernelSet::SETUID, "SETUID"),
        (KernelSet::SETGID, "SETGID"),
        (KernelSet::CHOWN, "CHOWN"),
    ];
    let mut lacking = needed.into_iter().filter(|(set, _)| !held.contains(*set));
    lacking.next().map(|(_, name)| name)
}

/// Whether a step of `root` or `userns-given` can have its root filesystem with changes kept in `store`, and a `/proc`.
///
/// Costs a fraction of a millisecond: filesystems are made, but mounted nowhere, and no process is started.
pub(super) fn mounts(rung: Rung, store: &Path) -> std::result::Result<(), Unavailable> {
    try_overlay(rung, store).map_err(|error| explain(&error, store))?;
    match try_proc() {
        Ok(_) => Ok(()),
        // The pid namespace is an outer one's: a step has its own, which says nothing against it.
        Err(error) if error.call == "fsconfig" => Ok(()),
        Err(error) => Err(explain_proc(&error)),
    }
}

/// Makes an overlay with its upper directory in `store`, and lets it go.
fn try_overlay(rung: Rung, store: &Path) -> Result<()> {
    let dir = tempfile::Builder::new()
        .prefix("probe-")
        .tempdir_in(store)
        .call("mkdir", || store.display().to_string())?;
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).call("fsopen", || "overlay".into())?;
    for (option, name) in [
        ("lowerdir", "lower"),
        ("upperdir", "upper"),
        ("workdir", "work"),
    ] {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).call("mkdir", || path.display().to_string())?;
        // The one option that takes a list, and so has characters of its own.
        let value = match option {
            "lowerdir" => OsString::from_vec(escape(&path)),
            _ => path.into_os_string(),
        };
        fsconfig_set_string(&fs, option, value)
            .call("fsconfig", || format!("overlay, {option}"))?;
    }
    if rung.is_in_user_namespace() {
        fsconfig_set_flag(&fs, "userxattr").call("fsconfig", || "overlay, userxattr".into())?;
    }
    fsconfig_create(fs.as_fd()).call("fsconfig", || "overlay, create".into())
}

/// Makes a `/proc` of this process's own pid namespace, and lets it go. The kernel refuses where parts of the `/proc` that is
/// there are hidden, as a new one would show them.
fn try_proc() -> Result<OwnedFd> {
    let fs = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).call("fsopen", || "proc".into())?;
    fsconfig_create(fs.as_fd()).call("fsconfig", || "proc, create".into())?;
    fsmount(
        fs.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .call("fsmount", || "proc".into())
}

/// Why a step could not be set up.
pub(super) fn explain_stage(stage: &str, cause: &Error, store: &Path) -> Unavailable {
    match (stage, cause.symbol().as_str()) {
        ("mount the root filesystem", _) => explain(cause, store),
        ("mount proc on `/proc`", "EPERM") => explain_proc(cause),
        ("load the filter of the recorder", "EBUSY") => Unavailable::new(
            format!("another program answers kiln's own system calls already: {cause}"),
            "run kiln outside of it",
        ),
        ("load the filter of the recorder", _) => Unavailable::new(
            format!("the kernel has no notifications of seccomp: {cause}"),
            "use Linux 5.12 or later",
        ),
        ("make the step's namespaces", "EPERM") => Unavailable::new(
            format!("namespaces can't be made here: {cause}"),
            "a seccomp or security-module profile stands in the way; start the container with \
             `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`",
        ),
        _ => Unavailable::new(
            format!("could not {stage}: {cause}"),
            "start the container with `--privileged`, or run kiln outside of it",
        ),
    }
}

fn explain_proc(error: &Error) -> Unavailable {
    Unavailable::new(
        format!(
            "a new `/proc` can't be mounted here, as parts of the one that is there are hidden: {error}"
        ),
        "start the container with `--security-opt systempaths=unconfined`, or in Kubernetes with `procMount: Unmasked`",
    )
}

fn explain(error: &Error, store: &Path) -> Unavailable {
    let store = store.display();
    match (error.call.as_ref(), error.symbol().as_str()) {
        ("mkdir", _) => Unavailable::new(
            format!("the store can't be written: {error}"),
            format!("make `{store}` writable, or choose another place with `--root`"),
        ),
        ("fsopen", "ENODEV") => Unavailable::new(
            "the kernel has no overlay filesystem",
            "load it with `modprobe overlay`, or use a kernel that has it",
        ),
        (_, "ENOSYS") => Unavailable::new(
            format!("the kernel is too old: {error}"),
            "use Linux 5.12 or later",
        ),
        (_, "EPERM" | "EACCES") => Unavailable::new(
            format!("mounting is forbidden here: {error}"),
            "a seccomp or security-module profile stands in the way; start the container with `--privileged`",
        ),
        _ => Unavailable::new(
            format!("the filesystem of `{store}` can't take the changes of an overlay: {error}"),
            "put the store on ext4, XFS, btrfs or tmpfs with `--root`, for example on a volume of the container",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_a_remedy() {
        let cases = [
            ("fsopen", nix::libc::ENODEV),
            ("fsconfig", nix::libc::EINVAL),
            ("fsopen", nix::libc::EPERM),
            ("mkdir", nix::libc::EROFS),
        ];
        for (call, errno) in cases {
            let found = explain(
                &Error::new(call, "overlay", errno),
                Path::new("/var/lib/kiln"),
            );
            assert!(
                !found.reason.is_empty() && !found.remedy.is_empty(),
                "{call}"
            );
        }
    }
}
