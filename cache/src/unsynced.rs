//! The notes in a layer's directory that say it isn't surely on the disk yet.
//!
//! Whoever has brought a layer to the disk takes away the notes that were there before it began, and no other: one that came
//! since speaks of a form that another process put there in the meantime.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::StoreError;

/// A note as it was found.
#[derive(Debug)]
pub(crate) struct UnsyncedNote {
    path: PathBuf,
    written: Written,
}

/// What no two files written one after the other to one path share: the inode, and the time of its last change in
/// seconds and nanoseconds.
type Written = (u64, i64, i64);

impl UnsyncedNote {
    /// The note at `path`, if there is one.
    pub(crate) fn find(path: PathBuf) -> Option<Self> {
        let written = written(&path)?;
        Some(Self { path, written })
    }

    /// Takes it away, unless it was replaced since it was found. Call with the layer's lock.
    pub(crate) fn remove(&self) -> Result<(), StoreError> {
        match written(&self.path) {
            Some(now) if now == self.written => remove_note(&self.path),
            _ => Ok(()),
        }
    }
}

/// Takes away the note at `path`, if there is one.
pub(crate) fn remove_note(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn written(path: &Path) -> Option<Written> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}
