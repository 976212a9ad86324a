//! Changesets as bytes, for a store: a byte with the form's number, then postcard.
//!
//! | form | is |
//! |---|---|
//! | 2 | a [`Changeset`] |
//! | 1 | the same where regular files alone have numbers of hard links, beside their size and digest: other objects had an entry by each name |
//!
//! A layer whose changeset is of an older form has the tar that it says.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Change, Changeset};
use crate::{Digest, ImagePath, Kind, Metadata, Node};

/// The form that is written.
const VERSION: u8 = 2;

/// The form before.
const FIRST: u8 = 1;

/// Why stored bytes are not a changeset.
#[derive(Debug, thiserror::Error)]
pub enum ChangesetError {
    /// Written by another version of kiln.
    #[error("a stored changeset has version {found:?}, not {VERSION} or less")]
    Version {
        /// The first byte; `None` if there was none.
        found: Option<u8>,
    },
    /// Cut short or damaged.
    #[error("could not read a stored changeset")]
    Damaged(#[source] postcard::Error),
    /// Could not be written.
    #[error("could not serialise a changeset")]
    Serialise(#[source] postcard::Error),
}

impl Changeset {
    /// For storing.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ChangesetError> {
        let mut start = Vec::with_capacity(128 * self.len() + 16);
        start.push(VERSION);
        postcard::to_extend(self, start).map_err(ChangesetError::Serialise)
    }

    /// Reads what [`Changeset::to_bytes`] wrote, now or in an older kiln.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChangesetError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(ChangesetError::Damaged),
            Some((&FIRST, rest)) => {
                let first: BTreeMap<ImagePath, FirstChange> =
                    postcard::from_bytes(rest).map_err(ChangesetError::Damaged)?;
                let now = |(path, change)| (path, Change::from(change));
                Ok(Self::from_sorted(first.into_iter().map(now).collect()))
            }
            other => Err(ChangesetError::Version {
                found: other.map(|(version, _)| *version),
            }),
        }
    }
}

/// [`Change`] in the first form.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
enum FirstChange {
    Put(FirstNode),
    Opaque(FirstNode),
    Remove,
}

/// [`Node`] in the first form.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct FirstNode {
    metadata: Metadata,
    kind: FirstKind,
}

/// [`Kind`] in the first form.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
enum FirstKind {
    Directory,
    File {
        size: u64,
        digest: Digest,
        link: Option<u64>,
    },
    Symlink {
        target: Vec<u8>,
    },
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    Socket,
}

impl From<FirstChange> for Change {
    fn from(change: FirstChange) -> Self {
        match change {
            FirstChange::Put(node) => Self::Put(node.into()),
            FirstChange::Opaque(node) => Self::Opaque(node.into()),
            FirstChange::Remove => Self::Remove,
        }
    }
}

impl From<FirstNode> for Node {
    fn from(FirstNode { metadata, kind }: FirstNode) -> Self {
        let (kind, link) = match kind {
            FirstKind::Directory => (Kind::Directory, None),
            FirstKind::File { size, digest, link } => (Kind::File { size, digest }, link),
            FirstKind::Symlink { target } => (Kind::Symlink { target }, None),
            FirstKind::CharDevice { major, minor } => (Kind::CharDevice { major, minor }, None),
            FirstKind::BlockDevice { major, minor } => (Kind::BlockDevice { major, minor }, None),
            FirstKind::Fifo => (Kind::Fifo, None),
            FirstKind::Socket => (Kind::Socket, None),
        };
        Self {
            metadata,
            kind,
            link,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn path(text: &[u8]) -> ImagePath {
        ImagePath::clean(text)
    }

    fn linked(mut node: Node, link: u64) -> Node {
        node.link = Some(link);
        node
    }

    #[test]
    fn bytes_and_back() {
        let mut changes = Changeset::new();
        changes.put(path(b"d"), Node::directory(Metadata::directory()));
        changes.put(path(b"d/\xff"), Node::file(b"x"));
        changes.put(path(b"l"), linked(Node::symlink("f"), 0));
        changes.put(path(b"m"), linked(Node::symlink("f"), 0));
        changes.make_opaque(path(b"o"));
        changes.whiteout(path(b"w"));
        let bytes = changes.to_bytes().unwrap();
        assert_eq!(Changeset::from_bytes(&bytes).unwrap(), changes);
        assert!(matches!(
            Changeset::from_bytes(&[9]),
            Err(ChangesetError::Version { found: Some(9) })
        ));
        assert!(matches!(
            Changeset::from_bytes(&[]),
            Err(ChangesetError::Version { found: None })
        ));
        assert!(matches!(
            Changeset::from_bytes(&bytes[..bytes.len() - 1]),
            Err(ChangesetError::Damaged(_))
        ));
    }

    #[test]
    fn the_first_form_is_read() {
        let node = |kind| FirstNode {
            metadata: Metadata::directory(),
            kind,
        };
        let file = FirstKind::File {
            size: 1,
            digest: Digest::of(b"x"),
            link: Some(3),
        };
        let symlink = FirstKind::Symlink {
            target: b"f".to_vec(),
        };
        let (major, minor) = (1, 3);
        let first = [
            (
                "b",
                FirstChange::Put(node(FirstKind::BlockDevice { major, minor })),
            ),
            (
                "c",
                FirstChange::Put(node(FirstKind::CharDevice { major, minor })),
            ),
            ("d", FirstChange::Opaque(node(FirstKind::Directory))),
            ("f", FirstChange::Put(node(file))),
            ("l", FirstChange::Put(node(symlink))),
            ("p", FirstChange::Put(node(FirstKind::Fifo))),
            ("s", FirstChange::Put(node(FirstKind::Socket))),
            ("w", FirstChange::Remove),
        ];
        let first: BTreeMap<_, _> = first
            .into_iter()
            .map(|(name, change)| (path(name.as_bytes()), change))
            .collect();
        let bytes = postcard::to_extend(&first, vec![FIRST]).unwrap();

        let put = |kind| Change::Put(Node::new(Metadata::directory(), kind));
        let mut file = Node::file(b"x");
        file.metadata = Metadata::directory();
        let target = b"f".to_vec();
        let now = [
            ("b", put(Kind::BlockDevice { major, minor })),
            ("c", put(Kind::CharDevice { major, minor })),
            ("d", Change::Opaque(Node::directory(Metadata::directory()))),
            ("f", Change::Put(linked(file, 3))),
            ("l", put(Kind::Symlink { target })),
            ("p", put(Kind::Fifo)),
            ("s", put(Kind::Socket)),
            ("w", Change::Remove),
        ];
        let now: Changeset = now
            .into_iter()
            .map(|(name, change)| (path(name.as_bytes()), change))
            .collect();
        assert_eq!(Changeset::from_bytes(&bytes).unwrap(), now);
    }
}
