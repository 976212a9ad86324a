//! `landlock(7)`, of which only the scopes are used: no rule about files is made, so nothing is refused to the step below its root.

use super::{Error, Result};
use nix::libc;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// `struct landlock_ruleset_attr` of `linux/landlock.h`, as of Linux 6.12.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` and `LANDLOCK_SCOPE_SIGNAL`.
const SCOPED: u64 = 1 | 2;

/// The version of the interface that has scopes.
const SCOPING: i64 = 6;

/// Whether the kernel can do what [`keep_to_themselves`] asks for.
pub(crate) fn can_keep_to_themselves() -> bool {
    const VERSION: u32 = 1; // LANDLOCK_CREATE_RULESET_VERSION
    // SAFETY: with this flag the call takes no memory, and only answers.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Ruleset>(),
            0_usize,
            VERSION,
        )
    };
    version >= SCOPING
}

/// Keeps the calling thread and all that comes from it to themselves: they can signal, trace (which reading `/proc/PID/environ` and the
/// like counts as) and reach by abstract sockets nobody but each other. Needs no_new_privs or `CAP_SYS_ADMIN`, and Linux 6.12.
pub(crate) fn keep_to_themselves() -> Result<()> {
    let ruleset = Ruleset {
        handled_access_fs: 0,
        handled_access_net: 0,
        scoped: SCOPED,
    };
    // SAFETY: ruleset is initialised, as large as said, and only read.
    let made = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const ruleset,
            size_of::<Ruleset>(),
            0,
        )
    };
    let failed = || Error::last("landlock_create_ruleset", "scoped");
    let fd = i32::try_from(made).ok().filter(|fd| *fd >= 0);
    let fd = fd.ok_or_else(failed)?;
    // SAFETY: the kernel has just opened this descriptor for us; nobody else knows of it.
    let ruleset = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the call takes a descriptor and flags, no memory.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    match done {
        0 => Ok(()),
        _ => Err(Error::last("landlock_restrict_self", String::new())),
    }
}
