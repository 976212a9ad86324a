//! Where things are made before they are whole.
//!
//! Each process that writes has one directory below `tmp/`, which it holds with flock(2) as long as it lives.
//! A directory that can be locked belongs to nobody: it was left by a process that died, and the next process
//! that comes here to write removes it. No process id is looked at, so it makes no difference whether the
//! processes that share a store see each other's.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, FlockOperation, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::StoreError;
use crate::loan;
use crate::locks::lock;
use crate::sweeper::Sweeper;

/// The directory of this process below `tmp/`; removed when dropped.
#[derive(Debug)]
pub(crate) struct Session {
    path: PathBuf,
    _held: File,
    next: AtomicU64,
    sweeper: Arc<Sweeper>,
}

/// A path below `tmp/` for something being made; whatever is there when this is dropped is removed, directories by the
/// [`Sweeper`].
#[derive(Debug)]
pub(crate) struct TmpPath {
    path: PathBuf,
    sweeper: Arc<Sweeper>,
    /// Whether nothing is there any more: what was made has got its name elsewhere.
    gone: bool,
}

impl Session {
    /// Makes a directory below `tmp` that is held by this process, and sweeps those held by none.
    pub(crate) fn begin(tmp: &Path) -> Result<Self, StoreError> {
        sweep(tmp);
        loop {
            let made = tempfile::Builder::new()
                .prefix("kiln-")
                .permissions(fs::Permissions::from_mode(0o700))
                .tempdir_in(tmp)
                .map_err(StoreError::io("create a directory in", tmp))?;
            let path = made.keep();
            let held = hold(&path).map_err(StoreError::io("lock", &path))?;
            // None if a sweeper was here between the making and the holding.
            if let Some(held) = held {
                return Ok(Self {
                    path,
                    _held: held,
                    next: AtomicU64::new(0),
                    sweeper: Arc::default(),
                });
            }
        }
    }

    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        &self.path
    }

    /// A path nobody else uses, with nothing there yet.
    pub(crate) fn path(&self) -> TmpPath {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        TmpPath {
            path: self.path.join(number.to_string()),
            sweeper: self.sweeper.clone(),
            gone: false,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sweeper.finish();
        remove_all(&self.path);
    }
}

impl TmpPath {
    pub(crate) fn as_path(&self) -> &Path {
        &self.path
    }

    /// Creates the file.
    pub(crate) fn create_file(&self) -> Result<File, StoreError> {
        use std::os::unix::fs::OpenOptionsExt;
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(StoreError::io("create", &self.path))
    }

    /// Creates the directory.
    pub(crate) fn create_dir(&self) -> Result<(), StoreError> {
        create_dir(&self.path)
    }

    /// Removes what is there now, where somebody may look.
    pub(crate) fn remove_now(&mut self) {
        remove_all(&self.path);
        self.gone = true;
    }

    /// Moves the file to its name, in place of what is there.
    pub(crate) fn publish(mut self, to: &Path) -> Result<(), StoreError> {
        fs::rename(&self.path, to).map_err(StoreError::io("rename into place", to))?;
        self.gone = true;
        Ok(())
    }

    /// As [`TmpPath::publish`], ten times as fast where something is there: ext4 brings a file to the disk at once that is renamed over
    /// another, but not one that is exchanged with it.
    pub(crate) fn exchange(mut self, to: &Path) -> Result<(), StoreError> {
        if renameat_with(CWD, &self.path, CWD, to, RenameFlags::EXCHANGE).is_err() {
            return self.publish(to); // nothing is there, or the filesystem exchanges nothing
        }
        self.gone = fs::remove_file(&self.path).is_ok();
        Ok(())
    }
}

impl Drop for TmpPath {
    fn drop(&mut self) {
        if !self.gone {
            self.sweeper.remove(std::mem::take(&mut self.path));
        }
    }
}

/// Removes what dead processes left in `tmp`. Failures are left for the next time.
pub(crate) fn sweep(tmp: &Path) {
    let Ok(entries) = fs::read_dir(tmp) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if let Ok(Some(_held)) = hold(&path) {
            if let Some(root) = tmp.parent() {
                loan::bring_home(root, &path);
            }
            remove_all(&path);
        }
    }
}

/// Makes a directory only its owner can enter.
pub(crate) fn create_dir(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(StoreError::io("create the directory", path))
}

/// Takes a directory below `tmp/`; `None` if it is another's, or gone.
fn hold(path: &Path) -> io::Result<Option<File>> {
    let directory = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match lock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        locked => locked?,
    }
    let is_there = directory.metadata()?.nlink() > 0 && path.exists();
    Ok(is_there.then_some(directory))
}

/// Removes a file or a whole directory, as far as that is possible.
pub(crate) fn remove_all(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return,
    };
    // The kernel makes overlay's work directory with mode 0, and a RUN may take its own rights away.
    if matches!(removed, Err(error) if error.kind() == io::ErrorKind::PermissionDenied) {
        make_enterable(path);
        let _ = fs::remove_dir_all(path);
    }
}

fn make_enterable(directory: &Path) {
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        let _ = fs::set_permissions(&directory, fs::Permissions::from_mode(0o700));
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        waiting.extend(directories.map(|entry| entry.path()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Store;

    #[test]
    fn what_a_dead_process_left_is_swept_and_was_never_seen() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        // As if killed in the middle: directories that nobody holds.
        let dead = dir.path().join("tmp/kiln-dead");
        fs::create_dir_all(dead.join("0/fs/etc")).unwrap();
        fs::write(dead.join("1"), "half a blob").unwrap();
        fs::set_permissions(dead.join("0/fs"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::write(dir.path().join("tmp/.tmpversion"), "").unwrap();
        assert!(store.cas().list().unwrap().is_empty());
        assert!(store.layers().list().unwrap().is_empty());
        assert!(dead.exists(), "opening and reading sweep nothing");
        store.cas().put(b"x").unwrap();
        assert!(!dead.exists());
        assert!(!dir.path().join("tmp/.tmpversion").exists());
    }

    #[test]
    fn what_a_living_process_makes_stays() {
        let dir = tempfile::tempdir().unwrap();
        let one = Session::begin(dir.path()).unwrap();
        let being_made = one.path();
        being_made.create_file().unwrap();
        let two = Session::begin(dir.path()).unwrap();
        sweep(dir.path());
        assert!(being_made.as_path().exists());
        assert_ne!(one.path, two.path);
        let path = one.path.clone();
        drop((being_made, one));
        assert!(!path.exists());
    }
}
