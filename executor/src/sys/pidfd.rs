//! What a process descriptor leads to.

use super::{Error, Result};
use nix::libc;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// `PIDFD_GET_MNT_NAMESPACE` of `linux/pidfd.h`, `_IO(0xFF, 3)`.
const GET_MNT_NAMESPACE: u64 = 0xff03;

/// The mount namespace of a process, which lasts as long as the descriptor. Linux 6.11.
pub(crate) fn mount_namespace_of(process: BorrowedFd<'_>) -> Result<OwnedFd> {
    #[allow(clippy::unnecessary_cast, reason = "not the same type everywhere")]
    let request = GET_MNT_NAMESPACE as _;
    // SAFETY: the call takes a descriptor and a number, no memory.
    let found = unsafe { libc::ioctl(process.as_raw_fd(), request, 0) };
    match found {
        -1 => Err(Error::last("ioctl", "PIDFD_GET_MNT_NAMESPACE")),
        // SAFETY: the kernel has just opened this descriptor for us; nobody else knows of it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// The number of a process, as this one knows it; `None` if it has ended.
pub(crate) fn number_of(process: BorrowedFd<'_>) -> Option<i32> {
    let information = format!("/proc/self/fdinfo/{}", process.as_raw_fd());
    let text = std::fs::read_to_string(information).ok()?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    number.trim().parse().ok().filter(|number| *number > 0)
}
