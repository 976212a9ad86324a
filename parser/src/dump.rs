//! The tree as readable text, for tests and for `kiln plan --ast`.

use crate::Parsed;

/// The whole tree, one line a node.
#[must_use]
pub fn dump(parsed: &Parsed) -> String {
    let _ = parsed;
    todo!()
}
