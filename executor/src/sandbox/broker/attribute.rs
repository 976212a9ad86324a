//! Extended attributes ([`crate::sandbox::attribute`]): where the store can't have devices, a record in one stands for them.

use super::caller::Answered;
use super::resolve::is_magic;
use super::*;
use crate::sandbox::attribute::{Change, Request};
use crate::sandbox::kernels::is_kernels;

/// The longest value and the longest list of names that the kernel gives, in bytes (`linux/limits.h`).
const MOST: usize = 65536;

/// Of what an attribute is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    At(At),
    /// A descriptor.
    Open(i32),
}

impl Broker {
    /// Root may make devices, and so record them: what isn't named by way of `/proc` is the kernel's. Others get their changes made here.
    pub(super) fn change_attribute(
        &mut self,
        caller: Caller<'_>,
        of: Changed,
        request: Request,
    ) -> Answered<Reply> {
        let status = caller.status()?;
        if status.who.uid == 0 && !self.is_named_by_proc(&caller, of) {
            return Ok(Reply::Continue);
        }
        self.guise.wear(&status.who)?;
        let change = request.read(
            |address| caller.string(address),
            |address, buffer| caller.read(address, buffer),
        );
        let change = change.map_err(|errno| match errno {
            // Of somebody who can't be looked into. Many programs do without.
            libc::EPERM | libc::EACCES => libc::ENOTSUP,
            errno => errno,
        })?;
        change.check()?;
        let object = match of {
            Changed::Open(fd) => caller
                .open(&format!("fd/{fd}"), OFlags::PATH)
                .map_err(|_| libc::EBADF)?,
            Changed::At(at) => self.object(caller, &status, at)?,
        };
        if !sys::still_waits(self.listener.as_fd(), caller.note.id) {
            return Err(libc::ESRCH);
        }
        self.perform_on(&object, &change)
    }

    /// Whether a path begins in `/proc`.
    fn is_named_by_proc(&mut self, caller: &Caller<'_>, of: Changed) -> bool {
        match of {
            Changed::Open(_) => false,
            Changed::At(at) => {
                let path = self.string(caller, at.path);
                path.is_ok_and(|path| parts(&path).next() == Some(b"proc"))
            }
        }
    }

    /// An attribute of something that is named by way of `/proc`, or the names of all. The kernel's own things and devices have none.
    pub(super) fn show_attributes(
        &mut self,
        asked: &Asked<'_>,
        name: Option<u64>,
        (out, size): (u64, u64),
        object: &OwnedFd,
    ) -> Answered<Reply> {
        let stat = rustix::fs::fstat(object).map_err(Errno::raw_os_error)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if is_kernels(object)? || !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return Err(libc::EOPNOTSUPP);
        }
        let name = match name {
            Some(name) => Some(self.string(&asked.caller, name)?),
            None => None,
        };
        let size = usize::try_from(size).unwrap_or(MOST).min(MOST);
        let mut value = vec![0; size];
        let length = self.by_name(object, |object| {
            let buffer = &mut value[..];
            match &name {
                Some(name) => rustix::fs::getxattr(object, &name[..], buffer),
                None => rustix::fs::listxattr(object, buffer),
            }
        })?;
        // With no room for it, only its length is asked for.
        if size > 0 {
            asked.caller.write(out, &value[..length])?;
        }
        Ok(Reply::Value(i64::try_from(length).unwrap_or(0)))
    }

    /// What a path of a user leads to. Of the kernel's own things nothing is changed.
    fn object(&mut self, caller: Caller<'_>, status: &Status, at: At) -> Answered<OwnedFd> {
        let path = caller.string(at.path)?;
        let base = match path.starts_with(b"/") {
            true => Vec::new(),
            false => caller.directory(at.directory)?,
        };
        let resolver = self.resolver(caller, status);
        let (from, path) = match resolver.resolve(&base, &path, at.follow)? {
            Place::Elsewhere => (caller.base(at.directory, &path)?, path),
            Place::Inside(path) => {
                let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
                (root.map_err(Errno::raw_os_error)?, path[1..].to_vec())
            }
            Place::Proc(parts) if at.follow && is_magic(&parts) => {
                let process = rustix::fs::openat(
                    caller.proc,
                    &parts[0][..],
                    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                );
                let process = process.map_err(Errno::raw_os_error)?;
                let is_own = parts[0] == status.process.to_string().as_bytes();
                if !is_own && !self.family.has(caller.proc, &process) {
                    return Err(libc::ENOENT);
                }
                (process, joined(&parts[1..]))
            }
            Place::Device(_) | Place::Proc(_) | Place::System(_) => return Err(libc::ENOTSUP),
        };
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !at.follow);
        let found = rustix::fs::openat(from, &path[..], flags, Mode::empty());
        let found = found.map_err(Errno::raw_os_error)?;
        match is_kernels(&found)? {
            true => Err(libc::ENOTSUP),
            false => Ok(found),
        }
    }

    fn perform_on(&self, object: &OwnedFd, change: &Change) -> Answered<Reply> {
        self.by_name(object, |object| Ok(change.perform(object)))?
    }

    /// The calls take names only, and one of an open object is in a `/proc`, which this process has none of in its root.
    fn by_name<T>(
        &self,
        object: &OwnedFd,
        work: impl FnOnce(&str) -> rustix::io::Result<T>,
    ) -> Answered<T> {
        rustix::process::fchdir(&*self.proc).map_err(Errno::raw_os_error)?;
        let done = work(&format!("self/fd/{}", object.as_raw_fd()));
        rustix::process::chdir("/").map_err(Errno::raw_os_error)?;
        done.map_err(Errno::raw_os_error)
    }
}
