//! The process that waits for an answer: its memory, and who it is.

use super::super::remote;
pub(super) use super::super::remote::Answered;
use crate::sys::Notification;
use nix::libc;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

/// One waiting thread.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) note: Notification,
    /// A `/proc` in which the thread has the number of the notification.
    pub(super) proc: &'a OwnedFd,
}

/// What `/proc` says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    /// The process that the thread is of.
    pub(super) process: i32,
    /// As whom it gets at files.
    pub(super) who: Who,
    /// The mask of permission bits that new files don't get.
    pub(super) umask: u32,
    /// The capabilities that it can come to have by a program.
    pub(super) bounding: u64,
}

/// A user, a group, other groups, and effective capabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) capabilities: u64,
}

impl Default for Who {
    /// Root, with all that there is.
    fn default() -> Self {
        Self {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            capabilities: u64::MAX,
        }
    }
}

impl Caller<'_> {
    /// Reads what is there of `buffer`'s length.
    ///
    /// The quick way is closed to another user's memory, whoever one seems to be for files; then there is the file.
    fn read_some(&self, address: u64, buffer: &mut [u8]) -> Answered<usize> {
        let remote = RemoteIoVec {
            base: usize::try_from(address).map_err(|_| libc::EFAULT)?,
            len: buffer.len(),
        };
        let pid = Pid::from_raw(self.note.thread);
        match process_vm_readv(pid, &mut [IoSliceMut::new(buffer)], &[remote]) {
            Err(nix::errno::Errno::EPERM) => {
                let memory = self.memory(OFlags::RDONLY)?;
                memory.read_at(buffer, address).map_err(|_| libc::EFAULT)
            }
            read => read.map_err(|errno| errno as i32),
        }
    }

    /// Reads exactly as much as `buffer` holds.
    pub(super) fn read(&self, address: u64, buffer: &mut [u8]) -> Answered<()> {
        remote::exactly(buffer, |buffer| self.read_some(address, buffer))
    }

    /// Writes all of `bytes`.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Answered<()> {
        let remote = RemoteIoVec {
            base: usize::try_from(address).map_err(|_| libc::EFAULT)?,
            len: bytes.len(),
        };
        let pid = Pid::from_raw(self.note.thread);
        match process_vm_writev(pid, &[IoSlice::new(bytes)], &[remote]) {
            Ok(written) if written == bytes.len() => Ok(()),
            Err(nix::errno::Errno::EPERM) => self.overwrite(address, bytes),
            Ok(_) => Err(libc::EFAULT),
            Err(errno) => Err(errno as i32),
        }
    }

    /// Writes all of `bytes`, even where the caller itself could not.
    pub(super) fn overwrite(&self, address: u64, bytes: &[u8]) -> Answered<()> {
        let memory = self.memory(OFlags::RDWR)?;
        memory
            .write_all_at(bytes, address)
            .map_err(|_| libc::EFAULT)
    }

    /// Reads a string that ends with a zero byte.
    pub(super) fn string(&self, address: u64) -> Answered<Vec<u8>> {
        remote::string(address, |from, buffer| self.read_some(from, buffer))
    }

    fn memory(&self, flags: OFlags) -> Answered<File> {
        self.open("mem", flags).map(File::from)
    }

    /// Opens something that `/proc` has of the thread.
    pub(super) fn open(&self, name: &str, flags: OFlags) -> Answered<OwnedFd> {
        let path = format!("{}/{name}", self.note.thread);
        rustix::fs::openat(self.proc, path, flags | OFlags::CLOEXEC, Mode::empty())
            .map_err(Errno::raw_os_error)
    }

    /// Where one of its magic links leads.
    pub(super) fn link(&self, name: &str) -> Answered<Vec<u8>> {
        let path = format!("{}/{name}", self.note.thread);
        let text = rustix::fs::readlinkat(self.proc, path, Vec::new());
        text.map(std::ffi::CString::into_bytes)
            .map_err(Errno::raw_os_error)
    }

    /// The path of one of its directories: the working one for `AT_FDCWD`, or an open one.
    pub(super) fn directory(&self, descriptor: i32) -> Answered<Vec<u8>> {
        match descriptor {
            libc::AT_FDCWD => self.link("cwd"),
            fd => self.link(&format!("fd/{fd}")),
        }
    }

    /// What a path is relative to: opened, as the path alone says where it is now.
    pub(super) fn base(&self, directory: i32, path: &[u8]) -> Answered<OwnedFd> {
        match (path.starts_with(b"/"), directory) {
            (true, _) | (false, libc::AT_FDCWD) => self.open("cwd", OFlags::PATH),
            (false, fd) => self.open(&format!("fd/{fd}"), OFlags::PATH),
        }
    }

    /// Who it is. Anybody may read that of anybody.
    pub(super) fn status(&self) -> Answered<Status> {
        let file = File::from(self.open("status", OFlags::RDONLY)?);
        let text = std::io::read_to_string(file).map_err(|_| libc::ESRCH)?;
        Status::parse(&text).ok_or(libc::ESRCH)
    }
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim())
        };
        // Real, effective, saved, and for files.
        let for_files = |name| field(name)?.split_whitespace().nth(3)?.parse().ok();
        let groups = field("Groups:").unwrap_or_default().split_whitespace();
        let mask = |name| field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok());
        Some(Self {
            process: field("Tgid:")?.parse().ok()?,
            who: Who {
                uid: for_files("Uid:")?,
                gid: for_files("Gid:")?,
                groups: groups.filter_map(|group| group.parse().ok()).collect(),
                capabilities: mask("CapEff:").unwrap_or(0),
            },
            umask: field("Umask:")
                .and_then(|mask| u32::from_str_radix(mask, 8).ok())
                .unwrap_or(0o022),
            bounding: mask("CapBnd:").unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read() {
        let text = "Name:\tsh\nUmask:\t0077\nTgid:\t12\nPid:\t13\nUid:\t0\t1\t2\t3\nGid:\t4\t5\t6\t7\nGroups:\t8 9 \nCapEff:\t00000000000000c0\nCapBnd:\t00000000000000ff\n";
        let expected = Status {
            process: 12,
            who: Who {
                uid: 3,
                gid: 7,
                groups: vec![8, 9],
                capabilities: 0xc0,
            },
            umask: 0o077,
            bounding: 0xff,
        };
        assert_eq!(Status::parse(text), Some(expected));
        assert_eq!(Status::parse(""), None);
    }
}
