//! The process that waits for an answer: its memory, its descriptors, its root.

use super::super::family::Family;
use super::super::remote;
pub(super) use super::super::remote::Answered;
use super::call::At;
use super::lookup::{self, Care};
use crate::sys::{self, Notification};
use nix::libc;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::ffi::CString;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// One waiting thread.
#[derive(Debug)]
pub(super) struct Caller<'a> {
    pub(super) note: Notification,
    pub(super) listener: BorrowedFd<'a>,
    /// A `/proc` in which the thread has the number of the notification.
    pub(super) proc: &'a OwnedFd,
    /// The step's processes, where they are known by such numbers.
    pub(super) family: &'a Family,
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
    pub(super) fn place(&self, at: &At) -> Answered<Place<'_>> {
        let thread = self.note.thread;
        let path = match at.path {
            Some(address) if address != 0 || !at.empty => self.string(address)?,
            _ => CString::default(),
        };
        let bytes = path.as_bytes();
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
            caller: self,
            from: from.map_err(|_| libc::EBADF)?,
            path,
            follow: at.follow,
        })
    }

    /// A path that the caller gave otherwise than as a string.
    pub(super) fn place_of(&self, path: CString, follow: bool) -> Answered<Place<'_>> {
        let from = match path.as_bytes().starts_with(b"/") {
            true => None,
            false => Some(open_path(self.proc, &format!("{}/cwd", self.note.thread))),
        };
        let from = from.transpose().map_err(Errno::raw_os_error)?;
        if !sys::still_waits(self.listener, self.note.id) {
            return Err(libc::ESRCH); // see `place`
        }
        Ok(Place {
            caller: self,
            from,
            path,
            follow,
        })
    }

    /// The path in a socket's address, if it has one.
    pub(super) fn socket_path(&self, address: u64, length: u32) -> Answered<Option<CString>> {
        const FAMILY: usize = size_of::<libc::sa_family_t>();
        let mut bytes = [0; size_of::<libc::sockaddr_un>()];
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length <= FAMILY || length > bytes.len() {
            return Ok(None);
        }
        self.read(address, &mut bytes[..length])?;
        let (family, path) = bytes[..length].split_at(FAMILY);
        let is_unix = family == (libc::AF_UNIX as libc::sa_family_t).to_ne_bytes();
        let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok((is_unix && !path.is_empty()).then(|| CString::new(path).expect("no zero bytes")))
    }

    /// The number that the step knows the caller's process by.
    pub(super) fn number_in_step(&self) -> Answered<u32> {
        let status = self.status().ok_or(libc::ESRCH)?;
        if !sys::still_waits(self.listener, self.note.id) {
            return Err(libc::ESRCH); // it may be another's, see `place`
        }
        innermost(&status, "NStgid:").ok_or(libc::ESRCH)
    }

    /// The process that the caller knows by a number.
    pub(super) fn find(&self, number: u32) -> Option<i32> {
        let mut processes = self.of_step(|status| innermost(status, "NStgid:") == Some(number));
        processes.next()
    }

    /// The step's processes whose `/proc/PID/status` is `wanted`.
    pub(super) fn of_step(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = i32> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let processes = rustix::fs::openat(self.proc, ".", flags, Mode::empty());
        let entries = processes.and_then(Dir::new).into_iter().flatten();
        let numbers = entries.filter_map(|entry| {
            let entry = entry.ok()?;
            entry.file_name().to_str().ok()?.parse().ok()
        });
        numbers.filter(move |process| {
            let status = self.status_of(*process);
            status.is_some_and(|status| wanted(&status)) && self.is_of_step(*process)
        })
    }

    /// `/proc/PID/status` of a process of the step.
    pub(super) fn status_in_step(&self, process: i32) -> Option<String> {
        let status = self.status_of(process)?;
        self.is_of_step(process).then_some(status)
    }

    /// What the caller has open, opened here too.
    pub(super) fn descriptor(&self, number: i32) -> Option<OwnedFd> {
        let status = self.status()?;
        let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
        let process = rustix::process::Pid::from_raw(process.trim().parse().ok()?)?;
        let process = pidfd_open(process, PidfdFlags::empty()).ok()?;
        let opened = pidfd_getfd(process, number, PidfdGetfdFlags::empty()).ok()?;
        sys::still_waits(self.listener, self.note.id).then_some(opened) // see `place`
    }

    /// Whether a process is one of the step's. The number of another one must not do: kiln may more than the step.
    pub(super) fn is_of_step(&self, process: i32) -> bool {
        self.family.has_number(self.proc, process)
    }

    /// Whether programs give it nothing (`PR_SET_NO_NEW_PRIVS`).
    pub(super) fn gains_nothing(&self) -> bool {
        let status = self.status().unwrap_or_default();
        let mut lines = status.lines();
        lines.any(|line| line.strip_prefix("NoNewPrivs:").map(str::trim) == Some("1"))
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
        self.status_of(self.note.thread)
    }

    fn status_of(&self, process: i32) -> Option<String> {
        let path = format!("{process}/status");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.proc, path, flags, Mode::empty()).ok()?;
        std::io::read_to_string(std::fs::File::from(file)).ok()
    }
}

