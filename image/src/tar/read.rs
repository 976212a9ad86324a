//! A layer tar read as a changeset.
//!
//! A layer comes from a registry or an archive and is not to be trusted. What it says is brought into the form
//! of a changeset while it streams by:
//!
//! - names are made relative and clean; `..` is refused;
//! - `.wh.x` removes `x` of lower layers, `.wh..wh..opq` hides all that lower layers have in its directory; an
//!   object of the same layer stays, whichever comes first (R-LAY-4, R-LAY-5);
//! - of several entries with one name the last counts, with all that was below the others gone;
//! - parents that are not listed are made, and stay as the layers below have them, else 0755 and owned by root: they are no
//!   part of the changeset ([`Changeset::unlisted`]);
//! - an entry below something that is no directory is refused: nothing is ever reached through a symlink;
//! - hard links must point to an earlier entry of the same layer; what a link says of mode, owner and time counts for all its
//!   names, as it does for whoever unpacks a layer entry by entry (containerd, Docker, podman).
//!
//! A [`Sink`] is told each step at the moment it is decided, with what it needs to repeat it on a disk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, BufReader, Read, Take};

use super::member::{Member, MemberKind, Members};
use super::{OPAQUE, TarSummary, WHITEOUT};
use crate::{
    Change, Changeset, DiffId, Digest, DigestReader, Digester, ImagePath, Kind, Metadata, Node,
    PathError,
};

/// How much a layer may ask for. The defaults are far above what real layers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most entries.
    pub entries: u64,
    /// Longest name in bytes; the kernel takes no path longer than 4095.
    pub name: usize,
    /// Longest PAX headers and GNU long names of one entry, in bytes.
    pub header: u64,
    /// Longest uncompressed tar in bytes.
    pub size: u64,
    /// Most bytes of all holes in sparse files, which take no space in the tar.
    pub holes: u64,
}

/// Sees the entries of a layer as they are read, in the order in which repeating them gives the layer.
pub trait Sink {
    /// What can go wrong here, reading included.
    type Error: From<ReadError>;

    /// `node` is at `path` now; something else that was there is not any more, but a directory that was
    /// there keeps what is in it. The parent is there. The digest of a file is not known yet; its content
    /// is what can be read from `content`, and errors from there are for [`ReadError::of_content`].
    fn put(
        &mut self,
        path: &ImagePath,
        node: &Node,
        content: &mut dyn Read,
    ) -> Result<(), Self::Error>;

    /// The object at `target`, which is not a directory and was put before, is also at `path` now.
    fn link(&mut self, path: &ImagePath, target: &ImagePath) -> Result<(), Self::Error>;

    /// The file at `path`, which was put before, has the mode, owner and time of `node`.
    fn describe(&mut self, path: &ImagePath, node: &Node) -> Result<(), Self::Error>;

    /// Lower layers' object at `path` is gone; this layer has none there, as far as it is read.
    fn remove(&mut self, path: &ImagePath) -> Result<(), Self::Error>;

    /// All that lower layers have in the directory `path` is gone; what `kept` says yes to is this layer's.
    fn opaque(
        &mut self,
        path: &ImagePath,
        kept: &dyn Fn(&ImagePath) -> bool,
    ) -> Result<(), Self::Error>;

    /// The layer was read to its end and is whole.
    fn finish(&mut self, changeset: &Changeset) -> Result<(), Self::Error>;
}

fn ends_within(path: &str) -> String {
    match path {
        "" => "it is no tar, or it has been cut short".to_owned(),
        path => format!("the tar ends within `{path}`"),
    }
}

/// A sink for those who want the changeset alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nothing;

