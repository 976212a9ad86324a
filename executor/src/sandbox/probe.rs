//! Whether a rung works here: the cheapest question that the kernel answers truthfully, asked when a step is about to run.

use super::mounts::escape;
use super::{Rung, userns};
use crate::sys::{Context as _, Error, Result};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    move_mount,
};
use rustix::thread::CapabilitySet as KernelSet;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

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

/// What the sandbox `chroot` can't do without: change roots, users and their capabilities, give files away, end what a user's step leaves behind.
pub(super) const FOR_CHROOT: [(KernelSet, &str); 9] = [
    (KernelSet::CHOWN, "CHOWN"),
    (KernelSet::DAC_OVERRIDE, "DAC_OVERRIDE"),
    (KernelSet::FOWNER, "FOWNER"),
    (KernelSet::FSETID, "FSETID"),
    (KernelSet::KILL, "KILL"),
    (KernelSet::SETGID, "SETGID"),
    (KernelSet::SETPCAP, "SETPCAP"),
    (KernelSet::SETUID, "SETUID"),
    (KernelSet::SYS_CHROOT, "SYS_CHROOT"),
];

/// What the sandbox `root` can't do without.
pub(super) const FOR_ROOT: [(KernelSet, &str); 10] = [
    (KernelSet::CHOWN, "CHOWN"),
    (KernelSet::DAC_OVERRIDE, "DAC_OVERRIDE"),
    (KernelSet::FOWNER, "FOWNER"),
    (KernelSet::FSETID, "FSETID"),
    (KernelSet::MKNOD, "MKNOD"),
    (KernelSet::SETFCAP, "SETFCAP"),
    (KernelSet::SETGID, "SETGID"),
    (KernelSet::SETPCAP, "SETPCAP"),
    (KernelSet::SETUID, "SETUID"),
    (KernelSet::SYS_ADMIN, "SYS_ADMIN"),
];

/// What the sandbox `userns-given` can't do without.
pub(super) const FOR_GIVEN: [(KernelSet, &str); 8] = [
    (KernelSet::CHOWN, "CHOWN"),
    (KernelSet::DAC_OVERRIDE, "DAC_OVERRIDE"),
    (KernelSet::FOWNER, "FOWNER"),
    (KernelSet::FSETID, "FSETID"),
    (KernelSet::SETGID, "SETGID"),
    (KernelSet::SETPCAP, "SETPCAP"),
    (KernelSet::SETUID, "SETUID"),
    (KernelSet::SYS_ADMIN, "SYS_ADMIN"),
];

/// Without these, a namespace inside of the given one is better, in which root has them all: devices and capabilities of files are
/// recorded for who may make them, and calls of a step's users are answered by who may look into their processes.
pub(super) const FOR_ALL_OF_GIVEN: [(KernelSet, &str); 3] = [
    (KernelSet::MKNOD, "MKNOD"),
    (KernelSet::SETFCAP, "SETFCAP"),
    (KernelSet::SYS_PTRACE, "SYS_PTRACE"),
];

/// What root can't do without to take all its ids into a user namespace. Without the last, root itself can't be mapped to the
/// root outside.
pub(super) const FOR_MAPS: [(KernelSet, &str); 3] = [
    (KernelSet::SETGID, "SETGID"),
    (KernelSet::SETUID, "SETUID"),
    (KernelSet::SETFCAP, "SETFCAP"),
];

/// Makes sure that root, who is this process, has capabilities. `purpose` goes on after "which".
pub(super) fn require(
    needed: &[(KernelSet, &str)],
    purpose: &str,
) -> std::result::Result<(), Unavailable> {
    let held = rustix::thread::capabilities(None).map_or(KernelSet::empty(), |sets| sets.effective);
    let lacking = needed.iter().filter(|(set, _)| !held.contains(*set));
    let lacking: Vec<&str> = lacking.map(|(_, name)| *name).collect();
    match lacking.len() {
        0 => Ok(()),
        1..MANY => Err(without(&lacking, purpose)),
        _ => Err(without_most(&lacking, purpose)),
    }
}

