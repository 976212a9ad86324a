//! `mount_setattr(2)`: change the attributes of a mount, or of a tree of mounts, at once.

use super::{Error, Result};
use nix::libc;
use rustix::mount::MountAttrFlags;
use std::os::fd::{AsFd, AsRawFd as _};

/// Whether only the mount itself or everything mounted below it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The mount itself.
    Mount,
    /// The whole tree.
    Tree,
}

/// Sets `attributes` on the mount that `mount` refers to, and leaves its others as they are. Linux 5.12.
pub(crate) fn mount_setattr(
    mount: impl AsFd,
    attributes: MountAttrFlags,
    reach: Reach,
) -> Result<()> {
    change(mount, attributes, MountAttrFlags::empty(), reach)
}

/// Takes `attributes` off the mount that `mount` refers to.
pub(crate) fn clear_mount_attributes(
    mount: impl AsFd,
    attributes: MountAttrFlags,
    reach: Reach,
) -> Result<()> {
    change(mount, MountAttrFlags::empty(), attributes, reach)
}

fn change(
    mount: impl AsFd,
    set: MountAttrFlags,
    clear: MountAttrFlags,
    reach: Reach,
) -> Result<()> {
    let recursive = if reach == Reach::Tree {
        libc::AT_RECURSIVE
    } else {
        0
    };
    let flags = libc::AT_EMPTY_PATH | recursive;
    let attr = libc::mount_attr {
        attr_set: u64::from(set.bits()),
        attr_clr: u64::from(clear.bits()),
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is an empty C string, attr is initialised, as large as said, and only read.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(Error::last(
            "mount_setattr",
            format!("set {set:?}, clear {clear:?}"),
        ))
    }
}
