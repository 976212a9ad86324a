//! Records of steps that have ended, which are written while the next step runs and nobody waits for them.
//!
//! Until then the key stays held against other processes. Whoever asks for the record has it written first, and so does the end of the
//! build, however it ends; only a kill in the moment between two steps loses one, which then is a miss.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_cache::{ActionResult, CacheKey, KeyLock, Preimage, Store, StoreError};

/// Records that wait.
#[derive(Default)]
pub(crate) struct Unwritten {
    records: Mutex<Vec<Record>>,
    failure: Mutex<Option<StoreError>>,
}

struct Record {
    key: CacheKey,
    result: ActionResult,
    preimage: Preimage,
    held: Option<KeyLock>,
}

impl Unwritten {
    /// Leaves a record for later, and its key held.
    pub(crate) fn add(
        &self,
        key: CacheKey,
        result: ActionResult,
        preimage: Preimage,
        held: KeyLock,
    ) {
        let held = Some(held);
        self.records().push(Record {
            key,
            result,
            preimage,
            held,
        });
    }

    /// Hands a key over that is held for a record. The record is written all the same.
    pub(crate) fn hand_over(&self, key: &CacheKey) -> Option<KeyLock> {
        let mut records = self.records();
        let mut of_key = records.iter_mut().filter(|record| record.key == *key);
        of_key.find_map(|record| record.held.take())
    }

    /// Writes all that wait if there is one with this key.
    pub(crate) fn write_for(&self, key: &CacheKey, store: &Store) -> Result<(), StoreError> {
        let wanted = self.records().iter().any(|record| record.key == *key);
        if wanted { self.write(store) } else { Ok(()) }
    }

    /// Writes all that wait. The first failure is told, and keeps none of the others from being written.
    pub(crate) fn write(&self, store: &Store) -> Result<(), StoreError> {
        let records = mem::take(&mut *self.records());
        let written = records.iter().map(|record| {
            store
                .actions()
                .put(&record.key, &record.result, &record.preimage)
        });
        written.fold(Ok(()), Result::and)
    }

    /// The same where nobody could be told of a failure: [`Unwritten::finish`] tells.
    pub(crate) fn write_meanwhile(&self, store: &Store) {
        if let Err(error) = self.write(store) {
            self.failure().get_or_insert(error);
        }
    }

    /// Writes what still waits, and tells whether anything could not be written.
    pub(crate) fn finish(&self, store: &Store) -> Result<(), StoreError> {
        self.write_meanwhile(store);
        self.failure().take().map_or(Ok(()), Err)
    }

    fn failure(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn records(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
