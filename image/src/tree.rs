//! A root filesystem as a value: all layers applied, every object with the layer that put it there.
//!
//! Directories are shared between clones and copied when written to, so that each step of a build can have its own
//! tree. Paths are resolved here as the kernel would inside a chroot, so no path of an image is ever handed to
//! the host's resolver.

mod compare;
pub(crate) mod content;
mod resolve;

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;

use crate::{Change, Changeset, Digest, ImagePath, Kind, Metadata, Node};

pub use compare::{Aspect, Difference};
pub use resolve::{ResolveError, Resolved};

/// A merged file tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    root: Arc<Directory>,
}

/// A directory with all that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Mode, owner, time, attributes.
    pub metadata: Metadata,
    /// Index of the layer that last described this directory.
    pub layer: u32,
    /// What is in it, by name.
    pub entries: BTreeMap<Vec<u8>, Entry>,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory(Arc<Directory>),
    /// Anything else.
    Leaf(Leaf),
}

/// An object that isn't a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The object.
    pub node: Arc<Node>,
    /// Index of the layer that put it there, where its content can be found under the same path.
    pub layer: u32,
}

/// An object of a tree, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct NodeRef<'a> {
    /// Mode, owner, time, attributes.
    pub metadata: &'a Metadata,
    /// What it is.
    pub kind: &'a Kind,
    /// The number of its group of hard links, which counts among objects of the same layer.
    pub link: Option<u64>,
    /// Index of the layer that last put it there.
    pub layer: u32,
    /// What is in it, if it is a directory.
    pub directory: Option<&'a Directory>,
}

static DIRECTORY: Kind = Kind::Directory;

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// An empty root directory, 0755, owned by root.
    pub fn new() -> Self {
        Self {
            root: Arc::new(Directory::implied(0)),
        }
    }

    /// The tree of one changeset alone, as layer 0.
    pub fn of(changeset: &Changeset) -> Self {
        let put = |(path, change): (_, &Change)| Some((path, change.node()?.clone()));
        Self::of_sorted(changeset.iter().filter_map(put))
    }

    /// The tree of objects that come in the order of paths, as layer 0. Directories that are not among them but
    /// needed are made 0755, owned by root.
    pub fn of_sorted<'p>(objects: impl IntoIterator<Item = (&'p ImagePath, Node)>) -> Self {
        let mut objects = objects.into_iter().peekable();
        let mut root = Directory::implied(0);
        if let Some((_, node)) = objects.next_if(|(path, _)| path.is_root()) {
            root.metadata = node.metadata;
        }
        root.entries = entries_below(&mut objects, &[]);
        Self {
            root: Arc::new(root),
        }
    }

    /// Applies a layer. `layer` is its index, remembered with every object it puts. Directories that the
    /// changeset doesn't describe but needs stay as they are; new ones are 0755, owned by root. A removal needs those that it
    /// is in, too: whoever unpacks the layer has to make them for the whiteout.
    pub fn apply(&mut self, layer: u32, changeset: &Changeset) {
        for (path, change) in changeset {
            if *change == Change::Remove
                && let Some(parent) = path.parent()
            {
                made_below(Arc::make_mut(&mut self.root), layer, &parent);
            }
            self.change(layer, path, change);
        }
    }

    /// Applies a single change; see [`Tree::apply`]. To remove what isn't there changes nothing.
    pub fn change(&mut self, layer: u32, path: &ImagePath, change: &Change) {
        let root = Arc::make_mut(&mut self.root);
        match (path.file_name(), path.parent()) {
            (Some(name), Some(parent)) => apply_at(root, layer, &parent, name, change),
            _ => root.redescribe(layer, change),
        }
    }

    /// Puts one object in place, as a change of its own.
    pub fn put(&mut self, layer: u32, path: &ImagePath, node: Node) {
        self.change(layer, path, &Change::Put(node));
    }

    /// Says what the content of the regular file at `path` is; nothing if there is none.
    pub fn set_digest(&mut self, path: &ImagePath, known: Digest) {
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return;
        };
        let directory = Arc::make_mut(&mut self.root).existing_below(&parent);
        if let Some(Entry::Leaf(leaf)) = directory.and_then(|found| found.entries.get_mut(name))
            && let Kind::File { digest, .. } = &mut Arc::make_mut(&mut leaf.node).kind
        {
            *digest = known;
        }
    }

    /// The object at `path`; no link is followed.
    pub fn lookup(&self, path: &ImagePath) -> Option<NodeRef<'_>> {
        let mut found = NodeRef::of_directory(&self.root);
        for name in path.components() {
            found = found.directory?.entry(name)?;
        }
        Some(found)
    }

    /// The directory at `path`, if there is one; no link is followed.
    pub fn directory(&self, path: &ImagePath) -> Option<&Directory> {
        self.lookup(path)?.directory
    }

    /// The root directory.
    pub fn root(&self) -> &Directory {
        &self.root
    }

    /// Whether there is nothing in the root directory.
    pub fn is_empty(&self) -> bool {
        self.root.entries.is_empty()
    }

    /// The object at `path` and all below it, in the order of a layer's entries (R-LAY-2).
    pub fn walk(&self, path: &ImagePath) -> Walk<'_> {
        let start = self.lookup(path).map(|node| (path.clone(), node));
        Walk {
            pending: start.into_iter().collect(),
        }
    }

    /// The whole tree but its root as a changeset that makes it from nothing.
    pub fn to_changeset(&self) -> Changeset {
        let below = self
            .walk(&ImagePath::root())
            .filter(|(path, _)| !path.is_root());
        below
            .map(|(path, node)| (path, Change::Put(node.node())))
            .collect()
    }
}

