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
    /// Digest of this object alone: of a directory, what is known about it but not what is in it.
    pub fn own_digest(&self) -> Digest {
        let mut frame = Vec::with_capacity(128);
        frame_node(&mut frame, self.metadata, self.kind);
        Digest::of(&frame)
    }

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
        Kind::File { size, digest } => {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{Change, Changeset, Node, Timestamp};

    fn path(text: &str) -> ImagePath {
        ImagePath::clean(text.as_bytes())
    }

    /// Digest of `d`, holding a file `f` and a link `l`, after `edit`.
    fn digest(edit: impl Fn(&mut Changeset, &mut Node)) -> Digest {
        let mut changes = Changeset::new();
        changes.put(path("d"), Node::directory(Metadata::directory()));
        changes.put(path("d/l"), Node::symlink("f"));
        let mut file = Node::file(b"x");
        edit(&mut changes, &mut file);
        changes.put(path("d/f"), file);
        Tree::of(&changes).content_digest(&path("d"), true).unwrap()
    }

    #[test]
    fn what_counts_and_what_does_not() {
        // R-CACHE-11
        let plain = digest(|_, _| {});
        let xattr = |name: &'static [u8]| {
            move |_: &mut Changeset, file: &mut Node| {
                file.metadata.xattrs.insert(name.to_vec(), b"v".to_vec());
            }
        };
        assert_eq!(
            plain,
            digest(|_, file| file.metadata.mtime = Timestamp::from_secs(9)),
            "mtime"
        );
        assert_eq!(plain, digest(xattr(b"security.selinux")));
        assert_eq!(plain, digest(xattr(b"system.posix_acl_access")));
        let linked = digest(|_, file| {
            file.link = Some(4);
        });
        assert_eq!(plain, linked);

        let differ = [
            digest(|_, file| file.metadata.mode = 0o4644),
            digest(|_, file| file.metadata.uid = 1),
            digest(|_, file| file.metadata.gid = 1),
            digest(|_, file| *file = Node::file(b"y")),
            digest(|_, file| file.kind = Kind::Fifo),
            digest(|_, file| file.kind = Kind::CharDevice { major: 1, minor: 3 }),
            digest(|_, file| file.kind = Kind::BlockDevice { major: 1, minor: 3 }),
            digest(|_, file| file.kind = Kind::CharDevice { major: 3, minor: 1 }),
            digest(xattr(b"security.capability")),
            digest(xattr(b"user.a")),
            digest(xattr(b"trusted.a")),
            digest(|changes, _| changes.put(path("d/l"), Node::symlink("g"))),
            digest(|changes, _| changes.put(path("d/n"), Node::file(b""))),
            digest(|changes, _| changes.insert(path("d/l"), Change::Remove)),
            plain,
        ];
        let distinct: std::collections::BTreeSet<_> = differ.iter().collect();
        assert_eq!(distinct.len(), differ.len());
    }

    #[test]
    fn a_directory_s_own_header_can_be_left_out() {
        // R-CACHE-12
        let with_mode = |mode| {
            let mut changes = Changeset::new();
            changes.put(path("d"), Node::directory(Metadata::with_mode(mode)));
            changes.put(path("d/f"), Node::file(b""));
            Tree::of(&changes)
        };
        let [a, b] = [0o755, 0o700].map(with_mode);
        assert_eq!(
            a.content_digest(&path("d"), false),
            b.content_digest(&path("d"), false)
        );
        assert_ne!(
            a.content_digest(&path("d"), true),
            b.content_digest(&path("d"), true)
        );
        assert_eq!(
            a.content_digest(&path("d/f"), false),
            a.content_digest(&path("d/f"), true)
        );
        assert_eq!(a.content_digest(&path("x"), true), None);
    }
}
