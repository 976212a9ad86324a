//! Which way of sandboxing works here.

use super::mounts::escape;
use crate::sys::{Context as _, Error, Result};
use rustix::mount::{FsOpenFlags, fsconfig_create, fsconfig_set_string, fsopen};
use rustix::thread::CapabilitySet as KernelSet;
use std::ffi::OsString;
use std::fmt;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

/// A rung of the sandbox ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// Namespaces and overlayfs with the machine's own root privileges.
    Root,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
        }
    }
}

/// Why the rung can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    /// What is missing.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

/// Finds out whether steps can run here, with their changes kept on the filesystem of the directory `store`.
///
/// Costs a fraction of a millisecond: an overlay is made, but mounted nowhere, and no process is started.
pub fn probe(store: &Path) -> std::result::Result<Rung, Unavailable> {
    if !rustix::process::geteuid().is_root() {
        return Err(unavailable(
            "RUN needs root",
            "run kiln as root, for example with `sudo`",
        ));
    }
    if !has_sys_admin() {
        let reason = "this process is root but lacks the capability CAP_SYS_ADMIN, as in an ordinary container";
        return Err(unavailable(
            reason,
            "run kiln outside of the container, or in one started with `--privileged`",
        ));
    }
    try_overlay(store)
        .map(|()| Rung::Root)
        .map_err(|error| explain(&error, store))
}

fn unavailable(reason: impl Into<String>, remedy: impl Into<String>) -> Unavailable {
    Unavailable {
        reason: reason.into(),
        remedy: remedy.into(),
    }
}

fn has_sys_admin() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(KernelSet::SYS_ADMIN))
}

/// Makes an overlay with its upper directory in `store`, and lets it go.
fn try_overlay(store: &Path) -> Result<()> {
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
    fsconfig_create(fs.as_fd()).call("fsconfig", || "overlay, create".into())
}

fn explain(error: &Error, store: &Path) -> Unavailable {
    let store = store.display();
    match (error.call.as_ref(), error.symbol().as_str()) {
        ("mkdir", _) => unavailable(
            format!("the store can't be written: {error}"),
            format!("make `{store}` writable, or choose another place with `--root`"),
        ),
        ("fsopen", "ENODEV") => unavailable(
            "the kernel has no overlay filesystem",
            "load it with `modprobe overlay`, or use a kernel that has it",
        ),
        (_, "ENOSYS") => unavailable(
            format!("the kernel is too old: {error}"),
            "use Linux 5.12 or later",
        ),
        (_, "EPERM" | "EACCES") => unavailable(
            format!("mounting is forbidden here: {error}"),
            "a seccomp or security-module profile stands in the way; start the container with `--privileged`",
        ),
        _ => unavailable(
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
