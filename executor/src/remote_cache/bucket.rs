//! A cache in a bucket of an S3-compatible server (R-CEXP-5).
//!
//! ```text
//! <manifests><name>        the manifest, as a registry has it under a tag
//! <blobs><digest>          index, preimages and layers
//! ```
//!
//! Nothing in a bucket refers to anything: old blobs go by a rule of the bucket's owner, by their age. So what an export finds
//! there is made new again once it is older than [`BucketCache::touch_refresh`].

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use kiln_cache::Store;
use kiln_image::{Descriptor, Digest};
use kiln_registry::{Bucket, BucketSettings, Found, Refusal, Upload};

use super::CacheExported;
use super::export::Ready;
use crate::Services;
use crate::error::Cause;
use crate::event::Task;
use crate::layers::digest_of;
use crate::locked::locked;

/// A cache in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketCache {
    /// Where, and by whose leave.
    pub settings: BucketSettings,
    /// What stands before the names of manifests.
    pub manifests: String,
    /// What stands before the digests of blobs.
    pub blobs: String,
    /// Names the cache gets; it is looked for under the first.
    pub names: Vec<String>,
    /// A blob that is older is made new when it is exported again.
    pub touch_refresh: Duration,
    /// How many blobs are sent at a time.
    pub parallelism: usize,
}

impl BucketCache {
    /// The key of the manifest that is looked for.
    pub(super) fn manifest_key(&self) -> String {
        let name = self.names.first().map_or("", String::as_str);
        format!("{}{name}", self.manifests)
    }

    /// The key of a blob.
    pub(crate) fn blob_key(&self, digest: &Digest) -> String {
        format!("{}{digest}", self.blobs)
    }

    /// Whether a blob of one is a blob of the other.
    pub(super) fn shares_blobs_with(&self, other: &Self) -> bool {
        let place = |cache: &Self| {
            let settings = &cache.settings;
            (
                settings.endpoint.clone(),
                settings.region.clone(),
                settings.name.clone(),
                cache.blobs.clone(),
            )
        };
        place(self) == place(other)
    }
}

impl fmt::Display for BucketCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.settings.name, self.manifest_key())
    }
}

/// Whether the bucket has a blob.
pub(super) fn holds(cache: &BucketCache, digest: &Digest, services: &Services<'_>) -> bool {
    let bucket = services.registry.bucket(&cache.settings);
    let found = bucket.and_then(|bucket| bucket.find(&cache.blob_key(digest)));
    found.is_ok_and(|found| found.is_some())
}

/// Layers first, the manifests last: nobody finds a cache that isn't whole. What is there is not sent.
pub(super) fn put(
    ready: &Ready,
    cache: &BucketCache,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<CacheExported, Cause> {
    let bucket = services.registry.bucket(&cache.settings)?;
    let (sent, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let send = |blob: &Descriptor| -> Result<(), Cause> {
        if put_layer(blob, cache, &bucket, services.store, task)? {
            sent.fetch_add(1, Ordering::Relaxed);
            bytes.fetch_add(blob.size(), Ordering::Relaxed);
        }
        Ok(())
    };
    some_at_once(&ready.unsent, cache.parallelism, send)?;
    for (blob, path) in &ready.mounts.unsent {
        send_file(blob, path, cache, &bucket, task)?;
        bytes.fetch_add(blob.size(), Ordering::Relaxed);
    }
    for (blob, content) in [&ready.preimages, &ready.config] {
        bucket.put(&cache.blob_key(&digest_of(blob)?), content)?;
    }
    for name in &cache.names {
        bucket.put(&format!("{}{name}", cache.manifests), &ready.manifest)?;
    }
    Ok(CacheExported {
        layers: ready.layers.len() as u64,
        sent: sent.into_inner(),
        bytes: bytes.into_inner(),
    })
}

/// Sends a layer that isn't there; returns whether it had to be.
pub(super) fn put_layer(
    blob: &Descriptor,
    cache: &BucketCache,
    bucket: &Bucket<'_>,
    store: &Store,
    task: &Task<'_>,
) -> Result<bool, Cause> {
    let digest = digest_of(blob)?;
    let (key, size) = (cache.blob_key(&digest), blob.size());
    // One of another size was damaged on the way there or since.
    let found = bucket.find(&key)?;
    if let Some(found) = found.filter(|found| found.size.is_none_or(|found| found == size)) {
        if is_older(&found, cache.touch_refresh) {
            bucket.touch(&key, size)?;
        }
        return Ok(false);
    }
    let uploaded = send_file(blob, &store.cas().path(&digest), cache, bucket, task);
    if let Err(Cause::Bucket(error)) = &uploaded
        && let Refusal::Digest { .. } = *error.why
    {
        // Read to its end it is found to be damaged, and is out of the store.
        let _ = io::copy(&mut store.cas().open(&digest)?, &mut io::sink());
    }
    uploaded.map(|()| true)
}

/// Sends what is in a file.
fn send_file(
    blob: &Descriptor,
    path: &Path,
    cache: &BucketCache,
    bucket: &Bucket<'_>,
    task: &Task<'_>,
) -> Result<(), Cause> {
    let (digest, size) = (digest_of(blob)?, blob.size());
    let part = digest.to_string();
    bucket.upload(&Upload {
        key: &cache.blob_key(&digest),
        size,
        digest,
        open: &|from| -> io::Result<Box<dyn Read>> {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(from))?;
            Ok(Box::new(file))
        },
        progress: &|done| task.progress(&part, done, Some(size)),
    })?;
    Ok(())
}

fn is_older(found: &Found, limit: Duration) -> bool {
    let age = found
        .modified
        .map(|modified| Timestamp::now().duration_since(modified));
    age.is_some_and(|age| age.unsigned_abs() > limit && age.is_positive())
}

/// Does `work` for all blobs, so many at a time, and begins nothing new after a failure.
fn some_at_once(
    blobs: &[Descriptor],
    parallelism: usize,
    work: impl Fn(&Descriptor) -> Result<(), Cause> + Sync,
) -> Result<(), Cause> {
    let (todo, failure) = (Mutex::new(blobs.iter()), Mutex::new(None));
    let take_turns = || {
        while locked(&failure).is_none() {
            let Some(blob) = locked(&todo).next() else {
                return;
            };
            if let Err(cause) = work(blob) {
                locked(&failure).get_or_insert(cause);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..parallelism.min(blobs.len()) {
            scope.spawn(take_turns);
        }
    });
    match locked(&failure).take() {
        Some(cause) => Err(cause),
        None => Ok(()),
    }
}
