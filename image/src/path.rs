//! Paths inside images: bytes, relative to the root filesystem, free of `.` and `..`.
//!
//! Such a path can't leave the root it is joined to, and it is never handed to the host's resolver as it is.
//! Its order is the order of a layer's entries (R-LAY-2): a directory before what is in it, names of one
//! directory bytewise. Bytewise order of whole paths would put `a-b` between `a` and `a/x`.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A normalised path relative to the root of an image; empty for the root itself.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ImagePath(Vec<u8>);

/// Why bytes are not a path inside an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A `..` component: the path could mean something outside of the root.
    #[error("the path `{path}` has a `..` component")]
    ParentComponent {
        /// The path as given, as text.
        path: String,
    },
    /// A NUL byte, which no file name can have.
    #[error("the path `{path}` has a NUL byte")]
    Nul {
        /// The path as given, as text.
        path: String,
    },
}

impl ImagePath {
    /// The root directory.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Takes bytes from a source that must not try to leave the root, such as a layer tar: leading slashes,
    /// repeated slashes and `.` components are dropped, `..` and NUL are refused.
    pub fn parse(path: &[u8]) -> Result<Self, PathError> {
        let shown = || String::from_utf8_lossy(path).into_owned();
        if path.contains(&0) {
            return Err(PathError::Nul { path: shown() });
        }
        let mut components = path.split(|&byte| byte == b'/');
        if components.clone().any(|component| component == b"..") {
            return Err(PathError::ParentComponent { path: shown() });
        }
        if components.any(|component| matches!(component, b"" | b".")) {
            return Ok(Self::clean(path));
        }
        Ok(Self(path.to_vec()))
    }

    /// Cleans a path by its text alone: `.` and empty components are dropped, `..` takes the component before
    /// it away and stops at the root (R-COPY-6).
    pub fn clean(path: &[u8]) -> Self {
        Self::root().join_cleaned(path)
    }

    /// This path with `path` appended, cleaned as [`ImagePath::clean`] does. A leading slash has no meaning.
    pub fn join_cleaned(&self, path: &[u8]) -> Self {
        let mut joined = self.clone();
        for component in path.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => joined.pop(),
                name => joined.push(name),
            }
        }
        joined
    }

    /// This path followed by `below`.
    pub fn join(&self, below: &ImagePath) -> Self {
        let mut joined = self.clone();
        if !below.is_root() {
            joined.push(&below.0);
        }
        joined
    }

    /// This path followed by one name, which must be a plain file name.
    pub fn child(&self, name: &[u8]) -> Self {
        debug_assert!(!matches!(name, b"" | b"." | b"..") && !name.contains(&b'/'));
        let mut child = self.clone();
        child.push(name);
        child
    }

    /// The directory this path is in; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let mut parent = self.clone();
        parent.pop();
        Some(parent)
    }

    /// The last component; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// The names from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
        self.0
            .split(|&byte| byte == b'/')
            .filter(|component| !component.is_empty())
    }

    /// The directories above this path from the top down, without the root and without the path itself.
    pub fn ancestors(&self) -> impl Iterator<Item = ImagePath> + '_ {
        let ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        ends.map(|(end, _)| Self(self.0[..end].to_vec()))
    }

    /// What is left of this path below `above`; `None` if it isn't `above` or below it.
    pub fn strip_prefix(&self, above: &ImagePath) -> Option<ImagePath> {
        if above.is_root() {
            return Some(self.clone());
        }
        match self.0.strip_prefix(above.0.as_slice())? {
            [] => Some(Self::root()),
            [b'/', rest @ ..] => Some(Self(rest.to_vec())),
            _ => None,
        }
    }

    /// Whether this path is `above` or below it.
    pub fn starts_with(&self, above: &ImagePath) -> bool {
        let rest = self.0.strip_prefix(above.0.as_slice());
        above.is_root() || matches!(rest, Some([] | [b'/', ..]))
    }

    /// Whether this is the root directory.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path's bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn push(&mut self, name: &[u8]) {
        if !self.0.is_empty() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(name);
    }

    fn pop(&mut self) {
        let end = self.0.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        self.0.truncate(end);
    }
}