/// The last number of a line of `/proc/PID/status`.
pub(super) fn innermost(status: &str, line: &str) -> Option<u32> {
    let mut lines = status.lines();
    let numbers = lines.find_map(|it| it.strip_prefix(line))?;
    numbers.split_whitespace().next_back()?.parse().ok()
}

/// Opens a magic link of `/proc`.
pub(super) fn open_path(proc: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat(proc, name, flags, Mode::empty())
}

/// Where a path of the caller leads from, and the rest of it.
#[derive(Debug)]
pub(super) struct Place<'a> {
    caller: &'a Caller<'a>,
    /// Absolute paths lead from this thread's root, which is the caller's.
    from: Option<OwnedFd>,
    path: CString,
    follow: bool,
}

/// A name in a directory: what is made, is made there. It is never followed if it is a link.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) directory: OwnedFd,
    pub(super) name: CString,
}

impl Place<'_> {
    /// The directory that a relative path leads from.
    pub(super) fn base(&self) -> Option<&OwnedFd> {
        self.from.as_ref()
    }

    /// Opens what is there, without doing anything to it.
    pub(super) fn open(self) -> Answered<OwnedFd> {
        self.opened(Care::Much)
    }

    /// The same where nothing is lost if it isn't found: the kernel finds it.
    pub(super) fn seen(self) -> Answered<OwnedFd> {
        self.opened(Care::Little)
    }

    fn opened(self, care: Care) -> Answered<OwnedFd> {
        match self.from {
            Some(object) if self.path.is_empty() => Ok(object),
            _ => lookup::open(
                self.caller,
                self.way(self.path.as_bytes(), self.follow),
                care,
            ),
        }
    }

    /// Opens a directory that the path goes through, by the part of the path up to there.
    pub(super) fn through(&self, path: &[u8]) -> Answered<OwnedFd> {
        lookup::open(self.caller, self.way(path, true), Care::Little)
    }

    fn way<'w>(&'w self, text: &'w [u8], follow: bool) -> lookup::Path<'w> {
        lookup::Path {
            from: self.from.as_ref().map(AsFd::as_fd),
            text,
            follow,
        }
    }

    /// Where open(2) makes a file: here, or where a link leads that leads nowhere yet. `None` if there is one, or no end of links.
    pub(super) fn followed_to_nothing(mut self) -> Option<Self> {
        for _ in 0..MAX_LINKS {
            let spot = self.spot().ok()?;
            if !spot.is_taken() {
                return Some(self);
            }
            // What it says of links to open objects is not the way to them.
            let text = match lookup::is_of_proc(&spot.directory) {
                true => return None,
                false => rustix::fs::readlinkat(&spot.directory, &spot.name, Vec::new()).ok()?,
            };
            self = Place {
                caller: self.caller,
                from: Some(spot.directory),
                path: text,
                follow: true,
            };
        }
        None
    }

    /// Opens the directory that the last component is in.
    pub(super) fn open_parent(&self) -> Answered<OwnedFd> {
        self.spot().map(|spot| spot.directory)
    }

    /// The last component, in the directory that it is in.
    pub(super) fn spot(&self) -> Answered<Spot> {
        let (parent, name) = parent_and_name(self.path.as_bytes());
        let parent = [parent, b"/"].concat(); // it is a directory
        let text = if parent == b"/" && !self.path.as_bytes().starts_with(b"/") {
            &b"."[..]
        } else {
            &parent
        };
        Ok(Spot {
            directory: lookup::open(self.caller, self.way(text, true), Care::Much)?,
            name: CString::new(name).expect("a part of a string without zero bytes"),
        })
    }
}

impl Spot {
    /// Whether something is there, if only a link that leads nowhere.
    pub(super) fn is_taken(&self) -> bool {
        rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Opens what was made there.
    pub(super) fn open(&self) -> Answered<OwnedFd> {
        let end = self.name.as_bytes().iter().rposition(|byte| *byte != b'/');
        let name = &self.name.as_bytes()[..end.map_or(0, |end| end + 1)];
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, name, flags, Mode::empty()).map_err(Errno::raw_os_error)
    }
}

/// A path without its last component, and that, with the slashes at its end.
fn parent_and_name(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().rposition(|byte| *byte != b'/');
    let last = &path[..end.map_or(0, |end| end + 1)];
    match last.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None if last.is_empty() => (b"", b"."),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::parent_and_name;

    #[test]
    fn a_name_is_what_comes_last() {
        for (path, parent, name) in [
            ("/a/b", "/a", "b"),
            ("/a/b//", "/a", "b//"),
            ("/a", "", "a"),
            ("a", "", "a"),
            ("a/b", "a", "b"),
            ("/", "", "."),
            ("", "", "."),
            ("//a", "/", "a"),
        ] {
            let expected = (parent.as_bytes(), name.as_bytes());
            assert_eq!(parent_and_name(path.as_bytes()), expected, "{path}");
        }
    }
}