/// Takes the objects below `at` from the front. Deep trees are as deep as the kernel's longest path at most.
fn entries_below<'p, I: Iterator<Item = (&'p ImagePath, Node)>>(
    objects: &mut Peekable<I>,
    at: &[u8],
) -> BTreeMap<Vec<u8>, Entry> {
    let mut entries = Vec::new();
    while let Some((path, _)) = objects.peek()
        && let path = path.as_bytes()
        && let Some(below) = below(path, at)
    {
        let name = below.split(|&byte| byte == b'/').next().unwrap_or(below);
        let is_itself = |(next, _): &(&ImagePath, Node)| next.as_bytes() == path;
        let object = match name.len() == below.len() {
            true => objects.next_if(is_itself).map(|(_, node)| node),
            false => None,
        };
        let entry = match object {
            Some(node) if !node.is_directory() => Entry::Leaf(Leaf {
                node: Arc::new(node),
                layer: 0,
            }),
            directory => {
                let at = &path[..path.len() - below.len() + name.len()];
                let metadata = directory.map_or_else(Metadata::directory, |node| node.metadata);
                Entry::Directory(Arc::new(Directory {
                    metadata,
                    layer: 0,
                    entries: entries_below(objects, at),
                }))
            }
        };
        entries.push((name.to_vec(), entry));
    }
    entries.into_iter().collect()
}

/// The rest of `path` below the directory `at`.
fn below<'p>(path: &'p [u8], at: &[u8]) -> Option<&'p [u8]> {
    match (path.strip_prefix(at)?, at) {
        ([], _) => None,
        (rest, []) => Some(rest),
        (rest, _) => rest.strip_prefix(b"/"),
    }
}

fn apply_at(root: &mut Directory, layer: u32, parent: &ImagePath, name: &[u8], change: &Change) {
    if *change == Change::Remove {
        if let Some(directory) = root.existing_below(parent) {
            directory.entries.remove(name);
        }
        return;
    }
    made_below(root, layer, parent).apply(name, layer, change);
}

/// The directory at `path`, made with those above it as far as they aren't there.
fn made_below<'d>(root: &'d mut Directory, layer: u32, path: &ImagePath) -> &'d mut Directory {
    let mut directory = root;
    for component in path.components() {
        directory = directory.made_below(component, layer);
    }
    directory
}

impl Directory {
    fn implied(layer: u32) -> Self {
        Self {
            metadata: Metadata::directory(),
            layer,
            entries: BTreeMap::new(),
        }
    }

