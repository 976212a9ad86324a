//! What a container around kiln keeps from the user namespaces in it, found out without trying.

use super::SandboxSpec;
use crate::sys;
use std::fs;
use std::sync::OnceLock;

/// Directories of `/proc` that are there to be mounted on, and hide nothing.
const EMPTY: [&str; 3] = [
    "/proc/sys/fs/binfmt_misc",
    "/proc/fs/nfsd",
    "/proc/openprom",
];

/// Whether a step has no pid namespace of its own, though it has others.
///
/// Where parts of `/proc` are hidden the kernel mounts no new one in a user namespace, and the surrounding one knows a step's processes
/// by other numbers than a pid namespace gives them: `/proc/$$` would be somebody else, and `start-stop-daemon` find nobody. So there a
/// step has the numbers that the surroundings have, if the kernel keeps it to its own processes by other means (Linux 6.12), and
/// [`super::minder`] ends what it leaves behind.
pub(super) fn share_processes(spec: &SandboxSpec) -> bool {
    static SHARED: OnceLock<bool> = OnceLock::new();
    spec.rung.is_in_user_namespace()
        && !spec.exposed
        && *SHARED.get_or_init(|| hide_processes() && sys::can_keep_to_themselves())
}

fn hide_processes() -> bool {
    fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| hides(&mounts))
}

/// Whether something is mounted in `/proc`.
fn hides(mounts: &str) -> bool {
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.any(|point| point.starts_with("/proc/") && !EMPTY.contains(&point))
}

/// Names of the machine for `/etc/hosts`: the step's, and the surroundings' own where a filter may forbid to have another, as podman's does.
pub(crate) fn hostnames(own: &str) -> String {
    static SURROUNDING: OnceLock<Option<String>> = OnceLock::new();
    let surrounding = SURROUNDING.get_or_init(|| {
        let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
        let is_name = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '#');
        (is_name && is_filtered()).then_some(name)
    });
    match surrounding {
        Some(name) if name != own => format!("{own} {name}"),
        _ => own.to_owned(),
    }
}

/// Whether a container is around this process, as far as can be seen: its own numbers for processes, or a filter.
pub(crate) fn is_contained() -> bool {
    /// `PROC_PID_INIT_INO` of the kernel: the machine's first pid namespace.
    const FIRST: u64 = 0xEFFF_FFFC;
    let namespace = rustix::fs::stat("/proc/self/ns/pid");
    namespace.is_ok_and(|found| found.st_ino != FIRST) || is_filtered()
}

/// Whether somebody's seccomp filter is around this process.
fn is_filtered() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mode = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() == "2")
}

#[cfg(test)]
mod tests {
    use super::hides;

    #[test]
    fn what_is_mounted_on_parts_of_proc_hides_them() {
        let with = |point: &str| {
            format!(
                "20 1 0:4 / / rw - overlay overlay rw\n21 20 0:5 / /proc rw - proc proc rw\n22 21 0:6 /null {point} ro - tmpfs tmpfs rw\n"
            )
        };
        for hidden in ["/proc/kcore", "/proc/acpi", "/proc/sys"] {
            assert!(hides(&with(hidden)), "{hidden}");
        }
        for harmless in ["/proc/sys/fs/binfmt_misc", "/processes/x", "/tmp"] {
            assert!(!hides(&with(harmless)), "{harmless}");
        }
    }
}
