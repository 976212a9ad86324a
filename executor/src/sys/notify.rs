//! `seccomp_unotify(2)`: system calls of another process that this one answers.

use super::seccomp::set_filter;
use super::{Error, Instruction, Result};
use nix::libc;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// A system call that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notification {
    /// Names it for as long as it waits.
    pub(crate) id: u64,
    /// The thread, as this process's pid namespace numbers it.
    pub(crate) thread: i32,
    /// Which call.
    pub(crate) call: i64,
    /// Its arguments.
    pub(crate) args: [u64; 6],
    /// `AUDIT_ARCH_…` of `linux/audit.h`.
    pub(crate) architecture: u32,
}

/// Of the machine's 32-bit relative, whose programs run here, too: i386 and arm.
const FOREIGN: [u32; 2] = [0x4000_0003, 0x4000_0028];

impl Notification {
    /// Whether the program is of another architecture than the machine's own, and `call` a number of that.
    pub(crate) fn is_foreign(&self) -> bool {
        FOREIGN.contains(&self.architecture)
    }

    /// One that nobody waits for.
    #[cfg(test)]
    pub(crate) fn example(call: i64, foreign: bool, args: [u64; 6]) -> Self {
        Self {
            id: 0,
            thread: 0,
            call,
            args,
            architecture: if foreign { FOREIGN[0] } else { 0 },
        }
    }
}

/// What is said to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It returns this.
    Value(i64),
    /// It fails with this error number.
    Error(i32),
    /// The kernel does it. What its pointers lead to may have changed since it was looked at.
    Continue,
}

/// Loads a filter whose calls of interest are answered through the descriptor that is returned. Needs `CAP_SYS_ADMIN`, as no_new_privs
/// is not set.
pub(crate) fn load_seccomp_listener(program: &[Instruction]) -> Result<OwnedFd> {
    // A signal for the waiting program must not make it ask again for what is done already.
    let patient =
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    match load(program, patient) {
        // Linux before 5.19.
        Err(error) if error.errno == libc::EINVAL => {
            load(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)
        }
        loaded => loaded,
    }
}

fn load(program: &[Instruction], flags: libc::c_ulong) -> Result<OwnedFd> {
    let fd = set_filter(program, flags, "NEW_LISTENER, ")?;
    let fd = i32::try_from(fd).map_err(|_| Error::new("seccomp", "NEW_LISTENER", libc::EBADF))?;
    // SAFETY: the kernel has just opened this descriptor for us; nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets caller and listener take turns on one processor, without the scheduler's delay between them, where the kernel can (Linux 6.6).
pub(crate) fn take_turns(listener: BorrowedFd<'_>) {
    // SAFETY: the request takes its flags by value.
    unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS,
            SYNC_WAKE_UP,
        )
    };
}

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` of `linux/seccomp.h`.
const SYNC_WAKE_UP: libc::c_ulong = 1;

/// The next call that waits; `None` when the one that was there is gone.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> Result<Option<Notification>> {
    // SAFETY: the structure is integers, for which zero is a valid value, and what the kernel demands.
    let mut found: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: found is as large as the request's number says and may be written through the call.
    let done = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            &raw mut found,
        )
    };
    if done == 0 {
        return Ok(Some(Notification {
            id: found.id,
            thread: found.pid.cast_signed(),
            call: i64::from(found.data.nr),
            args: found.data.args,
            architecture: found.data.arch,
        }));
    }
    let error = Error::last("ioctl", "SECCOMP_IOCTL_NOTIF_RECV");
    match error.errno {
        libc::ENOENT | libc::EINTR => Ok(None),
        _ => Err(error),
    }
}

/// Answers a call. One that waits no more needs no answer.
pub(crate) fn answer(listener: BorrowedFd<'_>, id: u64, reply: Reply) {
    let (val, error, flags) = match reply {
        Reply::Value(value) => (value, 0, 0),
        Reply::Error(errno) => (0, -errno, 0),
        Reply::Continue => (0, 0, 1),
    };
    let response = libc::seccomp_notif_resp {
        id,
        val,
        error,
        flags,
    };
    // SAFETY: response is initialised, as large as the request's number says, and only read.
    unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw const response,
        );
    }
}

/// Whether the call still waits, so that its thread's number is surely still the same thread's.
pub(crate) fn still_waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: id is as large as the request's number says, and only read.
    let done = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
            &raw const id,
        )
    };
    done == 0
}

/// Gives the waiting process a copy of `file`; returns the number it has there.
pub(crate) fn add_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    file: BorrowedFd<'_>,
    close_on_exec: bool,
) -> Result<i32> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    let request = libc::seccomp_notif_addfd {
        id,
        flags: 0,
        srcfd: file.as_raw_fd().cast_unsigned(),
        newfd: 0,
        newfd_flags: flags.cast_unsigned(),
    };
    // SAFETY: request is initialised, as large as the request's number says, and only read.
    let fd = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ADDFD,
            &raw const request,
        )
    };
    if fd >= 0 {
        Ok(fd)
    } else {
        Err(Error::last("ioctl", "SECCOMP_IOCTL_NOTIF_ADDFD"))
    }
}