/// From so many on capabilities are not named one by one.
const MANY: usize = 5;

/// Which of those that root may lack no container has by default.
const EXTRA: &str = "SYS_ADMIN";

fn without(lacking: &[&str], purpose: &str) -> Unavailable {
    let (names, flags) = (lacking.join(", "), lacking.join(" --cap-add "));
    Unavailable::new(
        format!("this process is root but lacks the capabilities {names}, which {purpose}"),
        format!(
            "start the container with `--cap-add {flags}`, or in Kubernetes with `securityContext: {{capabilities: {{add: [{names}]}}}}`"
        ),
    )
}

/// As after `--cap-drop all`.
fn without_most(lacking: &[&str], purpose: &str) -> Unavailable {
    let (named, flag, added) = match lacking.contains(&EXTRA) {
        true => (
            format!(", and {EXTRA}"),
            format!(" and with `--cap-add {EXTRA}`"),
            format!(" and with `add: [{EXTRA}]`"),
        ),
        false => Default::default(),
    };
    Unavailable::new(
        format!(
            "this process is root but lacks capabilities that containers have by default{named}, which {purpose}"
        ),
        format!(
            "start the container without `--cap-drop`{flag}, or in Kubernetes without `capabilities: {{drop: [ALL]}}`{added}"
        ),
    )
}

/// Whether a seccomp filter or a security module's profile limits this process: then being allowed something does not mean being able to.
pub(super) fn is_confined() -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let profile = read("/proc/self/attr/current");
    let profile = profile.trim_end_matches(['\0', '\n']);
    read("/proc/self/status").contains("\nSeccomp:\t2")
        || !(profile.is_empty() || profile.starts_with("unconfined"))
}

/// Where it is tried out whether a store's filesystem is good for overlays.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    /// The store's directory.
    pub(super) store: &'a Path,
    /// Gives a directory on the same filesystem, whose giver takes it away with all that is left in it. Without one, one is made in the store's
    /// and removed at once.
    pub(super) scratch: &'a (dyn Fn() -> Option<PathBuf> + Sync),
}

impl<'a> Site<'a> {
    /// Without any directory but the store's.
    pub(super) fn alone(store: &'a Path) -> Self {
        let scratch = &|| None;
        Self { store, scratch }
    }
}

/// Whether the filesystem of a store takes the changes of an overlay; where it doesn't, steps get copies. An overlay itself, as most
/// containers stand on, never does.
///
/// Costs a fraction of a millisecond: a filesystem is made, but mounted nowhere, and no process is started.
pub(super) fn overlay(rung: Rung, site: Site<'_>) -> std::result::Result<bool, Unavailable> {
    let tried = match rung.is_in_user_namespace() {
        false => try_overlay(rung, site),
        // This process may be in mounts that belong to a namespace further out, where it has no say. A thread can leave them for itself.
        true => std::thread::scope(|scope| {
            let tried = scope.spawn(|| {
                own_mounts()?;
                try_overlay(rung, site)
            });
            tried.join().unwrap_or(Ok(()))
        }),
    };
    match tried {
        Ok(()) => Ok(true),
        Err(error) => explain(&error, site.store).map_or(Ok(false), Err),
    }
}

/// Whether this process can make namespaces and mounts, which something else than the kernel itself may forbid. It is in them afterwards.
pub(super) fn isolation() -> std::result::Result<(), Unavailable> {
    let tried =
        unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
            .call("unshare", || "NEWPID|NEWIPC|NEWUTS".into())
            .and_then(|()| own_mounts())
            .and_then(|()| try_mount())
            .and_then(|()| try_root());
    tried.map_err(|error| forbidden(&error))
}

