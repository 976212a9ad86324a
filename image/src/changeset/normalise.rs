//! From what was recorded to what a layer says.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{Change, Changeset};
use crate::{Directory, ImagePath, Metadata, Node, Tree};

impl Changeset {
    /// All three steps, in order. `lower` is the tree without this changeset. Returns what was dropped, as
    /// [`Changeset::drop_unchanged`] does.
    pub fn normalise(&mut self, lower: &Tree) -> Vec<ImagePath> {
        self.lower_opaque(lower);
        let dropped = self.drop_unchanged(lower);
        self.add_parents(lower);
        dropped
    }

    /// Turns each opaque directory into a plain one plus a removal for every entry that `lower` has in it and
    /// this changeset doesn't (R-LAY-4).
    pub fn lower_opaque(&mut self, lower: &Tree) {
        self.settle_removed();
        for path in self.paths_of(|change| matches!(change, Change::Opaque(_))) {
            self.make_plain(&path);
            self.drop_removals_below(&path);
            if let Some(directory) = lower.directory(&path) {
                self.hide_entries(&path, directory);
            }
        }
    }

    /// A removed directory that something is put into is an opaque one; removals below a removal say nothing.
    fn settle_removed(&mut self) {
        for path in self.paths_of(|change| *change == Change::Remove) {
            if self
                .below(&path)
                .any(|(_, change)| *change != Change::Remove)
            {
                self.changes
                    .insert(path, Change::Opaque(Node::directory(Metadata::directory())));
            } else if self.changes.contains_key(&path) {
                self.drop_removals_below(&path);
            }
        }
    }

    fn drop_removals_below(&mut self, path: &ImagePath) {
        let removals = self
            .below(path)
            .filter(|(_, change)| **change == Change::Remove);
        let removals: Vec<ImagePath> = removals.map(|(path, _)| path.clone()).collect();
        for removal in removals {
            self.changes.remove(&removal);
        }
    }

    fn paths_of(&self, wanted: impl Fn(&Change) -> bool) -> Vec<ImagePath> {
        let found = self.changes.iter().filter(|(_, change)| wanted(change));
        found.map(|(path, _)| path.clone()).collect()
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
                (None, below) if self.has_below(&child) => self.hide_below_implied(&child, below),
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
        self.below(path).next().is_some()
    }

