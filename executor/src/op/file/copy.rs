//! COPY, and ADD of what is already at hand (R-COPY-6..33, R-ADD-3, R-ADD-4).

use std::collections::{BTreeMap, HashMap};

use kiln_image::tar::ArchiveMember;
use kiln_image::{Change, Changeset, ImagePath, Kind, Metadata, Node, NodeRef, Timestamp, Tree};
use kiln_planner::{CopyOp, CopySourceOp};

use super::filter::{Below, Filter};
use super::landing::Landing;
use super::source::{Match, SourceTree, has_wildcard};
use super::{CopyError, Owner, ReadFile, SourceTrees};

/// What is copied to.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// The root filesystem before the copy.
    pub tree: &'a Tree,
    /// Reads a file of that tree, for the names of `--chown` (R-COPY-23).
    pub read: &'a ReadFile<'a>,
    /// The time that directories nobody has a time for, and inline files, get.
    pub created: Timestamp,
}

/// What the archives among ADD's sources hold: by input and path, links followed, each with its members in order.
pub type Archives<'a> = BTreeMap<(usize, ImagePath), &'a [ArchiveMember]>;

/// What a copy does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOutcome {
    /// The layer, in the form layers are written in: parents are there, what changes nothing isn't.
    pub changeset: Changeset,
    /// Where the content of every regular file in the changeset comes from.
    pub origins: BTreeMap<ImagePath, Origin>,
}

/// Where a file's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a tree that was copied from.
    Input {
        /// The operation's input.
        input: usize,
        /// The file, links followed.
        path: ImagePath,
    },
    /// In an archive that was unpacked.
    Archive {
        /// The operation's input.
        input: usize,
        /// The archive, links followed.
        archive: ImagePath,
        /// Where it starts among the contents of the archive, in bytes.
        content: u64,
    },
    /// Here.
    Inline(Vec<u8>),
}

/// What one match of a source brings.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    /// An object that isn't a directory.
    Leaf {
        name: Vec<u8>,
        path: ImagePath,
        node: NodeRef<'a>,
    },
    /// A directory and what is copied from below it, by relative path. `merge` is whether the destination takes its time.
    Directory {
        path: ImagePath,
        node: NodeRef<'a>,
        entries: Vec<Below<'a>>,
        merge: bool,
    },
}

/// Decides what a copy does. `archives` is empty unless ADD unpacks (R-ADD-2): the caller tells archives by content.
pub fn copy(
    op: &CopyOp,
    trees: &SourceTrees<'_>,
    archives: &Archives<'_>,
    destination: &Destination<'_>,
) -> Result<CopyOutcome, CopyError> {
    let owner = match &op.chown {
        Some(chown) if op.link || destination.tree.is_empty() => Some(Owner::numeric(chown)?),
        Some(chown) => Some(Owner::lookup(chown, destination.tree, destination.read)?),
        None => None,
    };
    let empty = Tree::new();
    let lower = if op.link { &empty } else { destination.tree };
    let mut landing = Landing::new(op, owner, lower, destination.created);
    let mut links = Links::default();
    for (source_index, source) in op.sources.iter().enumerate() {
        match source {
            CopySourceOp::Inline { name, content, .. } => land_inline(&mut landing, name, content)?,
            CopySourceOp::Path { input, .. } => {
                let tree = trees
                    .get(input)
                    .ok_or(CopyError::MissingInput { input: *input })?;
                links.next_source();
                for piece in pieces(op, source_index, source, trees)? {
                    if !op.parents {
                        // Each match of a wildcard is a copy of its own.
                        links.next_source();
                    }
                    let from = Source {
                        input: *input,
                        tree,
                        archives,
                    };
                    land(&mut landing, &mut links, &from, piece)?;
                }
            }
        }
    }
    Ok(landing.finish(lower))
}

