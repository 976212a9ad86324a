//! A directory on disk read as a changeset.
//!
//! Two kinds of directory are read: an overlay's *upper* directory, which says what a RUN changed, with
//! overlayfs's own marks for what it removed; and a plain directory, all of which is there, or what has changed in it
//! since an earlier look ([`Stamps`]). Nothing is ever
//! followed or opened by a path the host's resolver sees, so names and links may be hostile.
//!
//! Reading the attributes of files is fast, reading their content is not, and whoever writes a layer reads the
//! content anyway. So a scan gives a [`Draft`], a changeset without digests; [`crate::tar::write_draft`] or
//! [`Draft::complete`] fills them in.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rayon::prelude::*;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

mod since;

pub use since::{Stamps, scan_since};

use crate::acl;
use crate::contents::{Contents, DirContents, Root};
use crate::record::{Inode, Record, XATTR, list_in};
use crate::tar::{UNKNOWN, is_bookkeeping_xattr, number_links};
use crate::{
    Change, Changeset, Digest, Digester, ImagePath, Kind, Metadata, Node, Timestamp, Tree,
};

/// A changeset whose files' digests are not known yet. Within it they are all zeros.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    changes: BTreeMap<ImagePath, Change>,
    dropped: Vec<ImagePath>,
}

/// Why a directory could not be read.
#[derive(Debug, thiserror::Error)]
#[error("could not {act} `{path}`")]
pub struct ScanError {
    /// What was tried.
    pub act: &'static str,
    /// Below the directory that is read; the root itself is empty.
    pub path: ImagePath,
    /// Why.
    pub source: io::Error,
}

/// Where the owners of files are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owners {
    /// They are the files' own.
    Own,
    /// They are the files' own, but a device is a file whose attribute says which.
    Mapped,
    /// In an attribute of each file that isn't root's; of symlinks and FIFOs, which can't have one, in this list.
    Recorded(HashMap<Inode, Record>),
}

/// Reads an overlay's upper directory: what was changed, what was removed and which directories are opaque.
///
/// The root directory's own metadata is the entry of the root, and hard links to files outside are not links.
/// With [`Draft::normalise`] this becomes what a layer says.
pub fn scan_upper(upper: &Path, owners: &Owners) -> Result<Draft, ScanError> {
    Scan::of(upper, Marks::Overlay, owners)
}

/// Reads a plain directory: everything in it, and the directory's own metadata as the entry of the root.
pub fn scan_directory(directory: &Path) -> Result<Draft, ScanError> {
    scan_owned(directory, &Owners::Own)
}

/// The same where the owners of files are found elsewhere.
pub fn scan_owned(directory: &Path, owners: &Owners) -> Result<Draft, ScanError> {
    Scan::of(directory, Marks::None, owners)
}

/// Reads a plain directory and the content of all its files.
pub fn scan(directory: &Path) -> Result<Changeset, ScanError> {
    let draft = scan_directory(directory)?;
    let contents = DirContents::open(directory);
    let contents = contents.map_err(|source| ScanError {
        act: "open the directory",
        path: ImagePath::root(),
        source,
    })?;
    draft.complete(&contents)
}

impl Draft {
    /// What happens at `path`; the digest of a file is zeros.
    pub fn get(&self, path: &ImagePath) -> Option<&Change> {
        self.changes.get(path)
    }

    /// The changes in the order of a layer's entries; the digests of files are zeros.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&ImagePath, &Change)> {
        self.changes.iter()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Keeps what `wanted` says yes to: to leave out mount points and generated files (R-LAY-14).
    pub fn retain(&mut self, mut wanted: impl FnMut(&ImagePath, &Change) -> bool) {
        self.changes.retain(|path, change| wanted(path, change));
        number_links(self.changes.values_mut());
    }

