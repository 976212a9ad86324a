//! The store: everything kiln keeps, below one directory.
//!
//! ```text
//! ROOT/                       mode 0700
//!   version                   the layout's number; another one is refused
//!   blobs/sha256/<hex>        content by digest: configs, manifests, compressed layers      (cas)
//!   layers/<hex of diff id>/  one layer, in as many forms as were asked for                 (layers)
//!     changeset               what it does, as a value; a digest in front
//!     meta                    size of its tar
//!     blob-<hex>              a compressed form that is, or was, in blobs/
//!     derived-<name>          the layer that was made of it in this way, such as one with clamped times
//!     fs/                     unpacked, for overlayfs
//!     damaged/                an fs/ whose files were found changed; not used again
//!     tar                     the uncompressed tar
//!     disk                    how much space its forms take, once that was measured
//!     unsynced                not yet surely on the disk: holds the id of the boot that wrote it
//!     unsynced-<form>         the same of one form, where another was there before: that stays sure
//!   actions/<hex of key>      what a step gave: result or alias; a digest in front          (records)
//!   preimages/<hex of key>    what the key was made of, for explaining a miss               (records)
//!   steps/<hex>               the key a step of some Dockerfile had last                    (records)
//!   refs/tags/<name>          image name -> image; percent-encoded                          (refs)
//!   refs/images/<hex>         images by config digest, with or without a name               (refs)
//!   containers/<id>           containers that ended and are kept: what they changed is a layer            (containers)
//!   remotes/http/<hex>        what an address gave: ETag, Last-Modified, digest of the content      (remotes)
//!   remotes/git/<hex>/        the objects of a git remote, a bare repository                        (remotes)
//!   mounts/                   cache mounts, by id
//!   stat/<hex of root>        digests of a context's files by their stat                    (checksum)
//!   builds/<number>-…          what was built, and what it printed                           (builds)
//!   locks/                    store, key-<hex>                                              (locks)
//!   tmp/kiln-*/               one for each process that is writing                          (tmp)
//!     lease                   what the process relies on, which no collection takes         (lease)
//! ```
//!
//! **Whole or not there.** A thing is made below `tmp/` and renamed to its name when it is whole. Two processes
//! that make the same thing both succeed: a file replaces its equal, and of two directories the first stays.
//! Killing kiln at any instant leaves nothing but a directory in `tmp/`, which the next writer sweeps,
//! and what was moved there from another place comes home first ([`crate::Loan`]).
//!
//! **Power loss.** Blobs and refs are synced before they get their names: they may be all that is left of a
//! user's image. Records and changesets carry a digest, so a torn one is seen and is a miss. A torn layer would not
//! be seen, so it says in `unsynced` which boot wrote it until [`Store::sync`], once a build, has brought it to the
//! disk; one that another boot left unsynced is not used, and whoever uses one of
//! this boot brings it to the disk as its own. That is begun when the steps have ended, goes on beside what else a build
//! ends with, and is done before an image gets its name.
//!
//! **Remote sources.** What a download or a commit came to is a layer, found by the record of its content's digest or
//! its commit (`key`). `remotes/` only says by what to ask whether it changed: with an address's `ETag` or
//! `Last-Modified` the server answers that it is still the same; with a remote's objects a fetch brings only new ones.
//!
//! **Opening is one open and one read.** Directories are made when the store is, `tmp/` is swept when a process
//! first writes.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use kiln_image::{DiffId, Digest};

use crate::StoreError;
use crate::builds::Builds;
use crate::cas::Cas;
use crate::checksum::FileStat;
use crate::containers::Containers;
use crate::inventory::PartName;
use crate::layers::Layers;
use crate::lease::Lease;
use crate::records::ActionCache;
use crate::refs::Refs;
use crate::remotes::Remotes;
use crate::tmp::{Session, TmpPath};
use crate::unsynced::UnsyncedNote;

/// The layout's number.
const VERSION: &str = "1";

/// So many layers are synced one by one; more at once, with all else that waits on that file system.
const FEW: usize = 4;