/// What an archive is once it is unpacked where nothing was, as ADD does it (R-ADD-4): the tree, and where the contents of its
/// regular files start, in bytes. Directories that the archive does not mention are as old as can be.
pub fn unpacked(members: &[ArchiveMember]) -> Result<(Tree, HashMap<ImagePath, u64>), CopyError> {
    let nowhere = ImagePath::root();
    let op = CopyOp {
        sources: Vec::new(),
        dest: "/".to_owned(),
        dest_is_dir: true,
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
        add: true,
    };
    let empty = Tree::new();
    let mut landing = Landing::new(&op, None, &empty, Timestamp::from_secs(0));
    land_archive(&mut landing, &mut Links::default(), 0, &nowhere, members)?;
    let outcome = landing.finish(&empty);
    let start = |(path, origin)| match origin {
        Origin::Archive { content, .. } => Some((path, content)),
        Origin::Input { .. } | Origin::Inline(_) => None,
    };
    let starts = outcome.origins.into_iter().filter_map(start).collect();
    Ok((Tree::of(&outcome.changeset), starts))
}

/// What a path source brings, in order.
pub(super) fn pieces<'a>(
    op: &CopyOp,
    source_index: usize,
    source: &CopySourceOp,
    trees: &SourceTrees<'a>,
) -> Result<Vec<Piece<'a>>, CopyError> {
    let CopySourceOp::Path {
        input, path, pivot, ..
    } = source
    else {
        return Ok(Vec::new());
    };
    let tree = trees
        .get(input)
        .ok_or(CopyError::MissingInput { input: *input })?;
    let filter = Filter::excluding(&op.exclude)?;
    if op.parents {
        return with_parents(tree, source_index, path, pivot, filter);
    }
    Ok(tree
        .expand(source_index, path)?
        .into_iter()
        .map(|found| piece(found, &filter))
        .collect())
}

/// What a match brings. The destination takes the time of a directory, but not that of a whole tree, which has none.
fn piece<'a>(found: Match<'a>, filter: &Filter) -> Piece<'a> {
    let Match { name, path, node } = found;
    match node.directory {
        None => Piece::Leaf { name, path, node },
        Some(_) => Piece::Directory {
            merge: !path.is_root(),
            entries: filter.entries(node),
            path,
            node,
        },
    }
}

/// `--parents` copies the pivot directory, but only what the source names below it (R-COPY-31, R-COPY-33).
fn with_parents<'a>(
    tree: &SourceTree<'a>,
    source_index: usize,
    path: &str,
    pivot: &str,
    filter: Filter,
) -> Result<Vec<Piece<'a>>, CopyError> {
    let below = path
        .strip_prefix(pivot)
        .unwrap_or(path)
        .trim_start_matches('/');
    let bad_pattern = || CopyError::BadPattern {
        source_index,
        pattern: path.to_owned(),
    };
    let filter = filter.only(below, bad_pattern)?;
    let pieces: Vec<Piece<'a>> = tree
        .expand(source_index, pivot)?
        .into_iter()
        .map(|found| piece(found, &filter))
        .collect();
    let wanted = ImagePath::clean(below.as_bytes());
    let found = |piece: &Piece<'_>| match piece {
        Piece::Directory { entries, .. } => entries.iter().any(|below| below.path == wanted),
        Piece::Leaf { .. } => false,
    };
    if has_wildcard(path) || pieces.iter().any(found) {
        return Ok(pieces);
    }
    Err(CopyError::NotFound {
        source_index,
        path: path.to_owned(),
    })
}

/// What the pieces of one source have in common.
struct Source<'a> {
    input: usize,
    tree: &'a SourceTree<'a>,
    archives: &'a Archives<'a>,
}

fn land_inline(landing: &mut Landing<'_>, name: &str, content: &[u8]) -> Result<(), CopyError> {
    let mut node = Node::file(content);
    node.metadata.mtime = landing.created;
    landing.leaf(
        name.as_bytes(),
        node,
        Some(Origin::Inline(content.to_vec())),
    )
}

