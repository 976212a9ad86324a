//! What was recorded, and where: in an attribute of the file ([`kiln_image::record`]), or, of what can have none, in a list.

use super::caller::{Answered, Spot};
use kiln_image::record::{Inode, Record, XATTR};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

/// As many sockets are known by their paths. A step may ask for any number that are never made.
const MAX_SOCKETS: usize = 1 << 16;

/// The records of a step.
#[derive(Debug)]
pub(super) struct Book {
    /// A `/proc` in which this process is `self`. It is also this thread's working directory, see [`Book::name`].
    proc: Arc<OwnedFd>,
    /// The directory that takes the changes: of an overlay files have other numbers there than the step sees.
    upper: OwnedFd,
    /// As the step sees them.
    listed: HashMap<Inode, Record>,
    /// As they are in the upper directory.
    captured: HashMap<Inode, Record>,
    /// Owners of symlinks and FIFOs in the image that are as they were, and of agents' sockets, by path without the first slash.
    links: HashMap<Vec<u8>, (u32, u32)>,
    /// Owners of sockets that the kernel makes, by path likewise.
    sockets: HashMap<Vec<u8>, (u32, u32)>,
}

impl Book {
    pub(super) fn new(proc: OwnedFd, upper: OwnedFd, links: HashMap<Vec<u8>, (u32, u32)>) -> Self {
        Self {
            proc: Arc::new(proc),
            upper,
            listed: HashMap::new(),
            captured: HashMap::new(),
            links,
            sockets: HashMap::new(),
        }
    }

    /// Where the image is not below the changes but among them, its objects can be listed as what they are: the step may move them
    /// with the directories that they are in.
    pub(super) fn list_image(&mut self) {
        for (path, (uid, gid)) in std::mem::take(&mut self.links) {
            let device = None;
            if let Some(inode) = self.in_upper(path) {
                let record = Record { uid, gid, device };
                self.listed.insert(inode, record);
                self.captured.insert(inode, record);
            }
        }
    }

    pub(super) fn proc(&self) -> &Arc<OwnedFd> {
        &self.proc
    }

    /// What is recorded of symlinks and the like, as they are in the upper directory.
    pub(super) fn into_captured(self) -> HashMap<Inode, Record> {
        self.captured
    }

    /// What is recorded of an object (`O_PATH`).
    pub(super) fn look_up(&self, object: &OwnedFd) -> Record {
        let mut value = [0; 128];
        match rustix::fs::getxattr(name(object), XATTR, &mut value) {
            Ok(length) => Record::from_bytes(&value[..length]).unwrap_or_default(),
            // Of a type that can have none, or simply without.
            Err(Errno::NODATA | Errno::NOTSUP) => self.look_up_listed(object).unwrap_or_default(),
            Err(_) => self.look_up_listed(object).unwrap_or_default(),
        }
    }

    /// Whether a record could be had of an object, if there were one.
    pub(super) fn can_tell(&self, object: &OwnedFd) -> bool {
        rustix::fs::getxattr(name(object), XATTR, &mut [0; 128]) != Err(Errno::NOTSUP)
    }

    fn look_up_listed(&self, object: &OwnedFd) -> Option<Record> {
        if self.listed.is_empty() && self.links.is_empty() && self.sockets.is_empty() {
            return None;
        }
        let listed = self.listed.get(&of(object)?).copied();
        listed.or_else(|| self.at_path(object).map(|(_, record)| record))
    }

    /// What is known by its path: a symlink or a FIFO of the image's, or a socket. And where it is.
    fn at_path(&self, object: &OwnedFd) -> Option<(Vec<u8>, Record)> {
        let is_socket = match type_of(object)? {
            FileType::Symlink | FileType::Fifo => false,
            FileType::Socket => true,
            _ => return None,
        };
        let path = self.path(object)?;
        let made = is_socket.then(|| self.sockets.get(&path)).flatten();
        let (uid, gid) = *made.or_else(|| self.links.get(&path))?;
        let device = None;
        Some((path, Record { uid, gid, device }))
    }

    /// The same, which is not to be found at its path any more.
    pub(super) fn take_from_path(&mut self, object: &OwnedFd) -> Option<Record> {
        let (path, record) = self.at_path(object)?;
        self.links.remove(&path);
        self.sockets.remove(&path);
        Some(record)
    }

    /// Records a socket before the kernel makes it. Should it make none, no other kind of object has this owner.
    pub(super) fn expect_socket(&mut self, spot: &Spot, record: Record) {
        let Some(directory) = self.path(&spot.directory) else {
            return;
        };
        let name = spot.name.as_bytes();
        let path = match directory.is_empty() {
            true => name.to_vec(),
            false => [&directory, &b"/"[..], name].concat(),
        };
        self.sockets.remove(&path);
        if !record.is_plain() && self.sockets.len() < MAX_SOCKETS {
            self.sockets.insert(path, (record.uid, record.gid));
        }
    }

    /// Records something of an object (`O_PATH`).
    pub(super) fn note(&mut self, object: &OwnedFd, record: Record) -> Answered<()> {
        if can_have_no_attribute(object) {
            self.list(object, record);
            return Ok(());
        }
        match write(object, record) {
            // In a mount, such as `/dev/mqueue`, of which nothing is kept.
            Err(Errno::NOTSUP) => {
                self.listed.extend(of(object).map(|inode| (inode, record)));
                Ok(())
            }
            written => written.map_err(Errno::raw_os_error),
        }
    }

    fn list(&mut self, object: &OwnedFd, record: Record) {
        if let Some(inode) = of(object) {
            self.listed.insert(inode, record);
        }
        if let Some(captured) = self.path(object).and_then(|path| self.in_upper(path)) {
            self.captured.insert(captured, record);
        }
    }

    /// What is at a path in the directory that takes the changes.
    fn in_upper(&self, path: Vec<u8>) -> Option<Inode> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // `NO_SYMLINKS` allows the last component of an `O_PATH` to be one.
        let fd = rustix::fs::openat2(&self.upper, path, flags, Mode::empty(), how);
        of(&fd.ok()?)
    }

    /// Where the object is in the step's root, without the first slash.
    pub(super) fn path(&self, object: &OwnedFd) -> Option<Vec<u8>> {
        let path = rustix::fs::readlinkat(&*self.proc, name(object), Vec::new()).ok()?;
        path.as_bytes().strip_prefix(b"/").map(<[u8]>::to_vec)
    }
}

/// A name of an open object that calls for attributes take, which don't take descriptors of this kind. It is relative to the working directory.
pub(super) fn name(object: &OwnedFd) -> String {
    format!("self/fd/{}", object.as_raw_fd())
}

fn write(object: &OwnedFd, record: Record) -> rustix::io::Result<()> {
    if !record.is_plain() {
        return rustix::fs::setxattr(name(object), XATTR, &record.to_bytes(), XattrFlags::empty());
    }
    match rustix::fs::removexattr(name(object), XATTR) {
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        removed => removed,
    }
}

pub(super) fn can_have_no_attribute(object: &OwnedFd) -> bool {
    let of_type = type_of(object);
    of_type.is_some_and(|it| !matches!(it, FileType::RegularFile | FileType::Directory))
}

fn type_of(object: &OwnedFd) -> Option<FileType> {
    let stat = rustix::fs::fstat(object).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}

fn of(object: &OwnedFd) -> Option<Inode> {
    Inode::of(object, c"").ok()
}
