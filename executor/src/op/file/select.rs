//! What a copy reads, for the cache's keys (R-CACHE-8, R-CACHE-12..16).
//!
//! | in | out |
//! |---|---|
//! | for each source its matches in order: base name, objects with their paths relative to it | where in the tree they are |
//! | of each object what R-CACHE-11 lists; context files as owned by root | mtime, hard links |
//! | | what `--exclude` leaves out, the metadata of a directory of which only the content is copied |

use kiln_cache::FileFacts;
use kiln_image::{Digest, Digester, ImagePath, Kind};
use kiln_planner::{CopyOp, CopySourceOp};
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::copy::{Piece, pieces};
use super::source::SourceTree;
use super::{CopyError, SourceTrees};

/// So many objects are digested in the time it takes to wake a thread.
const WORTH_A_THREAD: usize = 256;

/// What one source of a copy reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Position in the instruction's list of sources.
    pub source_index: usize,
    /// What it names, in order; a pattern may name nothing.
    pub matches: Vec<Selected>,
    /// The links that lead there from what is written, for saying that one leads elsewhere.
    pub ways: Vec<(ImagePath, FileFacts)>,
}

/// One object that a source names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Base name of a file; empty for a directory, whose name has no part in what is copied.
    pub name: Vec<u8>,
    /// Where it is in the tree.
    pub place: ImagePath,
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
    /// What tells one kind of change from another; `None` of what the Dockerfile itself says.
    pub facts: Option<FileFacts>,
}

/// What the copy reads, source by source.
pub fn select(op: &CopyOp, trees: &SourceTrees<'_>) -> Result<Vec<Selection>, CopyError> {
    let selection = |(source_index, source): (usize, &CopySourceOp)| {
        let mut ways = Vec::new();
        let matches = match source {
            CopySourceOp::Inline { name, content, .. } => vec![inline(name, content)],
            CopySourceOp::Path { input, path, .. } => {
                let tree = trees
                    .get(input)
                    .ok_or(CopyError::MissingInput { input: *input })?;
                let pieces = pieces(op, source_index, source, trees)?;
                ways = tree.ways(path);
                pieces.iter().map(|piece| selected(tree, piece)).collect()
            }
        };
        Ok(Selection {
            source_index,
            matches,
            ways,
        })
    };
    op.sources.iter().enumerate().map(selection).collect()
}

/// The regular files that the copy reads and whose digests are not known yet, with the input they are in.
pub fn unread_files(
    op: &CopyOp,
    trees: &SourceTrees<'_>,
) -> Result<Vec<(usize, ImagePath)>, CopyError> {
    let mut files = Vec::new();
    for (input, piece) in all_pieces(op, trees)? {
        match piece {
            Piece::Leaf { path, node, .. } if is_unread(node.kind) => files.push((input, path)),
            Piece::Leaf { .. } => {}
            Piece::Directory { path, entries, .. } => {
                let below = entries.iter().filter(|below| is_unread(below.node.kind));
                files.extend(below.map(|below| (input, path.join(&below.path))));
            }
        }
    }
    Ok(files)
}

/// The regular files that sources to be unpacked name themselves, links followed, with the input they are in: those that
/// could be archives (R-ADD-2, R-ADD-5).
pub fn possible_archives(
    op: &CopyOp,
    trees: &SourceTrees<'_>,
) -> Result<Vec<(usize, ImagePath)>, CopyError> {
    let mut files = Vec::new();
    for (source_index, source) in op.sources.iter().enumerate() {
        let CopySourceOp::Path {
            input,
            unpack: true,
            ..
        } = source
        else {
            continue;
        };
        for piece in pieces(op, source_index, source, trees)? {
            match piece {
                Piece::Leaf { path, node, .. } if is_file(node.kind) => files.push((*input, path)),
                _ => {}
            }
        }
    }
    Ok(files)
}

/// What all path sources bring, in order, with the input it is in.
fn all_pieces<'a>(
    op: &CopyOp,
    trees: &SourceTrees<'a>,
) -> Result<Vec<(usize, Piece<'a>)>, CopyError> {
    let mut all = Vec::new();
    for (source_index, source) in op.sources.iter().enumerate() {
        if let CopySourceOp::Path { input, .. } = source {
            let brought = pieces(op, source_index, source, trees)?;
            all.extend(brought.into_iter().map(|piece| (*input, piece)));
        }
    }
    Ok(all)
}

fn is_file(kind: &Kind) -> bool {
    matches!(kind, Kind::File { .. })
}

fn is_unread(kind: &Kind) -> bool {
    matches!(kind, Kind::File { digest, .. } if *digest == Digest::UNKNOWN)
}

fn inline(name: &str, content: &[u8]) -> Selected {
    // R-CACHE-16
    let entries = vec![SelectedEntry {
        path: ImagePath::root(),
        digest: Digest::of(content),
        facts: None,
    }];
    Selected {
        name: name.as_bytes().to_vec(),
        place: ImagePath::root(),
        digest: digest_of(b"inline", &entries),
        entries,
    }
}