fn land(
    landing: &mut Landing<'_>,
    links: &mut Links,
    from: &Source<'_>,
    piece: Piece<'_>,
) -> Result<(), CopyError> {
    match piece {
        Piece::Leaf { name, path, node } => match from.archives.get(&(from.input, path.clone())) {
            Some(members) => land_archive(landing, links, from.input, &path, members),
            None => {
                let origin = from.origin(node, &path);
                let node = from.node(node, links);
                landing.leaf(&name, node, origin)
            }
        },
        Piece::Directory {
            path,
            node,
            entries,
            merge,
        } => {
            let base = landing.directory(merge.then_some(node.metadata.mtime))?;
            for below in entries {
                let origin = from.origin(below.node, &path.join(&below.path));
                let node = from.node(below.node, links);
                let target = base.join(&below.path);
                match below.is_asked {
                    true => landing.nested(target, node, origin)?,
                    false => landing.passed_through(target, node)?,
                }
            }
            Ok(())
        }
    }
}

/// An archive's members replace what is there, each as it comes; `--chmod` has no effect on them (R-ADD-3, R-ADD-4).
fn land_archive(
    landing: &mut Landing<'_>,
    links: &mut Links,
    input: usize,
    archive: &ImagePath,
    members: &[ArchiveMember],
) -> Result<(), CopyError> {
    links.next_source();
    let base = landing.unpack_directory()?;
    for member in members {
        let origin = || Origin::Archive {
            input,
            archive: archive.clone(),
            content: member.content,
        };
        let origin = matches!(member.node.kind, Kind::File { .. }).then(origin);
        let mut metadata = member.node.metadata.clone();
        // As BuildKit does: no file is older than 1970.
        if metadata.mtime.secs < 0 {
            metadata.mtime = Timestamp::from_secs(0);
        }
        let node = Node {
            metadata,
            kind: member.node.kind.clone(),
            link: member.node.link.map(|link| links.renumbered(link, 0)),
        };
        landing.member(&base, &member.path, node, origin)?;
    }
    Ok(())
}

impl Source<'_> {
    fn origin(&self, node: NodeRef<'_>, path: &ImagePath) -> Option<Origin> {
        let is_file = matches!(node.kind, Kind::File { .. });
        is_file.then(|| Origin::Input {
            input: self.input,
            path: path.clone(),
        })
    }

    fn node(&self, node: NodeRef<'_>, links: &mut Links) -> Node {
        let metadata: Metadata = self.tree.metadata(node);
        // Of other objects a copy has one by each name.
        let is_file = matches!(node.kind, Kind::File { .. });
        let link = node.link.filter(|_| is_file);
        Node {
            metadata,
            kind: node.kind.clone(),
            link: link.map(|link| links.renumbered(link, node.layer)),
        }
    }
}

/// Hard link groups of the sources' layers, numbered anew for the layer that is made (R-COPY-19).
#[derive(Debug, Default)]
struct Links {
    sources: u64,
    numbers: HashMap<(u64, u32, u64), u64>,
}

impl Links {
    /// Files of another source, of another match, or of an archive, are never names of one file with those before.
    fn next_source(&mut self) {
        self.sources += 1;
    }

    fn renumbered(&mut self, link: u64, layer: u32) -> u64 {
        let next = self.numbers.len() as u64;
        let group = (self.sources, layer, link);
        *self.numbers.entry(group).or_insert(next)
    }
}

/// Drops the numbers of objects that turned out to have one name only.
pub(super) fn without_single_links(changeset: Changeset) -> Changeset {
    let link_of = |change: &Change| change.node()?.link;
    let mut names: HashMap<u64, usize> = HashMap::new();
    for link in changeset.iter().filter_map(|(_, change)| link_of(change)) {
        *names.entry(link).or_default() += 1;
    }
    if names.is_empty() {
        return changeset;
    }
    let single = |mut change: Change| {
        if let Change::Put(Node { link, .. }) = &mut change {
            *link = link.filter(|link| names.get(link).is_some_and(|names| *names > 1));
        }
        change
    };
    changeset
        .into_iter()
        .map(|(path, change)| (path, single(change)))
        .collect()
}

#[cfg(test)]
mod tests;
