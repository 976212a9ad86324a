//! A changeset written as a layer tar.
//!
//! The bytes are a pure function of the changeset and the files' contents. The entries come in the
//! changeset's own order, which is a layer's (R-LAY-2); a file's content is hashed while it goes by, once, and
//! held against what the changeset says, so a tar whose diff id is known never holds anything else than what
//! the changeset describes.

use std::collections::HashMap;
use std::io::{self, BufWriter, Read, Write};

use ::tar::EntryType;

use super::header::{BLOCK, END, MemberHeader};
use super::{TarSummary, WHITEOUT};
use crate::contents::Contents;
use crate::scan::Draft;
use crate::{Change, Changeset, DiffId, Digest, DigestWriter, Digester, ImagePath, Kind, Node};

/// The only extended attribute layers carry (R-LAY-9).
const CAPABILITY: &[u8] = b"security.capability";

/// How much of a file is read at a time.
const CHUNK: usize = 128 << 10;

/// Why a layer tar could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file is not what the changeset says it is.
    #[error("`{path}` changed while it was read: expected {expected}, found {found}")]
    ContentChanged {
        /// The file.
        path: ImagePath,
        /// What the changeset says.
        expected: String,
        /// What was read.
        found: String,
    },
    /// A file could not be opened or read.
    #[error("could not read `{path}`")]
    Content {
        /// The file.
        path: ImagePath,
        /// Why.
        source: io::Error,
    },
    /// The tar could not be written.
    #[error("could not write the layer tar")]
    Output(#[source] io::Error),
    /// An opaque directory: layers say what is gone name by name (R-LAY-4), which takes the tree below.
    #[error("`{path}` is an opaque directory, which a layer tar has no entry for")]
    Opaque {
        /// The directory.
        path: ImagePath,
    },
}

/// Writes the tar of a changeset whose file digests are known, verifying each file against them.
///
/// The changeset must be normalised ([`Changeset::normalise`]): with parents, without opaque directories.
pub fn write_layer(
    changeset: &Changeset,
    contents: &dyn Contents,
    out: impl Write,
) -> Result<TarSummary, WriteError> {
    let mut writer = LayerWriter::new(contents, out);
    for (path, change) in changeset {
        let digest = writer.change(path, change)?;
        if let Some(Kind::File {
            digest: expected, ..
        }) = change.node().map(|node| &node.kind)
        {
            verify(path, *expected, digest.unwrap_or(*expected))?;
        }
    }
    writer.finish()
}

/// Writes the tar of a changeset whose file digests are not known, and fills them in: each file is read
/// once, for its digest and for the tar. To learn only the digests and the diff id, write to [`io::sink`].
pub fn write_draft(
    draft: Draft,
    contents: &dyn Contents,
    out: impl Write,
) -> Result<(Changeset, TarSummary), WriteError> {
    let mut writer = LayerWriter::new(contents, out);
    let mut changeset = Changeset::new();
    for (path, mut change) in draft.into_changes() {
        let found = writer.change(&path, &change)?;
        if let (
            Change::Put(Node {
                kind: Kind::File { digest, .. },
                ..
            }),
            Some(found),
        ) = (&mut change, found)
        {
            *digest = found;
        }
        changeset.insert(path, change);
    }
    Ok((changeset, writer.finish()?))
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

/// A tar half written.
struct LayerWriter<'a, W: Write> {
    out: DigestWriter<BufWriter<W>>,
    contents: &'a dyn Contents,
    /// The first name of each group of hard links, and its digest.
    links: HashMap<u64, (ImagePath, Digest)>,
    chunk: Vec<u8>,
}

impl<'a, W: Write> LayerWriter<'a, W> {
    fn new(contents: &'a dyn Contents, out: W) -> Self {
        let out = DigestWriter::new(BufWriter::with_capacity(CHUNK, out));
        Self {
            out,
            contents,
            links: HashMap::new(),
            chunk: vec![0; CHUNK],
        }
    }

