//! What a copy reads, for the cache's keys (R-CACHE-8, R-CACHE-12..16).
//!
//! | in | out |
//! |---|---|
//! | for each source its matches in order: base name, objects with their paths relative to it | where in the tree they are |
//! | of each object what R-CACHE-11 lists; context files as owned by root | mtime, hard links |
//! | | what `--exclude` leaves out, the metadata of a directory of which only the content is copied |

use kiln_image::{Digest, Digester, ImagePath, Kind};
use kiln_planner::{CopyOp, CopySourceOp};

use super::copy::{Piece, pieces};
use super::source::SourceTree;
use super::{CopyError, SourceTrees};

/// What one source of a copy reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Position in the instruction's list of sources.
    pub source_index: usize,
    /// What it names, in order; a pattern may name nothing.
    pub matches: Vec<Selected>,
}

/// One object that a source names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Base name of a file; empty for a directory, whose name has no part in what is copied.
    pub name: Vec<u8>,
    /// Digest of all that is read of it.
    pub digest: Digest,
    /// The objects, for saying which one made a difference.
    pub entries: Vec<SelectedEntry>,
}

/// One object that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedEntry {
    /// Path relative to what the source names; the root for the named object itself.
    pub path: ImagePath,
    /// Digest of the object: of a file with its content, of a directory without what is in it.
    pub digest: Digest,
}

/// What the copy reads, source by source.
pub fn select(op: &CopyOp, trees: &SourceTrees<'_>) -> Result<Vec<Selection>, CopyError> {
    let selection = |(source_index, source): (usize, &CopySourceOp)| {
        let matches = match source {
            CopySourceOp::Inline { name, content, .. } => vec![inline(name, content)],
            CopySourceOp::Path { input, .. } => {
                let tree = trees
                    .get(input)
                    .ok_or(CopyError::MissingInput { input: *input })?;
                let pieces = pieces(op, source_index, source, trees)?;
                pieces.iter().map(|piece| selected(tree, piece)).collect()
            }
        };
        Ok(Selection {
            source_index,
            matches,
        })
    };
    op.sources.iter().enumerate().map(selection).collect()
}

/// The regular files that the copy reads, with the input they are in: those whose digests a key needs.
pub fn selected_files(
    op: &CopyOp,
    trees: &SourceTrees<'_>,
) -> Result<Vec<(usize, ImagePath)>, CopyError> {
    let mut files = Vec::new();
    for (source_index, source) in op.sources.iter().enumerate() {
        let CopySourceOp::Path { input, .. } = source else {
            continue;
        };
        for piece in pieces(op, source_index, source, trees)? {
            match piece {
                Piece::Leaf { path, node, .. } if is_file(node.kind) => files.push((*input, path)),
                Piece::Leaf { .. } => {}
                Piece::Directory { path, entries, .. } => {
                    let below = entries.into_iter().filter(|(_, node)| is_file(node.kind));
                    files.extend(below.map(|(below, _)| (*input, path.join(&below))));
                }
            }
        }
    }
    Ok(files)
}

fn is_file(kind: &Kind) -> bool {
    matches!(kind, Kind::File { .. })
}

fn inline(name: &str, content: &[u8]) -> Selected {
    // R-CACHE-16
    let entries = vec![SelectedEntry {
        path: ImagePath::root(),
        digest: Digest::of(content),
    }];
    Selected {
        name: name.as_bytes().to_vec(),
        digest: digest_of(b"inline", &entries),
        entries,
    }
}

fn selected(tree: &SourceTree<'_>, piece: &Piece<'_>) -> Selected {
    let entry = |path: ImagePath, node: kiln_image::NodeRef<'_>| {
        let metadata = tree.metadata(node);
        SelectedEntry {
            path,
            digest: node.with_metadata(&metadata).own_digest(),
        }
    };
    match piece {
        Piece::Leaf { name, node, .. } => {
            let entries = vec![entry(ImagePath::root(), *node)];
            Selected {
                name: name.clone(),
                digest: digest_of(b"file", &entries),
                entries,
            }
        }
        Piece::Directory { entries, .. } => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(path, node)| entry(path.clone(), *node))
                .collect();
            Selected {
                name: Vec::new(),
                digest: digest_of(b"directory", &entries),
                entries,
            }
        }
    }
}

fn digest_of(kind: &[u8], entries: &[SelectedEntry]) -> Digest {
    let mut digester = Digester::new();
    let mut frame = |bytes: &[u8]| {
        digester.update(&(bytes.len() as u64).to_le_bytes());
        digester.update(bytes);
    };
    frame(kind);
    for entry in entries {
        frame(entry.path.as_bytes());
        frame(entry.digest.as_bytes());
    }
    digester.finish()
}