const DIRECTORIES: [&str; 14] = [
    "blobs",
    "blobs/sha256",
    "layers",
    "actions",
    "preimages",
    "steps",
    "refs",
    "refs/tags",
    "refs/images",
    "remotes",
    "mounts",
    "stat",
    "builds",
    "locks",
];

/// An open store. Clones are the same store; any number of processes may have one open.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// Whether what is looked for here is needed, and so must not be collected.
    relies: bool,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    session: OnceLock<Session>,
    session_begins: Mutex<()>,
    unsynced: Mutex<HashSet<Digest>>,
    being_synced: Mutex<HashSet<Digest>>,
    /// A [`Store::sync`] that was begun.
    syncing: Mutex<Option<JoinHandle<Result<(), StoreError>>>>,
    /// Forms of layers that this process has put there.
    committed: Mutex<HashSet<(Digest, &'static str)>>,
    /// Large blobs that this process has written, as they were then.
    written: Mutex<HashMap<Digest, FileStat>>,
    grown: AtomicBool,
    boot: OnceLock<Option<String>>,
    lease: Mutex<Lease>,
}

impl Store {
    /// Opens the store at `root`, making it first if there is nothing or an empty directory.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        if !has_known_version(root)? {
            create(root)?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                session: OnceLock::new(),
                session_begins: Mutex::new(()),
                unsynced: Mutex::new(HashSet::new()),
                being_synced: Mutex::new(HashSet::new()),
                syncing: Mutex::new(None),
                committed: Mutex::new(HashSet::new()),
                written: Mutex::new(HashMap::new()),
                grown: AtomicBool::new(false),
                boot: OnceLock::new(),
                lease: Mutex::new(Lease::default()),
            }),
            relies: true,
        })
    }

    /// The directory the store is in.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Blobs by digest.
    pub fn cas(&self) -> Cas<'_> {
        Cas::new(self)
    }

    /// Layers by diff id.
    pub fn layers(&self) -> Layers<'_> {
        Layers::new(self)
    }

    /// Results of steps by key.
    pub fn actions(&self) -> ActionCache<'_> {
        ActionCache::new(self)
    }

    /// Containers that ended.
    pub fn containers(&self) -> Containers<'_> {
        Containers::new(self)
    }

    /// Images by name.
    pub fn refs(&self) -> Refs<'_> {
        Refs::new(self)
    }

    /// What is known of sources elsewhere.
    pub fn remotes(&self) -> Remotes<'_> {
        Remotes::new(self)
    }

    /// Where cache mounts are.
    pub fn mounts_dir(&self) -> PathBuf {
        self.dir("mounts")
    }

    /// The history of builds.
    pub fn builds(&self) -> Builds<'_> {
        Builds::new(self)
    }

    /// Where the history of builds is.
    pub fn builds_dir(&self) -> PathBuf {
        self.dir("builds")
    }

    /// Removes what dead processes left in `tmp/`, but for what has a place in the store, which comes home.
    pub fn sweep(&self) {
        crate::tmp::sweep(&self.dir("tmp"));
    }

    /// An empty directory on the store's file system, removed when dropped or, should kiln be killed, by the next
    /// process that writes: for containers that are run, and for whatever else needs a place for a while.
    pub fn scratch_dir(&self) -> Result<ScratchDir, StoreError> {
        let tmp = self.tmp_path()?;
        tmp.create_dir()?;
        Ok(ScratchDir { tmp, now: true })
    }

    /// The same, removed while this process goes on with something else: where nobody looks for it.
    pub fn passing_dir(&self) -> Result<ScratchDir, StoreError> {
        let mut scratch = self.scratch_dir()?;
        scratch.now = false;
        Ok(scratch)
    }

    /// Brings all that this process has put into the store to the disk. Call once at the end of a build; layers of
    /// a build that never got here are used until the machine is restarted.
    pub fn sync(&self) -> Result<(), StoreError> {
        let begun = self.finish_sync();
        let rest = self.sync_layers(self.take_unsynced());
        begun.and(rest)
    }

    /// Waits for what was begun, and tells if it failed.
    pub fn finish_sync(&self) -> Result<(), StoreError> {
        let begun = locked(&self.inner.syncing).take();
        begun.map_or(Ok(()), |begun| {
            begun.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Begins what [`Store::sync`] does, for whoever has something else to do meanwhile, and then calls that or [`Store::finish_sync`].
    pub fn begin_sync(&self) -> Result<(), StoreError> {
        let mut syncing = locked(&self.inner.syncing);
        let layers = match *syncing {
            Some(_) => return Ok(()), // the rest later
            None => self.take_unsynced(),
        };
        if layers.is_empty() {
            return Ok(());
        }
        let store = self.clone();
        let all = layers.clone();
        let thread = thread::Builder::new().name("sync".into());
        match thread.spawn(move || store.sync_layers(layers)) {
            Ok(begun) => *syncing = Some(begun),
            Err(_) => self.sync_layers(all)?,
        }
        Ok(())
    }

    pub(crate) fn take_unsynced(&self) -> HashSet<Digest> {
        let mut unsynced = locked(&self.inner.unsynced);
        locked(&self.inner.being_synced).extend(unsynced.iter().copied());
        std::mem::take(&mut *unsynced)
    }

    pub(crate) fn sync_layers(&self, layers: HashSet<Digest>) -> Result<(), StoreError> {
        if layers.is_empty() {
            return Ok(());
        }
        let noted = layers
            .iter()
            .map(|layer| self.layers().unsynced_notes(layer));
        let noted: Vec<_> = noted.collect();
        if layers.len() <= FEW && layers.iter().all(|layer| self.layers().is_tar_only(layer)) {
            for layer in &layers {
                self.layers().sync_tar(layer)?;
            }
        } else {
            let directory = File::open(self.root()).map_err(StoreError::io("open", self.root()))?;
            rustix::fs::syncfs(&directory).map_err(StoreError::errno("sync", self.root()))?;
        }
        for (layer, notes) in layers.into_iter().zip(noted) {
            let _alone = self.lock_layer(&DiffId(layer))?;
            // Another form of it may have come since.
            if !locked(&self.inner.unsynced).contains(&layer) {
                notes.iter().try_for_each(UnsyncedNote::remove)?;
            }
            locked(&self.inner.being_synced).remove(&layer);
        }
        Ok(())
    }

    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.inner.root.join(name)
    }

    pub(crate) fn locks_dir(&self) -> PathBuf {
        self.dir("locks")
    }

    /// Whether this process put anything large into the store: a layer, a blob, something in a cache mount. Records and the
    /// history of a build that was all cached are no reason to look for what may go.
    pub(crate) fn has_grown(&self) -> bool {
        self.inner.grown.load(Ordering::Relaxed)
    }

    pub(crate) fn note_growth(&self) {
        self.inner.grown.store(true, Ordering::Relaxed);
    }

    /// The same store for one who only wants to see what is there.
    pub(crate) fn onlooker(&self) -> Self {
        Self {
            relies: false,
            ..self.clone()
        }
    }

    /// Says, before it is looked for, that a part must stay while this process lives.
    pub(crate) fn rely_on(&self, what: PartName) {
        if self.relies {
            locked(&self.inner.lease).note(what, self);
        }
    }

    /// This process's directory below `tmp/`.
    pub(crate) fn session_path(&self) -> Result<PathBuf, StoreError> {
        self.session().map(|session| session.directory().to_owned())
    }

    pub(crate) fn session_if_begun(&self) -> Option<PathBuf> {
        let session = self.inner.session.get();
        session.map(|session| session.directory().to_owned())
    }

    /// A path in this process's directory below `tmp/`, which is made at the first call.
    pub(crate) fn tmp_path(&self) -> Result<TmpPath, StoreError> {
        self.session().map(Session::path)
    }

    fn session(&self) -> Result<&Session, StoreError> {
        if let Some(session) = self.inner.session.get() {
            return Ok(session);
        }
        let _one_at_a_time = self
            .inner
            .session_begins
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if self.inner.session.get().is_none() {
            let session = Session::begin(&self.dir("tmp"))?;
            return Ok(self.inner.session.get_or_init(|| session));
        }
        Ok(self.inner.session.get().expect("begun just now"))
    }

    /// Writes a small file so that it appears whole.
    pub(crate) fn write_file(&self, to: &Path, parts: &[&[u8]]) -> Result<(), StoreError> {
        let (tmp, _) = self.made_file(to, parts)?;
        tmp.publish(to)
    }

    /// Writes small files so that they appear whole and in this order, each once the bytes of all are on the disk, and are there themselves in the
    /// end. That takes less than to bring one there before the next is written.
    pub(crate) fn write_durably(&self, files: &[(&Path, &[u8])]) -> Result<(), StoreError> {
        let made = files.iter().map(|(to, bytes)| self.made_file(to, &[bytes]));
        let made: Vec<_> = made.collect::<Result<_, _>>()?;
        for ((to, _), (_, file)) in files.iter().zip(&made) {
            file.sync_data().map_err(StoreError::io("sync", to))?;
        }
        for ((to, _), (tmp, _)) in files.iter().zip(made) {
            tmp.publish(to)?;
        }
        files.iter().try_for_each(|(to, _)| sync_parent(to))
    }

    /// The same for a file that knows when it is damaged, and often takes the place of another.
    pub(crate) fn renew_file(&self, to: &Path, parts: &[&[u8]]) -> Result<(), StoreError> {
        let (tmp, _) = self.made_file(to, parts)?;
        tmp.exchange(to)
    }

    fn made_file(&self, to: &Path, parts: &[&[u8]]) -> Result<(TmpPath, File), StoreError> {
        let tmp = self.tmp_path()?;
        let mut file = tmp.create_file()?;
        for part in parts {
            file.write_all(part).map_err(StoreError::io("write", to))?;
        }
        Ok((tmp, file))
    }

    pub(crate) fn note_unsynced(&self, layer: Digest) {
        self.note_growth();
        locked(&self.inner.unsynced).insert(layer);
    }

    /// Says that this process uses what an earlier or another one put there and did not bring to the disk.
    pub(crate) fn note_used_unsynced(&self, layer: Digest) {
        if !self.has_noted_unsynced(&layer) {
            locked(&self.inner.unsynced).insert(layer);
        }
    }

    pub(crate) fn has_noted_unsynced(&self, layer: &Digest) -> bool {
        let is_in = |layers: &Mutex<HashSet<Digest>>| locked(layers).contains(layer);
        is_in(&self.inner.unsynced) || is_in(&self.inner.being_synced)
    }

    pub(crate) fn note_committed(&self, layer: Digest, forms: &[&'static str]) {
        let forms = forms.iter().map(|form| (layer, *form));
        locked(&self.inner.committed).extend(forms);
    }

    pub(crate) fn has_committed(&self, layer: Digest, forms: &[&'static str]) -> bool {
        let committed = locked(&self.inner.committed);
        !forms.is_empty() && forms.iter().all(|form| committed.contains(&(layer, *form)))
    }

    pub(crate) fn forget_committed(&self, layer: Digest) {
        locked(&self.inner.committed).retain(|(known, _)| *known != layer);
    }

    pub(crate) fn note_written_blob(&self, blob: Digest, stat: FileStat) {
        locked(&self.inner.written).insert(blob, stat);
    }

    pub(crate) fn written_blob(&self, blob: &Digest) -> Option<FileStat> {
        locked(&self.inner.written).get(blob).copied()
    }

    /// The id of this run of the kernel; empty where there is no telling.
    pub(crate) fn boot_id(&self) -> &str {
        let read = || fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let id = self.inner.boot.get_or_init(read);
        id.as_deref().unwrap_or("").trim_end()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory for a while; removed when dropped.
#[derive(Debug)]
pub struct ScratchDir {
    tmp: TmpPath,
    now: bool,
}

impl ScratchDir {
    /// The directory.
    pub fn path(&self) -> &Path {
        self.tmp.as_path()
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if self.now {
            self.tmp.remove_now();
        }
    }
}

/// Brings a rename in the directory of `path` to the disk.
pub(crate) fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let parent = path
        .parent()
        .expect("a file of the store is in a directory");
    let directory = File::open(parent).map_err(StoreError::io("open", parent))?;
    directory.sync_all().map_err(StoreError::io("sync", parent))
}

/// Reads a small file of the store; `None` if there is none.
pub(crate) fn read_file(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

fn has_known_version(root: &Path) -> Result<bool, StoreError> {
    let path = root.join("version");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(StoreError::io("open the store's version file", &path)(
                error,
            ));
        }
    };
    let mut found = Vec::new();
    let read = file.take(64).read_to_end(&mut found);
    read.map_err(StoreError::io("read the store's version file", &path))?;
    let found = String::from_utf8_lossy(&found);
    if found.trim_end() == VERSION {
        return Ok(true);
    }
    Err(StoreError::UnknownVersion {
        path: root.to_owned(),
        found: found.trim_end().to_owned(),
        known: VERSION,
    })
}

/// Lays out a store. The version comes last: without it the next one begins again.
fn create(root: &Path) -> Result<(), StoreError> {
    make_dir(root, true)?;
    refuse_foreign(root)?;
    fs::set_permissions(root, fs::Permissions::from_mode(0o700))
        .map_err(StoreError::io("make private", root))?;
    for name in DIRECTORIES.iter().chain(&["tmp"]) {
        make_dir(&root.join(name), false)?;
    }
    let session = Session::begin(&root.join("tmp"))?;
    let version = session.path();
    let text = format!("{VERSION}\n");
    fs::write(version.as_path(), text).map_err(StoreError::io("write", version.as_path()))?;
    version.publish(&root.join("version"))
}

fn make_dir(path: &Path, parents: bool) -> Result<(), StoreError> {
    let made = DirBuilder::new()
        .mode(0o700)
        .recursive(parents)
        .create(path);
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made.map_err(StoreError::io("create the directory", path)),
    }
}

/// A directory with other things in it is not ours to close to others: `--root /home` is a slip.
fn refuse_foreign(root: &Path) -> Result<(), StoreError> {
    let entries = fs::read_dir(root).map_err(StoreError::io("list", root))?;
    for entry in entries {
        let name = entry.map_err(StoreError::io("list", root))?.file_name();
        let ours = |own: &&str| name == **own;
        let known = DIRECTORIES.iter().chain(&["tmp", "version", "lost+found"]);
        if !known.into_iter().any(ours) {
            return Err(StoreError::NotAStore {
                path: root.to_owned(),
                entry: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_new_store_is_private_and_opens_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("deep/er/store");
        Store::open(&root).unwrap();
        let mode = fs::metadata(&root).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(fs::read_to_string(root.join("version")).unwrap(), "1\n");
        Store::open(&root).unwrap();
    }

    #[test]
    fn an_unknown_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("version"), "2\n").unwrap();
        let refused = Store::open(dir.path()).unwrap_err();
        assert!(matches!(&refused, StoreError::UnknownVersion { found, .. } if found == "2"));
        assert!(refused.help().unwrap().contains("--root"));
    }

    #[test]
    fn a_directory_of_other_things_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let refused = Store::open(dir.path()).unwrap_err();
        assert!(matches!(&refused, StoreError::NotAStore { entry, .. } if entry == "thesis.tex"));
        let mode = fs::metadata(dir.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = Store::open(&file.join("store")).unwrap_err();
        assert!(refused.to_string().contains("file"), "{refused}");
        assert!(refused.help().is_some());
    }

    #[test]
    fn a_half_made_store_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["blobs", "tmp", "locks"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let store = Store::open(dir.path()).unwrap();
        store.cas().put(b"x").unwrap();
    }

    #[test]
    fn many_threads_make_one_store() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| Store::open(&root).unwrap().cas().put(b"x").unwrap());
            }
        });
    }

    #[test]
    fn scratch_goes_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let scratch = store.scratch_dir().unwrap();
        let path = scratch.path().to_owned();
        fs::write(path.join("file"), "").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
