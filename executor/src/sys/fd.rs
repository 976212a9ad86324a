//! `close_range(2)`: all descriptors from one number on.

use super::{Error, Result};
use nix::libc;

/// Marks every descriptor from `first` on to be closed at exec.
pub(crate) fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: only flags of descriptors change; nothing is closed under anyone's feet.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(Error::last("close_range", format!("{first}.., CLOEXEC")))
    }
}

/// Closes every descriptor from `first` on.
///
/// For the first moments of a process, or one that never goes back to what it did before: any owner of a descriptor from `first` on loses it.
pub(crate) fn close_from(first: u32) -> Result<()> {
    // SAFETY: the caller is a program that has just begun and owns no descriptor from `first` on, what is open there having been inherited; or it
    // never returns to who owns one.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if done == 0 {
        Ok(())
    } else {
        Err(Error::last("close_range", format!("{first}..")))
    }
}