    /// The object with this name.
    pub fn entry(&self, name: &[u8]) -> Option<NodeRef<'_>> {
        self.entries.get(name).map(NodeRef::of)
    }

    /// All objects by name.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], NodeRef<'_>)> {
        self.entries
            .iter()
            .map(|(name, entry)| (name.as_slice(), NodeRef::of(entry)))
    }

    fn existing_below(&mut self, path: &ImagePath) -> Option<&mut Directory> {
        let mut directory = self;
        for name in path.components() {
            match directory.entries.get_mut(name)? {
                Entry::Directory(below) => directory = Arc::make_mut(below),
                Entry::Leaf(_) => return None,
            }
        }
        Some(directory)
    }

    /// The directory `name`, made if it isn't there; another kind of object gives way.
    fn made_below(&mut self, name: &[u8], layer: u32) -> &mut Directory {
        if !matches!(self.entries.get(name), Some(Entry::Directory(_))) {
            let made = Entry::Directory(Arc::new(Self::implied(layer)));
            self.entries.insert(name.to_vec(), made);
        }
        match self.entries.get_mut(name) {
            Some(Entry::Directory(directory)) => Arc::make_mut(directory),
            _ => unreachable!("the directory was there or has just been made"),
        }
    }

    fn apply(&mut self, name: &[u8], layer: u32, change: &Change) {
        match change {
            Change::Remove => {
                self.entries.remove(name);
            }
            Change::Put(node) if !node.is_directory() => {
                let leaf = Leaf {
                    node: Arc::new(node.clone()),
                    layer,
                };
                self.entries.insert(name.to_vec(), Entry::Leaf(leaf));
            }
            Change::Put(_) | Change::Opaque(_) => {
                self.made_below(name, layer).redescribe(layer, change);
            }
        }
    }

    fn redescribe(&mut self, layer: u32, change: &Change) {
        if let Change::Opaque(_) | Change::Remove = change {
            self.entries.clear();
        }
        if let Some(node) = change.node() {
            self.metadata = node.metadata.clone();
            self.layer = layer;
        }
    }
}

impl Entry {
    /// The directory this is, if it is one.
    pub fn as_directory(&self) -> Option<&Directory> {
        match self {
            Self::Directory(directory) => Some(directory),
            Self::Leaf(_) => None,
        }
    }
}

impl<'a> NodeRef<'a> {
    fn of(entry: &'a Entry) -> Self {
        match entry {
            Entry::Directory(directory) => Self::of_directory(directory),
            Entry::Leaf(leaf) => Self {
                metadata: &leaf.node.metadata,
                kind: &leaf.node.kind,
                link: leaf.node.link,
                layer: leaf.layer,
                directory: None,
            },
        }
    }

    /// The same object with other metadata.
    #[must_use]
    pub fn with_metadata<'b>(self, metadata: &'b Metadata) -> NodeRef<'b>
    where
        'a: 'b,
    {
        NodeRef { metadata, ..self }
    }

    fn of_directory(directory: &'a Directory) -> Self {
        let Directory {
            metadata, layer, ..
        } = directory;
        Self {
            metadata,
            kind: &DIRECTORY,
            link: None,
            layer: *layer,
            directory: Some(directory),
        }
    }

    /// A copy of the object.
    pub fn node(&self) -> Node {
        Node {
            metadata: self.metadata.clone(),
            kind: self.kind.clone(),
            link: self.link,
        }
    }
}

/// Iterator of [`Tree::walk`].
#[derive(Debug)]
pub struct Walk<'a> {
    pending: Vec<(ImagePath, NodeRef<'a>)>,
}

