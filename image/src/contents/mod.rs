//! Where the bytes of a file in a changeset come from.
//!
//! A changeset says what a layer puts in place but holds no file's content. Whoever makes a tar or a
//! directory of it brings the contents: a directory on disk, or bytes at hand.

mod root;

use std::collections::BTreeMap;
use std::io::{self, Read, Seek as _};
use std::os::fd::OwnedFd;
use std::path::Path;

pub use root::Root;

use crate::{ImagePath, Node};

/// A source of the files' contents of one changeset or tree.
pub trait Contents: Sync {
    /// Opens the content of the regular file `node`, which is at `path`.
    fn open(&self, path: &ImagePath, node: &Node) -> io::Result<Box<dyn Read + '_>>;

    /// Like [`Contents::open`], from the byte `start` on.
    fn open_from(
        &self,
        path: &ImagePath,
        node: &Node,
        start: u64,
    ) -> io::Result<Box<dyn Read + '_>> {
        let mut content = self.open(path, node)?;
        io::copy(&mut content.by_ref().take(start), &mut io::sink())?;
        Ok(content)
    }

    /// Like [`Contents::open`], for whoever would hash the content only to see that it is still the one that `node`
    /// has the digest of.
    fn open_vouched(&self, path: &ImagePath, node: &Node) -> io::Result<Opened<'_>> {
        Ok(Opened {
            content: self.open(path, node)?,
            is_vouched: false,
        })
    }
}

/// A file's content, open for reading.
pub struct Opened<'a> {
    /// The bytes.
    pub content: Box<dyn Read + 'a>,
    /// Whether reading to the end fails if this is not the content that the file's digest is of, so that nobody needs
    /// to hash it again.
    pub is_vouched: bool,
}

/// Contents below a directory on disk, opened without ever following a symlink.
#[derive(Debug)]
pub struct DirContents {
    root: Root,
}

/// No contents: for changesets that have no files.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoContents;

impl DirContents {
    /// Contents below the directory at `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            root: Root::open(path)?,
        })
    }

    /// Contents below a directory that is open already.
    pub fn from_fd(directory: OwnedFd) -> Self {
        Self {
            root: Root::from_fd(directory),
        }
    }
}

impl Contents for DirContents {
    fn open(&self, path: &ImagePath, _node: &Node) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.root.file(path)?))
    }

    fn open_from(
        &self,
        path: &ImagePath,
        _node: &Node,
        start: u64,
    ) -> io::Result<Box<dyn Read + '_>> {
        let mut file = self.root.file(path)?;
        file.seek(io::SeekFrom::Start(start))?;
        Ok(Box::new(file))
    }
}

impl Contents for NoContents {
    fn open(&self, _path: &ImagePath, _node: &Node) -> io::Result<Box<dyn Read + '_>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Contents held in memory, such as the bodies of heredocs.
impl Contents for BTreeMap<ImagePath, Vec<u8>> {
    fn open(&self, path: &ImagePath, _node: &Node) -> io::Result<Box<dyn Read + '_>> {
        let bytes = self.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(bytes.as_slice()))
    }
}
