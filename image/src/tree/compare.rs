//! What is different between two trees, path by path.

use std::collections::BTreeMap;

use super::{Directory, Entry, NodeRef, Tree};
use crate::{ImagePath, Node};

/// A path at which two trees differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub path: ImagePath,
    /// What the first tree has there.
    pub old: Option<Node>,
    /// What the second tree has there.
    pub new: Option<Node>,
}

/// In what two objects differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// A file, a directory, a link.
    Type,
    /// What a file contains, a link leads to, a device is.
    Content,
    /// Permission bits.
    Mode,
    /// Owner or owning group.
    Owner,
    /// Extended attributes.
    Xattrs,
    /// The time of the last change.
    Time,
}

impl Difference {
    /// In what both sides differ; nothing if only one side has the path.
    pub fn aspects(&self) -> Vec<Aspect> {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => aspects(old, new),
            _ => Vec::new(),
        }
    }
}

fn aspects(old: &Node, new: &Node) -> Vec<Aspect> {
    let (was, is) = (&old.metadata, &new.metadata);
    let same_type = std::mem::discriminant(&old.kind) == std::mem::discriminant(&new.kind);
    let found = [
        (Aspect::Type, !same_type),
        (Aspect::Content, same_type && old.kind != new.kind),
        (Aspect::Mode, was.mode != is.mode),
        (Aspect::Owner, (was.uid, was.gid) != (is.uid, is.gid)),
        (Aspect::Xattrs, was.xattrs != is.xattrs),
        (Aspect::Time, !was.mtime.may_equal(is.mtime)),
    ];
    let differs = found.into_iter().filter(|(_, differs)| *differs);
    differs.map(|(aspect, _)| aspect).collect()
}

impl Tree {
    /// All paths at which `new` is different, in order; times count when `times` says so, and never those of directories.
    pub fn differences(&self, new: &Tree, times: bool) -> Vec<Difference> {
        let mut found = Vec::new();
        compare(
            &ImagePath::root(),
            self.root(),
            new.root(),
            times,
            &mut found,
        );
        found
    }
}

fn compare(
    at: &ImagePath,
    old: &Directory,
    new: &Directory,
    times: bool,
    found: &mut Vec<Difference>,
) {
    let mut names: BTreeMap<&[u8], (Option<&Entry>, Option<&Entry>)> = BTreeMap::new();
    for (name, entry) in &old.entries {
        names.entry(name).or_default().0 = Some(entry);
    }
    for (name, entry) in &new.entries {
        names.entry(name).or_default().1 = Some(entry);
    }
    for (name, (old, new)) in names {
        let path = at.child(name);
        if let (Some(old), Some(new)) = (old, new) {
            both(path, NodeRef::of(old), NodeRef::of(new), times, found);
        } else {
            let one = old.or(new).map(NodeRef::of);
            one_side(&path, one, old.is_some(), found);
        }
    }
}

fn both(
    path: ImagePath,
    old: NodeRef<'_>,
    new: NodeRef<'_>,
    times: bool,
    found: &mut Vec<Difference>,
) {
    let (was, is) = (old.node(), new.node());
    let times = times && !(was.is_directory() && is.is_directory());
    if aspects(&was, &is)
        .iter()
        .any(|aspect| times || *aspect != Aspect::Time)
    {
        found.push(Difference {
            path: path.clone(),
            old: Some(was),
            new: Some(is),
        });
    }
    match (old.directory, new.directory) {
        (Some(old), Some(new)) => compare(&path, old, new, times, found),
        (Some(old), None) => below(&path, old, true, found),
        (None, Some(new)) => below(&path, new, false, found),
        (None, None) => {}
    }
}

fn one_side(
    path: &ImagePath,
    object: Option<NodeRef<'_>>,
    is_old: bool,
    found: &mut Vec<Difference>,
) {
    let Some(object) = object else {
        return;
    };
    let (old, new) = match is_old {
        true => (Some(object.node()), None),
        false => (None, Some(object.node())),
    };
    found.push(Difference {
        path: path.clone(),
        old,
        new,
    });
    if let Some(directory) = object.directory {
        below(path, directory, is_old, found);
    }
}

fn below(path: &ImagePath, directory: &Directory, is_old: bool, found: &mut Vec<Difference>) {
    for (name, entry) in &directory.entries {
        one_side(&path.child(name), Some(NodeRef::of(entry)), is_old, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metadata, Timestamp};

    fn tree(objects: &[(&str, Node)]) -> Tree {
        let mut tree = Tree::new();
        for (path, node) in objects {
            tree.put(0, &ImagePath::clean(path.as_bytes()), node.clone());
        }
        tree
    }

    fn told(old: &Tree, new: &Tree, times: bool) -> Vec<String> {
        let told = |difference: Difference| match (&difference.old, &difference.new) {
            (None, _) => format!("A {}", difference.path),
            (_, None) => format!("D {}", difference.path),
            _ => format!("C {} {:?}", difference.path, difference.aspects()),
        };
        old.differences(new, times).into_iter().map(told).collect()
    }

    #[test]
    fn every_path_and_aspect_is_told() {
        let directory = || Node::directory(Metadata::directory());
        let mut odd = Node::file(b"x");
        (odd.metadata.mode, odd.metadata.uid) = (0o4755, 5);
        odd.metadata
            .xattrs
            .insert(b"user.a".to_vec(), b"b".to_vec());
        let mut late = Node::file(b"x");
        late.metadata.mtime = Timestamp::from_secs(9);
        let mut late_directory = directory();
        late_directory.metadata.mtime = Timestamp::from_secs(9);
        let old = tree(&[
            ("d", directory()),
            ("d/gone/deep", Node::file(b"")),
            ("d/same", Node::file(b"x")),
            ("f", Node::file(b"x")),
            ("late", Node::file(b"x")),
            ("turned/in", Node::file(b"")),
            ("w", Node::file(b"1")),
        ]);
        let new = tree(&[
            ("d", late_directory),
            ("d/same", Node::file(b"x")),
            ("f", odd),
            ("late", late),
            ("new/in", Node::file(b"")),
            ("turned", Node::symlink("f")),
            ("w", Node::file(b"2")),
        ]);
        let expected = [
            "D d/gone",
            "D d/gone/deep",
            "C f [Mode, Owner, Xattrs]",
            "A new",
            "A new/in",
            "C turned [Type, Mode]",
            "D turned/in",
            "C w [Content]",
        ];
        assert_eq!(told(&old, &new, false), expected);
        assert_eq!(told(&old, &new, true)[3], "C late [Time]");
        assert_eq!(told(&new, &new, true), [""; 0]);
    }
}
