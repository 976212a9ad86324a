//! `keyctl(2)`: an own session keyring.

use super::{Error, Result};
use nix::libc;

/// `KEYCTL_JOIN_SESSION_KEYRING` of `linux/keyctl.h`.
const JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Leaves the session keyring that was inherited, which may hold keys of the host's login, for a new empty one.
pub(crate) fn join_new_session_keyring() -> Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; no memory is read or written.
    let done = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    if done >= 0 {
        Ok(())
    } else {
        Err(Error::last("keyctl", "JOIN_SESSION_KEYRING"))
    }
}
