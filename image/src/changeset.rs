//! What one layer does to the layers below it, as a value.
//!
//! A changeset is an ordered map from path to [`Change`]. It is what a RUN leaves behind, what a COPY plans, and
//! what a layer tar says once its contents are left aside. [`Changeset::normalise`] brings one that was
//! recorded (from an overlay's upper directory, from a copy) into the form layers are written in:
//!
//! 1. opaque directories become plain ones with a removal for each lower entry that is gone (R-LAY-4);
//! 2. entries that change nothing are dropped (R-LAY-7, R-COPY-21);
//! 3. each parent directory of an entry is there, with its metadata (R-LAY-1).

mod normalise;
mod stored;

pub use stored::ChangesetError;

use std::collections::btree_map::{self, Entry};
use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::tree::content;
use crate::{Digest, Digester, ImagePath, Node, Timestamp};

/// What happens at one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The object is there with this metadata. A directory keeps what lower layers have in it.
    Put(Node),
    /// The directory is there, and nothing that lower layers have in it is.
    Opaque(Node),
    /// Nothing is there any more.
    Remove,
}

/// An ordered set of changes: what one layer does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Changeset {
    changes: BTreeMap<ImagePath, Change>,
}

impl Change {
    /// The object that is at the path afterwards.
    pub fn node(&self) -> Option<&Node> {
        match self {
            Self::Put(node) | Self::Opaque(node) => Some(node),
            Self::Remove => None,
        }
    }
}

impl Changeset {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes that are in a map already.
    pub(crate) fn from_sorted(changes: BTreeMap<ImagePath, Change>) -> Self {
        Self { changes }
    }

    pub(crate) fn into_sorted(self) -> BTreeMap<ImagePath, Change> {
        self.changes
    }

    /// Says what happens at `path`; the last word counts.
    pub fn insert(&mut self, path: ImagePath, change: Change) {
        self.changes.insert(path, change);
    }

    /// Adds an object, whatever order entries come in: with a whiteout of the same name in this layer the
    /// object stays and hides what is below (R-LAY-5), and an opaque directory stays opaque.
    pub fn put(&mut self, path: ImagePath, node: Node) {
        let hides = matches!(
            self.changes.get(&path),
            Some(Change::Remove | Change::Opaque(_))
        );
        let change = if hides && node.is_directory() {
            Change::Opaque(node)
        } else {
            Change::Put(node)
        };
        self.changes.insert(path, change);
    }

    /// Adds a whiteout: lower layers' object at `path` is gone, one of this layer stays (R-LAY-5).
    pub fn whiteout(&mut self, path: ImagePath) {
        match self.changes.entry(path) {
            Entry::Vacant(entry) => {
                entry.insert(Change::Remove);
            }
            Entry::Occupied(mut entry) => hide_below(entry.get_mut()),
        }
    }

    /// Hides all that lower layers have in the directory `path`, in whatever order entries come (R-LAY-4).
    /// A directory not described yet gets 0755, owned by root, until it is.
    pub fn make_opaque(&mut self, path: ImagePath) {
        let undescribed = || Change::Opaque(Node::directory(crate::Metadata::directory()));
        match self.changes.entry(path) {
            Entry::Vacant(entry) => {
                entry.insert(undescribed());
            }
            Entry::Occupied(mut entry) if *entry.get() == Change::Remove => {
                entry.insert(undescribed());
            }
            Entry::Occupied(mut entry) => hide_below(entry.get_mut()),
        }
    }

    /// Leaves out of these directories what nobody said of them. One that hides what is below stays.
    pub(crate) fn leave_out(&mut self, unlisted: &HashSet<ImagePath>) {
        for path in unlisted {
            if let Some(Change::Put(node)) = self.changes.get(path)
                && node.is_directory()
            {
                self.changes.remove(path);
            }
        }
    }

    /// Directories that something is put into or removed from, but of which nothing is said, in order: they are as the layers
    /// below have them. Only layers from elsewhere have such.
    pub fn unlisted(&self) -> Vec<ImagePath> {
        let mut unlisted = Vec::new();
        // The directories that the entry at hand is in, listed or found not to be.
        let mut above: Vec<&[u8]> = Vec::new();
        for (path, change) in &self.changes {
            let path = path.as_bytes();
            while above.last().is_some_and(|above| !is_below(path, above)) {
                above.pop();
            }
            let known = above.last().map_or(0, |above| above.len() + 1);
            let ends = path.iter().enumerate().skip(known);
            for (end, _) in ends.filter(|(_, byte)| **byte == b'/') {
                above.push(&path[..end]);
                unlisted.push(ImagePath::clean(&path[..end]));
            }
            if !path.is_empty() && change.node().is_some_and(Node::is_directory) {
                above.push(path);
            }
        }
        unlisted
    }