fn selected(tree: &SourceTree<'_>, piece: &Piece<'_>) -> Selected {
    let entry = |path: ImagePath, node: kiln_image::NodeRef<'_>| {
        let metadata = tree.metadata(node);
        let node = node.with_metadata(&metadata);
        let digest = node.own_digest();
        SelectedEntry {
            path,
            digest,
            facts: Some(FileFacts::with_digest(node, &digest)),
        }
    };
    match piece {
        Piece::Leaf { name, path, node } => {
            let entries = vec![entry(ImagePath::root(), *node)];
            Selected {
                name: name.clone(),
                place: path.clone(),
                digest: digest_of(b"file", &entries),
                entries,
            }
        }
        Piece::Directory { path, entries, .. } => {
            let entries: Vec<_> = entries
                .par_iter()
                .with_min_len(WORTH_A_THREAD)
                .map(|below| entry(below.path.clone(), below.node))
                .collect();
            Selected {
                name: Vec::new(),
                place: path.clone(),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kiln_image::{Change, Node, Tree};

    use super::super::testing::{changes, op, path, tree};
    use super::*;

    const FILES: &str =
        "f =1; g =1; a/f =1; b/f =1; d/ 700; d/x =2; d/s/y =3; l ->d; e/x =2; e/s/y =3";

    fn keys(text: &str, files: &str, is_context: bool) -> Vec<Vec<(Vec<u8>, Digest)>> {
        let files = tree(files);
        let trees = SourceTrees::from([(
            1,
            SourceTree {
                tree: &files,
                is_context,
            },
        )]);
        let selections = select(&op(text), &trees).unwrap();
        let matches = |selection: Selection| {
            selection
                .matches
                .into_iter()
                .map(|found| (found.name, found.digest))
                .collect()
        };
        selections.into_iter().map(matches).collect()
    }

    /// The files as they are before anybody has read them.
    fn unread(files: &str) -> Tree {
        let unread = |(path, mut change)| {
            if let Change::Put(Node {
                kind: Kind::File { digest, .. },
                ..
            }) = &mut change
            {
                *digest = Digest::UNKNOWN;
            }
            (path, change)
        };
        Tree::of(&changes(files).into_iter().map(unread).collect())
    }

    fn key(text: &str) -> Vec<Vec<(Vec<u8>, Digest)>> {
        keys(text, FILES, true)
    }

    #[test]
    fn names_and_contents_count_and_places_do_not() {
        // R-CACHE-8, R-CACHE-13
        assert_ne!(key("f /o"), key("g /o"));
        assert_eq!(key("a/f /o"), key("b/f /o"));
        assert_eq!(key("d /o"), key("l /o"));
        // R-CACHE-12: the directory's own mode is not copied.
        assert_eq!(key("d /o"), key("e /o"));
        assert_ne!(key("f g /o"), key("g f /o"));
        assert_eq!(key("zz* /o"), [Vec::new()]);
        // R-CACHE-13: what a pattern doesn't match
        assert_eq!(
            key("[fg] /o/"),
            keys("[fg] /o/", &format!("{FILES}; h =9"), true)
        );
        assert_ne!(key("* /o/"), keys("* /o/", &format!("{FILES}; h =9"), true));
    }

    #[test]
    fn what_of_a_file_counts() {
        // The table after R-CACHE-16
        let of = |files: &str, is_context| keys("f d /o/", files, is_context);
        let plain = "f =1; d/x =2";
        assert_eq!(of(plain, true), of("f =1 @9; d/x =2 @9; d/ @9", true));
        assert_ne!(of(plain, true), of("f 600 =1; d/x =2", true));
        assert_ne!(of(plain, true), of("f =9; d/x =2", true));
        assert_ne!(of(plain, true), of("f =1; d/y =2", true));
        // R-CACHE-15
        assert_eq!(of(plain, true), of("f =1 3:4; d/x =2 3:4", true));
        assert_ne!(of(plain, false), of("f =1 3:4; d/x =2", false));
    }

    #[test]
    fn excluded_files_do_not_count() {
        // R-CACHE-14, R-COPY-33
        let changed = FILES.replace("y =3", "y =4");
        assert_ne!(key("d /o"), keys("d /o", &changed, true));
        assert_eq!(
            key("--exclude=s d /o"),
            keys("--exclude=s d /o", &changed, true)
        );
        // With --parents the directories above count too.
        let chmod = FILES.replace("d/ 700", "d/ 755");
        assert_ne!(
            key("--parents d/x /o"),
            keys("--parents d/x /o", &chmod, true)
        );
        assert_eq!(
            key("--parents d/x /o"),
            keys("--parents d/x /o", &changed, true)
        );
    }

    #[test]
    fn inline_files_count_by_name_and_content() {
        // R-CACHE-16
        assert_eq!(key("<<A /o"), key("<<A /o"));
        assert_ne!(key("<<A /o"), key("<<B /o"));
    }

    #[test]
    fn only_selected_files_are_asked_for() {
        let files = unread(FILES);
        let trees = SourceTrees::from([(
            1,
            SourceTree {
                tree: &files,
                is_context: true,
            },
        )]);
        let selected = |text| unread_files(&op(text), &trees).unwrap();
        assert_eq!(
            selected("f l /o"),
            [(1, path("f")), (1, path("d/s/y")), (1, path("d/x"))]
        );
        assert_eq!(selected("--exclude=s d <<F /o"), [(1, path("d/x"))]);
    }
}
