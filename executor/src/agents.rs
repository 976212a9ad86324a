//! SSH agents that a build was given, by id (R-MNT-16): where they listen, and those that kiln runs itself for keys in files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::KeyAgent;

/// Agents by id. What kiln runs itself ends when all copies of this are gone.
#[derive(Debug, Clone, Default)]
pub struct Agents(Arc<BTreeMap<String, Agent>>);

/// One of them.
#[derive(Debug)]
pub enum Agent {
    /// Somebody else's, by its socket.
    Socket(PathBuf),
    /// Keys that were given as files.
    Keys(KeyAgent),
}

impl Agents {
    /// What they are called, sorted.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The socket of an agent; `None` if it was not given.
    ///
    /// # Errors
    /// The agent for keys in files can't be started.
    pub fn socket(&self, id: &str) -> io::Result<Option<&Path>> {
        match self.0.get(id) {
            None => Ok(None),
            Some(Agent::Socket(path)) => Ok(Some(path)),
            Some(Agent::Keys(agent)) => agent.socket().map(Some),
        }
    }
}

impl FromIterator<(String, Agent)> for Agents {
    fn from_iter<I: IntoIterator<Item = (String, Agent)>>(all: I) -> Self {
        Agents(Arc::new(all.into_iter().collect()))
    }
}
