//! Layers as files below a directory.
//!
//! The tar and the directory may both be hostile. Parents are opened by [`Root`], which follows no symlink;
//! the last component is only ever made anew (`O_EXCL`, `mkdirat`, `symlinkat` …) or removed, so a write
//! never goes through anything that was there before. Directories get their owner, mode and time at the end,
//! when nothing is made in them any more.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::read::{Limits, ReadError, Sink, read_layer};
use super::{CAPABILITY, TarSummary, is_bookkeeping_xattr};
use crate::acl;
use crate::contents::{Contents, Root};
use crate::record::{Record, place_of_list};
use crate::{Change, Changeset, DigestReader, ImagePath, Kind, Metadata, Node, Timestamp};

/// What makes a directory opaque for overlayfs, as root of the machine and in a user namespace.
const TRUSTED_OPAQUE: &str = "trusted.overlay.opaque";
const USER_OPAQUE: &str = "user.overlay.opaque";

/// What to do about what a layer removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// The directory holds this layer alone, as one of an overlay's lower directories: whiteouts become
    /// character devices 0:0, opaque directories an attribute.
    Overlay {
        /// Use `user.overlay.opaque` instead of `trusted.overlay.opaque`, for overlays in user namespaces.
        userxattr: bool,
    },
    /// The directory holds the lower layers too: what is removed is deleted.
    Delete,
    /// Nothing.
    Ignore,
}

/// What becomes of owners, and of attributes that not everybody may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Files get them.
    Set,
    /// Everything is the invoking user's, and an attribute says what it is to be ([`crate::record`]).
    Record,
    /// Everything is the invoking user's.
    Leave,
}

/// What becomes of device nodes, which only the machine's root can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// They are made.
    Make,
    /// Each is an empty file, and an attribute says what it is to be ([`crate::record`]).
    Record,
    /// There are none.
    LeaveOut,
}

/// How to unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackOptions {
    /// What becomes of owners.
    pub owners: Owners,
    /// What becomes of device nodes.
    pub devices: Devices,
    /// What to do about what the layer removes.
    pub whiteouts: Whiteouts,
    /// How much a layer may ask for.
    pub limits: Limits,
}

/// Why a layer could not be put below a directory.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The layer itself is at fault.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file system refused.
    #[error("could not {act} `{path}`")]
    Files {
        /// What was tried.
        act: &'static str,
        /// Below the directory that is unpacked to.
        path: ImagePath,
        /// Why.
        source: io::Error,
    },
    /// The directory to unpack to can't be opened.
    #[error("could not open the directory `{path}`")]
    Root {
        /// The directory.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file's content could not be had.
    #[error("could not read the content of `{path}`")]
    Content {
        /// The file.
        path: ImagePath,
        /// Why.
        source: io::Error,
    },
    /// A file is not what the changeset says it is.
    #[error("`{path}` changed while it was read")]
    ContentChanged {
        /// The file.
        path: ImagePath,
    },
}

/// Whether a layer that was unpacked to `root` for an overlay hides all of the layers below it. Overlayfs can't be told: those are
/// to be left out of it.
pub fn hides_all_below(root: &Path) -> bool {
    let is_marked = |name| rustix::fs::lgetxattr(root, name, &mut [0; 8][..]).is_ok();
    is_marked(TRUSTED_OPAQUE) || is_marked(USER_OPAQUE)
}

/// Repeats a layer below a directory; a [`Sink`] for [`read_layer`].
#[derive(Debug)]
pub struct Unpacker {
    root: Root,
    options: UnpackOptions,
    /// The directory last worked in: entries of one directory mostly follow each other.
    parent: Option<(ImagePath, OwnedFd)>,
    chunk: Vec<u8>,
}

