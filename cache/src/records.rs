//! Results of steps by key: the action cache.
//!
//! A record is either a result or an alias, the key under which the result is. Only results that are whole are ever
//! handed out: the layer a record names has to be there too. Failures are not recorded (R-CACHE-21).

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use kiln_image::{DiffId, Digest};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
use serde::{Deserialize, Serialize};

use crate::file_digest::FileDigest;
use crate::framed::{self, Framed};
use crate::key::{CacheKey, OutputId, Preimage};
use crate::miss::{Closest, MissReason};
use crate::{Store, StoreError};

/// An alias leads to a result, or to one alias made from an older store's; never further.
const LONGEST_CHAIN: usize = 4;

/// The store's records.
#[derive(Debug, Clone, Copy)]
pub struct ActionCache<'s> {
    store: &'s Store,
}

/// What a step gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionResult {
    /// The root filesystem after it.
    pub output: OutputId,
    /// The layer it made; `None` if it changed nothing.
    pub layer: Option<DiffId>,
    /// When it ended.
    pub created: Timestamp,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
}

/// What a look-up came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A result, and its layer is in the store.
    Hit(ActionResult),
    /// No record.
    Absent,
    /// A record that can't be used: a miss all the same.
    Damaged {
        /// What is damaged or gone.
        what: String,
    },
}

/// What is stored under a key.
#[derive(Serialize, Deserialize)]
pub(crate) enum Record {
    /// What the step gave.
    Result(ActionResult),
    /// The key to look under instead.
    Alias(CacheKey),
}