/// Whether programs in a copy of a root filesystem, which stands in `store` itself, can be executed.
pub(super) fn executes(store: &Path) -> std::result::Result<(), Unavailable> {
    let refused = rustix::fs::statvfs(store)
        .is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::NOEXEC));
    match refused {
        false => Ok(()),
        true => Err(Unavailable::new(
            format!(
                "`{}` is on a filesystem that is mounted with `noexec`, and steps get copies of their root filesystems there",
                store.display()
            ),
            "choose another place for the store with `--root` or `KILN_ROOT`, or mount this one with `exec` (`--tmpfs DIR:exec` in Docker and podman)",
        )),
    }
}

fn own_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).call("unshare", || "NEWNS".into())
}

/// Mounts a filesystem on `/`, where it hides nothing from this process.
fn try_mount() -> Result<()> {
    let how = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", how).call("mount", || "/, MS_REC|MS_PRIVATE".into())?;
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).call("fsopen", || "tmpfs".into())?;
    fsconfig_create(fs.as_fd()).call("fsconfig", || "tmpfs, create".into())?;
    let mounted = fsmount(
        fs.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    );
    let mounted = mounted.call("fsmount", || "tmpfs".into())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(mounted, "", CWD, "/", flags).call("move_mount", || "tmpfs, /".into())
}

/// A step can do with either call. The one for mounts, if it isn't refused, finds nothing at an empty path.
fn try_root() -> Result<()> {
    let changed = rustix::process::chroot("/");
    let exchanged = || rustix::process::pivot_root("", "");
    match changed.is_err() && matches!(exchanged(), Err(Errno::PERM | Errno::NOSYS)) {
        true => changed.call("chroot", || "/".into()),
        false => Ok(()),
    }
}

/// Whether this process can change its root, which a filter may forbid to who has the capability. It is changed to what it is already.
pub(super) fn change_of_root() -> std::result::Result<(), Unavailable> {
    let tried = rustix::process::chroot("/").call("chroot", || "/".into());
    tried.map_err(|error| no_change_of_root(&error))
}

fn no_change_of_root(error: &Error) -> Unavailable {
    Unavailable::new(
        format!(
            "the root of a process can't be changed here, which the sandbox `chroot` does: {error}"
        ),
        "a seccomp or security-module profile stands in the way: allow the call `chroot` there, or start the container with \
         `--security-opt seccomp=unconfined`, in Kubernetes with `securityContext: {seccompProfile: {type: RuntimeDefault}}`",
    )
}

/// Makes an overlay with its upper directory in the store's filesystem, and lets it go.
fn try_overlay(rung: Rung, site: Site<'_>) -> Result<()> {
    if let Some(directory) = (site.scratch)() {
        return make_overlay(rung, &directory);
    }
    let store = site.store;
    let made = tempfile::Builder::new()
        .prefix("probe-")
        .tempdir_in(store)
        .call("mkdir", || store.display().to_string())?;
    make_overlay(rung, made.path())
}

fn make_overlay(rung: Rung, directory: &Path) -> Result<()> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).call("fsopen", || "overlay".into())?;
    for (option, name) in [
        ("lowerdir", "lower"),
        ("upperdir", "upper"),
        ("workdir", "work"),
    ] {
        let path = directory.join(name);
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
    // As a step's: else its end would wait for the disk, with all that anybody wrote there.
    let _ = fsconfig_set_flag(&fs, "volatile"); // Linux 5.10
    fsconfig_create(fs.as_fd()).call("fsconfig", || "overlay, create".into())
}

