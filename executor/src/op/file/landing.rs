//! Where copied objects land, and with what metadata (R-COPY-10, R-COPY-11, R-COPY-16..18, R-COPY-26, R-COPY-28).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use kiln_image::{Change, Changeset, ImagePath, Kind, Metadata, Node, Timestamp, Tree};
use kiln_planner::{Chmod, CopyOp};

use super::copy::without_single_links;
use super::mkdir::inherit_group;
use super::{CopyError, CopyOutcome, Origin, Owner};

/// What of a `--chmod` made directories take: no setuid, setgid or sticky bit.
const PERMISSIONS: u32 = 0o777;

/// Mode of directories that have no model.
const DIRECTORY_MODE: u32 = 0o755;

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// A destination that fills up: each source sees what the ones before it left.
#[derive(Debug)]
pub(super) struct Landing<'a> {
    op: &'a CopyOp,
    owner: Option<Owner>,
    tree: Tree,
    /// In order; the last one at a path counts.
    puts: Vec<(ImagePath, (Node, Option<Origin>))>,
    /// The time of what has none of its own.
    pub(super) created: Timestamp,
}

impl<'a> Landing<'a> {
    pub(super) fn new(
        op: &'a CopyOp,
        owner: Option<Owner>,
        lower: &Tree,
        created: Timestamp,
    ) -> Self {
        Self {
            op,
            owner,
            tree: lower.clone(),
            puts: Vec::new(),
            created,
        }
    }

    /// The layer: normalised over `lower`.
    pub(super) fn finish(self, lower: &Tree) -> CopyOutcome {
        let Self { tree, puts, .. } = self;
        drop(tree);
        let puts = in_place(puts);
        let mut origins: Vec<(ImagePath, Origin)> = Vec::new();
        let split = |(path, (node, origin)): (ImagePath, (Node, Option<Origin>))| {
            origins.extend(origin.map(|origin| (path.clone(), origin)));
            (path, Change::Put(node))
        };
        let mut changeset: Changeset = puts.into_iter().map(split).collect();
        let mut origins: BTreeMap<ImagePath, Origin> = origins.into_iter().collect();
        changeset.normalise(lower);
        let changeset = without_single_links(changeset);
        // Both are in order, so one pass finds what was dropped.
        let mut kept = changeset.iter().map(|(path, _)| path).peekable();
        origins.retain(|path, _| {
            while kept.next_if(|kept| *kept < path).is_some() {}
            kept.peek() == Some(&path)
        });
        CopyOutcome { changeset, origins }
    }

    /// A named object: into the destination if that is a directory, else in its place.
    pub(super) fn leaf(
        &mut self,
        name: &[u8],
        node: Node,
        origin: Option<Origin>,
    ) -> Result<(), CopyError> {
        if self.op.dest_is_dir {
            self.make_destination()?;
        }
        let dest = self.destination()?;
        let is_directory = self.tree.directory(&dest).is_some();
        let target = if is_directory { dest.child(name) } else { dest };
        self.make_parents(&target)?;
        self.nested(target, node, origin)
    }

    /// The destination as a directory that another one's content is copied into. It takes that one's time.
    pub(super) fn directory(&mut self, mtime: Option<Timestamp>) -> Result<ImagePath, CopyError> {
        let dest = self.destination()?;
        let existing = self
            .tree
            .lookup(&dest)
            .map(|node| (node.kind.is_directory(), node.metadata.clone()));
        let mut metadata = match existing {
            Some((true, metadata)) => metadata,
            Some((false, _)) => return Err(CopyError::ToNonDirectory { path: dest }),
            None => {
                self.make_parents(&dest)?;
                self.made_directory(&dest)
            }
        };
        metadata.mtime = mtime.unwrap_or(metadata.mtime);
        self.put(dest.clone(), Node::directory(metadata), None);
        Ok(dest)
    }