    /// What happens at `path` itself.
    pub fn get(&self, path: &ImagePath) -> Option<&Change> {
        self.changes.get(path)
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many paths have a change.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// The changes in the order of a layer's entries (R-LAY-2).
    pub fn iter(&self) -> btree_map::Iter<'_, ImagePath, Change> {
        self.changes.iter()
    }

    /// The same with no object newer than `latest` (R-SDE-3).
    pub fn not_after(&self, latest: Timestamp) -> Self {
        let clamped = |(path, change): (&ImagePath, &Change)| {
            let mut change = change.clone();
            if let Change::Put(node) = &mut change {
                node.metadata.mtime = node.metadata.mtime.min(latest);
            }
            (path.clone(), change)
        };
        Self::from_sorted(self.changes.iter().map(clamped).collect())
    }

    /// The same with the extended attributes that `other` has of the same objects, and this has not.
    pub fn with_attributes_of(mut self, other: &Self) -> Self {
        for (path, change) in &mut self.changes {
            let (Change::Put(node) | Change::Opaque(node)) = change else {
                continue;
            };
            let other = other.get(path).and_then(Change::node);
            if let Some(other) = other.filter(|other| other.kind == node.kind) {
                for (name, value) in &other.metadata.xattrs {
                    let known = node.metadata.xattrs.entry(name.clone());
                    known.or_insert_with(|| value.clone());
                }
            }
        }
        self
    }

    /// Whether both say the same, times compared by whole seconds, as they are in tars.
    pub fn is_same_but_fractions(&self, other: &Self) -> bool {
        let is_same = |one: &Node, other: &Node| {
            let metadata = (&one.metadata, &other.metadata);
            one.kind == other.kind
                && one.link == other.link
                && metadata.0.same_but_mtime(metadata.1)
                && metadata.0.mtime.secs == metadata.1.mtime.secs
        };
        let mut both = self.changes.iter().zip(&other.changes);
        self.len() == other.len()
            && both.all(|((path, change), (other_path, other))| {
                let are_same = match (change, other) {
                    (Change::Put(one), Change::Put(other))
                    | (Change::Opaque(one), Change::Opaque(other)) => is_same(one, other),
                    (one, other) => one == other,
                };
                path == other_path && are_same
            })
    }

    /// Sum of the sizes of all files put, each hard-linked file counted once, in bytes.
    pub fn content_size(&self) -> u64 {
        let mut seen = std::collections::HashSet::new();
        let nodes = self.changes.values().filter_map(Change::node);
        let sizes = nodes.map(|node| match node.kind {
            crate::Kind::File { .. } if node.link.is_some_and(|link| !seen.insert(link)) => 0,
            crate::Kind::File { size, .. } => size,
            _ => 0,
        });
        sizes.sum()
    }

    /// Identity of what the layer does: every path and change in order, times left out (R-CACHE-11).
    pub fn content_digest(&self) -> Digest {
        let mut digester = Digester::new();
        let mut frame = Vec::new();
        digester.update(b"kiln changeset 1\n");
        for (path, change) in &self.changes {
            frame.clear();
            content::frame_bytes(&mut frame, path.as_bytes());
            match change {
                Change::Remove => frame.push(0),
                Change::Put(node) => {
                    frame.push(1);
                    content::frame_node(&mut frame, &node.metadata, &node.kind);
                }
                Change::Opaque(node) => {
                    frame.push(2);
                    content::frame_node(&mut frame, &node.metadata, &node.kind);
                }
            }
            digester.update(&frame);
        }
        digester.finish()
    }
}

fn hide_below(change: &mut Change) {
    if let Change::Put(node) = change
        && node.is_directory()
    {
        *change = Change::Opaque(node.clone());
    }
}

impl FromIterator<(ImagePath, Change)> for Changeset {
    fn from_iter<I: IntoIterator<Item = (ImagePath, Change)>>(changes: I) -> Self {
        Self {
            changes: changes.into_iter().collect(),
        }
    }
}

impl IntoIterator for Changeset {
    type Item = (ImagePath, Change);
    type IntoIter = btree_map::IntoIter<ImagePath, Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.changes.into_iter()
    }
}

impl<'a> IntoIterator for &'a Changeset {
    type Item = (&'a ImagePath, &'a Change);
    type IntoIter = btree_map::Iter<'a, ImagePath, Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.changes.iter()
    }
}