/// Why a step could not be set up.
pub(super) fn explain_stage(stage: &str, cause: &Error) -> Unavailable {
    match (stage, cause.symbol().as_str()) {
        ("load the filter of the recorder", "EBUSY") => Unavailable::new(
            format!("another program answers kiln's own system calls already: {cause}"),
            "run kiln outside of it",
        ),
        ("load the filter of the broker", _) => Unavailable::new(
            format!(
                "device nodes can't be made here, and seccomp can't stand in for them: {cause}"
            ),
            "start the container with `--cap-add MKNOD`, or in Kubernetes with `securityContext.capabilities.add: [\"MKNOD\"]`",
        ),
        ("load the filter of the recorder", _) => Unavailable::new(
            format!("the kernel has no notifications of seccomp: {cause}"),
            "use Linux 5.12 or later",
        ),
        ("change the root", _) => no_change_of_root(cause),
        (_, "EPERM" | "EACCES") => Unavailable {
            reason: format!("could not {stage}: {cause}"),
            ..forbidden(cause)
        },
        _ => Unavailable::new(
            format!("could not {stage}: {cause}"),
            "start the container with `--privileged`, or run kiln outside of it",
        ),
    }
}

/// Why no overlay could be made, unless it is for the filesystem's sake.
fn explain(error: &Error, store: &Path) -> Option<Unavailable> {
    match (error.call.as_ref(), error.symbol().as_str()) {
        ("mkdir", _) => Some(Unavailable::new(
            format!("the store can't be written: {error}"),
            format!(
                "make `{}` writable, or choose another place with `--root`",
                store.display()
            ),
        )),
        (_, "EPERM" | "EACCES" | "ENOSYS") => Some(forbidden(error)),
        _ => None,
    }
}

/// Why namespaces or mounts can't be made.
fn forbidden(error: &Error) -> Unavailable {
    if error.symbol() == "ENOSYS" {
        return Unavailable::new(
            format!("the kernel is too old: {error}"),
            "use Linux 5.12 or later",
        );
    }
    let remedy = match userns::are_restricted_by_apparmor() {
        true => userns::UNLOCK_APPARMOR,
        false => {
            "a seccomp or security-module profile stands in the way; start the container with `--security-opt seccomp=unconfined \
             --security-opt apparmor=unconfined`"
        }
    };
    Unavailable::new(
        format!("namespaces and mounts are forbidden here: {error}"),
        remedy,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_capabilities_are_not_named_one_by_one() {
        let few = without(&["MKNOD", "SYS_ADMIN"], "x needs");
        assert!(
            few.reason
                .contains("capabilities MKNOD, SYS_ADMIN, which x needs")
        );
        assert!(few.remedy.contains("`--cap-add MKNOD --cap-add SYS_ADMIN`"));
        let all = FOR_ROOT.map(|(_, name)| name);
        let most = without_most(&all, "x needs");
        assert!(
            most.reason.len() < 130 && most.remedy.len() < 160,
            "{most:?}"
        );
        assert!(
            most.remedy
                .contains("without `--cap-drop` and with `--cap-add SYS_ADMIN`")
        );
        let chroot = FOR_CHROOT.map(|(_, name)| name);
        assert!(
            !without_most(&chroot, "x needs")
                .remedy
                .contains("SYS_ADMIN")
        );
    }

    #[test]
    fn a_refused_change_of_root_is_told_as_what_it_is() {
        let refused = Error::new("chroot", ".", nix::libc::EPERM);
        let told = explain_stage("change the root", &refused);
        assert!(told.reason.contains("chroot"), "{told:?}");
        assert!(told.remedy.contains("allow the call `chroot`"), "{told:?}");
    }

    #[test]
    fn what_is_the_filesystems_alone_is_no_refusal() {
        let explained = |call, errno| {
            explain(
                &Error::new(call, "overlay", errno),
                Path::new("/var/lib/kiln"),
            )
        };
        for (call, errno) in [
            ("fsopen", nix::libc::EPERM),
            ("fsopen", nix::libc::ENOSYS),
            ("mkdir", nix::libc::EROFS),
        ] {
            let found = explained(call, errno).expect("it is refused");
            assert!(
                !found.reason.is_empty() && !found.remedy.is_empty(),
                "{call}"
            );
        }
        for (call, errno) in [
            ("fsopen", nix::libc::ENODEV),
            ("fsconfig", nix::libc::EINVAL),
        ] {
            assert_eq!(explained(call, errno), None, "{call}");
        }
    }
}