impl<'s> ActionCache<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self { store }
    }

    /// The result of the step with this key, if it is there and whole.
    pub fn get(&self, key: &CacheKey) -> Option<ActionResult> {
        match self.find(key) {
            Found::Hit(result) => Some(result),
            Found::Absent | Found::Damaged { .. } => None,
        }
    }

    /// Like [`ActionCache::get`], telling a missing record from a damaged one.
    pub fn find(&self, key: &CacheKey) -> Found {
        match self.follow(key) {
            Ok((_, result)) => Found::Hit(result),
            Err(None) => Found::Absent,
            Err(Some(what)) => Found::Damaged { what },
        }
    }

    /// The result a key leads to and the key it is under, or what is damaged on the way.
    fn follow(&self, key: &CacheKey) -> Result<(CacheKey, ActionResult), Option<String>> {
        let mut key = *key;
        for _ in 0..LONGEST_CHAIN {
            match self.read(&key).map_err(Some)? {
                Some(Record::Alias(next)) => key = next,
                Some(Record::Result(result)) => {
                    self.note_use(&key);
                    return self.whole(result).map(|result| (key, result)).map_err(Some);
                }
                None => return Err(None),
            }
        }
        Err(Some("the cache record leads nowhere".to_owned()))
    }

    /// Records what a step gave, and what its key was made of. The layer must be in the store already.
    pub fn put(
        &self,
        key: &CacheKey,
        result: &ActionResult,
        preimage: &Preimage,
    ) -> Result<(), StoreError> {
        self.write(key, &Record::Result(result.clone()))?;
        self.put_preimage(key, preimage)?;
        if let Some(step) = &preimage.step {
            framed::keep(self.store, &self.step_path(step), key.0.as_bytes())?;
        }
        Ok(())
    }

    /// Keeps what a key was made of that has no record here: that of a step which failed, or of another machine's, with which
    /// steps are compared. What is known of a step that was done stays.
    pub fn put_undone(&self, key: &CacheKey, preimage: &Preimage) -> Result<(), StoreError> {
        if self.was_done(key) {
            return Ok(());
        }
        let preimage = Preimage {
            undone: true,
            ..preimage.clone()
        };
        self.put_preimage(key, &preimage)
    }

    fn put_preimage(&self, key: &CacheKey, preimage: &Preimage) -> Result<(), StoreError> {
        let shown = preimage.clone().concealed();
        let json = serde_json::to_vec(&shown).map_err(serialise("a key's preimage"))?;
        framed::keep(self.store, &self.preimage_path(key), &json)
    }

    /// Tells of other files that give the same key, if links lead to them that did not when the step was done: what is compared with
    /// them later is to differ by what changed since.
    pub fn retell(&self, key: &CacheKey, files: Vec<FileDigest>) -> Result<(), StoreError> {
        let Some(known) = self.preimage(key) else {
            return Ok(());
        };
        let ways = |files: &[FileDigest]| -> Vec<FileDigest> {
            let ways = files.iter().filter(|file| file.is_way);
            ways.cloned().collect()
        };
        if ways(&known.files) == ways(&files) {
            return Ok(());
        }
        self.put_preimage(key, &Preimage { files, ..known })
    }

    /// Records what a step gave where nobody knows what its key was made of.
    pub(crate) fn put_result(
        &self,
        key: &CacheKey,
        result: &ActionResult,
    ) -> Result<(), StoreError> {
        self.write(key, &Record::Result(result.clone()))
    }

    /// Makes the result under `target` be found under `key` too.
    pub fn alias(&self, key: &CacheKey, target: &CacheKey) -> Result<(), StoreError> {
        if key == target {
            return Ok(());
        }
        self.write(key, &Record::Alias(*target))
    }

    /// What the key of a record was made of.
    pub fn preimage(&self, key: &CacheKey) -> Option<Preimage> {
        let json = framed::read(&self.preimage_path(key)).whole()?;
        serde_json::from_slice(&json).ok()
    }

    /// The key of the result that [`ActionCache::get`] finds under this one, and the result.
    pub fn get_with_key(&self, key: &CacheKey) -> Option<(CacheKey, ActionResult)> {
        match self.follow(key) {
            Ok((key, result)) => Some((key, result)),
            Err(_) => None,
        }
    }

    /// Whether a step with this key was done in this store, even if its record was collected since.
    pub fn was_done(&self, key: &CacheKey) -> bool {
        let is_done = |preimage: Preimage| !preimage.undone;
        self.preimage_path(key).exists() && self.preimage(key).is_some_and(is_done)
    }

    /// Whether this step of some Dockerfile was ever done; see [`Preimage::step`].
    pub fn knows_step(&self, step: &str) -> bool {
        self.step_path(step).exists()
    }

    /// Why [`ActionCache::get`] found nothing under the preimage's key.
    pub fn explain(&self, preimage: &Preimage) -> MissReason {
        match self.find(&preimage.key()) {
            Found::Damaged { what } => MissReason::Damaged { what },
            Found::Hit(_) | Found::Absent => MissReason::NoRecord {
                closest: self.closest(preimage),
            },
        }
    }

    /// All records' keys with the time of their last use, in no order.
    pub fn list(&self) -> Result<Vec<(CacheKey, SystemTime)>, StoreError> {
        let directory = self.store.dir("actions");
        let entries = fs::read_dir(&directory).map_err(StoreError::io("list", &directory))?;
        let keys = entries.flatten().filter_map(|entry| {
            let key = Digest::from_hex(entry.file_name().to_str()?).ok()?;
            let used = entry.metadata().ok()?.modified().ok()?;
            Some((CacheKey(key), used))
        });
        Ok(keys.collect())
    }

    /// A record as it is stored; doesn't count as a use. `None` if it is damaged or there is none.
    pub(crate) fn record(&self, key: &CacheKey) -> Option<Record> {
        self.read(key).ok().flatten()
    }

    /// Forgets a record, if there is one. What its key was made of stays for a while, so that the miss that comes of it
    /// can be explained.
    pub fn remove(&self, key: &CacheKey) -> Result<(), StoreError> {
        let path = self.record_path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", path)(error));
            }
            _ => {}
        }
        touch(&self.preimage_path(key));
        Ok(())
    }

    /// Counts the time of a record's last use from now.
    pub(crate) fn note_use(&self, key: &CacheKey) {
        touch(&self.record_path(key));
    }

    /// Forgets what keys without a record were made of, if that was so before `since` and none of `kept` is among them.
    pub(crate) fn forget_preimages(&self, since: SystemTime, kept: &HashSet<CacheKey>) {
        let preimages = fs::read_dir(self.store.dir("preimages"));
        for preimage in preimages.into_iter().flatten().flatten() {
            let written = preimage.metadata().and_then(|metadata| metadata.modified());
            let record = self.store.dir("actions").join(preimage.file_name());
            let name = preimage.file_name();
            let key = name.to_str().and_then(|hex| Digest::from_hex(hex).ok());
            let is_kept = key.is_some_and(|key| kept.contains(&CacheKey(key)));
            if !is_kept && written.is_ok_and(|written| written < since) && !record.exists() {
                let _ = fs::remove_file(preimage.path());
            }
        }
    }

    fn closest(&self, preimage: &Preimage) -> Option<Closest> {
        let step = preimage.step.as_ref()?;
        let bytes = framed::read(&self.step_path(step)).whole()?;
        let key = CacheKey(Digest::from_bytes(bytes.try_into().ok()?));
        let earlier = self.preimage(&key)?;
        Some(Closest {
            key,
            differences: preimage.clone().concealed().differences(&earlier),
        })
    }

    fn whole(&self, result: ActionResult) -> Result<ActionResult, String> {
        match &result.layer {
            Some(layer) if !self.store.layers().is_whole(layer) => {
                Err(format!("its layer {layer} is no longer in the store"))
            }
            _ => Ok(result),
        }
    }

    fn read(&self, key: &CacheKey) -> Result<Option<Record>, String> {
        let damaged = || "its cache record is damaged".to_owned();
        match framed::read(&self.record_path(key)) {
            Framed::Absent => Ok(None),
            Framed::Damaged => Err(damaged()),
            Framed::Whole(body) => postcard::from_bytes(&body).map(Some).map_err(|_| damaged()),
        }
    }

    fn write(&self, key: &CacheKey, record: &Record) -> Result<(), StoreError> {
        let body = postcard::to_stdvec(record).map_err(serialise("a cache record"))?;
        framed::write(self.store, &self.record_path(key), &body)
    }

    fn record_path(&self, key: &CacheKey) -> PathBuf {
        self.store.dir("actions").join(key.0.hex())
    }

    fn preimage_path(&self, key: &CacheKey) -> PathBuf {
        self.store.dir("preimages").join(key.0.hex())
    }

    fn step_path(&self, step: &str) -> PathBuf {
        self.store
            .dir("steps")
            .join(Digest::of(step.as_bytes()).hex())
    }
}

