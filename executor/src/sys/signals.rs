//! Signal dispositions: exec keeps ignored signals ignored, so they are reset before.

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// Gives every signal its default disposition and unblocks all. Rust's runtime ignores SIGPIPE, and a `nohup` its SIGHUP: a step
/// must not inherit that. The call is made directly, as the C library hides two signals that it uses itself.
pub(crate) fn reset_signals() {
    // The kernel's sigaction with everything zero, the handler being SIG_DFL; no architecture's is larger.
    let default = [0_u64; 4];
    for signal in 1..=LAST {
        // SAFETY: the kernel reads the structure, which is large enough, and SIG_DFL runs no code of ours. For SIGKILL and SIGSTOP it
        // refuses, and nothing changes.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                size_of::<u64>(),
            );
        }
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// The highest signal number.
const LAST: libc::c_int = 64;
