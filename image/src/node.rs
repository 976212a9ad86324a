//! One object of a file tree without its name: what it is and what is known about it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Everything a file system records about an object besides what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Time of the last change of the content. Carried, never part of a digest.
    pub mtime: Timestamp,
    /// Extended attributes, full name to value.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A moment, counted from 1970-01-01 UTC.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Timestamp {
    /// Whole seconds; negative before 1970.
    pub secs: i64,
    /// Nanoseconds after `secs`.
    pub nanos: u32,
}

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A directory; what is in it is known by its place in a changeset or tree.
    Directory,
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Digest of the content.
        digest: Digest,
    },
    /// A symbolic link.
    Symlink {
        /// The text of the link.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket: part of a build's tree, never of a layer's tar (R-LAY-11).
    Socket,
}

/// An object: what it is and its metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Mode, owner, time, attributes.
    pub metadata: Metadata,
    /// What it is.
    pub kind: Kind,
    /// Objects of one layer with the same number are names of one object (hard links). Directories have none.
    pub link: Option<u64>,
}

impl Metadata {
    /// Owned by root, dated 1970, without attributes.
    pub const fn with_mode(mode: u32) -> Self {
        let mtime = Timestamp { secs: 0, nanos: 0 };
        Self {
            mode,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: BTreeMap::new(),
        }
    }

    /// What a directory gets that nobody described: 0755, owned by root.
    pub const fn directory() -> Self {
        Self::with_mode(0o755)
    }

    /// Equal but for the time.
    pub fn same_but_mtime(&self, other: &Self) -> bool {
        let own = (self.mode, self.uid, self.gid, &self.xattrs);
        own == (other.mode, other.uid, other.gid, &other.xattrs)
    }
}

impl Timestamp {
    /// The moment this many whole seconds after 1970.
    pub const fn from_secs(secs: i64) -> Self {
        Self { secs, nanos: 0 }
    }

    /// Whether both may be one moment: a time that went through a layer has whole seconds. Two times with a
    /// fraction have to be equal, or whether a file that is written again with the same content counts as changed
    /// would depend on the clock.
    pub const fn may_equal(self, other: Self) -> bool {
        let truncated = self.nanos == 0 || other.nanos == 0;
        self.secs == other.secs && (truncated || self.nanos == other.nanos)
    }
}

impl Kind {
    /// Whether this is a directory.
    pub const fn is_directory(&self) -> bool {
        matches!(self, Self::Directory)
    }

    /// The mode it has for a layer that says `mode`: the kernel gives no other than 0777 to a symlink (R-LAY-11).
    pub(crate) const fn mode_in_layers(&self, mode: u32) -> u32 {
        match self {
            Self::Symlink { .. } => 0o777,
            _ => mode,
        }
    }
}

impl Node {
    /// An object with one name.
    pub const fn new(metadata: Metadata, kind: Kind) -> Self {
        Self {
            metadata,
            kind,
            link: None,
        }
    }

    /// A directory.
    pub const fn directory(metadata: Metadata) -> Self {
        Self::new(metadata, Kind::Directory)
    }

    /// A regular file with this content, mode 0644, owned by root.
    pub fn file(content: &[u8]) -> Self {
        let kind = Kind::File {
            size: content.len() as u64,
            digest: Digest::of(content),
        };
        Self::new(Metadata::with_mode(0o644), kind)
    }

    /// A symbolic link, owned by root.
    pub fn symlink(target: impl Into<Vec<u8>>) -> Self {
        let target = target.into();
        Self::new(Metadata::with_mode(0o777), Kind::Symlink { target })
    }

    /// Whether this is a directory.
    pub const fn is_directory(&self) -> bool {
        self.kind.is_directory()
    }

    /// Whether this object, found where `other` was, is one that nobody wrote (R-LAY-7); hard links don't count.
    pub fn same_in_layer(&self, other: &Self) -> bool {
        self.metadata.same_but_mtime(&other.metadata)
            && self.metadata.mtime.may_equal(other.metadata.mtime)
            && self.kind == other.kind
    }
}