/// Whether `path` is below the directory `above`.
fn is_below(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{Kind, Metadata};

    fn path(text: &str) -> ImagePath {
        ImagePath::clean(text.as_bytes())
    }

    fn directory() -> Node {
        Node::directory(Metadata::directory())
    }

    #[test]
    fn an_object_and_its_whiteout_in_one_layer_leave_the_object_in_any_order() {
        // R-LAY-5
        let mut before = Changeset::new();
        before.whiteout(path("f"));
        before.put(path("f"), Node::file(b""));
        before.whiteout(path("d"));
        before.put(path("d"), directory());
        let mut after = Changeset::new();
        after.put(path("d"), directory());
        after.whiteout(path("d"));
        after.put(path("f"), Node::file(b""));
        after.whiteout(path("f"));
        assert_eq!(before, after);
        assert_eq!(before.get(&path("f")), Some(&Change::Put(Node::file(b""))));
        assert_eq!(before.get(&path("d")), Some(&Change::Opaque(directory())));
    }

    #[test]
    fn an_opaque_mark_may_come_before_its_directory() {
        // R-LAY-4
        let described = Node::directory(Metadata::with_mode(0o700));
        let mut first = Changeset::new();
        first.make_opaque(path("d"));
        first.put(path("d"), described.clone());
        let mut last = Changeset::new();
        last.put(path("d"), described.clone());
        last.make_opaque(path("d"));
        assert_eq!(first, last);
        assert_eq!(first.get(&path("d")), Some(&Change::Opaque(described)));
    }

    #[test]
    fn attributes_are_taken_over_and_nothing_else() {
        let attributed = |mut node: Node, value: &[u8]| {
            let xattrs = &mut node.metadata.xattrs;
            xattrs.insert(b"user.a".to_vec(), value.to_vec());
            node
        };
        let changes = |files: [(&str, Node); 3]| -> Changeset {
            let put = |(name, node): (&str, Node)| (path(name), Change::Put(node));
            files.into_iter().map(put).collect()
        };
        let mut linked = Node::file(b"x");
        linked.link = Some(0);
        let own = attributed(Node::file(b"y"), b"own");
        let found = changes([
            ("a", linked.clone()),
            ("b", own.clone()),
            ("c", Node::file(b"z")),
        ]);
        let known = changes([
            ("a", attributed(Node::file(b"x"), b"1")),
            ("b", attributed(Node::file(b"y"), b"2")),
            ("c", attributed(Node::symlink("z"), b"3")),
        ]);
        let expected = changes([
            ("a", attributed(linked, b"1")),
            ("b", own),
            ("c", Node::file(b"z")),
        ]);
        assert_eq!(found.with_attributes_of(&known), expected);
    }

    #[test]
    fn directories_of_which_nothing_is_said() {
        let mut changes = Changeset::new();
        changes.put(ImagePath::root(), directory());
        for listed in ["a", "a/b", "a-/c/d", "e", "e/f/g"] {
            changes.put(path(listed), directory());
        }
        for file in ["a/b/1", "a/c/2", "a/c/3", "a-/c/d/4", "e/f/5", "top"] {
            changes.put(path(file), Node::file(b""));
        }
        changes.whiteout(path("w/x"));
        changes.whiteout(path("w/y/z"));
        let expected = ["a/c", "a-", "a-/c", "e/f", "w", "w/y"].map(path);
        let mut found = changes.unlisted();
        found.sort();
        let mut sorted = expected.to_vec();
        sorted.sort();
        assert_eq!(found, sorted);
        assert_eq!(changes.unlisted(), found, "they come in order");

        changes.leave_out(&["a", "e", "top", "none"].into_iter().map(path).collect());
        assert!(changes.get(&path("a")).is_none() && changes.get(&path("top")).is_some());
    }

    #[test]
    fn time_is_no_part_of_the_identity() {
        let at = |secs| {
            let mut node = Node::file(b"x");
            node.metadata.mtime = Timestamp::from_secs(secs);
            Changeset::from_iter([(path("f"), Change::Put(node))]).content_digest()
        };
        assert_eq!(at(1), at(2));
        let removed = Changeset::from_iter([(path("f"), Change::Remove)]).content_digest();
        assert!(removed != at(1) && removed != Changeset::new().content_digest());
    }

    #[test]
    fn a_hard_linked_file_has_its_size_once() {
        let linked = |link| Node {
            kind: Kind::File {
                size: 5,
                digest: Digest::of(b"hello"),
            },
            link,
            ..Node::file(b"")
        };
        let changes = [("a", Some(1)), ("b", Some(1)), ("c", None), ("d", None)];
        let changes: Changeset = changes
            .into_iter()
            .map(|(name, link)| (path(name), Change::Put(linked(link))))
            .collect();
        assert_eq!(changes.content_size(), 15);
    }
}
