//! The mounts of a step as plain data, in the order they are made.
//!
//! Kept apart from the making so that the order can be read, and tested without root.

use super::waiting::Kind;
use super::{MountSpec, Rung, SandboxSpec};
use rustix::mount::MountAttrFlags;
use std::fmt;

/// One of the kernel's filesystems to mount, or something to do to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KernelAction {
    /// A new filesystem of the kernel on a directory that no link of the image may lead to.
    New(Filesystem),
    /// `/sys`.
    System,
    /// The nodes and links of `/dev`.
    Devices,
    /// Hide a file or directory, if it is there.
    Mask(&'static str),
    /// Make a file or directory read-only, if it is there.
    ReadOnly(&'static str),
}

/// What follows once these are in a root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action<'a> {
    /// Take the protections of the ones before away.
    Expose,
    /// A mount that the spec asks for.
    Asked(&'a MountSpec),
}

/// A new filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filesystem {
    pub(super) kind: &'static str,
    pub(super) target: &'static str,
    pub(super) attributes: MountAttrFlags,
    pub(super) options: Vec<(&'static str, String)>,
}

/// Hidden, as they tell about the machine or could reach it (R-RT-8).
pub(super) const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Readable, as programs ask them, but not to be written (R-RT-8).
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The kernel's filesystems of a step (R-RT-7, R-RT-8).
///
/// `unified_cgroups` says whether the machine has the cgroup2 hierarchy at `/sys/fs/cgroup`. On others that directory stays empty:
/// kiln makes no cgroups, and the old hierarchies can't be shown without showing the host's.
pub(super) fn kernel_plan(kind: &Kind, unified_cgroups: bool) -> Vec<KernelAction> {
    let mut actions = standard(kind.shm_size, kind.rung);
    if unified_cgroups {
        actions.push(KernelAction::New(cgroup()));
    }
    if !kind.exposed {
        actions.extend(MASKED.map(KernelAction::Mask));
        actions.extend(READ_ONLY.map(KernelAction::ReadOnly));
    }
    actions
}

/// Everything to mount for a step once its root is there.
pub(super) fn plan(spec: &SandboxSpec) -> Vec<Action<'_>> {
    let mut actions = Vec::new();
    if spec.exposed {
        actions.push(Action::Expose);
    }
    actions.extend(spec.mounts.iter().map(Action::Asked));
    actions
}

fn standard(shm_size: u64, rung: Rung) -> Vec<KernelAction> {
    let (nosuid, nodev, noexec) = (
        MountAttrFlags::MOUNT_ATTR_NOSUID,
        MountAttrFlags::MOUNT_ATTR_NODEV,
        MountAttrFlags::MOUNT_ATTR_NOEXEC,
    );
    let all = nosuid | nodev | noexec;
    let dev = vec![
        ("mode", "0755".to_owned()),
        ("size", (64 << 20).to_string()),
    ];
    let mut pts = vec![
        ("newinstance", String::new()),
        ("ptmxmode", "0666".into()),
        ("mode", "0620".into()),
    ];
    // Terminals are the group tty's, where there is such a group.
    pts.extend((!rung.records_owners()).then(|| ("gid", "5".to_owned())));
    let shm = vec![("mode", "1777".to_owned()), ("size", shm_size.to_string())];
    vec![
        filesystem("proc", "/proc", all, Vec::new()),
        filesystem("tmpfs", "/dev", nosuid, dev),
        KernelAction::Devices,
        filesystem("devpts", "/dev/pts", nosuid | noexec, pts),
        filesystem("tmpfs", "/dev/shm", all, shm),
        filesystem("mqueue", "/dev/mqueue", all, Vec::new()),
        KernelAction::System,
    ]
}

