//! Directories of `RUN --mount=type=cache`: they outlive builds and are in no layer and no key.
//!
//! ```text
//! mounts/<digest of the id>/id                                                         the id
//! mounts/<digest of the id>/<digest of mode, owner and first content>-<number>        the directory
//! mounts/<digest of the id>/<digest of mode, owner and first content>-<number>.lock   held with flock(2) by its users
//! ```
//!
//! Numbers above 0 are for users that don't want to share (R-MNT-10): a shared cache is held by many at once, a private
//! and a locked one by one alone. The kernel lets go of what a dead process held.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use kiln_cache::Store;
use kiln_image::Digest;
use kiln_planner::{CacheMount, ExecOp, Mount, Sharing};
use rustix::fs::{
    CWD, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags, flock, openat2, renameat_with,
};
use rustix::io::Errno;

use crate::error::Cause;
use crate::sandbox::{Footing, Rung};

/// So often a directory that somebody has is asked for again, and so long after each time.
const GLANCES: u32 = 5;
const GLANCE: Duration = Duration::from_millis(1);

/// A cache directory, held as long as this lives.
pub(crate) struct CacheDir {
    path: PathBuf,
    lock: File,
}

/// A cache directory that no step had at one moment. It is read without being held, so that who wants it meanwhile gets it and not
/// an empty one; whether somebody did can be asked afterwards.
pub(crate) struct Unheld {
    path: PathBuf,
    seen: Seen,
}

/// What changes when a step takes hold of a directory, or a collection takes it.
#[derive(PartialEq, Eq)]
struct Seen {
    used: Timestamp,
    directory: (u64, u64),
}

/// Which directories a mount can use: its path below `mounts/`, but for the number. `content` is what a new one starts with.
pub(crate) fn name(mount: &CacheMount, content: Option<Digest>) -> String {
    let CacheMount { mode, uid, gid, .. } = mount;
    let variant = format!("{mode:?} {uid:?} {gid:?} {content:?}");
    let variant = Digest::of(variant.as_bytes()).hex();
    format!("{}/{}", id_name(&mount.id), &variant[..16])
}

fn id_name(id: &str) -> String {
    Digest::of(id.as_bytes()).hex()[..32].to_owned()
}

/// The path below `mounts/` of one of an id's directories, but for the number.
pub(crate) fn name_of(id: &str, variant: &str) -> String {
    format!("{}/{variant}", id_name(id))
}

/// Which directories an id has that are not for one user beside others, sorted.
pub(crate) fn variants(store: &Store, id: &str) -> Vec<String> {
    let entries = fs::read_dir(store.mounts_dir().join(id_name(id)));
    let names = entries.into_iter().flatten().flatten();
    let mut variants: Vec<String> = names
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix("-0")?.to_owned()))
        .collect();
    variants.sort();
    variants
}

/// A directory that no step has; `None` if one has it.
pub(crate) fn unheld(store: &Store, name: &str) -> Result<Option<Unheld>, Cause> {
    let path = store.mounts_dir().join(format!("{name}-0"));
    let seen = glance(&path)?;
    Ok(seen.map(|seen| Unheld { path, seen }))
}

fn glance(path: &Path) -> Result<Option<Seen>, Cause> {
    let Some(held) = hold(path, FlockOperation::NonBlockingLockExclusive)? else {
        return Ok(None);
    };
    let directory = fs::symlink_metadata(path).map_err(Cause::file("read", path))?;
    Ok(Some(Seen {
        used: held.last_used(),
        directory: (directory.dev(), directory.ino()),
    }))
}

/// Takes hold of a directory as the mount's sharing says; `None` when it has to wait for another user.
///
/// `rung` without mounts moves the directory into the root of the step, so that nobody can share it meanwhile.
pub(crate) fn take(
    store: &Store,
    name: &str,
    mount: &CacheMount,
    rung: Rung,
) -> Result<Option<CacheDir>, Cause> {
    let sharing = match mount.sharing {
        Sharing::Shared if !rung.has_namespaces() => Sharing::Locked,
        sharing => sharing,
    };
    let how = match sharing {
        Sharing::Shared => FlockOperation::NonBlockingLockShared,
        Sharing::Private | Sharing::Locked => FlockOperation::NonBlockingLockExclusive,
    };
    let mut number = 0;
    loop {
        let path = store.mounts_dir().join(format!("{name}-{number}"));
        let held = match sharing {
            Sharing::Locked => hold(&path, how)?,
            Sharing::Shared | Sharing::Private => hold_in_a_moment(&path, how)?,
        };
        if let Some(CacheDir { lock, .. }) = &held {
            let caches = path.parent().expect("the id's directory is above");
            store.note_mount_use(caches, &mount.id, lock)?;
        }
        if held.is_some() || sharing == Sharing::Locked {
            return Ok(held);
        }
        number += 1;
    }
}

/// Empties all caches of a step that are not in use (R-CACHE-24).
pub(crate) fn empty_all(store: &Store, op: &ExecOp) -> Result<(), Cause> {
    for mount in &op.mounts {
        if let Mount::Cache(cache) = mount {
            empty(store, &store.mounts_dir().join(id_name(&cache.id)))?;
        }
    }
    Ok(())
}

fn empty(store: &Store, caches: &Path) -> Result<(), Cause> {
    let Ok(entries) = fs::read_dir(caches) else {
        return Ok(()); // never used
    };
    for entry in entries {
        let path = entry.map_err(Cause::file("read", caches))?.path();
        if !path.is_dir() {
            continue;
        }
        if let Some(_held) = hold(&path, FlockOperation::NonBlockingLockExclusive)? {
            let gone = store.scratch_dir()?;
            fs::rename(&path, gone.path().join("old")).map_err(Cause::file("remove", &path))?;
        }
    }
    Ok(())
}