    /// The destination of an archive's content: a directory, made 0755 if it isn't there, whatever `--chmod` says
    /// (R-ADD-3).
    pub(super) fn unpack_directory(&mut self) -> Result<ImagePath, CopyError> {
        let dest = self.destination()?;
        for place in dest.ancestors().chain([dest.clone()]) {
            match self.tree.lookup(&place) {
                Some(node) if node.kind.is_directory() => {}
                Some(_) => return Err(CopyError::DestinationNotDirectory { path: place }),
                None => {
                    let owner = self.owner;
                    self.plain_directory(place, owner);
                }
            }
        }
        Ok(dest)
    }

    /// Makes the destination a directory if it isn't there.
    fn make_destination(&mut self) -> Result<(), CopyError> {
        let dest = self.destination()?;
        match self.tree.lookup(&dest) {
            Some(node) if !node.kind.is_directory() => {
                Err(CopyError::DestinationNotDirectory { path: dest })
            }
            Some(_) => Ok(()),
            None => {
                self.make_parents(&dest)?;
                let node = Node::directory(self.made_directory(&dest));
                self.put(dest, node, None);
                Ok(())
            }
        }
    }

    /// An object at exactly `target`, whose directory is there. Neither a directory nor anything else gives way to the other.
    pub(super) fn nested(
        &mut self,
        target: ImagePath,
        node: Node,
        origin: Option<Origin>,
    ) -> Result<(), CopyError> {
        let was_directory = self
            .tree
            .lookup(&target)
            .map(|existing| existing.kind.is_directory());
        match (node.is_directory(), was_directory) {
            (true, Some(false)) => Err(CopyError::ToNonDirectory { path: target }),
            (false, Some(true)) => Err(CopyError::ReplaceDirectory { path: target }),
            _ => {
                let node = self.with_flags(node);
                self.put(target, node, origin);
                Ok(())
            }
        }
    }

    /// A directory that is not copied itself, but something below it: where there is one it keeps its owner and its time.
    pub(super) fn passed_through(
        &mut self,
        target: ImagePath,
        node: Node,
    ) -> Result<(), CopyError> {
        let existing = self.tree.directory(&target);
        let Some(mut metadata) = existing.map(|existing| existing.metadata.clone()) else {
            return self.nested(target, node, None);
        };
        metadata.mode = node.metadata.mode;
        self.put(target, Node::directory(metadata), None);
        Ok(())
    }

    /// An archive's member: it replaces what is there, but a directory keeps what is in it.
    pub(super) fn member(
        &mut self,
        base: &ImagePath,
        member: &ImagePath,
        mut node: Node,
        origin: Option<Origin>,
    ) -> Result<(), CopyError> {
        // The root of an archive says nothing about the destination.
        let (Some(above), Some(name)) = (member.parent(), member.file_name()) else {
            return Ok(());
        };
        let above = self.directory_below(base, &above, member)?;
        self.own(&mut node.metadata);
        self.put(above.child(name), node, origin);
        Ok(())
    }

