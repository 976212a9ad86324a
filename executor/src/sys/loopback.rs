//! Bringing up `lo`, which is down in a new network namespace.

use super::{Error, Result};
use nix::libc;
use std::os::fd::AsRawFd as _;

/// Sets the loopback interface of the current network namespace up (netdevice(7)).
pub(crate) fn bring_up_loopback() -> Result<()> {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )
    .map_err(|errno| Error::new("socket", "AF_INET", errno.raw_os_error()))?;
    // SAFETY: ifreq is integers, characters and a union of such, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[
        b'l'.cast_signed() as libc::c_char,
        b'o'.cast_signed() as libc::c_char,
    ]);
    #[expect(clippy::cast_possible_truncation, reason = "IFF_UP is 1")]
    let up = libc::IFF_UP as libc::c_short;
    request.ifr_ifru.ifru_flags = up;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which is initialised and lives through the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done == 0 {
        Ok(())
    } else {
        Err(Error::last("ioctl", "SIOCSIFFLAGS, lo, up"))
    }
}
