//! SSH agents that a build was given, by id (R-MNT-16). Only where they listen is known here: no key of theirs ever passes through.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Sockets of agents by id.
#[derive(Debug, Clone, Default)]
pub struct Agents(Arc<BTreeMap<String, PathBuf>>);

impl Agents {
    /// The socket of an agent; `None` if it was not given.
    pub fn socket(&self, id: &str) -> Option<&Path> {
        self.0.get(id).map(PathBuf::as_path)
    }
}

impl FromIterator<(String, PathBuf)> for Agents {
    fn from_iter<I: IntoIterator<Item = (String, PathBuf)>>(all: I) -> Self {
        Agents(Arc::new(all.into_iter().collect()))
    }
}
