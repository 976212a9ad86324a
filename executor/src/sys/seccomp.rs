//! `seccomp(2)`: load a filter program.

use super::{Error, Result};
use nix::libc;

// One instruction of a classic BPF program.
pub(crate) use nix::libc::sock_filter as Instruction;

/// Loads a filter into the calling thread; it stays through exec. Needs `CAP_SYS_ADMIN`, as no_new_privs is not set.
pub(crate) fn load_seccomp(program: &[Instruction]) -> Result<()> {
    set_filter(program, 0, "").map(drop)
}

/// What the kernel returns: zero, or the descriptor that `flags` ask for. `called` names them in errors.
pub(super) fn set_filter(
    program: &[Instruction],
    flags: libc::c_ulong,
    called: &str,
) -> Result<libc::c_long> {
    let len = u16::try_from(program.len())
        .map_err(|_| Error::new("seccomp", "program too long", libc::E2BIG))?;
    let filter = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: filter points to `len` instructions that live through the call; the kernel copies and checks them and writes nothing.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const filter,
        )
    };
    if done >= 0 {
        Ok(done)
    } else {
        let args = format!("SET_MODE_FILTER, {called}{len} instructions");
        Err(Error::last("seccomp", args))
    }
}
