//! A context that came as one stream: an archive, or a single file.
//!
//! It is not unpacked. The contents of its files go one after the other into a single file of the store's temporary
//! directory, and what is kept in memory is the tree of what would be on a disk if it were unpacked as ADD does it, which is
//! what the reference builder does with such a context. So owners, modes, links and attributes are the archive's, and
//! no name can lead out, as there is nowhere to lead to.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::path::PathBuf;
use std::sync::Arc;

use kiln_cache::{ScratchDir, Store};
use kiln_image::compress::BoundedDecoder;
use kiln_image::tar::{ArchiveError, ArchiveMember, Limits, ReadError, read_archive};
use kiln_image::{Digest, DigestReader, ImagePath, Kind, Node, Timestamp, Tree};

use crate::error::{BuildError, Cause};
use crate::op::archive::Contents;
use crate::op::file::unpacked;

/// Most members of an archive: each takes about a kilobyte of memory.
const MOST_MEMBERS: u64 = 2_000_000;

/// What came, held.
#[derive(Debug)]
pub struct Spooled {
    shown: String,
    tree: Arc<Tree>,
    contents: File,
    /// Where the content of each regular file starts, in bytes.
    starts: HashMap<ImagePath, u64>,
    /// Where the contents are, kept until they are not needed any more.
    _place: ScratchDir,
}

/// A file to write contents to.
struct Spool {
    path: PathBuf,
    writer: BufWriter<File>,
    place: ScratchDir,
}

impl Spooled {
    /// Reads a tar, compressed or not (R-CTX-8). `shown` is what the user calls it.
    pub fn archive(reader: impl Read, shown: &str, store: &Store) -> Result<Self, BuildError> {
        Self::read_archive(reader, shown, store).map_err(BuildError::new)
    }

    pub(super) fn read_archive(
        reader: impl Read,
        shown: &str,
        store: &Store,
    ) -> Result<Self, Cause> {
        let mut spool = Spool::create(store)?;
        let members =
            read_members(reader, &mut spool).map_err(|error| spool.archive_error(error, shown))?;
        let (contents, place) = spool.finish()?;
        let (tree, starts) = unpacked(&members).map_err(|source| Cause::ContextMembers {
            context: shown.to_owned(),
            source,
        })?;
        Ok(Spooled {
            shown: shown.to_owned(),
            tree: Arc::new(tree),
            contents,
            starts,
            _place: place,
        })
    }

    /// Takes a stream as the only file of a context, owned by root and private to it (R-ADD-6).
    pub fn file(
        mut reader: impl Read,
        name: &str,
        mtime: Timestamp,
        shown: &str,
        store: &Store,
    ) -> Result<Self, Cause> {
        let mut spool = Spool::create(store)?;
        let (digest, size) = spool.take(&mut reader)?;
        let (contents, place) = spool.finish()?;
        let path = ImagePath::clean(name.as_bytes());
        let mut node = Node::file(b"");
        node.metadata.mode = 0o600;
        node.metadata.mtime = mtime;
        node.kind = Kind::File { size, digest };
        let change = (path.clone(), kiln_image::Change::Put(node));
        Ok(Spooled {
            shown: shown.to_owned(),
            tree: Arc::new(Tree::of(&std::iter::once(change).collect())),
            contents,
            starts: HashMap::from([(path, 0)]),
            _place: place,
        })
    }

    /// What the user calls it.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// All that is in it.
    pub(crate) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Opens a regular file, links not followed.
    pub(crate) fn open(&self, path: &ImagePath) -> io::Result<Box<dyn Read + '_>> {
        let found = self.tree.lookup(path).ok_or(io::ErrorKind::NotFound)?;
        let Kind::File { size, .. } = found.kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let at = self.starts.get(path).copied();
        let contents = Contents {
            file: &self.contents,
            at: at.unwrap_or_default(),
        };
        Ok(Box::new(contents.take(*size)))
    }

    /// The content of a file, links followed within the context; `None` if there is no such file.
    ///
    /// # Errors
    /// When it is larger than `limit` bytes, or the disk fails.
    pub fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some((found, node)) = regular_file(&self.tree, path) else {
            return Ok(None);
        };
        if matches!(node.kind, Kind::File { size, .. } if size > limit) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Vec::new();
        self.open(&found)?.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The names in its root.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        names_in_root(&self.tree)
    }

    /// What is known about a path that was not found: facts, and what else it could be.
    pub(crate) fn explain_missing(&self, path: &str) -> (Vec<String>, Vec<String>) {
        let path = path.trim_start_matches('/');
        let names: Vec<String> = self
            .tree
            .walk(&ImagePath::root())
            .map(|(path, _)| path.to_string())
            .collect();
        let near = kiln_parser::suggest(path, names.iter().map(String::as_str));
        let note = format!(
            "the context is `{}` ({} files)",
            self.shown,
            self.starts.len()
        );
        let help = near.map(|near| format!("`{near}` is there"));
        (vec![note], help.into_iter().collect())
    }
}

/// The regular file at a path, links followed within the tree.
pub(super) fn regular_file(tree: &Tree, path: &str) -> Option<(ImagePath, Node)> {
    let path = ImagePath::clean(path.as_bytes());
    let resolved = tree.resolve(&ImagePath::root(), path.as_bytes(), true);
    let resolved = resolved.ok().filter(|resolved| resolved.exists)?;
    let node = tree.lookup(&resolved.path)?.node();
    matches!(node.kind, Kind::File { .. }).then_some((resolved.path, node))
}

/// The names in a tree's root.
pub(super) fn names_in_root(tree: &Tree) -> impl Iterator<Item = String> + '_ {
    let names = tree.root().entries.keys();
    names.map(|name| String::from_utf8_lossy(name).into_owned())
}

fn read_members(reader: impl Read, spool: &mut Spool) -> Result<Vec<ArchiveMember>, ArchiveError> {
    let limits = Limits {
        entries: MOST_MEMBERS,
        ..Limits::default()
    };
    let mut plain = BoundedDecoder::new(reader).map_err(ReadError::Input)?;
    let members = read_archive(&mut plain, &limits, &mut spool.writer)?;
    // Whoever sends it through a pipe is not to find that closed.
    io::copy(&mut plain.into_inner(), &mut io::sink()).map_err(ReadError::Input)?;
    Ok(members)
}

impl Spool {
    fn create(store: &Store) -> Result<Self, Cause> {
        let place = store.scratch_dir()?;
        let path = place.path().join("contents");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        let file = file.map_err(Cause::file("create", &path))?;
        Ok(Spool {
            path,
            writer: BufWriter::with_capacity(256 << 10, file),
            place,
        })
    }

    /// Writes all of a stream; its digest and length in bytes.
    fn take(&mut self, reader: &mut dyn Read) -> Result<(Digest, u64), Cause> {
        let mut hashed = DigestReader::new(reader);
        io::copy(&mut hashed, &mut self.writer).map_err(Cause::file("write", &self.path))?;
        let (_, digest, size) = hashed.finish();
        Ok((digest, size))
    }

    fn archive_error(&self, error: ArchiveError, shown: &str) -> Cause {
        match error {
            ArchiveError::Read(source) => Cause::ContextArchive {
                context: shown.to_owned(),
                source,
            },
            ArchiveError::Write(source) => Cause::file("write", &self.path)(source),
        }
    }

    fn finish(self) -> Result<(File, ScratchDir), Cause> {
        let file = self.writer.into_inner();
        let file = file.map_err(|error| Cause::file("write", &self.path)(error.into_error()))?;
        Ok((file, self.place))
    }
}
