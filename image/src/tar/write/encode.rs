//! Entries as the bytes of a tar.

use std::io::{self, Read};
use std::ops::Range;

use ::tar::EntryType;

use super::super::header::{BLOCK, END, MemberHeader};
use super::super::{CAPABILITY, WHITEOUT};
use super::{WriteError, expected};
use crate::contents::{Contents, Opened};
use crate::{Change, Digest, Digester, ImagePath, Kind, Node};

/// Which extended attributes files have in a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attributes {
    /// What a layer has: [`CAPABILITY`].
    OfLayers,
    /// All of them.
    All,
}

/// A chunk with less room than this is full: reading a few bytes costs as much as reading a page.
const LEAST_ROOM: usize = 4 << 10;

/// One entry of a changeset.
pub(super) struct Member<'a> {
    pub(super) path: &'a ImagePath,
    pub(super) change: &'a Change,
    /// For a further name of a file that is in the tar already, the position of that one.
    pub(super) first: Option<usize>,
}

/// A changeset ready to be written, from any of its entries on.
pub(super) struct Encoder<'a> {
    pub(super) members: Vec<Member<'a>>,
    pub(super) contents: &'a dyn Contents,
    pub(super) attributes: Attributes,
}

/// The digests found for files whose digest was not known, by position.
pub(super) type Digests = Vec<(usize, Digest)>;

/// A piece of the tar being filled.
pub(super) struct Chunk {
    bytes: Box<[u8]>,
    filled: usize,
}

/// Where full chunks go; gives an empty one for each.
pub(super) trait Chunks {
    fn full(&mut self, chunk: Chunk) -> Result<Chunk, Halt>;
}

/// Why encoding ended early.
pub(super) enum Halt {
    Failed(WriteError),
    /// Nobody wants the bytes any more.
    Unwanted,
}

/// A chunk and where it goes when it is full.
pub(super) struct Filling<'c, C: Chunks> {
    /// `None` only while it is being exchanged.
    chunk: Option<Chunk>,
    chunks: &'c mut C,
}

impl From<WriteError> for Halt {
    fn from(error: WriteError) -> Self {
        Halt::Failed(error)
    }
}

impl Chunk {
    pub(super) fn of(size: usize) -> Self {
        Self {
            bytes: vec![0; size].into_boxed_slice(),
            filled: 0,
        }
    }

