//! The directories of cache mounts, as what takes space: which there are, whose they are, whether a step has one.
//!
//! Steps make and hold them (`executor`'s `op/cache_mount.rs` draws what is below `mounts/`). A directory is used by whoever
//! holds its lock file, and was last used when that file was last touched.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FlockOperation;

use crate::locks::lock;
use crate::store::read_file;
use crate::{Store, StoreError};

/// The file beside an id's directories that has the id as it was written.
const ID: &str = "id";

/// One directory.
#[derive(Debug)]
pub(crate) struct MountDir {
    pub path: PathBuf,
    /// The mount's id; its digest for one of an earlier kiln.
    pub id: String,
    pub last_used: SystemTime,
    pub in_use: bool,
}

impl Store {
    /// Notes what an id is, beside its directories `caches`, and that the one held by `lock` is used now.
    pub fn note_mount_use(&self, caches: &Path, id: &str, lock: &File) -> Result<(), StoreError> {
        self.note_growth();
        // A collection goes by it; one that can't be set is as old as the last change.
        let _ = lock.set_modified(SystemTime::now());
        let path = caches.join(ID);
        if path.exists() {
            return Ok(());
        }
        self.write_file(&path, &[id.as_bytes()])
    }

    /// All directories of cache mounts, in no order.
    pub(crate) fn mount_dirs(&self) -> Vec<MountDir> {
        let ids = list(&self.mounts_dir());
        ids.iter().flat_map(|caches| of_id(caches)).collect()
    }
}

fn of_id(caches: &Path) -> Vec<MountDir> {
    let written = read_file(&caches.join(ID)).ok().flatten();
    let id = match written {
        Some(id) => String::from_utf8_lossy(&id).into_owned(),
        None => file_name(caches),
    };
    let directories = list(caches).into_iter().filter(|path| path.is_dir());
    let mounts = directories.map(|path| {
        let lock_path = path.with_extension("lock");
        let used = fs::metadata(&lock_path).and_then(|lock| lock.modified());
        MountDir {
            id: id.clone(),
            last_used: used.unwrap_or(SystemTime::UNIX_EPOCH),
            in_use: is_held(&lock_path),
            path,
        }
    });
    mounts.collect()
}

/// Whether some process has a lock on the file.
pub(crate) fn is_held(path: &Path) -> bool {
    path.exists() && hold_alone(path).is_none()
}

/// Holds a file that is there and that nobody has a lock on.
pub(crate) fn hold_alone(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    lock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

pub(crate) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