    /// Brings the draft into the form of a layer over the tree `lower` ([`Changeset::normalise`]).
    ///
    /// A file with the size and metadata it has in `lower` may be the same file written again (R-LAY-7). Only
    /// its content can tell, so those few files are read here, from `contents`.
    pub fn normalise(self, lower: &Tree, contents: &dyn Contents) -> Result<Self, ScanError> {
        let mut changeset = Changeset::from_iter(self.changes);
        let mut read = HashMap::new(); // by number, of files with several names
        let suspects: Vec<(ImagePath, Digest)> = changeset
            .iter()
            .filter_map(|(path, change)| Some((path, change.node()?, lower.lookup(path)?.node())))
            .filter_map(|(path, node, before)| Some((path, node, rewritten(node, &before)?)))
            .filter_map(
                |(path, node, digest)| match digest_once(path, node, contents, &mut read) {
                    Ok(found) => (found == digest).then(|| Ok((path.clone(), digest))),
                    Err(error) => Some(Err(error)),
                },
            )
            .collect::<Result<_, _>>()?;
        for (path, known) in suspects {
            if let Some(Change::Put(node)) = changeset.get(&path) {
                let mut node = node.clone();
                set_digest(&mut node, known);
                changeset.insert(path, Change::Put(node));
            }
        }
        let dropped = changeset.normalise(lower);
        let mut changes: BTreeMap<ImagePath, Change> = changeset.into_iter().collect();
        number_links(changes.values_mut());
        Ok(Self { changes, dropped })
    }

    /// What [`Draft::normalise`] has left out, as it changes nothing: what is in a directory before it.
    pub fn dropped(&self) -> &[ImagePath] {
        &self.dropped
    }

    /// Reads the files from `contents`, several at a time, and fills their digests in.
    pub fn complete(self, contents: &dyn Contents) -> Result<Changeset, ScanError> {
        let mut changes: Vec<(ImagePath, Change)> = self.changes.into_iter().collect();
        changes
            .par_iter_mut()
            .try_for_each(|(path, change)| match change {
                Change::Put(node) if matches!(node.kind, Kind::File { .. }) => {
                    let digest = digest_of(path, node, contents)?;
                    set_digest(node, digest);
                    Ok(())
                }
                _ => Ok(()),
            })?;
        Ok(changes.into_iter().collect())
    }

    pub(crate) fn into_changes(self) -> BTreeMap<ImagePath, Change> {
        self.changes
    }
}

/// A changeset some of whose digests are [`Digest::UNKNOWN`].
impl From<Changeset> for Draft {
    fn from(changeset: Changeset) -> Self {
        Self {
            changes: changeset.into_sorted(),
            dropped: Vec::new(),
        }
    }
}

impl FromIterator<(ImagePath, Change)> for Draft {
    fn from_iter<I: IntoIterator<Item = (ImagePath, Change)>>(changes: I) -> Self {
        Self {
            changes: changes.into_iter().collect(),
            dropped: Vec::new(),
        }
    }
}

/// The digest a file had before, if but for its content nothing tells it from that.
fn rewritten(node: &Node, before: &Node) -> Option<Digest> {
    match (&node.kind, &before.kind) {
        (
            Kind::File { size, .. },
            Kind::File {
                size: size_before,
                digest,
                ..
            },
        ) => {
            let same_time = node.metadata.mtime.secs == before.metadata.mtime.secs;
            let same =
                size == size_before && same_time && node.metadata.same_but_mtime(&before.metadata);
            same.then_some(*digest)
        }
        _ => None,
    }
}

fn set_digest(node: &mut Node, known: Digest) {
    if let Kind::File { digest, .. } = &mut node.kind {
        *digest = known;
    }
}

/// The same file is read once, whatever names it has.
fn digest_once(
    path: &ImagePath,
    node: &Node,
    contents: &dyn Contents,
    read: &mut HashMap<u64, Digest>,
) -> Result<Digest, ScanError> {
    let Some(link) = node.link else {
        return digest_of(path, node, contents);
    };
    if let Some(known) = read.get(&link) {
        return Ok(*known);
    }
    let found = digest_of(path, node, contents)?;
    read.insert(link, found);
    Ok(found)
}