    fn below<'a>(
        &'a self,
        path: &'a ImagePath,
    ) -> impl Iterator<Item = (&'a ImagePath, &'a Change)> {
        let after = (Bound::Excluded(path), Bound::Unbounded);
        let following = self.changes.range::<ImagePath, _>(after);
        following.take_while(move |(next, _)| next.starts_with(path))
    }

    /// Drops what changes nothing: removals of what isn't there, objects equal to what is there, directories
    /// of which only the time changed and that nothing else happens in (R-LAY-7, R-COPY-21). The root's own
    /// entry goes as well (R-LAY-1). Opaque directories stay: see [`Changeset::lower_opaque`]. A new name of a
    /// file of a lower layer is a file of its own, as links do not span layers (R-LAY-10). Returns what was
    /// dropped, what is in a directory before it.
    pub fn drop_unchanged(&mut self, lower: &Tree) -> Vec<ImagePath> {
        let mut unchanged: Vec<ImagePath> = Vec::new();
        let mut last_kept: Option<&ImagePath> = None;
        for (path, change) in self.changes.iter().rev() {
            // Entries below a directory come after it, so going backwards the last one kept tells.
            let above = last_kept.is_some_and(|below| below.starts_with(path));
            if !path.is_root() && (above || changes_anything(path, change, lower)) {
                last_kept = Some(path);
            } else {
                unchanged.push(path.clone());
            }
        }
        for path in &unchanged {
            self.changes.remove(path);
        }
        unchanged
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
            // From the bottom up, to the first one that is there: what is above it was looked at for it.
            let above = |path: &ImagePath| path.parent().filter(|parent| !parent.is_root());
            let mut next = above(path);
            while let Some(ancestor) = next {
                let described =
                    matches!(self.changes.get(&ancestor), Some(change) if is_directory(change));
                if described || missing.contains_key(&ancestor) {
                    break;
                }
                let metadata = lower
                    .directory(&ancestor)
                    .map(|directory| directory.metadata.clone());
                let node = Node::directory(metadata.unwrap_or(Metadata::directory()));
                next = above(&ancestor);
                missing.insert(ancestor, Change::Put(node));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Digest, Timestamp};

    fn path(text: &str) -> ImagePath {
        ImagePath::clean(text.as_bytes())
    }

    fn directory(mode: u32, mtime: i64) -> Node {
        let mut metadata = Metadata::with_mode(mode);
        metadata.mtime = Timestamp::from_secs(mtime);
        Node::directory(metadata)
    }

    fn file(content: &[u8], mtime: i64) -> Node {
        let mut node = Node::file(content);
        node.metadata.mtime = Timestamp::from_secs(mtime);
        node
    }

    /// `d/a d/b d/s/x` and `x`, all from second 1; `d` is 0700.
    fn lower() -> Tree {
        let nodes = [
            ("d", directory(0o700, 1)),
            ("d/a", file(b"a", 1)),
            ("d/b", file(b"b", 1)),
            ("d/s", directory(0o755, 1)),
            ("d/s/x", file(b"x", 1)),
            ("x", file(b"x", 1)),
        ];
        Tree::of(
            &nodes
                .into_iter()
                .map(|(name, node)| (path(name), Change::Put(node)))
                .collect(),
        )
    }

    fn normalised(changes: Vec<(&str, Change)>) -> Vec<String> {
        let mut changeset: Changeset = changes
            .into_iter()
            .map(|(name, change)| (path(name), change))
            .collect();
        changeset.normalise(&lower());
        let show = |(path, change): (&ImagePath, &Change)| match change {
            Change::Put(node) => format!("{path} {:o}", node.metadata.mode),
            Change::Opaque(_) => format!("{path} opaque"),
            Change::Remove => format!("-{path}"),
        };
        changeset.iter().map(show).collect()
    }

    #[test]
    fn depth_costs_little() {
        let deep = path(&"d/".repeat(2000));
        let mut changeset = Changeset::new();
        changeset.put(deep.child(b"f"), file(b"x", 1));
        changeset.normalise(&lower());
        assert_eq!(changeset.iter().count(), 2001);
        changeset.normalise(&lower()); // a minute of work, were every ancestor of every path looked up
        assert_eq!(changeset.iter().count(), 2001);
    }

    #[test]
    fn the_table_of_the_specification() {
        // The table of section 7.3: what the action leaves in an overlay's upper directory | layer entries
        let put = Change::Put;
        let touched = || Change::Put(directory(0o700, 9));
        let none: [&str; 0] = [];
        assert_eq!(
            normalised(vec![("d", touched()), ("d/a", Change::Remove)]),
            ["d 700", "-d/a"]
        );
        assert_eq!(normalised(vec![("d", Change::Remove)]), ["-d"]);
        let remade = vec![
            ("d", Change::Opaque(directory(0o755, 9))),
            ("d/c", put(file(b"", 9))),
        ];
        assert_eq!(
            normalised(remade),
            ["d 755", "-d/a", "-d/b", "d/c 644", "-d/s"]
        );
        assert_eq!(normalised(vec![("d", put(file(b"", 9)))]), ["d 644"]);
        let mut chmod = file(b"x", 1);
        chmod.metadata.mode = 0o600;
        assert_eq!(normalised(vec![("x", put(chmod))]), ["x 600"]);
        assert_eq!(normalised(vec![("x", put(file(b"x", 9)))]), ["x 644"]);
        // R-LAY-7
        assert_eq!(normalised(vec![("d", touched())]), none);
        assert_eq!(normalised(vec![("x", put(file(b"x", 1)))]), none);
        assert_eq!(normalised(vec![("d", put(directory(0o711, 1)))]), ["d 711"]);
        assert_eq!(normalised(vec![("", put(directory(0o711, 1)))]), none);
        assert_eq!(
            normalised(vec![("e", Change::Remove), ("x/y", Change::Remove)]),
            none
        );
    }

    #[test]
    fn a_file_written_again_within_a_second_is_a_change() {
        // R-LAY-7
        let at = |nanos| {
            let mut node = file(b"x", 1);
            node.metadata.mtime.nanos = nanos;
            node
        };
        let put_over = |before: Node, after: Node| {
            let mut lower = Tree::new();
            lower.apply(0, &[(path("x"), Change::Put(before))].into_iter().collect());
            let mut changeset: Changeset = [(path("x"), Change::Put(after))].into_iter().collect();
            changeset.normalise(&lower);
            changeset.iter().count()
        };
        assert_eq!(put_over(at(5), at(5)), 0);
        assert_eq!(put_over(at(5), at(6)), 1);
        // What a layer brought has lost its fraction.
        assert_eq!(put_over(at(5), at(0)), 0);
        assert_eq!(put_over(at(0), at(6)), 0);
    }

    #[test]
    fn an_opaque_directory_hides_at_every_depth() {
        // R-LAY-4
        let deep = vec![
            ("d", Change::Opaque(directory(0o700, 1))),
            ("d/s/y", Change::Put(file(b"", 9))),
        ];
        assert_eq!(
            normalised(deep),
            ["d 700", "-d/a", "-d/b", "d/s 755", "-d/s/x", "d/s/y 644"]
        );
        let nested = vec![
            ("d", Change::Opaque(directory(0o700, 1))),
            ("d/a", Change::Put(file(b"a", 1))),
            ("d/s", Change::Opaque(directory(0o755, 1))),
        ];
        assert_eq!(normalised(nested), ["d 700", "-d/b", "d/s 755", "-d/s/x"]);
        assert_eq!(
            normalised(vec![("n", Change::Opaque(directory(0o750, 1)))]),
            ["n 750"]
        );
    }

    #[test]
    fn parents_come_with_their_metadata() {
        // R-LAY-1
        assert_eq!(
            normalised(vec![("d/s/y", Change::Put(file(b"", 1)))]),
            ["d 700", "d/s 755", "d/s/y 644"]
        );
        assert_eq!(
            normalised(vec![("n/m", Change::Put(file(b"", 1)))]),
            ["n 755", "n/m 644"]
        );
        assert_eq!(
            normalised(vec![("x/m", Change::Put(file(b"", 1)))]),
            ["x 755", "x/m 644"]
        );
    }

    #[test]
    fn an_unchanged_name_goes_although_its_file_has_a_new_one() {
        // R-LAY-10, as BuildKit's layer of `RUN ln /x /y` has it
        let linked = |name: &str, mtime| {
            let mut node = file(name.as_bytes(), mtime);
            node.kind = crate::Kind::File {
                size: 1,
                digest: Digest::of(b"x"),
            };
            node.link = Some(1);
            Change::Put(node)
        };
        assert_eq!(
            normalised(vec![("x", linked("x", 1)), ("y", linked("x", 1))]),
            ["y 644"]
        );
        assert!(normalised(vec![("x", linked("x", 1)), ("d/s/x", linked("x", 1))]).is_empty());
    }

    /// Up to a dozen changes at a few paths, none below something that isn't a directory.
    fn changes() -> impl Strategy<Value = Changeset> {
        let name = prop::sample::select(vec!["a", "b", "a/a", "a/b", "b/a", "a/a/a", "a/a/b"]);
        let change = prop_oneof![
            any::<bool>().prop_map(|x| Change::Put(file(if x { b"x" } else { b"y" }, 1))),
            any::<bool>().prop_map(|x| Change::Put(directory(if x { 0o755 } else { 0o700 }, 1))),
            Just(Change::Opaque(directory(0o755, 1))),
            Just(Change::Remove),
        ];
        prop::collection::btree_map(name.prop_map(path), change, 0..12).prop_map(|mut changes| {
            let is_file = |change: &Change| change.node().is_some_and(|node| !node.is_directory());
            let files: Vec<_> = changes
                .iter()
                .filter(|(_, change)| is_file(change))
                .map(|(path, _)| path.clone())
                .collect();
            changes.retain(|path, _| {
                !files
                    .iter()
                    .any(|file| path != file && path.starts_with(file))
            });
            changes.into_iter().collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_normalised_does_the_same(below in changes(), changes in changes()) {
            let lower = Tree::of(&below);
            let mut plain = changes.clone();
            plain.normalise(&lower);
            let applied = |changeset: &Changeset| {
                let mut tree = lower.clone();
                changeset.iter().for_each(|(path, change)| tree.change(1, path, change));
                tree.content_digest(&ImagePath::root(), true)
            };
            prop_assert_eq!(applied(&changes), applied(&plain), "{:?} became {:?}", changes, plain);
            let opaque = plain.iter().any(|(_, change)| matches!(change, Change::Opaque(_)));
            let parents = plain.iter().all(|(path, _)| path.ancestors().all(|above| plain.get(&above).is_some_and(is_directory)));
            prop_assert!(!opaque && parents);
            let mut twice = plain.clone();
            twice.normalise(&lower);
            prop_assert_eq!(twice, plain);
        }
    }
}
