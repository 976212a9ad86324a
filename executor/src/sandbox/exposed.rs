//! What `--security=insecure` opens (R-RT-6): kernel filesystems that can be written to, and the devices of the machine.

use super::Rung;
use super::root::Root;
use crate::sys::{self, Context as _, Reach, Result};
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

/// Devices beyond the usual ones, as BuildKit gives them: character devices with their numbers.
const NODES: [(&str, u32, u32); 5] = [
    ("kmsg", 1, 11),
    ("cuse", 10, 203),
    ("fuse", 10, 229),
    ("kvm", 10, 232),
    ("loop-control", 10, 237),
];

/// How many `/dev/loopN` there are at least.
const LOOPS: u32 = 8;

/// Takes the protections away again that the standard mounts came with.
///
/// In a user namespace a device node that is made can't be opened, whatever its mount allows, so there are none.
pub(super) fn expose(root: &Root, rung: Rung) -> Result<()> {
    for path in ["/sys", "/sys/fs/cgroup"] {
        let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
        match root.open_without_links(path) {
            // Below a mount that is another's, the attribute is locked; nothing is lost then but the right to write.
            Ok(mounted) => drop(sys::clear_mount_attributes(
                &mounted,
                read_only,
                Reach::Tree,
            )),
            Err(error) if error.errno == Errno::NOENT.raw_os_error() => {}
            Err(error) => return Err(error),
        }
    }
    if rung.is_in_user_namespace() {
        return Ok(());
    }
    let no_devices = MountAttrFlags::MOUNT_ATTR_NODEV;
    sys::clear_mount_attributes(root.fd(), no_devices, Reach::Mount)?;
    let dev = root.open_without_links("/dev")?;
    sys::clear_mount_attributes(&dev, no_devices, Reach::Mount)?;
    for (name, major, minor) in NODES {
        node(&dev, name, FileType::CharacterDevice, major, minor)?;
    }
    rustix::fs::mkdirat(&dev, "net", Mode::from_raw_mode(0o755))
        .call("mkdirat", || "/dev/net".into())?;
    node(&dev, "net/tun", FileType::CharacterDevice, 10, 200)?;
    (0..LOOPS).try_for_each(|number| {
        node(
            &dev,
            &format!("loop{number}"),
            FileType::BlockDevice,
            7,
            number,
        )
    })
}

fn node(
    dev: impl std::os::fd::AsFd,
    name: &str,
    kind: FileType,
    major: u32,
    minor: u32,
) -> Result<()> {
    let device = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(dev, name, kind, Mode::from_raw_mode(0o666), device)
        .call("mknodat", || format!("/dev/{name}, {major}:{minor}"))
}
