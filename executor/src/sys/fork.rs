//! `fork(2)`, for the moment before there are threads.

use super::{Error, Result, SingleThreaded};
use nix::unistd::{ForkResult, Pid, fork};

/// Which process this is, after [`fork_process`].
#[derive(Debug)]
pub(crate) enum Forked {
    /// The one that asked; the other is its child.
    Parent(Pid),
    /// The copy.
    Child,
}

/// Copies this process. The copy must end by exec or exit and never return to who called.
pub(crate) fn fork_process(_proof: &SingleThreaded) -> Result<Forked> {
    // SAFETY: this process has one thread (the proof), so no lock stays held in the copy, which may call whatever it likes.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => Ok(Forked::Parent(child)),
        Ok(ForkResult::Child) => Ok(Forked::Child),
        Err(errno) => Err(Error::new("fork", String::new(), errno as i32)),
    }
}
