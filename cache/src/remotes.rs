//! What is kept of sources elsewhere, so that they are asked only whether they changed.
//!
//! What a download or a commit came to is a layer like any other, found by a record under `actions/`. Here is what leads
//! to such records without asking for everything again: of a download's address, by what the server's answers can be
//! recognised; of a git remote, the objects that were fetched. Both only make builds faster.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kiln_image::Digest;
use serde::{Deserialize, Serialize};

use crate::framed;
use crate::inventory::PartName;
use crate::tmp::create_dir;
use crate::{Store, StoreError};

/// Most contents remembered of one address. Servers behind one name may take turns with a few.
const MOST_SEEN: usize = 8;

/// The file beside a remote's objects that says whose they are.
const ADDRESS: &str = "kiln-remote";

/// The store's memory of remote sources.
#[derive(Debug, Clone, Copy)]
pub struct Remotes<'s> {
    store: &'s Store,
}

/// An answer to a download that was seen before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `ETag`, as it came.
    pub etag: Option<String>,
    /// `Last-Modified`, as it came.
    pub last_modified: Option<String>,
    /// Whether [`last_modified`](Seen::last_modified) was old enough to tell a change by.
    pub is_settled: bool,
    /// Digest of the content.
    pub content: Digest,
}

impl<'s> Remotes<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self { store }
    }

    /// What was seen at an address, the newest first. What is damaged was never seen.
    pub fn seen(&self, address: &str) -> Vec<Seen> {
        let bytes = framed::read(&self.seen_path(address)).whole();
        bytes
            .and_then(|bytes| postcard::from_bytes(&bytes).ok())
            .unwrap_or_default()
    }

    /// Remembers what was seen at an address last.
    pub fn note_seen(&self, address: &str, seen: &Seen) -> Result<(), StoreError> {
        let mut all = self.seen(address);
        all.retain(|other| {
            let same_tag = other.etag.is_some() && other.etag == seen.etag;
            !same_tag && other.content != seen.content
        });
        all.insert(0, seen.clone());
        all.truncate(MOST_SEEN);
        let body = postcard::to_stdvec(&all).map_err(|source| StoreError::Serialise {
            what: "what was seen of a download",
            source: Box::new(source),
        })?;
        self.make_dir("remotes")?;
        self.make_dir("remotes/http")?;
        framed::write(self.store, &self.seen_path(address), &body)
    }

    /// The directory for the objects of a git remote, made if it isn't there. Whoever uses it holds a lock on it.
    pub fn repository(&self, remote: &str) -> Result<PathBuf, StoreError> {
        self.store.rely_on(PartName::Repository(digest_of(remote)));
        self.make_dir("remotes")?;
        self.make_dir("remotes/git")?;
        let name = format!("remotes/git/{}", name_of(remote));
        self.make_dir(&name)?;
        let dir = self.store.dir(&name);
        let address = dir.join(ADDRESS);
        if !address.exists() {
            let shown = without_login(remote);
            self.store.write_file(&address, &[shown.as_bytes()])?;
        }
        // A collection goes by it; one that can't be set is as old as the last change.
        let _ = File::open(&dir).and_then(|dir| dir.set_modified(SystemTime::now()));
        Ok(dir)
    }

    /// Where the objects in this directory came from, for people; nothing where an earlier kiln made it.
    pub(crate) fn address_of(&self, repository: &Path) -> String {
        fs::read_to_string(repository.join(ADDRESS)).unwrap_or_default()
    }

    /// Forgets the objects of a git remote, for one who holds its lock.
    pub fn remove_repository(&self, remote: &str) -> Result<(), StoreError> {
        let dir = self.store.dir("remotes/git").join(name_of(remote));
        let hidden = self.store.tmp_path()?;
        match fs::rename(&dir, hidden.as_path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", dir)(error))
            }
            _ => Ok(()),
        }
    }

    fn seen_path(&self, address: &str) -> PathBuf {
        self.store.dir("remotes/http").join(name_of(address))
    }

    fn make_dir(&self, name: &str) -> Result<(), StoreError> {
        match create_dir(&self.store.dir(name)) {
            Err(StoreError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::AlreadyExists =>
            {
                Ok(())
            }
            made => made,
        }
    }
}

/// An address without what somebody logs in with.
fn without_login(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit('@').next().unwrap_or(host);
            format!("{scheme}://{host}/{path}")
        }
        None => url.to_owned(),
    }
}

/// Addresses may be longer than a file's name, and are nobody's business.
fn name_of(address: &str) -> String {
    digest_of(address).hex()
}

fn digest_of(address: &str) -> Digest {
    Digest::of(address.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::testing::store;

    fn seen(etag: &str, content: &[u8]) -> Seen {
        Seen {
            etag: Some(etag.to_owned()),
            last_modified: None,
            is_settled: false,
            content: Digest::of(content),
        }
    }

    #[test]
    fn the_newest_comes_first_and_nothing_is_there_twice() {
        let (_dir, store) = store();
        let note = |etag: &str, content: &[u8]| {
            let seen = seen(etag, content);
            store.remotes().note_seen("http://h/f", &seen).unwrap();
        };
        assert!(store.remotes().seen("http://h/f").is_empty());
        note("\"a\"", b"1");
        note("\"b\"", b"2");
        note("\"a\"", b"3");
        let all = store.remotes().seen("http://h/f");
        assert_eq!(all, [seen("\"a\"", b"3"), seen("\"b\"", b"2")]);
        assert!(store.remotes().seen("http://h/g").is_empty());
        for number in 0..20_u8 {
            note(&number.to_string(), &[number]);
        }
        assert_eq!(store.remotes().seen("http://h/f").len(), MOST_SEEN);
    }

    #[test]
    fn a_damaged_memory_is_none() {
        let (_dir, store) = store();
        let seen = seen("\"a\"", b"1");
        store.remotes().note_seen("x", &seen).unwrap();
        let path = store.remotes().seen_path("x");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(store.remotes().seen("x").is_empty());
    }

    #[test]
    fn a_repository_is_there_until_it_is_removed() {
        let (_dir, store) = store();
        let remotes = store.remotes();
        let path = remotes.repository("https://h/r.git").unwrap();
        fs::write(path.join("HEAD"), "x").unwrap();
        assert_eq!(remotes.repository("https://h/r.git").unwrap(), path);
        assert!(path.join("HEAD").exists());
        assert_ne!(remotes.repository("https://h/s.git").unwrap(), path);
        remotes.remove_repository("https://h/r.git").unwrap();
        remotes.remove_repository("https://h/never").unwrap();
        assert!(!path.exists());
    }
}
