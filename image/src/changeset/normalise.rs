//! From what was recorded to what a layer says.

use std::collections::BTreeMap;

use super::{Change, Changeset};
use crate::{Directory, ImagePath, Metadata, Node, Tree};

impl Changeset {
    /// All three steps, in order. `lower` is the tree without this changeset.
    pub fn normalise(&mut self, lower: &Tree) {
        self.lower_opaque(lower);
        self.drop_unchanged(lower);
        self.add_parents(lower);
    }

    /// Turns each opaque directory into a plain one plus a removal for every entry that `lower` has in it and
    /// this changeset doesn't (R-LAY-4).
    pub fn lower_opaque(&mut self, lower: &Tree) {
        let opaque: Vec<ImagePath> = self.opaque_paths();
        for path in opaque {
            self.make_plain(&path);
            if let Some(directory) = lower.directory(&path) {
                self.hide_entries(&path, directory);
            }
        }
    }

    fn opaque_paths(&self) -> Vec<ImagePath> {
        let opaque = self
            .changes
            .iter()
            .filter(|(_, change)| matches!(change, Change::Opaque(_)));
        opaque.map(|(path, _)| path.clone()).collect()
    }

    fn make_plain(&mut self, path: &ImagePath) {
        if let Some(change) = self.changes.get_mut(path)
            && let Change::Opaque(node) = change
        {
            *change = Change::Put(node.clone());
        }
    }

    /// Hides what `lower`, a directory that is at `path`, has: at any depth where this layer has a directory too.
    fn hide_entries(&mut self, path: &ImagePath, lower: &Directory) {
        for (name, entry) in &lower.entries {
            let child = path.child(name);
            match (self.changes.get(&child), entry.as_directory()) {
                (None, _) if self.has_below(&child) => {
                    self.hide_below_implied(&child, entry.as_directory())
                }
                (None, _) => {
                    self.changes.insert(child, Change::Remove);
                }
                (Some(Change::Put(node)), Some(directory)) if node.is_directory() => {
                    self.hide_entries(&child, directory);
                }
                (Some(_), _) => {}
            }
        }
    }

    /// A directory that this layer has only because something is below it.
    fn hide_below_implied(&mut self, path: &ImagePath, lower: Option<&Directory>) {
        self.changes.insert(
            path.clone(),
            Change::Put(Node::directory(Metadata::directory())),
        );
        if let Some(directory) = lower {
            self.hide_entries(path, directory);
        }
    }

    fn has_below(&self, path: &ImagePath) -> bool {
        let after = (std::ops::Bound::Excluded(path), std::ops::Bound::Unbounded);
        let next = self.changes.range::<ImagePath, _>(after).next();
        next.is_some_and(|(next, _)| next.starts_with(path))
    }

    /// Drops what changes nothing: removals of what isn't there, objects equal to what is there, directories
    /// of which only the time changed and that nothing else happens in (R-LAY-7, R-COPY-21). The root's own
    /// entry goes as well (R-LAY-1). Opaque directories stay: see [`Changeset::lower_opaque`].
    pub fn drop_unchanged(&mut self, lower: &Tree) {
        let mut kept: Vec<(ImagePath, Change)> = Vec::with_capacity(self.changes.len());
        for (path, change) in std::mem::take(&mut self.changes).into_iter().rev() {
            // Entries below a directory come after it, so going backwards the last one kept tells.
            let needed = kept
                .last()
                .is_some_and(|(below, _)| below.starts_with(&path));
            if !path.is_root() && (changes_anything(&path, &change, lower) || needed) {
                kept.push((path, change));
            }
        }
        self.changes = kept.into_iter().rev().collect();
    }

    /// Adds the entry of every parent directory that is missing, as it is in `lower`; 0755 and owned by root
    /// where `lower` has no directory (R-LAY-1).
    pub fn add_parents(&mut self, lower: &Tree) {
        let mut missing: BTreeMap<ImagePath, Change> = BTreeMap::new();
        let mut previous: Option<ImagePath> = None;
        for path in self.changes.keys() {
            let parent = path.parent();
            if parent == previous {
                continue;
            }
            for ancestor in path.ancestors() {
                let described =
                    matches!(self.changes.get(&ancestor), Some(change) if is_directory(change));
                if !described && !missing.contains_key(&ancestor) {
                    let metadata = lower
                        .directory(&ancestor)
                        .map(|directory| directory.metadata.clone());
                    let node = Node::directory(metadata.unwrap_or(Metadata::directory()));
                    missing.insert(ancestor, Change::Put(node));
                }
            }
            previous = parent;
        }
        self.changes.append(&mut missing);
    }
}

fn is_directory(change: &Change) -> bool {
    change.node().is_some_and(Node::is_directory)
}

fn changes_anything(path: &ImagePath, change: &Change, lower: &Tree) -> bool {
    let before = lower.lookup(path);
    match (change, before) {
        (Change::Opaque(_), _) => true,
        (Change::Remove, before) => before.is_some(),
        (Change::Put(_), None) => true,
        (Change::Put(node), Some(before)) if node.is_directory() && before.kind.is_directory() => {
            !node.metadata.same_but_mtime(before.metadata)
        }
        (Change::Put(node), Some(before)) => !node.same_in_layer(&before.node()),
    }
}