/// Why a layer tar could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The stream itself failed.
    #[error("could not read the tar")]
    Input(#[source] io::Error),
    /// The stream ends in the middle.
    #[error("{}", ends_within(path))]
    Truncated {
        /// The entry that is not whole; empty if it is not known which.
        path: String,
    },
    /// Not a tar, or damaged.
    #[error("the tar has no valid header at byte {offset}")]
    Checksum {
        /// Where the header should be, from the start of the uncompressed tar.
        offset: u64,
    },
    /// A field of a header makes no sense.
    #[error("the tar has a malformed {field} for `{path}`")]
    Field {
        /// The entry.
        path: String,
        /// The field.
        field: &'static str,
    },
    /// A PAX record makes no sense.
    #[error("the tar has a malformed PAX record")]
    PaxRecord,
    /// The headers of one entry are too long.
    #[error("the headers of `{path}` in the tar are longer than {limit} bytes")]
    HeaderTooLong {
        /// The entry, or the header itself if nothing better is known.
        path: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// Something kiln doesn't read.
    #[error("`{path}` in the tar: {what} are not supported")]
    Unsupported {
        /// The entry.
        path: String,
        /// What isn't supported, in the plural.
        what: String,
    },
    /// A name that would leave the root, or has a NUL.
    #[error("the tar has a name that is not allowed")]
    Name(#[from] PathError),
    /// A name that is too long.
    #[error("the tar has a name longer than {limit} bytes, `{start}…`")]
    NameTooLong {
        /// How the name starts.
        start: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// A whiteout of nothing that can be removed.
    #[error("`{path}` in the tar removes nothing that can have a name")]
    Whiteout {
        /// The whiteout.
        path: ImagePath,
    },
    /// An entry below a symlink or file of the same layer.
    #[error("`{path}` in the tar is below `{parent}`, which is not a directory")]
    NotADirectory {
        /// The entry.
        path: ImagePath,
        /// What is in the way.
        parent: ImagePath,
    },
    /// The root is not a directory.
    #[error("the tar makes the root directory something else")]
    Root,
    /// A hard link to nothing that comes before it.
    #[error("`{path}` in the tar is a hard link to `{target}`, which is no earlier file there")]
    HardLink {
        /// The link.
        path: ImagePath,
        /// What it should be a link to.
        target: ImagePath,
    },
    /// Too many entries.
    #[error("the tar has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// Too long a stream.
    #[error("the tar is longer than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
}

impl ReadError {
    /// What an error that came from a [`Sink`]'s `content` means.
    pub fn of_content(path: &ImagePath, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated {
                path: path.to_string(),
            },
            _ => Self::Input(error),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 10_000_000,
            name: 4095,
            header: 1 << 20,
            size: 1 << 40,
            holes: 1 << 36,
        }
    }
}

impl Sink for Nothing {
    type Error = ReadError;

    fn put(&mut self, _: &ImagePath, _: &Node, _: &mut dyn Read) -> Result<(), ReadError> {
        Ok(())
    }

    fn link(&mut self, _: &ImagePath, _: &ImagePath) -> Result<(), ReadError> {
        Ok(())
    }

    fn describe(&mut self, _: &ImagePath, _: &Node) -> Result<(), ReadError> {
        Ok(())
    }

    fn remove(&mut self, _: &ImagePath) -> Result<(), ReadError> {
        Ok(())
    }

    fn opaque(&mut self, _: &ImagePath, _: &dyn Fn(&ImagePath) -> bool) -> Result<(), ReadError> {
        Ok(())
    }

    fn finish(&mut self, _: &Changeset) -> Result<(), ReadError> {
        Ok(())
    }
}

/// The stream a layer is read from: hashed and cut off just past the limit.
type Stream<R> = DigestReader<Take<BufReader<R>>>;

/// Reads an uncompressed layer tar to the end of its stream, telling `sink` each step.
///
/// Everything is hashed: also what follows the tar's end mark, since that is part of the diff id.
pub fn read_layer<R: Read, S: Sink>(
    reader: R,
    limits: &Limits,
    sink: &mut S,
) -> Result<(Changeset, TarSummary), S::Error> {
    let buffered = BufReader::with_capacity(128 << 10, reader);
    let stream = DigestReader::new(buffered.take(limits.size.saturating_add(1)));
    let mut members = Members::new(stream, limits.header);
    let mut layer = Layer::default();
    let result = layer.read(&mut members, limits, sink);
    if members.reader().count() > limits.size {
        return Err(ReadError::TooLarge { limit: limits.size }.into());
    }
    result?;
    let summary = drain(members.into_inner(), limits)?;
    let unlisted = std::mem::take(&mut layer.unlisted);
    let mut changeset = layer.into_changeset();
    sink.finish(&changeset)?;
    changeset.leave_out(&unlisted);
    Ok((changeset, summary))
}

fn drain<R: Read>(mut stream: Stream<R>, limits: &Limits) -> Result<TarSummary, ReadError> {
    io::copy(&mut stream, &mut io::sink()).map_err(ReadError::Input)?;
    let (_, digest, size) = stream.finish();
    if size > limits.size {
        return Err(ReadError::TooLarge { limit: limits.size });
    }
    Ok(TarSummary {
        diff_id: DiffId(digest),
        size,
    })
}

/// What a layer says so far. Every entry's parent is in it, as a directory.
#[derive(Default)]
struct Layer {
    changes: BTreeMap<ImagePath, Change>,
    /// Directories that are there for what is in them, and of which nothing is said. Some may have become something else since.
    unlisted: HashSet<ImagePath>,
    next_link: u64,
    /// What links say of the files they are names of, by their number, where that is something else than the file's entry says.
    described: HashMap<u64, Metadata>,
}

/// What the name of an entry means.
enum Meaning {
    Object(ImagePath),
    Whiteout(ImagePath),
    Opaque(ImagePath),
    /// aufs's own bookkeeping, which old layers have.
    Nothing,
}

impl Layer {
    fn read<R: Read, S: Sink>(
        &mut self,
        members: &mut Members<R>,
        limits: &Limits,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let mut entries = 0;
        while let Some(member) = members.next()? {
            entries += 1;
            if entries > limits.entries {
                return Err(ReadError::TooManyEntries {
                    limit: limits.entries,
                }
                .into());
            }
            check_holes(members, limits)?;
            match meaning(&member, limits)? {
                Meaning::Object(path) => self.object(path, member, members, sink)?,
                Meaning::Whiteout(path) => self.whiteout(path, sink)?,
                Meaning::Opaque(path) => self.opaque(path, sink)?,
                Meaning::Nothing => {}
            }
        }
        Ok(())
    }

    fn object<R: Read, S: Sink>(
        &mut self,
        path: ImagePath,
        member: Member,
        members: &mut Members<R>,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        if path.is_root() && member.kind != MemberKind::Directory {
            return Err(ReadError::Root.into());
        }
        self.ensure_parents(&path, sink)?;
        if member.kind == MemberKind::HardLink {
            let target = ImagePath::parse(&member.link).map_err(ReadError::from)?;
            return self.hard_link(path, target, node_of(member).metadata, sink);
        }
        let mut node = node_of(member);
        if node.is_directory() {
            self.unlisted.remove(&path);
            return self.directory(path, node, sink);
        }
        let mut content = Content {
            members,
            digester: Digester::new(),
        };
        sink.put(&path, &node, &mut content)?;
        let found = content
            .finish()
            .map_err(|error| ReadError::of_content(&path, error))?;
        if let Kind::File { digest, .. } = &mut node.kind {
            *digest = found;
        }
        self.forget_below(&path);
        self.changes.insert(path, Change::Put(node));
        Ok(())
    }

    /// Puts a directory: with a whiteout of its name before it, it hides what lower layers have in it.
    fn directory<S: Sink>(
        &mut self,
        path: ImagePath,
        node: Node,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        sink.put(&path, &node, &mut io::empty())?;
        let before = self.changes.get(&path);
        let opaque = matches!(before, Some(Change::Opaque(_)));
        let hides = matches!(before, Some(Change::Remove));
        let change = if opaque || hides {
            Change::Opaque(node)
        } else {
            Change::Put(node)
        };
        self.changes.insert(path.clone(), change);
        if hides {
            sink.opaque(&path, &|path| self.changes.contains_key(path))?;
        }
        Ok(())
    }

    fn hard_link<S: Sink>(
        &mut self,
        path: ImagePath,
        target: ImagePath,
        metadata: Metadata,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        if path == target && self.changes.contains_key(&path) {
            return Ok(());
        }
        let linked = match self.changes.get_mut(&target) {
            Some(Change::Put(node)) if !node.is_directory() && !target.starts_with(&path) => {
                if node.link.is_none() {
                    node.link = Some(self.next_link);
                    self.next_link += 1;
                }
                node.clone()
            }
            _ => return Err(ReadError::HardLink { path, target }.into()),
        };
        sink.link(&path, &target)?;
        self.forget_below(&path);
        self.changes.insert(path.clone(), Change::Put(linked));
        self.describe_names(&path, metadata, sink)
    }

    /// What the entry of a further name says counts for all of them. Attributes are those of the file: links are written without.
    fn describe_names<S: Sink>(
        &mut self,
        path: &ImagePath,
        mut metadata: Metadata,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let Some(Change::Put(node)) = self.changes.get(path) else {
            return Ok(());
        };
        let Some(link) = node.link else {
            return Ok(());
        };
        metadata.xattrs.clone_from(&node.metadata.xattrs);
        metadata.mode = node.kind.mode_in_layers(metadata.mode);
        if *self.described.get(&link).unwrap_or(&node.metadata) == metadata {
            return Ok(());
        }
        let node = Node {
            metadata,
            ..node.clone()
        };
        sink.describe(path, &node)?;
        self.described.insert(link, node.metadata);
        Ok(())
    }

    fn whiteout<S: Sink>(&mut self, path: ImagePath, sink: &mut S) -> Result<(), S::Error> {
        // Below what this layer removes as a whole there is nothing left to remove.
        if path
            .ancestors()
            .any(|above| self.changes.get(&above) == Some(&Change::Remove))
        {
            return Ok(());
        }
        self.ensure_parents(&path, sink)?;
        match self.changes.get(&path) {
            None => {
                sink.remove(&path)?;
                self.changes.insert(path, Change::Remove);
                Ok(())
            }
            Some(Change::Put(node)) if node.is_directory() => self.opaque(path, sink),
            Some(_) => Ok(()),
        }
    }

    fn opaque<S: Sink>(&mut self, path: ImagePath, sink: &mut S) -> Result<(), S::Error> {
        self.ensure_parents(&path, sink)?;
        if !path.is_root() {
            self.ensure_directory(&path, &path, sink)?;
        }
        let node = match self.changes.remove(&path) {
            Some(Change::Put(node) | Change::Opaque(node)) => node,
            Some(Change::Remove) | None => Node::directory(Metadata::directory()),
        };
        self.changes.insert(path.clone(), Change::Opaque(node));
        sink.opaque(&path, &|path| self.changes.contains_key(path))
    }

    /// Makes the parents of `path` that are not there yet.
    fn ensure_parents<S: Sink>(&mut self, path: &ImagePath, sink: &mut S) -> Result<(), S::Error> {
        let Some(parent) = path.parent().filter(|parent| !parent.is_root()) else {
            return Ok(());
        };
        // The usual case, without looking at each of them.
        if self.changes.get(&parent).is_some_and(is_directory) {
            return Ok(());
        }
        for above in path.ancestors() {
            self.ensure_directory(&above, path, sink)?;
        }
        Ok(())
    }

    fn ensure_directory<S: Sink>(
        &mut self,
        path: &ImagePath,
        wanted_by: &ImagePath,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        match self.changes.get(path) {
            Some(change) if is_directory(change) => Ok(()),
            Some(Change::Put(_) | Change::Opaque(_)) => Err(ReadError::NotADirectory {
                path: wanted_by.clone(),
                parent: path.clone(),
            }
            .into()),
            Some(Change::Remove) | None => {
                self.unlisted.insert(path.clone());
                self.directory(path.clone(), Node::directory(Metadata::directory()), sink)
            }
        }
    }

    /// Drops what was below `path`, which is a directory no more.
    fn forget_below(&mut self, path: &ImagePath) {
        if !self.changes.get(path).is_some_and(is_directory) {
            return;
        }
        let from = (std::ops::Bound::Excluded(path), std::ops::Bound::Unbounded);
        let below = self
            .changes
            .range::<ImagePath, _>(from)
            .map(|(below, _)| below);
        let gone: Vec<ImagePath> = below
            .take_while(|below| below.starts_with(path))
            .cloned()
            .collect();
        for path in gone {
            self.changes.remove(&path);
        }
    }

    fn into_changeset(self) -> Changeset {
        let mut changes = self.changes;
        for change in changes.values_mut() {
            if let Change::Put(node) = change
                && let Some(link) = node.link
                && let Some(metadata) = self.described.get(&link)
            {
                node.metadata = metadata.clone();
            }
        }
        number_links(changes.values_mut());
        changes.into_iter().collect()
    }
}

/// Gives groups of hard links the numbers 0, 1, 2 … in the order of their first names, and takes the number
/// from objects that have one name only, so that equal layers are equal changesets.
pub(crate) fn number_links<'a>(changes: impl Iterator<Item = &'a mut Change>) {
    let mut linked: Vec<&mut Option<u64>> = Vec::new();
    for change in changes {
        if let Change::Put(Node { link, .. }) = change
            && link.is_some()
        {
            linked.push(link);
        }
    }
    let mut names: HashMap<u64, u32> = HashMap::new();
    for link in linked.iter().filter_map(|link| link.as_ref()) {
        *names.entry(*link).or_default() += 1;
    }
    let mut numbers: HashMap<u64, u64> = HashMap::new();
    for link in linked {
        *link = link.filter(|link| names[link] > 1).map(|link| {
            let next = numbers.len() as u64;
            *numbers.entry(link).or_insert(next)
        });
    }
}

fn is_directory(change: &Change) -> bool {
    change.node().is_some_and(Node::is_directory)
}

/// Refuses files that are all holes, of which a short tar can have any number.
pub(super) fn check_holes<R: Read>(members: &Members<R>, limits: &Limits) -> Result<(), ReadError> {
    match members.holes() > limits.holes {
        true => Err(ReadError::TooLarge {
            limit: limits.holes,
        }),
        false => Ok(()),
    }
}

/// Refuses a name that is too long for any system.
pub(super) fn check_length(member: &Member, limits: &Limits) -> Result<(), ReadError> {
    if member.name.len() <= limits.name {
        return Ok(());
    }
    let start = String::from_utf8_lossy(&member.name[..limits.name.min(64)]).into_owned();
    Err(ReadError::NameTooLong {
        start,
        limit: limits.name,
    })
}

fn meaning(member: &Member, limits: &Limits) -> Result<Meaning, ReadError> {
    check_length(member, limits)?;
    let path = ImagePath::parse(&member.name)?;
    // What overlayfs would take for a whiteout is one for everybody.
    if member.kind == MemberKind::CharDevice && member.device == (0, 0) && !path.is_root() {
        return Ok(Meaning::Whiteout(path));
    }
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
        return Ok(Meaning::Object(path));
    };
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::Object(path)),
        Some(_) if name == OPAQUE => Ok(Meaning::Opaque(parent)),
        Some(removed) if removed.starts_with(WHITEOUT) => Ok(Meaning::Nothing),
        Some(b"" | b"." | b"..") => Err(ReadError::Whiteout { path }),
        Some(removed) => Ok(Meaning::Whiteout(parent.child(removed))),
    }
}

