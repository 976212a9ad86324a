//! The process that waits for an answer: its memory, its descriptors, its root.

use super::super::remote;
pub(super) use super::super::remote::Answered;
use super::call::At;
use crate::sys::{self, Notification};
use nix::libc;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// One waiting thread.
pub(super) struct Caller<'a> {
    pub(super) note: Notification,
    pub(super) listener: BorrowedFd<'a>,
    /// A `/proc` in which the thread has the number of the notification.
    pub(super) proc: &'a OwnedFd,
}

impl Caller<'_> {
    fn pid(&self) -> Pid {
        Pid::from_raw(self.note.thread)
    }

    /// Reads exactly as much as `buffer` holds.
    pub(super) fn read(&self, address: u64, buffer: &mut [u8]) -> Answered<()> {
        remote::exactly(buffer, |buffer| self.read_some(address, buffer))
    }

    fn read_some(&self, address: u64, buffer: &mut [u8]) -> Answered<usize> {
        let remote = RemoteIoVec {
            base: usize::try_from(address).map_err(|_| libc::EFAULT)?,
            len: buffer.len(),
        };
        let mut local = [IoSliceMut::new(buffer)];
        process_vm_readv(self.pid(), &mut local, &[remote]).map_err(|errno| errno as i32)
    }

    /// Writes all of `bytes`.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Answered<()> {
        let remote = RemoteIoVec {
            base: usize::try_from(address).map_err(|_| libc::EFAULT)?,
            len: bytes.len(),
        };
        match process_vm_writev(self.pid(), &[IoSlice::new(bytes)], &[remote]) {
            Ok(written) if written == bytes.len() => Ok(()),
            Ok(_) => Err(libc::EFAULT),
            Err(errno) => Err(errno as i32),
        }
    }

    /// Reads a string that ends with a zero byte.
    pub(super) fn string(&self, address: u64) -> Answered<CString> {
        let text = remote::string(address, |from, buffer| self.read_some(from, buffer))?;
        CString::new(text).map_err(|_| libc::EFAULT)
    }

    /// Where a call's path leads from, and the rest of it.
    pub(super) fn place(&self, at: &At) -> Answered<Place> {
        let thread = self.note.thread;
        let path = match at.path {
            Some(address) if address != 0 || !at.empty => self.string(address)?,
            _ => CString::default(),
        };
        let bytes = path.as_bytes();
        if let Some(own) = bytes.strip_prefix(b"/proc/self/") {
            // Which is the caller, and not this thread. It goes by its number in the step's own `/proc`: from a directory of any other, a
            // `..` would lead to processes outside of the step.
            let own = [format!("/proc/{}/", self.number_in_step()?).as_bytes(), own].concat();
            return Ok(Place {
                from: None,
                path: CString::new(own).map_err(|_| libc::EFAULT)?,
                follow: at.follow,
            });
        }
        if bytes.is_empty() && !at.empty {
            return Err(libc::ENOENT);
        }
        let from = match (bytes.starts_with(b"/"), at.directory) {
            (true, _) => None,
            (false, libc::AT_FDCWD) => Some(format!("{thread}/cwd")),
            (false, fd) if fd < 0 => return Err(libc::EBADF),
            (false, fd) => Some(format!("{thread}/fd/{fd}")),
        };
        let from = from.map(|name| open_path(self.proc, &name)).transpose();
        // Else what was read and opened may be another's, with the number of a thread that is gone.
        if !sys::still_waits(self.listener, self.note.id) {
            return Err(libc::ESRCH);
        }
        Ok(Place {
            from: from.map_err(|_| libc::EBADF)?,
            path,
            follow: at.follow,
        })
    }

    /// The number that the step knows the caller's process by.
    pub(super) fn number_in_step(&self) -> Answered<u32> {
        let status = self.status().ok_or(libc::ESRCH)?;
        if !sys::still_waits(self.listener, self.note.id) {
            return Err(libc::ESRCH); // it may be another's, see `place`
        }
        let mut lines = status.lines();
        let numbers = lines.find_map(|line| line.strip_prefix("NStgid:"));
        let innermost = numbers.and_then(|numbers| numbers.split_whitespace().next_back());
        innermost
            .and_then(|number| number.parse().ok())
            .ok_or(libc::ESRCH)
    }

    /// The mask of permission bits that new files don't get.
    pub(super) fn umask(&self) -> u32 {
        let status = self.status();
        let mask = status.as_deref().and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("Umask:"))?;
            u32::from_str_radix(line.trim(), 8).ok()
        });
        mask.unwrap_or(0o022)
    }

    /// `/proc/PID/status`.
    pub(super) fn status(&self) -> Option<String> {
        let path = format!("{}/status", self.note.thread);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.proc, path, flags, Mode::empty()).ok()?;
        std::io::read_to_string(std::fs::File::from(file)).ok()
    }
}

/// Opens a magic link of `/proc`.
pub(super) fn open_path(proc: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat(proc, name, flags, Mode::empty())
}

/// Where a path of the caller leads from, and the rest of it.
#[derive(Debug)]
pub(super) struct Place {
    /// Absolute paths lead from this thread's root, which is the caller's.
    from: Option<OwnedFd>,
    path: CString,
    follow: bool,
}

impl Place {
    /// For calls that take a directory and a path.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.from.as_ref().map_or(rustix::fs::CWD, AsFd::as_fd)
    }

    /// The directory that a relative path leads from.
    pub(super) fn base(&self) -> Option<&OwnedFd> {
        self.from.as_ref()
    }

    pub(super) fn path(&self) -> &CString {
        &self.path
    }

    /// Opens what is there, without doing anything to it.
    pub(super) fn open(self) -> Answered<OwnedFd> {
        match self.from {
            Some(object) if self.path.is_empty() => Ok(object),
            _ => self.open_object(),
        }
    }

    fn open_object(&self) -> Answered<OwnedFd> {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !self.follow);
        rustix::fs::openat(self.directory(), &self.path, flags, Mode::empty())
            .map_err(Errno::raw_os_error)
    }

    /// Whether something is there, if only a link that leads nowhere.
    pub(super) fn is_taken(&self) -> bool {
        rustix::fs::statat(self.directory(), &self.path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Where open(2) makes a file: here, or where a link leads that leads nowhere yet. `None` if there is one, or no end of links.
    pub(super) fn followed_to_nothing(mut self) -> Option<Self> {
        for _ in 0..MAX_LINKS {
            if !self.is_taken() {
                return Some(self);
            }
            let text = rustix::fs::readlinkat(self.directory(), &self.path, Vec::new()).ok()?;
            self = Self {
                from: Some(self.open_parent().ok()?),
                path: text,
                follow: true,
            };
        }
        None
    }

    /// Opens the directory that the last component is in.
    pub(super) fn open_parent(&self) -> Answered<OwnedFd> {
        let path = self.path.as_bytes();
        let end = path.iter().rposition(|byte| *byte != b'/').unwrap_or(0) + 1;
        let parent = match path[..end.min(path.len())]
            .iter()
            .rposition(|byte| *byte == b'/')
        {
            Some(0) => b"/",
            Some(slash) => &path[..slash],
            None => &b"."[..],
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(self.directory(), parent, flags, Mode::empty())
            .map_err(Errno::raw_os_error)
    }
}
