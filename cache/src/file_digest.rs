//! What is kept of a file that a step read, so that a later miss can say what of it changed.
//!
//! There may be many of them beside a key, so they are short: digests are cut to what tells files apart, names of fields to a
//! letter, and what is usual is left out.

use std::fmt;

use kiln_image::{Digest, Kind, NodeRef};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Its path in the tree it was read from, for people.
    #[serde(rename = "p")]
    pub path: String,
    /// What counts of it.
    #[serde(rename = "f")]
    pub facts: FileFacts,
    /// Whether it is a link on the way to what was read, and not read itself.
    #[serde(rename = "w", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_way: bool,
}

/// What counts of a file (R-CACHE-11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// What it is.
    #[serde(rename = "k", default, skip_serializing_if = "FileKind::is_file")]
    pub kind: FileKind,
    /// Its mode bits.
    #[serde(rename = "m")]
    pub mode: u32,
    /// Its owner and group.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(u32, u32)>,
    /// What is in a regular file.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ShortDigest>,
    /// Where a symbolic link leads.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// All that counts; of a directory without what is in it.
    #[serde(rename = "d")]
    pub all: ShortDigest,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    #[default]
    #[serde(rename = "f")]
    File,
    /// A directory.
    #[serde(rename = "d")]
    Directory,
    /// A symbolic link.
    #[serde(rename = "l")]
    Link,
    /// A device, a pipe or a socket.
    #[serde(rename = "s")]
    Special,
}

/// The beginning of a digest: enough to tell two apart that nobody has made alike on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShortDigest([u8; 8]);

impl FileDigest {
    /// Of an object at a path. The owner of root's files goes without saying.
    pub fn of(path: String, node: NodeRef<'_>) -> Self {
        Self {
            path,
            facts: FileFacts::of(node),
            is_way: false,
        }
    }
}

impl FileFacts {
    /// Of an object.
    pub fn of(node: NodeRef<'_>) -> Self {
        Self::with_digest(node, &node.own_digest())
    }

    /// Of an object whose own digest is known.
    pub fn with_digest(node: NodeRef<'_>, digest: &Digest) -> Self {
        let owner = (node.metadata.uid, node.metadata.gid);
        let (kind, content, target) = match node.kind {
            Kind::File { digest, .. } => (FileKind::File, Some(digest.into()), None),
            Kind::Directory => (FileKind::Directory, None, None),
            Kind::Symlink { target } => {
                let target = String::from_utf8_lossy(target).into_owned();
                (FileKind::Link, None, Some(target))
            }
            _ => (FileKind::Special, None, None),
        };
        Self {
            kind,
            mode: node.metadata.mode,
            owner: (owner != (0, 0)).then_some(owner),
            content,
            target,
            all: digest.into(),
        }
    }
}

impl FileKind {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde hands a reference
    fn is_file(&self) -> bool {
        *self == Self::File
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a file",
            Self::Directory => "a directory",
            Self::Link => "a symbolic link",
            Self::Special => "a device, pipe or socket",
        })
    }
}

impl From<&Digest> for ShortDigest {
    fn from(digest: &Digest) -> Self {
        let (short, _) = digest.as_bytes().split_first_chunk().expect("32 bytes");
        Self(*short)
    }
}

impl fmt::Display for ShortDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for ShortDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ShortDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ShortDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16)
            .map(|number| Self(number.to_be_bytes()))
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kiln_image::{Change, ImagePath, Node, Tree};

    use super::*;

    fn facts(node: Node) -> FileFacts {
        let path = ImagePath::clean(b"f");
        let change = (path.clone(), Change::Put(node));
        let mut tree = Tree::new();
        tree.apply(0, &[change].into_iter().collect());
        FileFacts::of(tree.lookup(&path).unwrap())
    }

    #[test]
    fn facts_are_read_back() {
        let mut owned = Node::file(b"x");
        owned.metadata.uid = 7;
        for node in [Node::file(b"x"), Node::symlink("to"), owned] {
            let facts = facts(node);
            let json = serde_json::to_string(&facts).unwrap();
            assert_eq!(serde_json::from_str::<FileFacts>(&json).unwrap(), facts);
        }
    }

    #[test]
    fn a_plain_file_is_short() {
        let json = serde_json::to_string(&facts(Node::file(b"x"))).unwrap();
        assert!(json.len() < 70, "{json}");
        assert!(!json.contains("\"o\"") && !json.contains("\"k\""), "{json}");
    }
}
