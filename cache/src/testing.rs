//! What the tests of this crate begin with.
#![allow(clippy::unwrap_used)]

use tempfile::TempDir;

use crate::Store;

/// An empty store, and the directory that it goes with.
pub(crate) fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}