    /// The directory that a member is in. Links on the way are followed, with `base` as their root: no archive gets out of
    /// where it is unpacked. Directories that no member made are made, but not what a link only promises.
    fn directory_below(
        &mut self,
        base: &ImagePath,
        above: &ImagePath,
        member: &ImagePath,
    ) -> Result<ImagePath, CopyError> {
        let usual = base.join(above);
        if self.tree.directory(&usual).is_some() {
            return Ok(usual);
        }
        let refused = || CopyError::MemberPlace {
            member: member.clone(),
        };
        let mut at = ImagePath::root();
        let parts = above.components().map(|part| (part.to_vec(), false));
        let mut pending: VecDeque<(Vec<u8>, bool)> = parts.collect();
        let mut links = 0;
        while let Some((part, of_link)) = pending.pop_front() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    at = at.parent().unwrap_or(at);
                    continue;
                }
                _ => {}
            }
            let below = at.child(&part);
            let place = base.join(&below);
            match self.tree.lookup(&place).map(|node| node.kind) {
                Some(Kind::Directory) => at = below,
                Some(Kind::Symlink { target }) if links < MOST_LINKS => {
                    links += 1;
                    if target.starts_with(b"/") {
                        at = ImagePath::root();
                    }
                    let parts = target.split(|&byte| byte == b'/').rev();
                    parts.for_each(|part| pending.push_front((part.to_vec(), true)));
                }
                None if !of_link => {
                    // Whoever unpacks it makes it: `--chown` is for the members.
                    self.plain_directory(place, None);
                    at = below;
                }
                _ => return Err(refused()),
            }
        }
        Ok(base.join(&at))
    }

    fn plain_directory(&mut self, path: ImagePath, owner: Option<Owner>) {
        let mut metadata = Metadata::with_mode(DIRECTORY_MODE);
        inherit_group(&mut metadata, &path, &self.tree);
        metadata.mtime = self.created;
        if let Some(owner) = owner {
            (metadata.uid, metadata.gid) = (owner.uid, owner.gid);
        }
        self.put(path, Node::directory(metadata), None);
    }

    fn destination(&self) -> Result<ImagePath, CopyError> {
        Ok(self
            .tree
            .resolve(&ImagePath::root(), self.op.dest.as_bytes(), true)?
            .path)
    }

    fn make_parents(&mut self, path: &ImagePath) -> Result<(), CopyError> {
        for above in path.ancestors() {
            match self.tree.lookup(&above) {
                Some(node) if node.kind.is_directory() => {}
                Some(_) => return Err(CopyError::DestinationNotDirectory { path: above }),
                None => {
                    let node = Node::directory(self.made_directory(&above));
                    self.put(above, node, None);
                }
            }
        }
        Ok(())
    }

    /// What a directory gets that isn't copied from one: the permission bits of an octal `--chmod` count, a symbolic one doesn't
    /// (R-COPY-17).
    fn made_directory(&self, path: &ImagePath) -> Metadata {
        let mut metadata = Metadata::with_mode(DIRECTORY_MODE);
        inherit_group(&mut metadata, path, &self.tree);
        if let Some(Chmod::Octal(mode)) = &self.op.chmod {
            metadata.mode = *mode & PERMISSIONS;
        }
        metadata.mtime = self.created;
        self.own(&mut metadata);
        metadata
    }

    fn with_flags(&self, mut node: Node) -> Node {
        self.own(&mut node.metadata);
        let is_link = matches!(node.kind, Kind::Symlink { .. });
        if let Some(chmod) = self.op.chmod.as_ref().filter(|_| !is_link) {
            node.metadata.mode = chmod.apply(node.metadata.mode, node.is_directory());
        }
        node
    }

    fn own(&self, metadata: &mut Metadata) {
        if let Some(Owner { uid, gid }) = self.owner {
            (metadata.uid, metadata.gid) = (uid, gid);
        }
    }

    fn put(&mut self, path: ImagePath, node: Node, origin: Option<Origin>) {
        self.tree.put(0, &path, node.clone());
        self.puts.push((path, (node, origin)));
    }
}

/// What is where in the end: the last one at each path, and nothing below what became something else than a directory.
fn in_place(
    puts: Vec<(ImagePath, (Node, Option<Origin>))>,
) -> Vec<(ImagePath, (Node, Option<Origin>))> {
    // As it is with one source: each object comes once, after its directory.
    if puts.is_sorted_by(|(one, _), (next, _)| one < next) {
        return puts;
    }
    let mut placed: BTreeMap<ImagePath, (Node, Option<Origin>)> = BTreeMap::new();
    for (path, put) in puts {
        // The directory itself may be one of the layer below.
        if !put.0.is_directory() {
            let after = (Bound::Excluded(&path), Bound::Unbounded);
            let below = placed.range::<ImagePath, _>(after).map(|(below, _)| below);
            let gone: Vec<ImagePath> = below
                .take_while(|below| below.starts_with(&path))
                .cloned()
                .collect();
            for path in gone {
                placed.remove(&path);
            }
        }
        placed.insert(path, put);
    }
    placed.into_iter().collect()
}