/// Reads an uncompressed layer tar and puts what it holds below the directory at `root`, in one pass.
pub fn unpack(
    reader: impl Read,
    root: &Path,
    options: &UnpackOptions,
) -> Result<(Changeset, TarSummary), ApplyError> {
    let mut unpacker = Unpacker::open(root, *options)?;
    read_layer(reader, &options.limits, &mut unpacker)
}

/// Gives the files of a layer, unpacked from its tar, the attributes that layers don't have and `changeset` has: those stay for as long as a build
/// stands on what it made (R-LAY-9).
pub fn add_attributes(
    changeset: &Changeset,
    root: &Path,
    options: &UnpackOptions,
) -> Result<(), ApplyError> {
    let mut unpacker = Unpacker::open(root, *options)?;
    let lacks = |node: &Node| node.metadata.xattrs.keys().any(|name| name != CAPABILITY);
    for (path, change) in changeset {
        if let Some(node) = change.node().filter(|node| lacks(node))
            && !path.is_root()
        {
            unpacker.describe(path, node)?;
        }
    }
    Ok(())
}

/// Puts what `changeset` says below the directory at `root`, verifying each file against it. Directories that it doesn't describe but
/// needs stay as they are; new ones are 0755, owned by root.
pub fn apply_changeset(
    changeset: &Changeset,
    contents: &dyn Contents,
    root: &Path,
    options: &UnpackOptions,
) -> Result<(), ApplyError> {
    let mut unpacker = Unpacker::open(root, *options)?;
    let mut links: HashMap<u64, &ImagePath> = HashMap::new();
    let unlisted = changeset.unlisted();
    let mut unlisted = unlisted.iter().peekable();
    let mut made = Vec::new();
    for (path, change) in changeset {
        while let Some(above) = unlisted.next_if(|above| *above < path) {
            if unpacker.unlisted_directory(above)? {
                made.push(above);
            }
        }
        let Some(node) = change.node() else {
            unpacker.remove(path)?;
            continue;
        };
        let link = node.link;
        if let Some(first) = link.and_then(|link| links.get(&link)) {
            unpacker.link(path, first)?;
            continue;
        }
        links.extend(link.map(|link| (link, path)));
        unpacker.put_from(path, node, contents)?;
        if let Change::Opaque(_) = change {
            // What this layer has in it comes later.
            unpacker.opaque(path, &|_| false)?;
        }
    }
    let nothing_said = Node::directory(Metadata::directory());
    for path in made {
        unpacker.finish_directory(path, &Change::Put(nothing_said.clone()), &nothing_said)?;
    }
    unpacker.finish(changeset)
}

impl UnpackOptions {
    /// As root: owners, devices and attributes as the layer says.
    pub fn privileged(whiteouts: Whiteouts) -> Self {
        Self {
            owners: Owners::Set,
            devices: Devices::Make,
            whiteouts,
            limits: Limits::default(),
        }
    }

    /// As root of a user namespace: owners and attributes as the layer says, but devices are recorded.
    pub fn mapped(whiteouts: Whiteouts) -> Self {
        Self {
            devices: Devices::Record,
            ..Self::privileged(whiteouts)
        }
    }

    /// As root of a user namespace with one id: owners and devices are recorded.
    pub fn recorded(whiteouts: Whiteouts) -> Self {
        Self {
            owners: Owners::Record,
            ..Self::mapped(whiteouts)
        }
    }

    /// As anybody: all files are the user's, and there are no devices.
    pub fn unprivileged(whiteouts: Whiteouts) -> Self {
        Self {
            owners: Owners::Leave,
            devices: Devices::LeaveOut,
            ..Self::privileged(whiteouts)
        }
    }
}

impl Unpacker {
    /// Unpacks below the directory at `root`, whose own path the caller vouches for.
    pub fn open(root: &Path, options: UnpackOptions) -> Result<Self, ApplyError> {
        let opened = Root::open(root);
        let opened = opened.map_err(|source| ApplyError::Root {
            path: root.display().to_string(),
            source,
        })?;
        Ok(Self::new(opened, options))
    }