/// Holds a directory unless somebody goes on having it: exports and collections only glance at one.
fn hold_in_a_moment(path: &Path, how: FlockOperation) -> Result<Option<CacheDir>, Cause> {
    for _ in 0..GLANCES {
        let held = hold(path, how)?;
        if held.is_some() {
            return Ok(held);
        }
        thread::sleep(GLANCE);
    }
    hold(path, how)
}

fn hold(path: &Path, how: FlockOperation) -> Result<Option<CacheDir>, Cause> {
    let lock_path = path.with_extension("lock");
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(Cause::file("create", parent))?;
    }
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let lock = options
        .open(&lock_path)
        .map_err(Cause::file("open", &lock_path))?;
    loop {
        match flock(&lock, how) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(Cause::file("lock", lock_path)(errno.into())),
        }
    }
    Ok(Some(CacheDir {
        path: path.to_owned(),
        lock,
    }))
}

impl Unheld {
    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// When a step took hold of it last.
    pub(crate) fn last_used(&self) -> Timestamp {
        self.seen.used
    }

    /// Whether it is the same yet, and no step has had it since.
    pub(crate) fn is_untouched(&self) -> bool {
        glance(&self.path).is_ok_and(|seen| seen.as_ref() == Some(&self.seen))
    }
}

impl CacheDir {
    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn last_used(&self) -> Timestamp {
        let modified = self.lock.metadata().and_then(|lock| lock.modified());
        let used = modified.map(Timestamp::try_from);
        used.map_or(Timestamp::UNIX_EPOCH, Result::unwrap_or_default)
    }

    /// Where `source`, a path of the cache, is on the machine now, links followed inside the cache.
    pub(crate) fn find(&self, source: &str) -> Result<PathBuf, Cause> {
        let missing = |errno: Errno| Cause::CacheSource {
            path: source.to_owned(),
            reason: errno.into(),
        };
        let cache = File::open(&self.path).map_err(Cause::file("open", &self.path))?;
        let relative = source.trim_start_matches('/');
        let (flags, mode) = (OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let found = openat2(&cache, relative, flags, mode, ResolveFlags::IN_ROOT);
        let found = found.map_err(missing)?;
        let name = format!("/proc/self/fd/{}", found.as_raw_fd());
        fs::read_link(&name).map_err(Cause::file("read", name))
    }

    /// Makes the directory if it is not there: with what `saved` or `content` puts into the directory that it is given and
    /// returns the place of, else empty, with the mount's mode and owner (R-MNT-9).
    pub(crate) fn fill(
        &self,
        store: &Store,
        footing: &Footing,
        mount: &CacheMount,
        saved: impl FnOnce(&Path) -> Option<PathBuf>,
        content: impl FnOnce(&Path) -> Result<Option<PathBuf>, Cause>,
    ) -> Result<(), Cause> {
        let mut found = fs::symlink_metadata(&self.path);
        if found.is_err() {
            store.sweep(); // it may be away with somebody who is dead
            found = fs::symlink_metadata(&self.path);
        }
        if found.as_ref().is_ok_and(fs::Metadata::is_dir) {
            return Ok(());
        }
        let scratch = store.scratch_dir()?;
        if found.is_ok() {
            // A link, say: nothing that kiln makes, and not to be followed.
            let old = scratch.path().join("old");
            fs::rename(&self.path, old).map_err(Cause::file("remove", &self.path))?;
        }
        let chosen = mount.mode.is_some() || mount.uid.is_some() || mount.gid.is_some();
        let made = match saved(scratch.path()) {
            None if !chosen || mount.source != "/" => content(scratch.path())?,
            made => made,
        };
        let made = match made {
            Some(made) => made,
            None => empty_directory(&scratch.path().join("new"), mount, footing)?,
        };
        match renameat_with(CWD, &made, CWD, &self.path, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => Ok(()), // another user of a shared cache was faster
            Err(errno) => Err(Cause::file("create", &self.path)(errno.into())),
        }
    }
}

fn empty_directory(path: &Path, mount: &CacheMount, footing: &Footing) -> Result<PathBuf, Cause> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(Cause::file("create", path))?;
    let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
    footing
        .give(path, owner.0, owner.1)
        .map_err(Cause::file("change the owner of", path))?;
    let mode = mount.mode.unwrap_or(0o755) & 0o777; // more than permissions are let go
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(Cause::file("change the mode of", path))?;
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn mount(sharing: Sharing) -> CacheMount {
        CacheMount {
            id: "tools".to_owned(),
            target: "/c".to_owned(),
            explicit_id: true,
            input: None,
            source: "/".to_owned(),
            read_only: false,
            sharing,
            mode: None,
            uid: None,
            gid: None,
        }
    }

    #[test]
    fn a_directory_that_is_read_is_had_by_whoever_wants_it() {
        // R-MNT-10
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        for sharing in [Sharing::Private, Sharing::Locked, Sharing::Shared] {
            let mount = mount(sharing);
            let name = name(&mount, None);
            let first = store.mounts_dir().join(format!("{name}-0"));
            let _ = fs::create_dir_all(&first);
            let read = unheld(&store, &name).unwrap().unwrap();
            assert!(read.is_untouched());
            let held = take(&store, &name, &mount, Rung::Root).unwrap().unwrap();
            assert_eq!(held.path(), first);
            assert!(!read.is_untouched(), "a step has it");
            assert!(unheld(&store, &name).unwrap().is_none());
            drop(held);
            assert!(!read.is_untouched(), "a step has had it");
        }
    }
}
