//! Digests of content: what a cache key knows about files (R-CACHE-11, R-CACHE-12).
//!
//! | in | out |
//! |---|---|
//! | type, mode with setuid, setgid and sticky, uid, gid | mtime, atime, ctime, inode |
//! | a file's size and content, a link's target, device numbers | hard links |
//! | xattrs: `security.capability` and all outside of `security.` and `system.` | other xattrs |
//! | names of a directory's entries with their digests, in order | names of users and groups |

use crate::{Digest, Directory, ImagePath, Kind, Metadata, NodeRef, Tree};

impl Tree {
    /// Digest of the object at `path` and all below it, without following links; `None` if there is nothing.
    /// Without `include_own_header` a directory's own metadata is left out: for a copy of what is in it.
    pub fn content_digest(&self, path: &ImagePath, include_own_header: bool) -> Option<Digest> {
        self.lookup(path)
            .map(|node| node.content_digest(include_own_header))
    }
}

impl NodeRef<'_> {
    /// Digest of this object and all below it; see [`Tree::content_digest`].
    pub fn content_digest(&self, include_own_header: bool) -> Digest {
        let mut frame = Vec::with_capacity(128);
        if include_own_header || self.directory.is_none() {
            frame_node(&mut frame, self.metadata, self.kind);
        }
        if let Some(directory) = self.directory {
            frame_entries(&mut frame, directory);
        }
        Digest::of(&frame)
    }
}

fn frame_entries(frame: &mut Vec<u8>, directory: &Directory) {
    frame.extend_from_slice(&(directory.entries.len() as u64).to_le_bytes());
    for (name, node) in directory.iter() {
        frame_bytes(frame, name);
        frame.extend_from_slice(node.content_digest(true).as_bytes());
    }
}

/// Appends bytes with their length in front.
pub(crate) fn frame_bytes(frame: &mut Vec<u8>, bytes: &[u8]) {
    frame.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    frame.extend_from_slice(bytes);
}

/// Appends all that counts of one object.
pub(crate) fn frame_node(frame: &mut Vec<u8>, metadata: &Metadata, kind: &Kind) {
    for number in [metadata.mode, metadata.uid, metadata.gid] {
        frame.extend_from_slice(&number.to_le_bytes());
    }
    let counted = metadata
        .xattrs
        .iter()
        .filter(|(name, _)| xattr_counts(name));
    frame.extend_from_slice(&(counted.clone().count() as u64).to_le_bytes());
    for (name, value) in counted {
        frame_bytes(frame, name);
        frame_bytes(frame, value);
    }
    frame_kind(frame, kind);
}

fn frame_kind(frame: &mut Vec<u8>, kind: &Kind) {
    match kind {
        Kind::Directory => frame.push(0),
        Kind::File {
            size,
            digest,
            link: _,
        } => {
            frame.push(1);
            frame.extend_from_slice(&size.to_le_bytes());
            frame.extend_from_slice(digest.as_bytes());
        }
        Kind::Symlink { target } => {
            frame.push(2);
            frame_bytes(frame, target);
        }
        Kind::CharDevice { major, minor } => frame_device(frame, 3, *major, *minor),
        Kind::BlockDevice { major, minor } => frame_device(frame, 4, *major, *minor),
        Kind::Fifo => frame.push(5),
        Kind::Socket => frame.push(6),
    }
}

fn frame_device(frame: &mut Vec<u8>, variant: u8, major: u32, minor: u32) {
    frame.push(variant);
    frame.extend_from_slice(&major.to_le_bytes());
    frame.extend_from_slice(&minor.to_le_bytes());
}

fn xattr_counts(name: &[u8]) -> bool {
    name == b"security.capability"
        || !(name.starts_with(b"security.") || name.starts_with(b"system."))
}
