//! What refs turned out to be, once for each of them in one run: a build never sees the two sides of a push.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Resolved;
use crate::error::Cause;
use crate::inflight::InFlight;

/// A remote and the name of a ref; empty for the default branch.
type Name = (String, String);

/// Answers of remotes.
pub(crate) struct ResolvedRefs {
    known: Mutex<HashMap<Name, Resolved>>,
    in_flight: InFlight<Name>,
}

impl ResolvedRefs {
    /// Nobody was asked yet.
    pub(crate) fn new() -> Self {
        ResolvedRefs {
            known: Mutex::default(),
            in_flight: InFlight::new(),
        }
    }

    /// What is known of a ref, or what `ask` finds out.
    pub(crate) fn get(
        &self,
        remote: &str,
        reference: &str,
        ask: impl FnOnce() -> Result<Resolved, Cause>,
    ) -> Result<Resolved, Cause> {
        let name = (remote.to_owned(), reference.to_owned());
        self.in_flight.alone(&name, || {
            let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(resolved) = known().get(&name) {
                return Ok(resolved.clone());
            }
            let resolved = ask()?;
            known().insert(name.clone(), resolved.clone());
            Ok(resolved)
        })
    }
}