/// Sets a file's time to now: collection goes by it. A store that can't be written to is read all the same.
pub(crate) fn touch(path: &Path) {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    let _ = utimensat(CWD, path, &times, AtFlags::empty());
}

fn serialise<E: std::error::Error + Send + Sync + 'static>(
    what: &'static str,
) -> impl FnOnce(E) -> StoreError {
    move |source| StoreError::Serialise {
        what,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kiln_image::Changeset;

    use super::*;
    use crate::key::Value;
    use crate::miss::Difference;
    use crate::testing::store;

    fn result(layer: Option<DiffId>) -> ActionResult {
        ActionResult {
            output: OutputId::scratch(),
            layer,
            created: Timestamp::UNIX_EPOCH,
            duration_ms: 7,
        }
    }

    fn step(command: &str) -> Preimage {
        Preimage::new("exec")
            .field("argv", Value::List(vec![command.to_owned()]))
            .of_step("app 2/4")
    }

    #[test]
    fn a_result_is_found_by_key_and_by_alias() {
        let (_dir, store) = store();
        let (key, alias) = (step("make").key(), step("other").key());
        assert_eq!(store.actions().find(&key), Found::Absent);
        store
            .actions()
            .put(&key, &result(None), &step("make"))
            .unwrap();
        store.actions().alias(&alias, &key).unwrap();
        assert_eq!(store.actions().get(&key), Some(result(None)));
        assert_eq!(store.actions().get(&alias), Some(result(None)));
        assert_eq!(store.actions().preimage(&key), Some(step("make")));
        store.actions().remove(&key).unwrap();
        assert_eq!(store.actions().get(&alias), None);
    }

    #[test]
    fn a_result_without_its_layer_is_a_miss() {
        let (_dir, store) = store();
        let layer = DiffId(Digest::of(b"tar"));
        let key = step("make").key();
        store
            .actions()
            .put(&key, &result(Some(layer)), &step("make"))
            .unwrap();
        assert!(matches!(store.actions().find(&key), Found::Damaged { .. }));
        let reason = store.actions().explain(&step("make"));
        assert!(matches!(reason, MissReason::Damaged { .. }));
        let staging = store.layers().stage().unwrap();
        staging.create_fs().unwrap();
        staging.commit(&layer, &Changeset::new(), 0).unwrap();
        assert!(store.actions().get(&key).is_some());
    }

    #[test]
    fn damage_anywhere_is_a_miss() {
        let (_dir, store) = store();
        let key = step("make").key();
        store
            .actions()
            .put(&key, &result(None), &step("make"))
            .unwrap();
        let path = store.actions().record_path(&key);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert_eq!(store.actions().get(&key), None, "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(store.actions().get(&key), None, "cut at {at}");
        }
    }

    #[test]
    fn aliases_in_a_circle_are_a_miss() {
        let (_dir, store) = store();
        let (one, two) = (step("one").key(), step("two").key());
        store.actions().alias(&one, &two).unwrap();
        store.actions().alias(&two, &one).unwrap();
        assert_eq!(store.actions().get(&one), None);
    }

    #[test]
    fn a_miss_is_compared_with_the_last_time() {
        let (_dir, store) = store();
        assert_eq!(
            store.actions().explain(&step("make")),
            MissReason::NoRecord { closest: None }
        );
        let key = step("make").key();
        store
            .actions()
            .put(&key, &result(None), &step("make"))
            .unwrap();
        let MissReason::NoRecord {
            closest: Some(closest),
        } = store.actions().explain(&step("make all"))
        else {
            panic!("the step was seen before");
        };
        assert_eq!(closest.key, key);
        assert!(
            matches!(&closest.differences[..], [Difference::Field { name, .. }] if name == "argv")
        );
    }

    #[test]
    fn a_use_is_noted() {
        let (_dir, store) = store();
        let key = step("make").key();
        store
            .actions()
            .put(&key, &result(None), &step("make"))
            .unwrap();
        let file = fs::File::open(store.actions().record_path(&key)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(
            store.actions().list().unwrap(),
            [(key, SystemTime::UNIX_EPOCH)]
        );
        store.actions().get(&key).unwrap();
        assert!(store.actions().list().unwrap()[0].1 > SystemTime::UNIX_EPOCH);
    }
}
