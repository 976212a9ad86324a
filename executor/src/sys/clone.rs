//! `clone3(2)`: a new process in new namespaces. Where a filter around kiln pretends that there is no such call, as Docker's does because
//! it can't look into its arguments, clone(2) does the same.

use super::{Error, Result};
use nix::errno::Errno;
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
    let (call, pid) = match pid {
        -1 if Errno::last_raw() == libc::ENOSYS => {
            ("clone", clone_as_before(args.flags, &mut pidfd))
        }
        pid => ("clone3", pid),
    };
    match pid {
        -1 => Err(Error::last(call, describe(flags))),
        0 => Ok(Cloned::New),
        // SAFETY: with CLONE_PIDFD the kernel has just opened this descriptor for us; nobody else knows of it.
        _ => Ok(Cloned::Caller(unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// clone(2), which opens the descriptor for the new process where the parent's thread number would go.
fn clone_as_before(flags: u64, pidfd: &mut libc::c_int) -> libc::c_long {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: as above: no stack is given and CLONE_VM is not set; the kernel writes to `pidfd` and nowhere else, as no other flag asks
    // for it. The last two arguments change places between architectures, and both are null.
    unsafe {
        libc::syscall(
            libc::SYS_clone,
            flags,
            none,
            std::ptr::from_mut(pidfd),
            none,
            none,
        )
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
