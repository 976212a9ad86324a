//! Extended attributes ([`crate::sandbox::attribute`]): where the store can't have devices, a record in one stands for them.

use super::caller::Answered;
use super::*;
use crate::sandbox::attribute::{Change, Request};

/// Of what an attribute is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    At(At),
    /// A descriptor.
    Open(i32),
}

impl Broker {
    /// Root may make devices, and so record them. Others get their changes made here.
    pub(super) fn change_attribute(
        &mut self,
        caller: Caller<'_>,
        of: Changed,
        request: Request,
    ) -> Answered<Reply> {
        let status = caller.status()?;
        if status.who.uid == 0 {
            return Ok(Reply::Continue);
        }
        self.guise.wear(&status.who)?;
        let change = request.read(
            |address| caller.string(address),
            |address, buffer| caller.read(address, buffer),
        )?;
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

    /// What a path of a user leads to. Of the kernel's own things nothing is changed.
    fn object(&self, caller: Caller<'_>, status: &Status, at: At) -> Answered<OwnedFd> {
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
            Place::Device(_) | Place::Proc(_) | Place::System(_) => return Err(libc::ENOTSUP),
        };
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !at.follow);
        rustix::fs::openat(from, &path[..], flags, Mode::empty()).map_err(Errno::raw_os_error)
    }

    /// The calls take names only, and one of an open object is in a `/proc`, which this process has none of in its root.
    fn perform_on(&self, object: &OwnedFd, change: &Change) -> Answered<Reply> {
        rustix::process::fchdir(&*self.proc).map_err(Errno::raw_os_error)?;
        let performed = change.perform(&format!("self/fd/{}", object.as_raw_fd()));
        rustix::process::chdir("/").map_err(Errno::raw_os_error)?;
        performed
    }
}
