//! A manifest or index with all that it names, sent in the order that a registry asks for: blobs, manifests, what names them.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use kiln_image::media_type::is_foreign_layer;
use kiln_image::{Digest, Reference};
use oci_spec::image::Descriptor;

use crate::client::Client;
use crate::error::RegistryError;
use crate::locked::locked;
use crate::push;
use crate::session::Session;

/// How many blobs are looked for, and how many are sent, at a time.
const LOOKS_AT_ONCE: usize = 8;
const UPLOADS_AT_ONCE: usize = 4;

/// A manifest or index to be pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestTree {
    /// Its media type.
    pub media_type: String,
    /// The exact bytes.
    pub bytes: Vec<u8>,
    /// Config and layers, if it is a manifest.
    pub blobs: Vec<Descriptor>,
    /// What it lists, if it is an index. Those that the registry is known to have may be left out.
    pub children: Vec<ManifestTree>,
}

/// Where the bytes of blobs come from, and who is told how far they are. Asked from several threads.
pub trait BlobSource: Sync {
    /// Opens a blob for reading from its start; again for each time that it is sent.
    ///
    /// # Errors
    /// If it can't be read.
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read>>;

    /// A repository of the same registry that is known to have the blob.
    fn mount_from(&self, _blob: &Descriptor) -> Option<String> {
        None
    }

    /// The number of bytes that the registry has so far. It may go back after a failure; `size` means that it is there.
    fn progress(&self, _blob: &Descriptor, _done: u64) {}
}

impl Client {
    /// Makes sure that the repository of `reference` has all of `tree`: blobs first, several at once and only those that are
    /// not there, then what an index lists, each under its digest, and last the tree's own manifest under the tag of
    /// `reference` (or its digest, if there is no tag). Gives the digest of the latter. Layers that may not be distributed
    /// stay where they are.
    ///
    /// # Errors
    /// The first failure; what was sent until then stays, so that another try need not send it again.
    pub fn push_tree(
        &self,
        reference: &Reference,
        tree: &ManifestTree,
        source: &dyn BlobSource,
    ) -> Result<Digest, RegistryError> {
        let mut seen = HashSet::new();
        let mut blobs = Vec::new();
        tree.collect_blobs(&mut |blob| {
            if !is_foreign_layer(blob.media_type().as_ref()) && seen.insert(blob.digest()) {
                blobs.push(blob);
            }
        });
        let missing = Mutex::new(Vec::new());
        let look = |at: usize| -> Result<(), RegistryError> {
            if holds(&self.session, reference, blobs[at])? {
                source.progress(blobs[at], blobs[at].size());
            } else {
                let mut missing = locked(&missing);
                missing.push(at);
            }
            Ok(())
        };
        // The first one alone, so that a token is asked for once.
        if !blobs.is_empty() {
            look(0)?;
        }
        several(blobs.len().saturating_sub(1), LOOKS_AT_ONCE, |at| {
            look(at + 1)
        })?;
        let mut missing = missing.into_inner().unwrap_or_else(PoisonError::into_inner);
        missing.sort_unstable();
        several(missing.len(), UPLOADS_AT_ONCE, |at| {
            send(&self.session, reference, blobs[missing[at]], source)
        })?;
        self.push_manifests(reference, tree)
    }

    fn push_manifests(
        &self,
        reference: &Reference,
        tree: &ManifestTree,
    ) -> Result<Digest, RegistryError> {
        for child in &tree.children {
            let digest = Digest::of(&child.bytes);
            self.push_manifests(&reference.by_digest(digest), child)?;
        }
        self.push_manifest(reference, &tree.media_type, &tree.bytes)
    }
}

impl ManifestTree {
    /// A manifest with its config and layers.
    pub fn manifest(
        media_type: impl Into<String>,
        bytes: Vec<u8>,
        blobs: impl IntoIterator<Item = Descriptor>,
    ) -> Self {
        ManifestTree {
            media_type: media_type.into(),
            bytes,
            blobs: blobs.into_iter().collect(),
            children: Vec::new(),
        }
    }

    /// An index with the manifests it lists.
    pub fn index(
        media_type: impl Into<String>,
        bytes: Vec<u8>,
        children: impl IntoIterator<Item = ManifestTree>,
    ) -> Self {
        ManifestTree {
            media_type: media_type.into(),
            bytes,
            blobs: Vec::new(),
            children: children.into_iter().collect(),
        }
    }

    fn collect_blobs<'a>(&'a self, found: &mut impl FnMut(&'a Descriptor)) {
        self.blobs.iter().for_each(&mut *found);
        for child in &self.children {
            child.collect_blobs(found);
        }
    }
}

fn holds(
    session: &Session,
    reference: &Reference,
    blob: &Descriptor,
) -> Result<bool, RegistryError> {
    let nothing = || Err(io::ErrorKind::Unsupported.into());
    push::holds(
        session,
        &push::Blob::new(session, reference, blob, &nothing, &|_| {})?,
    )
}

fn send(
    session: &Session,
    reference: &Reference,
    blob: &Descriptor,
    source: &dyn BlobSource,
) -> Result<(), RegistryError> {
    let open = || source.open(blob);
    // That all of it is there is known more than once, and told once.
    let last = Cell::new(None);
    let progress = |done| {
        if last.replace(Some(done)) != Some(done) {
            source.progress(blob, done);
        }
    };
    let ready = push::Blob::new(session, reference, blob, &open, &progress)?;
    push::blob(session, &ready, source.mount_from(blob).as_deref())?;
    progress(blob.size());
    Ok(())
}

/// Does `work` for 0 to `count` - 1 on a few threads, in order as far as that goes. The first failure ends it, when those that
/// are under way are done.
fn several(
    count: usize,
    at_once: usize,
    work: impl Fn(usize) -> Result<(), RegistryError> + Sync,
) -> Result<(), RegistryError> {
    if count <= 1 {
        return (0..count).try_for_each(work);
    }
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let worker = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return;
            }
            if let Err(error) = work(at) {
                next.store(count, Ordering::Relaxed);
                let mut failure = locked(&failure);
                failure.get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..at_once.min(count) {
            scope.spawn(worker);
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