fn digest_of(path: &ImagePath, node: &Node, contents: &dyn Contents) -> Result<Digest, ScanError> {
    let failed = |source| ScanError {
        act: "read",
        path: path.clone(),
        source,
    };
    let Kind::File { size, .. } = node.kind else {
        return Ok(UNKNOWN);
    };
    let mut digester = Digester::new();
    let mut length = 0;
    if size > 0 {
        let mut content = contents.open(path, node).map_err(failed)?;
        let mut chunk = vec![0; size.min(128 << 10) as usize];
        loop {
            match content.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => {
                    digester.update(&chunk[..read]);
                    length += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    if length != size {
        return Err(failed(io::Error::other(format!(
            "it has {length} bytes now, not {size}"
        ))));
    }
    Ok(digester.finish())
}

/// Which marks in the directory are not what they look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marks {
    None,
    /// overlayfs's whiteouts and opaque directories.
    Overlay,
}

/// Which objects are read.
enum Look<'a> {
    Everything,
    /// Those that are not as they were.
    Since(&'a Stamps),
    /// None: they are only told apart.
    Stamps,
}

/// A directory half read.
struct Scan<'a> {
    root: Root,
    marks: Marks,
    owners: &'a Owners,
    /// What of it is wanted.
    look: Look<'a>,
    /// Whether a change of what a file contains shows in its times.
    contents_are_dated: bool,
    /// What was seen, if what is wanted depends on it.
    seen: Stamps,
    changes: BTreeMap<ImagePath, Change>,
    /// Directories to read yet: a list, so that depth costs no stack and no open directory.
    pending: Vec<ImagePath>,
    /// Numbers of objects with several names, by device and inode.
    links: HashMap<(u64, u64), u64>,
}

impl<'a> Scan<'a> {
    fn of(directory: &Path, marks: Marks, owners: &'a Owners) -> Result<Draft, ScanError> {
        let mut scan = Self::new(directory, marks, owners)?;
        scan.read()?;
        number_links(scan.changes.values_mut());
        Ok(Draft::from_iter(scan.changes))
    }

    fn new(directory: &Path, marks: Marks, owners: &'a Owners) -> Result<Self, ScanError> {
        let at_root = |source| ScanError {
            act: "open the directory",
            path: ImagePath::root(),
            source,
        };
        let root = Root::open(directory).map_err(at_root)?;
        Ok(Self {
            root,
            marks,
            owners,
            look: Look::Everything,
            contents_are_dated: true,
            seen: Stamps::default(),
            changes: BTreeMap::new(),
            pending: vec![ImagePath::root()],
            links: HashMap::new(),
        })
    }

    fn read(&mut self) -> Result<(), ScanError> {
        while let Some(path) = self.pending.pop() {
            self.directory(path)?;
        }
        Ok(())
    }

    /// Reads a directory's own attributes and all but the content of what is in it.
    fn directory(&mut self, path: ImagePath) -> Result<(), ScanError> {
        let failed = |act, source| ScanError {
            act,
            path: path.clone(),
            source,
        };
        let fd = self
            .root
            .directory(&path)
            .map_err(|source| failed("open the directory", source))?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| failed("stat", errno.into()))?;
        let names = names(fd.as_fd()).map_err(|source| failed("list the directory", source))?;
        if !self.is_left_out(&path, &stat) {
            let xattrs =
                xattrs(fd.as_fd()).map_err(|source| failed("read the attributes of", source))?;
            self.put_directory(path.clone(), &stat, xattrs);
        }
        for name in names {
            self.entry(fd.as_fd(), &name, path.child(&name))?;
        }
        Ok(())
    }

    fn put_directory(&mut self, path: ImagePath, stat: &Stat, xattrs: BTreeMap<Vec<u8>, Vec<u8>>) {
        let opaque = self.mark(&xattrs, b"opaque") == Some(b"y");
        let node = self.node(stat, xattrs, None, Kind::Directory);
        self.changes.insert(
            path,
            if opaque {
                Change::Opaque(node)
            } else {
                Change::Put(node)
            },
        );
    }

    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: ImagePath,
    ) -> Result<(), ScanError> {
        let name = OsStr::from_bytes(name);
        let failed = |act, source| ScanError {
            act,
            path: path.clone(),
            source,
        };
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed("stat", errno.into()))?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_directory && self.is_left_out(&path, &stat) {
            return Ok(());
        }
        let device = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        let (major, minor) = device;
        let mut found = BTreeMap::new();
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.pending.push(path);
                return Ok(());
            }
            FileType::RegularFile => {
                let fd = open_file(parent, name).map_err(|source| failed("open", source))?;
                found = xattrs(fd.as_fd())
                    .map_err(|source| failed("read the attributes of", source))?;
                if stat.st_size == 0 && self.mark(&found, b"whiteout").is_some() {
                    self.changes.insert(path, Change::Remove);
                    return Ok(());
                }
                Kind::File {
                    size: stat.st_size.unsigned_abs(),
                    digest: UNKNOWN,
                }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new());
                let target = target.map_err(|errno| failed("read the symlink", errno.into()))?;
                Kind::Symlink {
                    target: target.into_bytes(),
                }
            }
            FileType::CharacterDevice if self.marks == Marks::Overlay && device == (0, 0) => {
                self.changes.insert(path, Change::Remove);
                return Ok(());
            }
            FileType::CharacterDevice => Kind::CharDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Unknown => {
                return Err(failed(
                    "tell the type of",
                    io::ErrorKind::InvalidData.into(),
                ));
            }
        };
        let listed = match kind {
            Kind::Symlink { .. } | Kind::Fifo => self.listed(parent, name),
            _ => None,
        };
        let mut node = self.node(&stat, found, listed, kind);
        node.link = self.link(&stat);
        self.changes.insert(path, Change::Put(node));
        Ok(())
    }

    /// What the list says of something that can have no attribute.
    fn listed(&self, parent: BorrowedFd<'_>, name: &OsStr) -> Option<Record> {
        match self.owners {
            Owners::Recorded(list) if !list.is_empty() => {
                list.get(&Inode::of(parent, name).ok()?).copied()
            }
            _ => None,
        }
    }

    /// The value of overlayfs's mark `name`. Without a user namespace it is a trusted attribute, and one of the user's is what a
    /// program put there.
    fn mark<'x>(&self, xattrs: &'x BTreeMap<Vec<u8>, Vec<u8>>, name: &[u8]) -> Option<&'x [u8]> {
        let space: &[u8] = match (self.marks, self.owners) {
            (Marks::None, _) => return None,
            (Marks::Overlay, Owners::Own) => b"trusted.overlay.",
            (Marks::Overlay, Owners::Mapped | Owners::Recorded(_)) => b"user.overlay.",
        };
        xattrs.get(&[space, name].concat()).map(Vec::as_slice)
    }

    /// What is known of an object, without attributes that are no part of the tree.
    fn node(
        &self,
        stat: &Stat,
        mut xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
        listed: Option<Record>,
        kind: Kind,
    ) -> Node {
        let noted = || Record::from_bytes(xattrs.get(XATTR.as_bytes())?);
        let own = (stat.st_uid, stat.st_gid);
        let (device, (uid, gid)) = match self.owners {
            Owners::Own => (None, own),
            Owners::Mapped => (noted().and_then(|record| record.device_kind()), own),
            Owners::Recorded(_) => {
                let record = noted().or(listed).unwrap_or_default();
                (record.device_kind(), (record.uid, record.gid))
            }
        };
        if matches!(self.owners, Owners::Recorded(_)) {
            show_access_lists(&mut xattrs, stat.st_mode);
        }
        xattrs.retain(|name, _| !is_bookkeeping_xattr(name));
        let metadata = Metadata {
            mode: stat.st_mode & 0o7777,
            uid,
            gid,
            mtime: Timestamp {
                secs: stat.st_mtime,
                nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
            xattrs,
        };
        // A program may write the attribute as well, and what it writes it on need not be a file.
        let kind = match (kind, device) {
            (Kind::File { .. }, Some(device)) => device,
            (kind, _) => kind,
        };
        Node::new(metadata, kind)
    }

    /// The number of the object's group of hard links, if it may have several names.
    fn link(&mut self, stat: &Stat) -> Option<u64> {
        let is_socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
        if stat.st_nlink < 2 || is_socket {
            return None;
        }
        let next = self.links.len() as u64;
        Some(*self.links.entry((stat.st_dev, stat.st_ino)).or_insert(next))
    }
}

