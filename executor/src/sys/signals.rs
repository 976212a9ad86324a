//! Signal dispositions: exec keeps ignored signals ignored, so they are reset before.

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// Gives every signal its default disposition and unblocks all. Rust's runtime ignores SIGPIPE, and a `nohup` its SIGHUP: a step
/// must not inherit that.
pub(crate) fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL runs no code of ours. The calls for SIGKILL, SIGSTOP and the C library's own signals fail and change nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}
