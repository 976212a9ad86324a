//! Equal work in flight is done once, others wait for it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// One lock a key: the second comer waits, then finds the work done.
///
/// The caller looks, takes the lock, and looks again before working: what is shared is the result in the
/// store, not a value here.
pub(crate) struct InFlight<K> {
    locks: Mutex<HashMap<K, Arc<Mutex<()>>>>,
}

impl<K: Eq + Hash + Clone> InFlight<K> {
    /// Nothing in flight.
    pub(crate) fn new() -> Self {
        InFlight {
            locks: Mutex::new(HashMap::new()),
        }
    }

    /// Runs `work` while no other thread runs any for the same key.
    pub(crate) fn alone<T>(&self, key: &K, work: impl FnOnce() -> T) -> T {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.entry(key.clone()).or_default().clone()
        };
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }
}
