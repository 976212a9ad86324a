//! Which mode bits the files of a folder have: an image built from a checkout should not depend on the umask it was made with.

use kiln_image::{Kind, Node};

const EXECUTE: u32 = 0o111;

/// Where the mode bits of a context's files come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContextModes {
    /// The files have those they have on disk, as with Docker.
    #[default]
    Kept,
    /// Directories are 0755 and so are files that somebody may execute; other files are 0644.
    Canonical,
}

impl ContextModes {
    /// Gives an object of a context the mode it is copied and hashed with. Links have none of their own.
    pub(crate) fn apply(self, node: &mut Node) {
        let is_link = matches!(node.kind, Kind::Symlink { .. });
        if self == ContextModes::Kept || is_link {
            return;
        }
        let executable = node.is_directory() || node.metadata.mode & EXECUTE != 0;
        node.metadata.mode = if executable { 0o755 } else { 0o644 };
    }
}

#[cfg(test)]
mod tests {
    use kiln_image::Metadata;

    use super::*;

    fn applied(modes: ContextModes, kind: Kind, mode: u32) -> u32 {
        let metadata = Metadata::with_mode(mode);
        let mut node = Node::new(metadata, kind);
        modes.apply(&mut node);
        node.metadata.mode
    }

    #[test]
    fn canonical_modes_know_only_what_is_executable() {
        let canonical = |kind, mode| applied(ContextModes::Canonical, kind, mode);
        let link = || Kind::Symlink {
            target: b"x".to_vec(),
        };
        let file = || Node::file(b"").kind;
        assert_eq!(canonical(file(), 0o600), 0o644);
        assert_eq!(canonical(file(), 0o664), 0o644);
        assert_eq!(canonical(file(), 0o710), 0o755);
        assert_eq!(canonical(file(), 0o4755), 0o755);
        assert_eq!(canonical(Kind::Directory, 0o2700), 0o755);
        assert_eq!(canonical(Kind::Fifo, 0o600), 0o644);
        assert_eq!(canonical(link(), 0o777), 0o777);
        // R-COPY-15
        assert_eq!(applied(ContextModes::Kept, file(), 0o4711), 0o4711);
    }
}
