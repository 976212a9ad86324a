//! Files of no directory, which steps are shown in place of what the kernel would show.

use super::remote::Answered;
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsRawFd as _, OwnedFd};

/// A file with this text that can only be read. `proc` is a `/proc` in which this process is `self`.
pub(super) fn memory_file(text: &str, proc: &OwnedFd) -> Answered<OwnedFd> {
    let file =
        rustix::fs::memfd_create("proc", MemfdFlags::CLOEXEC).map_err(Errno::raw_os_error)?;
    rustix::io::write(&file, text.as_bytes()).map_err(Errno::raw_os_error)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o444)).map_err(Errno::raw_os_error)?;
    let name = format!("self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::openat(proc, name, flags, Mode::empty()).map_err(Errno::raw_os_error)
}
