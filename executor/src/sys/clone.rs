//! `clone3(2)`: a new process in new namespaces.

use super::{Error, Result};
use nix::libc;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// Proof that this process has one thread, so that a copy of it may go on as if nothing had happened.
///
/// In the copy of a process with several threads, a lock that another thread held stays locked for ever: the memory allocator's,
/// for one. With one thread there is no such lock.
#[derive(Debug)]
pub(crate) struct SingleThreaded(());

impl SingleThreaded {
    /// Counts the threads of this process. `None` when there is more than one, or `/proc` can't tell.
    pub(crate) fn prove() -> Option<Self> {
        let threads = std::fs::read_dir("/proc/self/task").ok()?.count();
        (threads == 1).then_some(Self(()))
    }
}

/// Which process this is, after [`clone_process`].
#[derive(Debug)]
pub(crate) enum Cloned {
    /// The caller; the descriptor stands for the new process.
    Caller(OwnedFd),
    /// The new process.
    New,
}

/// Copies this process into the namespaces of `flags` (`CLONE_NEW…`), as a child of *this process's parent*.
///
/// The copy has its own memory and its own descriptors, as after fork(2). Its end is told to the parent by the signal that
/// this process itself would send.
pub(crate) fn clone_process(_proof: &SingleThreaded, flags: i32) -> Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers, for which zero is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from((flags | libc::CLONE_PIDFD | libc::CLONE_PARENT).cast_unsigned());
    args.pidfd = (&raw mut pidfd) as u64;
    // SAFETY: args is initialised and as large as said; no stack is given and CLONE_VM is not set, so the copy runs on its own copy of
    // this stack; the process has one thread (the proof), so no lock stays held in the copy.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut args,
            size_of::<libc::clone_args>(),
        )
    };
    match pid {
        -1 => Err(Error::last("clone3", describe(flags))),
        0 => Ok(Cloned::New),
        // SAFETY: with CLONE_PIDFD the kernel has just opened this descriptor for us; nobody else knows of it.
        _ => Ok(Cloned::Caller(unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

fn describe(flags: i32) -> String {
    const NAMES: [(i32, &str); 6] = [
        (libc::CLONE_NEWNS, "NEWNS"),
        (libc::CLONE_NEWPID, "NEWPID"),
        (libc::CLONE_NEWIPC, "NEWIPC"),
        (libc::CLONE_NEWUTS, "NEWUTS"),
        (libc::CLONE_NEWNET, "NEWNET"),
        (libc::CLONE_NEWCGROUP, "NEWCGROUP"),
    ];
    let names: Vec<_> = NAMES
        .iter()
        .filter(|(flag, _)| flags & flag != 0)
        .map(|(_, name)| *name)
        .collect();
    names.join("|")
}