/// Access lists that stand in attributes of ours, as the kernel would show them of a file with this mode.
fn show_access_lists(xattrs: &mut BTreeMap<Vec<u8>, Vec<u8>>, mode: u32) {
    let lists: Vec<_> = xattrs
        .iter()
        .filter_map(|(name, value)| {
            let list = list_in(name)?;
            Some((list.to_vec(), acl::shown(list, value, mode).into_owned()))
        })
        .collect();
    xattrs.extend(lists);
}

fn open_file(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// The names in a directory, sorted, without `.` and `..`.
fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// All extended attributes of an open file or directory.
fn xattrs(fd: BorrowedFd<'_>) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let list = match grown(|buffer| rustix::fs::flistxattr(fd, buffer)) {
        Err(Errno::NOTSUP) => return Ok(found),
        list => list?,
    };
    for name in list
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        match grown(|buffer| rustix::fs::fgetxattr(fd, OsStr::from_bytes(name), buffer)) {
            // Gone in the meantime, or not for us to see.
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            value => drop(found.insert(name.to_vec(), value?)),
        }
    }
    Ok(found)
}

/// Calls `read` with a buffer that is large enough; most files have nothing to say and need none.
fn grown(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0; 256];
    match read(&mut small) {
        Ok(length) => return Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    // The kernel's own limit for a list and for a value.
    let mut large = vec![0; 64 << 10];
    let length = read(&mut large)?;
    large.truncate(length);
    Ok(large)
}
