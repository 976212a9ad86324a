//! Telling archives among ADD's sources by their content (R-ADD-2).

use std::io::Read;

use kiln_image::compress::decoder;
use kiln_image::{ImagePath, Node};
use kiln_planner::CopyOp;

use super::file::{SourceTrees, selected_files};
use crate::error::Cause;

/// How much of a file is looked at, in bytes: enough of a compressed one to have a whole tar header.
pub(crate) const HEAD: u64 = 128 * 1024;

/// A tar header's length, and where it says so, in bytes.
const BLOCK: usize = 512;
const MAGIC: std::ops::Range<usize> = 257..262;

/// Fails if a file that ADD names is an archive, which this version can't unpack.
pub(crate) fn refuse(
    op: &CopyOp,
    trees: &SourceTrees<'_>,
    head: impl Fn(usize, &ImagePath, &Node) -> Result<Vec<u8>, Cause>,
) -> Result<(), Cause> {
    for (input, path) in selected_files(op, trees)? {
        let is_source = op.sources.iter().any(|source| match source {
            kiln_planner::CopySourceOp::Path { path: named, .. } => {
                named.trim_start_matches('/') == path.to_string()
            }
            kiln_planner::CopySourceOp::Inline { .. } => false,
        });
        let Some(node) = trees[&input].tree.lookup(&path).filter(|_| is_source) else {
            continue;
        };
        if is_archive(&head(input, &path, &node.node())?) {
            return Err(Cause::Unsupported(format!(
                "unpacking the archive `{path}` with ADD is not supported by this version of kiln: \
                 copy it with `ADD --unpack=false` and unpack it in a RUN"
            )));
        }
    }
    Ok(())
}

/// Whether a file that begins like this is a tar, as it is or compressed. Formats that can't be looked into here
/// count as archives.
fn is_archive(head: &[u8]) -> bool {
    const XZ: &[u8] = b"\xfd7zXZ\0";
    const BZIP2: &[u8] = b"BZh";
    if head.starts_with(XZ) || head.starts_with(BZIP2) {
        return true;
    }
    let mut block = Vec::new();
    let read = decoder(head).and_then(|plain| plain.take(BLOCK as u64).read_to_end(&mut block));
    read.is_ok() && block.get(MAGIC).is_some_and(|magic| magic == b"ustar")
}

#[cfg(test)]
mod tests {
    use super::is_archive;

    #[test]
    fn archives_are_told_by_content() {
        // R-ADD-2
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert!(is_archive(&tar));
        assert!(!is_archive(b""));
        assert!(!is_archive(&[0; 1024]));
        assert!(!is_archive(b"plain text"));
    }
}