pub(super) fn node_of(member: Member) -> Node {
    let Member {
        mode,
        uid,
        gid,
        mtime,
        xattrs,
        size,
        device: (major, minor),
        ..
    } = member;
    let kind = match member.kind {
        MemberKind::Directory => Kind::Directory,
        MemberKind::File | MemberKind::HardLink => Kind::File {
            size,
            digest: UNKNOWN,
        },
        MemberKind::Symlink => Kind::Symlink {
            target: member.link,
        },
        MemberKind::CharDevice => Kind::CharDevice { major, minor },
        MemberKind::BlockDevice => Kind::BlockDevice { major, minor },
        MemberKind::Fifo => Kind::Fifo,
    };
    let metadata = Metadata {
        mode: kind.mode_in_layers(mode),
        uid,
        gid,
        mtime,
        xattrs,
    };
    Node::new(metadata, kind)
}

/// Stands where a file's digest isn't known yet.
pub(crate) const UNKNOWN: Digest = Digest::UNKNOWN;

/// The content of one file, hashed on its way to the sink.
struct Content<'a, R> {
    members: &'a mut Members<R>,
    digester: Digester,
}

impl<R: Read> Content<'_, R> {
    /// Reads what the sink left, and gives the digest of all of it.
    fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.digester.finish())
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.members.read(buffer)?;
        self.digester.update(&buffer[..read]);
        Ok(read)
    }
}