    /// Unpacks below `root`.
    pub fn new(root: Root, options: UnpackOptions) -> Self {
        Self {
            root,
            options,
            parent: None,
            chunk: vec![0; 128 << 10],
        }
    }

    fn put_from(
        &mut self,
        path: &ImagePath,
        node: &Node,
        contents: &dyn Contents,
    ) -> Result<(), ApplyError> {
        let Kind::File { size, digest, .. } = node.kind else {
            return self.put(path, node, &mut io::empty());
        };
        let content: Box<dyn Read + '_> = match size {
            0 => Box::new(io::empty()),
            _ => contents
                .open(path, node)
                .map_err(|source| ApplyError::Content {
                    path: path.clone(),
                    source,
                })?,
        };
        let mut content = DigestReader::new(content.take(size.saturating_add(1)));
        self.put(path, node, &mut content)?;
        let (_, found, length) = content.finish();
        match (found, length) == (digest, size) {
            true => Ok(()),
            false => Err(ApplyError::ContentChanged { path: path.clone() }),
        }
    }

    /// Opens the directory `path` is in and does `act` there; `called` names it in errors.
    fn within<T>(
        &mut self,
        path: &ImagePath,
        called: &'static str,
        act: impl FnOnce(BorrowedFd<'_>, &OsStr) -> io::Result<T>,
    ) -> Result<T, ApplyError> {
        let failed = |source| ApplyError::Files {
            act: called,
            path: path.clone(),
            source,
        };
        let (Some(name), Some(above)) = (path.file_name(), path.parent()) else {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        };
        if self.parent.as_ref().is_none_or(|(open, _)| *open != above) {
            let fd = self.root.directory(&above).map_err(failed)?;
            self.parent = Some((above, fd));
        }
        let (_, parent) = self.parent.as_ref().expect("opened just above");
        act(parent.as_fd(), OsStr::from_bytes(name)).map_err(failed)
    }

    fn directory(&mut self, path: &ImagePath) -> Result<(), ApplyError> {
        if path.is_root() {
            return Ok(());
        }
        self.within(path, "make the directory", |parent, name| {
            let make = || rustix::fs::mkdirat(parent, name, Mode::RWXU);
            match make() {
                Err(Errno::EXIST) if is_directory(parent, name)? => Ok(()),
                Err(Errno::EXIST) => {
                    remove(parent, name)?;
                    Ok(make()?)
                }
                result => Ok(result?),
            }
        })
    }

    /// Sees to a directory of which nothing is said; says whether it was made.
    fn unlisted_directory(&mut self, path: &ImagePath) -> Result<bool, ApplyError> {
        let is_there = self.within(path, "stat", |parent, name| {
            Ok(!is_missing(parent, name)? && is_directory(parent, name)?)
        })?;
        if !is_there {
            self.directory(path)?;
            self.parent = None;
        }
        Ok(!is_there)
    }

    fn file(
        &mut self,
        path: &ImagePath,
        node: &Node,
        content: &mut dyn Read,
    ) -> Result<(), ApplyError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = |parent: BorrowedFd<'_>, name: &OsStr| {
            Ok(File::from(rustix::fs::openat(
                parent,
                name,
                flags,
                Mode::RUSR | Mode::WUSR,
            )?))
        };
        let mut file = self.anew(path, "make the file", make)?;
        loop {
            let read = match content.read(&mut self.chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ReadError::of_content(path, error).into()),
            };
            let written = file.write_all(&self.chunk[..read]);
            written.map_err(|source| ApplyError::Files {
                act: "write to",
                path: path.clone(),
                source,
            })?;
        }
        self.describe_open(path, file.as_fd(), node)
    }

    /// Makes something that isn't a directory with `make`, which fails if the name is taken.
    fn anew<T>(
        &mut self,
        path: &ImagePath,
        called: &'static str,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> io::Result<T>,
    ) -> Result<T, ApplyError> {
        let mut replaced = false;
        let made = self.within(path, called, |parent, name| match make(parent, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                replaced = true;
                remove(parent, name)?;
                make(parent, name)
            }
            result => result,
        });
        if replaced {
            // The directory last worked in may be one that is gone.
            self.parent = None;
        }
        made
    }

    fn symlink(&mut self, path: &ImagePath, node: &Node, target: &[u8]) -> Result<(), ApplyError> {
        let target = OsStr::from_bytes(target);
        self.anew(path, "make the symlink", |parent, name| {
            Ok(rustix::fs::symlinkat(target, parent, name)?)
        })?;
        self.describe_by_name(path, &node.metadata, None)
    }

    fn special(
        &mut self,
        path: &ImagePath,
        node: &Node,
        kind: FileType,
        device: (u32, u32),
    ) -> Result<(), ApplyError> {
        match self.options.devices {
            Devices::Record if kind != FileType::Fifo => {
                return self.file(path, node, &mut io::empty());
            }
            Devices::LeaveOut if kind != FileType::Fifo => return Ok(()),
            Devices::Make | Devices::Record | Devices::LeaveOut => {}
        }
        let device = rustix::fs::makedev(device.0, device.1);
        let mode = Mode::RUSR | Mode::WUSR;
        self.anew(path, "make the device node", |parent, name| {
            Ok(rustix::fs::mknodat(parent, name, kind, mode, device)?)
        })?;
        self.describe_by_name(path, &node.metadata, Some(node.metadata.mode))
    }

    /// Sets the metadata of a file or directory that is there.
    fn describe_file(&mut self, path: &ImagePath, node: &Node) -> Result<(), ApplyError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |parent: BorrowedFd<'_>, name: &OsStr| {
            Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
        };
        match self.within(path, "open", open) {
            Ok(file) => self.describe_open(path, file.as_fd(), node),
            // One's own file that one may not read.
            Err(ApplyError::Files { source, .. })
                if self.options.owners == Owners::Leave
                    && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Sets the metadata of a file or directory that is open.
    fn describe_open(
        &self,
        path: &ImagePath,
        fd: BorrowedFd<'_>,
        node: &Node,
    ) -> Result<(), ApplyError> {
        let metadata = &node.metadata;
        let describe = || {
            match self.options.owners {
                Owners::Set => {
                    let (uid, gid) = owners(metadata);
                    rustix::fs::fchown(fd, uid, gid)?;
                    let device = Record::of_device(&node.kind);
                    if self.options.devices == Devices::Record && !device.is_plain() {
                        device.write(fd)?;
                    }
                }
                Owners::Record => Record::of(metadata, &node.kind).write(fd)?,
                Owners::Leave => {}
            }
            // After the owner: a change of owner takes setuid bits and capabilities away.
            rustix::fs::fchmod(fd, Mode::from_raw_mode(metadata.mode & 0o7777))?;
            self.set_xattrs(fd, metadata)?;
            rustix::fs::futimens(fd, &times(metadata.mtime))
        };
        let failed = |errno: Errno| ApplyError::Files {
            act: "set owner, mode, attributes or time of",
            path: path.clone(),
            source: errno.into(),
        };
        describe().map_err(failed)
    }

    fn set_xattrs(&self, fd: BorrowedFd<'_>, metadata: &Metadata) -> rustix::io::Result<()> {
        for (name, value) in &metadata.xattrs {
            if is_bookkeeping_xattr(name) {
                continue;
            }
            let place = match self.options.owners {
                Owners::Record if acl::names_others(name, value) => place_of_list(name),
                _ => None,
            };
            let place = place.map_or(name.as_slice(), str::as_bytes);
            let set =
                || rustix::fs::fsetxattr(fd, OsStr::from_bytes(place), value, XattrFlags::empty());
            match set() {
                // A file system without attributes of this kind: the changeset still has them.
                Err(Errno::NOTSUP) => {}
                Err(Errno::PERM | Errno::ACCESS) if self.options.owners == Owners::Leave => {}
                // What only the machine's root may set, a user namespace's root may not.
                Err(Errno::PERM) if self.options.devices != Devices::Make => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Sets the metadata of something that can't be opened; a symlink has no mode of its own.
    fn describe_by_name(
        &mut self,
        path: &ImagePath,
        metadata: &Metadata,
        mode: Option<u32>,
    ) -> Result<(), ApplyError> {
        let owner = self.options.owners == Owners::Set;
        self.within(path, "set owner, mode or time of", |parent, name| {
            if owner {
                let (uid, gid) = owners(metadata);
                rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            if let Some(mode) = mode {
                rustix::fs::chmodat(
                    parent,
                    name,
                    Mode::from_raw_mode(mode & 0o7777),
                    AtFlags::empty(),
                )?;
            }
            Ok(rustix::fs::utimensat(
                parent,
                name,
                &times(metadata.mtime),
                AtFlags::SYMLINK_NOFOLLOW,
            )?)
        })
    }

    /// Describes a directory, now that nothing more is made in it.
    fn finish_directory(
        &mut self,
        path: &ImagePath,
        change: &Change,
        node: &Node,
    ) -> Result<(), ApplyError> {
        let failed = |act, source| ApplyError::Files {
            act,
            path: path.clone(),
            source,
        };
        let fd = self
            .root
            .directory(path)
            .map_err(|source| failed("open the directory", source))?;
        if let (Change::Opaque(_), Whiteouts::Overlay { userxattr }) =
            (change, self.options.whiteouts)
        {
            // Overlayfs passes over that of a root; whoever stacks layers asks for it ([`hides_all_below`]).
            let name = if userxattr {
                USER_OPAQUE
            } else {
                TRUSTED_OPAQUE
            };
            let set = rustix::fs::fsetxattr(&fd, name, b"y", XattrFlags::empty());
            set.map_err(|errno| failed("make an opaque directory of", errno.into()))?;
        }
        self.describe_open(path, fd.as_fd(), node)
    }

    /// Deletes all in the directory `path` that `kept` doesn't want, at any depth.
    fn delete_all_but(
        &mut self,
        path: &ImagePath,
        kept: &dyn Fn(&ImagePath) -> bool,
    ) -> Result<(), ApplyError> {
        self.parent = None;
        let failed = |source| ApplyError::Files {
            act: "empty the directory",
            path: path.clone(),
            source,
        };
        let mut pending = vec![path.clone()];
        while let Some(path) = pending.pop() {
            let fd = self.root.directory(&path).map_err(failed)?;
            for name in names(fd.as_fd()).map_err(failed)? {
                let child = path.child(name.as_bytes());
                if !kept(&child) {
                    remove(fd.as_fd(), &name).map_err(failed)?;
                } else if is_directory(fd.as_fd(), &name).map_err(failed)? {
                    pending.push(child);
                }
            }
        }
        Ok(())
    }
}

impl Sink for Unpacker {
    type Error = ApplyError;

    fn put(
        &mut self,
        path: &ImagePath,
        node: &Node,
        content: &mut dyn Read,
    ) -> Result<(), ApplyError> {
        match &node.kind {
            Kind::Directory => self.directory(path),
            Kind::File { .. } => self.file(path, node, content),
            Kind::Symlink { target } => self.symlink(path, node, target),
            Kind::CharDevice { major, minor } => {
                self.special(path, node, FileType::CharacterDevice, (*major, *minor))
            }
            Kind::BlockDevice { major, minor } => {
                self.special(path, node, FileType::BlockDevice, (*major, *minor))
            }
            Kind::Fifo => self.special(path, node, FileType::Fifo, (0, 0)),
            Kind::Socket => Ok(()),
        }
    }

    fn link(&mut self, path: &ImagePath, target: &ImagePath) -> Result<(), ApplyError> {
        let failed = |source| ApplyError::Files {
            act: "make a hard link to",
            path: target.clone(),
            source,
        };
        let above = target
            .parent()
            .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let from = self.root.directory(&above).map_err(failed)?;
        let target_name = OsStr::from_bytes(target.file_name().unwrap_or_default());
        if self.options.devices == Devices::LeaveOut
            && is_missing(from.as_fd(), target_name).map_err(failed)?
        {
            // A device that was left out.
            return Ok(());
        }
        self.anew(path, "make the hard link", |parent, name| {
            Ok(rustix::fs::linkat(
                &from,
                target_name,
                parent,
                name,
                AtFlags::empty(),
            )?)
        })
    }

    fn describe(&mut self, path: &ImagePath, node: &Node) -> Result<(), ApplyError> {
        let Metadata { mode, .. } = node.metadata;
        match (&node.kind, self.options.devices) {
            (Kind::File { .. } | Kind::Directory, _)
            | (Kind::CharDevice { .. } | Kind::BlockDevice { .. }, Devices::Record) => {
                self.describe_file(path, node)
            }
            (Kind::CharDevice { .. } | Kind::BlockDevice { .. }, Devices::Make)
            | (Kind::Fifo, _) => self.describe_by_name(path, &node.metadata, Some(mode)),
            (Kind::Symlink { .. }, _) => self.describe_by_name(path, &node.metadata, None),
            (Kind::CharDevice { .. } | Kind::BlockDevice { .. }, Devices::LeaveOut)
            | (Kind::Socket, _) => Ok(()),
        }
    }

    fn remove(&mut self, path: &ImagePath) -> Result<(), ApplyError> {
        match self.options.whiteouts {
            Whiteouts::Ignore => Ok(()),
            Whiteouts::Delete => {
                self.parent = None;
                match self.within(path, "delete", remove) {
                    Err(ApplyError::Files { source, .. })
                        if source.kind() == io::ErrorKind::NotFound =>
                    {
                        Ok(())
                    }
                    result => result,
                }
            }
            Whiteouts::Overlay { .. } => self.anew(path, "make a whiteout of", |parent, name| {
                let device = rustix::fs::makedev(0, 0);
                Ok(rustix::fs::mknodat(
                    parent,
                    name,
                    FileType::CharacterDevice,
                    Mode::empty(),
                    device,
                )?)
            }),
        }
    }

    fn opaque(
        &mut self,
        path: &ImagePath,
        kept: &dyn Fn(&ImagePath) -> bool,
    ) -> Result<(), ApplyError> {
        match self.options.whiteouts {
            Whiteouts::Delete => self.delete_all_but(path, kept),
            // Said by an attribute, once the directory is finished.
            Whiteouts::Overlay { .. } | Whiteouts::Ignore => Ok(()),
        }
    }

    /// Describes the directories, those below before those above.
    fn finish(&mut self, changeset: &Changeset) -> Result<(), ApplyError> {
        self.parent = None;
        for (path, change) in changeset.iter().rev() {
            if let Some(node) = change.node().filter(|node| node.is_directory()) {
                self.finish_directory(path, change, node)?;
            }
        }
        Ok(())
    }
}

fn owners(metadata: &Metadata) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(metadata.uid)),
        Some(Gid::from_raw(metadata.gid)),
    )
}

/// The time of last access is nobody's business and stays.
fn times(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.secs,
            tv_nsec: mtime.nanos.into(),
        },
    }
}

fn is_directory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn is_missing(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(false),
        Err(Errno::NOENT) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// Deletes whatever has this name, directories with all that is in them.
fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        result => return Ok(result?),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for name in names(directory.as_fd())? {
        remove(directory.as_fd(), &name)?;
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// The names in a directory, without `.` and `..`.
fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}
