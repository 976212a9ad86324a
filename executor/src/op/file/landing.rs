//! Where copied objects land, and with what metadata (R-COPY-10, R-COPY-11, R-COPY-16..18, R-COPY-26, R-COPY-28).

use std::collections::BTreeMap;

use kiln_image::{Change, Changeset, ImagePath, Kind, Metadata, Node, Timestamp, Tree};
use kiln_planner::{Chmod, CopyOp};

use super::copy::without_single_links;
use super::mkdir::inherit_group;
use super::{CopyError, CopyOutcome, Origin, Owner};

/// Mode of directories that have no model.
const DIRECTORY_MODE: u32 = 0o755;

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
        let puts: BTreeMap<ImagePath, (Node, Option<Origin>)> = self.puts.into_iter().collect();
        let mut origins: BTreeMap<ImagePath, Origin> = BTreeMap::new();
        let split = |(path, (node, origin)): (ImagePath, (Node, Option<Origin>))| {
            origins.extend(origin.map(|origin| (path.clone(), origin)));
            (path, Change::Put(node))
        };
        let mut changeset: Changeset = puts.into_iter().map(split).collect();
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

    /// The destination of an archive's content: a directory, made if it isn't there.
    pub(super) fn unpack_directory(&mut self) -> Result<ImagePath, CopyError> {
        self.make_destination()?;
        self.destination()
    }

    /// Makes the destination a directory if it isn't there.
    pub(super) fn make_destination(&mut self) -> Result<(), CopyError> {
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

    /// An archive's member: it replaces what is there, and its path may lead through links below the root.
    pub(super) fn member(
        &mut self,
        base: &ImagePath,
        member: &ImagePath,
        mut node: Node,
        origin: Option<Origin>,
    ) -> Result<(), CopyError> {
        let (Some(above), Some(name)) = (member.parent(), member.file_name()) else {
            return Ok(());
        };
        let above = self.tree.resolve(base, above.as_bytes(), true)?.path;
        self.own(&mut node.metadata);
        self.put(above.child(name), node, origin);
        Ok(())
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

    /// What a directory gets that isn't copied from one: an octal `--chmod` counts, a symbolic one doesn't (R-COPY-17).
    fn made_directory(&self, path: &ImagePath) -> Metadata {
        let mut metadata = Metadata::with_mode(DIRECTORY_MODE);
        inherit_group(&mut metadata, path, &self.tree);
        if let Some(Chmod::Octal(mode)) = &self.op.chmod {
            metadata.mode = *mode;
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
