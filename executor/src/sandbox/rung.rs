//! Which way of sandboxing works here.

use std::path::Path;

/// A rung of the sandbox ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// Namespaces and overlayfs with the machine's own root privileges.
    Root,
}

/// Why the rung can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    /// What is missing.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

/// Finds out whether steps can run here, with uppers on the filesystem of `store`.
pub fn probe(_store: &Path) -> Result<Rung, Unavailable> {
    todo!()
}