    /// Writes one entry; gives the digest of a file.
    fn change(&mut self, path: &ImagePath, change: &Change) -> Result<Option<Digest>, WriteError> {
        match change {
            // The root directory is never an entry (R-LAY-1), sockets neither (R-LAY-11).
            _ if path.is_root() => Ok(None),
            Change::Put(Node {
                kind: Kind::Socket, ..
            }) => Ok(None),
            Change::Remove => self.whiteout(path).map(|()| None),
            Change::Put(node) => self.put(path, node),
            Change::Opaque(_) => Err(WriteError::Opaque { path: path.clone() }),
        }
    }

    fn whiteout(&mut self, path: &ImagePath) -> Result<(), WriteError> {
        let removed = path.file_name().expect("the root has been left out");
        let above = &path.as_bytes()[..path.as_bytes().len() - removed.len()];
        let name = [above, WHITEOUT, removed].concat();
        self.header(&MemberHeader::new(&name, EntryType::Regular, 0))
    }

    fn put(&mut self, path: &ImagePath, node: &Node) -> Result<Option<Digest>, WriteError> {
        let name = match node.kind {
            Kind::Directory => [path.as_bytes(), b"/"].concat(),
            _ => path.as_bytes().to_vec(),
        };
        let header = header_of(&name, node);
        let Kind::File { size, link, .. } = node.kind else {
            self.header(&header)?;
            return Ok(None);
        };
        if let Some((first, digest)) = link.and_then(|link| self.links.get(&link)) {
            let (first, digest) = (first.clone(), *digest);
            let link = MemberHeader {
                kind: EntryType::Link,
                link: first.as_bytes(),
                size: 0,
                ..header
            };
            self.header(&link)?;
            return Ok(Some(digest));
        }
        self.header(&header)?;
        let digest = self.content(path, node, size)?;
        if let Some(link) = link {
            self.links.insert(link, (path.clone(), digest));
        }
        Ok(Some(digest))
    }

    fn header(&mut self, header: &MemberHeader<'_>) -> Result<(), WriteError> {
        self.out
            .write_all(&header.to_bytes())
            .map_err(WriteError::Output)
    }

    /// Copies a file's content, which must be exactly `size` long, and pads it to whole blocks.
    fn content(&mut self, path: &ImagePath, node: &Node, size: u64) -> Result<Digest, WriteError> {
        let unreadable = |source| WriteError::Content {
            path: path.clone(),
            source,
        };
        let mut digester = Digester::new();
        if size > 0 {
            let mut content = self.contents.open(path, node).map_err(unreadable)?;
            let mut left = size;
            loop {
                let read = read_chunk(&mut content, &mut self.chunk).map_err(unreadable)?;
                if read == 0 || read as u64 > left {
                    verify_size(path, size, size - left + read as u64)?;
                    break;
                }
                digester.update(&self.chunk[..read]);
                self.out
                    .write_all(&self.chunk[..read])
                    .map_err(WriteError::Output)?;
                left -= read as u64;
            }
        }
        let padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
        self.out
            .write_all(&END[..padding])
            .map_err(WriteError::Output)?;
        Ok(digester.finish())
    }

    fn finish(mut self) -> Result<TarSummary, WriteError> {
        self.out.write_all(&END).map_err(WriteError::Output)?;
        self.out.flush().map_err(WriteError::Output)?;
        let (_, digest, size) = self.out.finish();
        Ok(TarSummary {
            diff_id: DiffId(digest),
            size,
        })
    }
}

/// Like `read`, but an interruption is no error.
fn read_chunk(content: &mut dyn Read, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match content.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
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

fn header_of<'a>(name: &'a [u8], node: &'a Node) -> MemberHeader<'a> {
    let metadata = &node.metadata;
    let capability = metadata.xattrs.get_key_value(CAPABILITY);
    let header = MemberHeader {
        uid: metadata.uid,
        gid: metadata.gid,
        mtime: metadata.mtime.secs,
        xattrs: capability
            .into_iter()
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
