//! Locks between processes, all of them flock(2): the kernel drops a lock when its holder dies.
//!
//! - The *store lock* is shared for a moment by whoever notes that something is relied on ([`crate::lease`]) or takes stock, and
//!   exclusive for what removes from the store, so a build never sees something vanish that it has looked up.
//! - A *key lock* is held while one process works on one key; the others wait, then find the result
//!   (R-CACHE-20).

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kiln_image::{DiffId, Digest};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::{CacheKey, Store, StoreError};

/// The store is held as long as this lives.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct StoreLock {
    _file: File,
    exclusive: bool,
}

/// One key is held as long as this lives.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct KeyLock {
    _file: File,
    path: PathBuf,
}

impl StoreLock {
    /// Whether nobody else holds the store.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }
}

impl Store {
    /// Holds the store against removal; waits while a collection is running.
    pub fn lock_shared(&self) -> Result<StoreLock, StoreError> {
        let (file, path) = self.lock_file()?;
        lock(&file, FlockOperation::LockShared).map_err(StoreError::errno("lock", &path))?;
        Ok(StoreLock {
            _file: file,
            exclusive: false,
        })
    }

    /// Holds the store alone; `None` if another process (or another lock of this one) has it.
    pub fn try_lock_exclusive(&self) -> Result<Option<StoreLock>, StoreError> {
        let (file, path) = self.lock_file()?;
        match lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(StoreLock {
                _file: file,
                exclusive: true,
            })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(StoreError::errno("lock", path)(errno)),
        }
    }

    /// Holds one key; waits while another process or thread has it.
    pub fn lock_key(&self, key: &CacheKey) -> Result<KeyLock, StoreError> {
        self.lock_name(&key_name(&key.0), FlockOperation::LockExclusive)
            .map(|lock| lock.expect("a lock that waits ends up with it"))
    }

    /// Holds one key; `None` if another process or thread has it.
    pub fn try_lock_key(&self, key: &CacheKey) -> Result<Option<KeyLock>, StoreError> {
        self.lock_name(&key_name(&key.0), FlockOperation::NonBlockingLockExclusive)
    }

    /// Holds one layer while its directory is put in place; waits.
    pub(crate) fn lock_layer(&self, layer: &DiffId) -> Result<KeyLock, StoreError> {
        let name = format!("layer-{}", layer.0.hex());
        self.lock_name(&name, FlockOperation::LockExclusive)
            .map(|lock| lock.expect("a lock that waits ends up with it"))
    }

    /// Holds the name of an image while what it stands for is changed; waits.
    pub(crate) fn lock_image_name(&self, name: &str) -> Result<KeyLock, StoreError> {
        let name = format!("name-{}", Digest::of(name.as_bytes()).hex());
        self.lock_name(&name, FlockOperation::LockExclusive)
            .map(|lock| lock.expect("a lock that waits ends up with it"))
    }

    /// Holds the name of a container from its start to when it is kept; `None` if another process has it.
    pub fn try_lock_container_name(&self, name: &str) -> Result<Option<KeyLock>, StoreError> {
        let name = format!("container-{}", Digest::of(name.as_bytes()).hex());
        self.lock_name(&name, FlockOperation::NonBlockingLockExclusive)
    }

    fn lock_file(&self) -> Result<(File, PathBuf), StoreError> {
        let path = self.locks_dir().join("store");
        Ok((open(&path)?, path))
    }

    /// The file is unlinked by its last holder, so that `locks/` doesn't grow; whoever waited for a file that is
    /// gone by now starts over with the new one.
    fn lock_name(
        &self,
        name: &str,
        operation: FlockOperation,
    ) -> Result<Option<KeyLock>, StoreError> {
        let path = self.locks_dir().join(name);
        loop {
            let file = open(&path)?;
            match lock(&file, operation) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(StoreError::errno("lock", path)(errno)),
            }
            let links = file
                .metadata()
                .map_err(StoreError::io("read", &path))?
                .nlink();
            if links > 0 {
                return Ok(Some(KeyLock { _file: file, path }));
            }
        }
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // Still locked here. Left behind if it fails, which harms nobody.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn key_name(key: &Digest) -> String {
    format!("key-{}", key.hex())
}

/// A store that can't be written to can be held all the same, once somebody made the file.
pub(crate) fn open(path: &Path) -> Result<File, StoreError> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let opened = match options.mode(0o600).open(path) {
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => File::open(path),
        opened => opened,
    };
    opened.map_err(StoreError::io("open the lock", path))
}

/// flock(2), begun again when a signal comes in between.
pub(crate) fn lock(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    loop {
        match flock(file, operation) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::testing::store;

    #[test]
    fn the_store_is_shared_or_held_alone() {
        let (_dir, store) = store();
        let one = store.lock_shared().unwrap();
        let two = store.lock_shared().unwrap();
        assert!(store.try_lock_exclusive().unwrap().is_none());
        drop((one, two));
        let alone = store.try_lock_exclusive().unwrap().unwrap();
        assert!(alone.is_exclusive());
        assert!(store.try_lock_exclusive().unwrap().is_none());
        drop(alone);
        assert!(!store.lock_shared().unwrap().is_exclusive());
    }

    #[test]
    fn a_key_is_held_by_one_and_its_file_goes() {
        let (_dir, store) = store();
        let key = |text: &str| CacheKey(Digest::of(text.as_bytes()));
        let held = store.lock_key(&key("a")).unwrap();
        assert!(store.try_lock_key(&key("a")).unwrap().is_none());
        assert!(store.try_lock_key(&key("b")).unwrap().is_some());
        drop(held);
        assert!(store.try_lock_key(&key("a")).unwrap().is_some());
        assert_eq!(std::fs::read_dir(store.locks_dir()).unwrap().count(), 0);
    }

    #[test]
    fn work_on_one_key_is_done_one_after_the_other() {
        // R-CACHE-20.
        let (_dir, store) = store();
        let key = CacheKey(Digest::of(b"a"));
        let working = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _alone = store.lock_key(&key).unwrap();
                        assert_eq!(working.fetch_add(1, Ordering::SeqCst), 0);
                        working.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