fn filesystem(
    kind: &'static str,
    target: &'static str,
    attributes: MountAttrFlags,
    options: Vec<(&'static str, String)>,
) -> KernelAction {
    KernelAction::New(Filesystem {
        kind,
        target,
        attributes,
        options,
    })
}

fn cgroup() -> Filesystem {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_RDONLY;
    Filesystem {
        kind: "cgroup2",
        target: "/sys/fs/cgroup",
        attributes,
        options: Vec::new(),
    }
}

impl KernelAction {
    /// Where it is done.
    pub(super) fn path(&self) -> &'static str {
        match self {
            Self::New(filesystem) => filesystem.target,
            Self::System => "/sys",
            Self::Devices => "/dev",
            Self::Mask(path) | Self::ReadOnly(path) => path,
        }
    }
}

/// What is being done, to be read after "could not".
impl fmt::Display for KernelAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New(filesystem) => {
                write!(f, "mount {} on `{}`", filesystem.kind, filesystem.target)
            }
            Self::System => f.write_str("mount sysfs on `/sys`"),
            Self::Devices => f.write_str("make the nodes and links of `/dev`"),
            Self::Mask(path) => write!(f, "hide `{path}`"),
            Self::ReadOnly(path) => write!(f, "make `{path}` read-only"),
        }
    }
}

impl fmt::Display for Action<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expose => f.write_str("open up devices and kernel filesystems"),
            Self::Asked(mount) => write!(f, "mount on `{}`", mount.target),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::RootSpec;

    /// All that is mounted, in order.
    fn listing(spec: &SandboxSpec, unified_cgroups: bool) -> Vec<String> {
        let kernel = kernel_plan(&Kind::of(spec), unified_cgroups);
        let kernel = kernel.iter().map(ToString::to_string);
        let rest = plan(spec);
        kernel.chain(rest.iter().map(ToString::to_string)).collect()
    }

    /// Each mount comes after the one it stands on, and what the spec asks for comes last, so that it may stand anywhere.
    #[test]
    fn the_order_of_mounts() {
        let mut spec = SandboxSpec::new(RootSpec::Directory("/r".into()), ["true"]);
        spec.mounts
            .push(MountSpec::file("/etc/hosts", "127.0.0.1\tlocalhost\n"));
        let listing = listing(&spec, true);
        let expected = "
            mount proc on `/proc`
            mount tmpfs on `/dev`
            make the nodes and links of `/dev`
            mount devpts on `/dev/pts`
            mount tmpfs on `/dev/shm`
            mount mqueue on `/dev/mqueue`
            mount sysfs on `/sys`
            mount cgroup2 on `/sys/fs/cgroup`
            hide `/proc/acpi`
            hide `/proc/asound`
            hide `/proc/kcore`
            hide `/proc/keys`
            hide `/proc/latency_stats`
            hide `/proc/timer_list`
            hide `/proc/timer_stats`
            hide `/proc/sched_debug`
            hide `/proc/scsi`
            hide `/sys/firmware`
            hide `/sys/devices/virtual/powercap`
            make `/proc/bus` read-only
            make `/proc/fs` read-only
            make `/proc/irq` read-only
            make `/proc/sys` read-only
            make `/proc/sysrq-trigger` read-only
            mount on `/etc/hosts`"; // R-RT-7, R-RT-8
        assert_eq!(
            listing,
            expected.lines().skip(1).map(str::trim).collect::<Vec<_>>()
        );
    }

    #[test]
    fn an_insecure_step_has_nothing_masked() {
        // R-RT-6
        let spec = SandboxSpec::new(RootSpec::Directory("/r".into()), ["true"]).insecure();
        let listing = listing(&spec, true);
        let is_kept = |line: &&String| line.starts_with("hide") || line.ends_with("read-only");
        assert_eq!(listing.iter().filter(is_kept).count(), 0);
        assert_eq!(
            listing.last().map(String::as_str),
            Some("open up devices and kernel filesystems")
        );
    }

    #[test]
    fn machines_without_unified_cgroups_get_no_cgroup_mount() {
        let spec = SandboxSpec::new(RootSpec::Directory("/r".into()), ["true"]);
        assert!(
            !listing(&spec, false)
                .iter()
                .any(|action| action.contains("cgroup"))
        );
    }
}
