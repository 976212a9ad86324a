//! What a process relies on, told to collections that run beside it.
//!
//! A process notes the name of a layer, a blob or a repository before it looks whether that is there. The note is in the file
//! `lease` of its directory below `tmp/`, which counts as long as the directory is held: the kernel lets go of it when the
//! process dies. Notes are written with the store lock shared, and a collection holds it alone: so whatever is found there
//! after its note was written stays until the process ends, and what a collection took before is not found. A collection reads
//! the notes before anything else: whoever ended before that has written all that refers to what it made, and whoever ends later
//! is among those that rely on it.
//!
//! One whose note can't be written, on a full disk, say, keeps the store lock, and nothing is collected until it ends.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use kiln_image::{DiffId, Digest};
use rustix::fs::FlockOperation;

use crate::inventory::PartName;
use crate::locks::{lock, open};
use crate::mounts::is_held;
use crate::{Store, StoreError};

/// The file's name.
const LEASE: &str = "lease";

/// What this process has noted.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    noted: HashSet<PartName>,
    files: Option<Files>,
    /// The store lock is held until the process ends, by what is in here if that could be opened.
    holds_all: Option<Option<File>>,
}

#[derive(Debug)]
struct Files {
    lock: File,
    lease: File,
}

impl Lease {
    /// Notes a part. It takes three calls of the kernel, and none from the second time on.
    pub(crate) fn note(&mut self, what: PartName, store: &Store) {
        if self.holds_all.is_some() || self.noted.contains(&what) {
            return;
        }
        match self.write(what, store) {
            Ok(()) => drop(self.noted.insert(what)),
            Err(_) => self.hold_all(store),
        }
    }

    fn write(&mut self, what: PartName, store: &Store) -> Result<(), StoreError> {
        let path = store.locks_dir().join("store");
        let files = match &mut self.files {
            Some(files) => files,
            none => {
                let lease = store.session_path()?.join(LEASE);
                let failed = StoreError::io("create", &lease);
                none.insert(Files {
                    lock: open(&path)?,
                    lease: File::create(&lease).map_err(failed)?,
                })
            }
        };
        let failed = StoreError::errno("lock", &path);
        lock(&files.lock, FlockOperation::LockShared).map_err(failed)?;
        let written = files.lease.write_all(line(what).as_bytes());
        written.map_err(StoreError::io("write", LEASE))?;
        let failed = StoreError::errno("unlock", &path);
        lock(&files.lock, FlockOperation::Unlock).map_err(failed)
    }

    fn hold_all(&mut self, store: &Store) {
        let known = self.files.take().map(|files| files.lock);
        let held = known.or_else(|| open(&store.locks_dir().join("store")).ok());
        let held = held.filter(|file| lock(file, FlockOperation::LockShared).is_ok());
        self.holds_all = Some(held);
    }
}

impl Store {
    /// What other processes rely on. Hold the store lock alone, or it may be more by now.
    pub(crate) fn leased(&self) -> HashSet<PartName> {
        let own = self.session_if_begun();
        let sessions = fs::read_dir(self.dir("tmp"))
            .into_iter()
            .flatten()
            .flatten();
        let others = sessions
            .map(|session| session.path())
            .filter(|session| Some(session) != own.as_ref());
        let leases = others.filter_map(|session| read(&session));
        leases.flatten().collect()
    }
}

/// What is noted in the directory of a process that lives.
fn read(session: &Path) -> Option<Vec<PartName>> {
    let notes = fs::read_to_string(session.join(LEASE)).ok()?;
    is_held(session).then(|| notes.lines().filter_map(part).collect())
}

fn line(what: PartName) -> String {
    match what {
        PartName::Layer(DiffId(digest)) => format!("layer {}\n", digest.hex()),
        PartName::Blob(digest) => format!("blob {}\n", digest.hex()),
        PartName::Repository(digest) => format!("git {}\n", digest.hex()),
    }
}

fn part(line: &str) -> Option<PartName> {
    let (kind, hex) = line.split_once(' ')?;
    let digest = Digest::from_hex(hex).ok()?;
    match kind {
        "layer" => Some(PartName::Layer(DiffId(digest))),
        "blob" => Some(PartName::Blob(digest)),
        "git" => Some(PartName::Repository(digest)),
        _ => None,
    }
}