impl<'a> Iterator for Walk<'a> {
    type Item = (ImagePath, NodeRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (path, node) = self.pending.pop()?;
        if let Some(directory) = node.directory {
            let below = directory
                .iter()
                .rev()
                .map(|(name, node)| (path.child(name), node));
            self.pending.extend(below);
        }
        Some((path, node))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn path(text: &str) -> ImagePath {
        ImagePath::clean(text.as_bytes())
    }

    fn directory() -> Change {
        Change::Put(Node::directory(Metadata::directory()))
    }

    fn file() -> Change {
        Change::Put(Node::file(b""))
    }

    /// `d/a d/b d/s/x f`, as layer 0.
    fn lower() -> Tree {
        let changes = [
            ("d", directory()),
            ("d/a", file()),
            ("d/b", file()),
            ("d/s", directory()),
            ("d/s/x", file()),
            ("f", file()),
        ];
        Tree::of(
            &changes
                .into_iter()
                .map(|(name, change)| (path(name), change))
                .collect(),
        )
    }

    fn listing(tree: &Tree) -> Vec<String> {
        let below = tree.walk(&ImagePath::root()).skip(1);
        below
            .map(|(path, node)| format!("{path}:{}", node.layer))
            .collect()
    }

    #[test]
    fn layers_apply() {
        type Case<'a> = (&'a str, &'a [(&'a str, Change)], &'a [&'a str]);
        let cases: [Case<'_>; 10] = [
            (
                "nothing",
                &[],
                &["d:0", "d/a:0", "d/b:0", "d/s:0", "d/s/x:0", "f:0"],
            ),
            (
                "remove a file",
                &[("d/a", Change::Remove)],
                &["d:0", "d/b:0", "d/s:0", "d/s/x:0", "f:0"],
            ),
            ("remove a directory", &[("d", Change::Remove)], &["f:0"]),
            (
                "remove what isn't there",
                &[("x", Change::Remove), ("d/s/y", Change::Remove)],
                &["d:0", "d/a:0", "d/b:0", "d/s:0", "d/s/x:0", "f:0"],
            ),
            // An unpacked layer has them, for its whiteouts.
            (
                "remove from directories that aren't there",
                &[("n/m/y", Change::Remove), ("f/z", Change::Remove)],
                &[
                    "d:0", "d/a:0", "d/b:0", "d/s:0", "d/s/x:0", "f:1", "n:1", "n/m:1",
                ],
            ),
            (
                "merge",
                &[("d", directory()), ("d/c", file())],
                &["d:1", "d/a:0", "d/b:0", "d/c:1", "d/s:0", "d/s/x:0", "f:0"],
            ),
            // R-LAY-4: entries of the same layer stay.
            (
                "opaque",
                &[
                    ("d", Change::Opaque(Node::directory(Metadata::directory()))),
                    ("d/c", file()),
                ],
                &["d:1", "d/c:1", "f:0"],
            ),
            // R-LAY-6
            ("directory to file", &[("d", file())], &["d:1", "f:0"]),
            (
                "file to directory",
                &[("f", directory()), ("f/g", file())],
                &["d:0", "d/a:0", "d/b:0", "d/s:0", "d/s/x:0", "f:1", "f/g:1"],
            ),
            (
                "implied parents",
                &[("n/m/x", file())],
                &[
                    "d:0", "d/a:0", "d/b:0", "d/s:0", "d/s/x:0", "f:0", "n:1", "n/m:1", "n/m/x:1",
                ],
            ),
        ];
        for (name, changes, expected) in cases {
            let changeset = changes
                .iter()
                .map(|(name, change)| (path(name), change.clone()))
                .collect();
            let before = lower();
            let mut after = before.clone();
            after.apply(1, &changeset);
            assert_eq!(listing(&after), expected, "{name}");
            assert_eq!(before, lower(), "{name}: a clone is independent");
        }
    }

    #[test]
    fn a_tree_of_sorted_objects_is_the_one_of_single_changes() {
        let changes = [
            ("", Change::Put(Node::directory(Metadata::with_mode(0o700)))),
            ("a/b/c", file()),
            ("a/b/d", directory()),
            ("a/e", file()),
            ("f", file()),
            ("f/g", file()),
            ("f-g", file()),
            ("gone", Change::Remove),
            (
                "o",
                Change::Opaque(Node::directory(Metadata::with_mode(0o711))),
            ),
        ];
        let changeset = changes
            .into_iter()
            .map(|(name, change)| (path(name), change))
            .collect();
        let mut one_by_one = Tree::new();
        one_by_one.apply(0, &changeset);
        assert_eq!(Tree::of(&changeset), one_by_one);
    }

    #[test]
    fn a_tree_is_its_changeset() {
        assert_eq!(Tree::of(&lower().to_changeset()), lower());
    }
}
