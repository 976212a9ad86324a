//! Waiting for a child with what it used: waitid(2) in the kernel fills in a rusage that neither library asks for.

use super::{Error, Result};
use nix::libc;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChildEnd {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// What a child used, with all its descendants that were waited for (getrusage(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ChildUsage {
    /// Time of processors in the program.
    pub(crate) user: Duration,
    /// Time of processors in the kernel for it.
    pub(crate) system: Duration,
    /// Memory of the largest of the processes at its most, in bytes.
    pub(crate) peak_memory: u64,
    /// Bytes read from disks.
    pub(crate) read: u64,
    /// Bytes to be written to disks.
    pub(crate) written: u64,
}

/// Waits until the child behind a pidfd has ended, and reaps it.
pub(crate) fn wait_for_child(pidfd: BorrowedFd<'_>) -> Result<(ChildEnd, ChildUsage)> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both structures are of the kernel's own layout, live until the call returns, and are only written to.
        let result = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PIDFD,
                pidfd.as_raw_fd(),
                info.as_mut_ptr(),
                libc::WEXITED,
                usage.as_mut_ptr(),
            )
        };
        match result {
            0 => break,
            _ if nix::errno::Errno::last() == nix::errno::Errno::EINTR => {}
            _ => return Err(Error::last("waitid", "P_PIDFD")),
        }
    }
    // SAFETY: all bytes were zero before the call, which is a value of both types, and the kernel wrote into them.
    let (info, usage) = unsafe { (info.assume_init(), usage.assume_init()) };
    // SAFETY: `si_status` is the field that waitid fills in for a child.
    let status = unsafe { info.si_status() };
    let end = match info.si_code {
        libc::CLD_EXITED => ChildEnd::Exited(status),
        _ => ChildEnd::Signaled(status),
    };
    Ok((end, ChildUsage::from(usage)))
}

impl From<libc::rusage> for ChildUsage {
    fn from(usage: libc::rusage) -> Self {
        const BLOCK: u64 = 512; // bytes, whatever the disk's own are
        let count = |value: libc::c_long| u64::try_from(value).unwrap_or(0);
        let time = |time: libc::timeval| {
            let micros = u64::try_from(time.tv_usec).unwrap_or(0);
            Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
                + Duration::from_micros(micros)
        };
        Self {
            user: time(usage.ru_utime),
            system: time(usage.ru_stime),
            peak_memory: count(usage.ru_maxrss) * 1024, // the kernel counts in KiB
            read: count(usage.ru_inblock) * BLOCK,
            written: count(usage.ru_oublock) * BLOCK,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::zombie_processes)]
    use super::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::os::fd::AsFd;
    use std::process::Command;

    fn end_of(script: &str) -> (ChildEnd, ChildUsage) {
        let child = Command::new("/bin/sh")
            .args(["-c", script])
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        wait_for_child(pidfd.as_fd()).unwrap()
    }

    #[test]
    fn ends_and_figures_are_the_childs() {
        let (end, usage) = end_of("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 7");
        assert_eq!(end, ChildEnd::Exited(7));
        assert!(usage.user + usage.system > Duration::ZERO);
        assert!(usage.peak_memory > 100 * 1024, "{usage:?}");
        assert_eq!(end_of("kill -KILL $$").0, ChildEnd::Signaled(9));
    }
}