/// Componentwise order: a slash sorts before every byte a name can have.
fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let equal = equal_blocks(left, right);
    let mut rest = left[equal..].iter().zip(&right[equal..]);
    let Some(at) = rest.position(|(a, b)| a != b).map(|at| equal + at) else {
        return left.len().cmp(&right.len());
    };
    match (left[at], right[at]) {
        (b'/', _) => Ordering::Less,
        (_, b'/') => Ordering::Greater,
        (a, b) => a.cmp(&b),
    }
}

/// How many bytes at the start are equal, in whole blocks: deep paths share thousands of bytes, which the machine
/// compares faster together.
fn equal_blocks(left: &[u8], right: &[u8]) -> usize {
    const BLOCK: usize = 16;
    let blocks = left.chunks_exact(BLOCK).zip(right.chunks_exact(BLOCK));
    blocks.take_while(|(a, b)| a == b).count() * BLOCK
}

impl Ord for ImagePath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for ImagePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Without a leading slash; bytes that aren't UTF-8 are shown as U+FFFD.
impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Serialize for ImagePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for ImagePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathVisitor;

        impl Visitor<'_> for PathVisitor {
            type Value = ImagePath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a path inside an image")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<ImagePath, E> {
                ImagePath::parse(bytes).map_err(E::custom)
            }
        }

        deserializer.deserialize_bytes(PathVisitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> ImagePath {
        ImagePath::clean(text.as_bytes())
    }

    #[test]
    fn long_paths_are_in_the_same_order_as_short_ones() {
        for length in 0..40 {
            let front = "f".repeat(length);
            let named = |rest: &str| path(&format!("{front}{rest}"));
            let ordered = [
                named("a"),
                named("a/b"),
                named("a-b"),
                named("ab"),
                named("b"),
            ];
            assert!(ordered.is_sorted(), "{length}");
        }
    }

    #[test]
    fn cleaning_stops_at_the_root() {
        // R-COPY-6
        let cases = [
            ("", ""),
            ("/", ""),
            ("../a", "a"),
            ("/a", "a"),
            ("./a/", "a"),
            ("a//b/../c/.", "a/c"),
            ("a/../..", ""),
        ];
        for (written, expected) in cases {
            assert_eq!(path(written).to_string(), expected, "{written}");
        }
    }

    #[test]
    fn parsing_refuses_what_could_leave_the_root() {
        assert_eq!(
            ImagePath::parse(b"/./etc//hosts").unwrap(),
            path("etc/hosts")
        );
        assert!(matches!(
            ImagePath::parse(b"a/../b"),
            Err(PathError::ParentComponent { .. })
        ));
        assert!(matches!(
            ImagePath::parse(b"a\0"),
            Err(PathError::Nul { .. })
        ));
    }

    #[test]
    fn order_is_depth_first_and_bytewise_within_a_directory() {
        // R-LAY-2: a whiteout stands under the name it removes.
        let ordered = [
            "", "w", "w/.a", "w/.x", "w/.z", "w/a", "w/b", "w/b/x", "w/b-c", "w/b.d", "w/c", "w-x",
        ];
        let mut paths = ordered.map(path);
        paths.reverse();
        paths.sort();
        assert_eq!(paths, ordered.map(path));
    }

    #[test]
    fn relations() {
        assert_eq!(
            path("a/b/c").ancestors().collect::<Vec<_>>(),
            [path("a"), path("a/b")]
        );
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(ImagePath::root()));
        assert_eq!(ImagePath::root().parent(), None);
        assert_eq!(path("a/b").strip_prefix(&path("a")), Some(path("b")));
        assert_eq!(path("ab").strip_prefix(&path("a")), None);
        assert!(path("a/b").starts_with(&path("a")) && path("a").starts_with(&ImagePath::root()));
        assert!(!path("ab").starts_with(&path("a")));
        assert_eq!(path("a").join(&path("b/c")), path("a/b/c"));
        assert_eq!(path("a").join(&ImagePath::root()), path("a"));
        assert_eq!(path("a").join_cleaned(b"../../b"), path("b"));
    }

    proptest! {
        #[test]
        fn order_is_that_of_components(a in "[a/.+-]{0,8}", b in "[a/.+-]{0,8}") {
            let (a, b) = (path(&a), path(&b));
            prop_assert_eq!(a.cmp(&b), a.components().cmp(b.components()));
        }
    }
}