    pub(super) fn holding(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.into(),
            filled: bytes.len(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    pub(super) fn emptied(mut self) -> Self {
        self.filled = 0;
        self
    }
}

impl<'c, C: Chunks> Filling<'c, C> {
    pub(super) fn new(chunk: Chunk, chunks: &'c mut C) -> Self {
        Self {
            chunk: Some(chunk),
            chunks,
        }
    }

    /// Hands over what is there.
    pub(super) fn finish(mut self) -> Result<(), Halt> {
        self.exchange()
    }

    fn chunk(&mut self) -> &mut Chunk {
        self.chunk
            .as_mut()
            .expect("an exchange that failed ends the encoding")
    }

    fn exchange(&mut self) -> Result<(), Halt> {
        if let Some(full) = self.chunk.take() {
            self.chunk = Some(self.chunks.full(full)?);
        }
        Ok(())
    }

    /// Free space of at least `wanted` bytes, or [`LEAST_ROOM`].
    fn room(&mut self, wanted: u64) -> Result<&mut [u8], Halt> {
        let chunk = self.chunk();
        let left = chunk.bytes.len() - chunk.filled;
        if (left as u64) < wanted.min(LEAST_ROOM as u64) {
            self.exchange()?;
        }
        let chunk = self.chunk();
        Ok(&mut chunk.bytes[chunk.filled..])
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<(), Halt> {
        while !bytes.is_empty() {
            let room = self.room(1)?;
            let fits = room.len().min(bytes.len());
            room[..fits].copy_from_slice(&bytes[..fits]);
            bytes = &bytes[fits..];
            self.chunk().filled += fits;
        }
        Ok(())
    }
}

impl Encoder<'_> {
    /// About how many bytes of the tar an entry takes.
    pub(super) fn length(&self, position: usize) -> u64 {
        let member = &self.members[position];
        match (member.first, member.change.node().map(|node| &node.kind)) {
            (None, Some(Kind::File { size, .. })) => size + BLOCK as u64,
            _ => BLOCK as u64,
        }
    }

    /// The digest of each entry that was found or is another name of one that was.
    pub(super) fn digests(&self, found: &Digests) -> Vec<Option<Digest>> {
        let mut digests = vec![None; self.members.len()];
        for (position, digest) in found {
            digests[*position] = Some(*digest);
        }
        for (position, member) in self.members.iter().enumerate() {
            if let Some(first) = member.first {
                digests[position] = digests[first];
            }
        }
        digests
    }

    /// Writes the entries at these positions.
    pub(super) fn encode<C: Chunks>(
        &self,
        positions: Range<usize>,
        out: &mut Filling<'_, C>,
    ) -> Result<Digests, Halt> {
        let mut digests = Digests::new();
        for position in positions {
            let found = self.member(&self.members[position], out)?;
            digests.extend(found.map(|digest| (position, digest)));
        }
        Ok(digests)
    }

    /// Gives the digest of a file if it was not known before.
    fn member<C: Chunks>(
        &self,
        member: &Member<'_>,
        out: &mut Filling<'_, C>,
    ) -> Result<Option<Digest>, Halt> {
        let Some(header) = self.header(member)? else {
            return Ok(None);
        };
        out.put(&header)?;
        match (member.first, member.change) {
            (None, Change::Put(node)) => match node.kind {
                Kind::File { size, digest, .. } => {
                    self.content(member.path, node, size, expected(digest), out)
                }
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// All of an entry but its content; `None` for what has no entry.
    pub(super) fn header(&self, member: &Member<'_>) -> Result<Option<Vec<u8>>, WriteError> {
        let path = member.path;
        let node = match member.change {
            // The root directory is never an entry (R-LAY-1), sockets neither (R-LAY-11).
            _ if path.is_root() => return Ok(None),
            Change::Put(Node {
                kind: Kind::Socket, ..
            }) => return Ok(None),
            Change::Remove => return Ok(Some(whiteout(path))),
            Change::Put(node) => node,
            Change::Opaque(_) => return Err(WriteError::Opaque { path: path.clone() }),
        };
        let name = match node.kind {
            Kind::Directory => [path.as_bytes(), b"/"].concat(),
            _ => path.as_bytes().to_vec(),
        };
        let mut header = header_of(&name, node, self.attributes);
        if let Some(first) = member.first {
            header.kind = EntryType::Link;
            header.link = self.members[first].path.as_bytes();
            header.size = 0;
        }
        Ok(Some(header.to_bytes()))
    }

    /// Copies a file's content, which must be exactly `size` long, and pads it to whole blocks.
    fn content<C: Chunks>(
        &self,
        path: &ImagePath,
        node: &Node,
        size: u64,
        expected: Option<Digest>,
        out: &mut Filling<'_, C>,
    ) -> Result<Option<Digest>, Halt> {
        let found = match size {
            0 => Some(Digester::new().finish()),
            _ => self.copy(path, node, size, expected.is_some(), out)?,
        };
        if let (Some(expected), Some(found)) = (expected, found) {
            verify(path, expected, found)?;
        }
        let padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
        out.put(&END[..padding])?;
        Ok(found.filter(|_| expected.is_none()))
    }

    /// The digest is left out where it is known and the reader vouches for it.
    fn copy<C: Chunks>(
        &self,
        path: &ImagePath,
        node: &Node,
        size: u64,
        is_known: bool,
        out: &mut Filling<'_, C>,
    ) -> Result<Option<Digest>, Halt> {
        let unreadable = |source| WriteError::Content {
            path: path.clone(),
            source,
        };
        let Opened {
            mut content,
            is_vouched,
        } = self.contents.open_vouched(path, node).map_err(unreadable)?;
        let mut digester = (!(is_known && is_vouched)).then(Digester::new);
        let mut left = size;
        loop {
            // One byte more, to see that there is none.
            let room = out.room(left + 1)?;
            let read = read_some(&mut content, room).map_err(unreadable)?;
            if read == 0 || read as u64 > left {
                verify_size(path, size, size - left + read as u64)?;
                return Ok(digester.map(Digester::finish));
            }
            if let Some(digester) = &mut digester {
                digester.update(&room[..read]);
            }
            out.chunk().filled += read;
            left -= read as u64;
        }
    }
}

/// Like `read`, but an interruption is no error.
fn read_some(content: &mut dyn Read, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match content.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn verify(path: &ImagePath, expected: Digest, found: Digest) -> Result<(), WriteError> {
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (expected.to_string(), found.to_string());
    Err(WriteError::ContentChanged {
        path: path.clone(),
        expected,
        found,
    })
}

fn verify_size(path: &ImagePath, expected: u64, found: u64) -> Result<(), WriteError> {
    if expected == found {
        return Ok(());
    }
    let at_least = if found > expected { "at least " } else { "" };
    Err(WriteError::ContentChanged {
        path: path.clone(),
        expected: format!("{expected} bytes"),
        found: format!("{at_least}{found} bytes"),
    })
}

fn whiteout(path: &ImagePath) -> Vec<u8> {
    let removed = path.file_name().expect("the root has been left out");
    let above = &path.as_bytes()[..path.as_bytes().len() - removed.len()];
    let name = [above, WHITEOUT, removed].concat();
    MemberHeader::new(&name, EntryType::Regular, 0).to_bytes()
}

fn header_of<'a>(name: &'a [u8], node: &'a Node, attributes: Attributes) -> MemberHeader<'a> {
    let metadata = &node.metadata;
    let is_kept = |name: &[u8]| attributes == Attributes::All || name == CAPABILITY;
    let header = MemberHeader {
        uid: metadata.uid,
        gid: metadata.gid,
        mtime: metadata.mtime.secs,
        xattrs: metadata
            .xattrs
            .iter()
            .filter(|(name, _)| is_kept(name))
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
            .collect(),
        ..MemberHeader::new(name, EntryType::Regular, metadata.mode & 0o7777)
    };
    match &node.kind {
        Kind::Directory => MemberHeader {
            kind: EntryType::Directory,
            ..header
        },
        Kind::File { size, .. } => MemberHeader {
            size: *size,
            ..header
        },
        Kind::Symlink { target } => MemberHeader {
            kind: EntryType::Symlink,
            link: target,
            mode: 0o777,
            ..header
        },
        Kind::CharDevice { major, minor } => MemberHeader {
            kind: EntryType::Char,
            device: (*major, *minor),
            ..header
        },
        Kind::BlockDevice { major, minor } => MemberHeader {
            kind: EntryType::Block,
            device: (*major, *minor),
            ..header
        },
        Kind::Fifo | Kind::Socket => MemberHeader {
            kind: EntryType::Fifo,
            ..header
        },
    }
}
