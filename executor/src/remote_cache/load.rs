//! Reads what a cache says: its manifest and index, and the preimages when somebody wants them.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

use kiln_cache::explain::Places;
use kiln_cache::transfer::{INDEX_TYPE, INLINE, MOUNT_TYPE, PREIMAGES_TYPE};
use kiln_cache::{CacheIndex, CacheKey, Preimage, Preimages};
use kiln_image::compress;
use kiln_image::layout::{Layout, REF_NAME};
use kiln_image::manifest::parse_manifest;
use kiln_image::media_type::{MediaTypes, layer_compression};
use kiln_image::{
    Descriptor, DiffId, Digest, ImageConfig, ImageManifest, Manifest, Platform, Reference,
};
use kiln_registry::{BucketError, Client, MANIFEST_LIMIT, RegistryError};

use super::{BucketCache, CacheSource};
use crate::error::chain;
use crate::images::choose;
use crate::layers;

/// Longest index or config that is read, in bytes.
const INDEX_LIMIT: u64 = 64 << 20;
/// Longest preimages that are read, in bytes when they are unpacked.
const PREIMAGES_LIMIT: u64 = 256 << 20;
/// What BuildKit calls the config of its own caches (R-CEXP-6).
const BUILDKIT_INDEX: &str = "application/vnd.buildkit.cacheconfig.v0";

/// A cache that was read.
pub(super) struct Imported {
    pub index: CacheIndex,
    /// The layers that can be had, in the index's order.
    pub blobs: Vec<Descriptor>,
    /// What cache mounts have in them.
    pub mounts: Vec<Descriptor>,
    pub holder: Holder,
    preimages: Option<Descriptor>,
    read: OnceLock<Preimages>,
    places: OnceLock<Places>,
}

/// Who has the blobs.
#[derive(Clone)]
pub(super) enum Holder {
    Registry(Arc<Client>, Reference),
    Layout(Arc<Layout>),
    Bucket(Arc<Client>, Arc<BucketCache>),
}

/// Why there is nothing to import.
#[derive(Debug)]
pub(super) enum NoCache {
    /// Nobody has put one there yet.
    Absent,
    /// Something is wrong.
    Failed(String),
}

impl From<BucketError> for NoCache {
    fn from(error: BucketError) -> Self {
        Self::Failed(chain(&error))
    }
}

impl From<RegistryError> for NoCache {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::NotFound { .. } => Self::Absent,
            error => Self::Failed(chain(&error)),
        }
    }
}

fn failed(error: impl std::error::Error) -> NoCache {
    NoCache::Failed(chain(&error))
}

/// Reads manifest and index.
pub(super) fn load(source: &CacheSource, client: &Arc<Client>) -> Result<Imported, NoCache> {
    match source {
        CacheSource::Registry(reference) => {
            let holder = Holder::Registry(client.clone(), reference.clone());
            let found = client.resolve(reference)?;
            let media_type = found.descriptor.media_type().to_string();
            let manifest = parse_manifest(&found.bytes, &media_type).map_err(failed)?;
            of_manifest(manifest, holder)
        }
        CacheSource::Layout { path, tag, digest } => {
            if !path.join("index.json").exists() {
                return Err(NoCache::Absent);
            }
            let layout = Arc::new(Layout::open(path).map_err(failed)?);
            let found = in_layout(&layout, tag, digest.as_ref()).ok_or(NoCache::Absent)?;
            let manifest = layout.manifest(&found).map_err(failed)?.1;
            of_manifest(manifest, Holder::Layout(layout))
        }
        CacheSource::Bucket(cache) => {
            let bucket = client.bucket(&cache.settings)?;
            let bytes = bucket.read(&cache.manifest_key(), MANIFEST_LIMIT)?;
            let bytes = bytes.ok_or(NoCache::Absent)?;
            if is_of_buildkit(&bytes) {
                return Err(of_buildkit());
            }
            let media_type = MediaTypes::Oci.manifest();
            let manifest = parse_manifest(&bytes, media_type).map_err(failed)?;
            let holder = Holder::Bucket(client.clone(), Arc::new(BucketCache::clone(cache)));
            of_manifest(manifest, holder)
        }
    }
}

pub(super) fn in_layout(layout: &Layout, tag: &str, digest: Option<&Digest>) -> Option<Descriptor> {
    let mut manifests = layout.index().manifests().iter();
    let wanted = manifests.find(|found| match digest {
        Some(digest) => found.digest().to_string() == digest.to_string(),
        None => {
            let annotations = found.annotations().as_ref();
            annotations
                .and_then(|all| all.get(REF_NAME))
                .map(String::as_str)
                == Some(tag)
        }
    });
    wanted.cloned()
}

fn of_manifest(manifest: Manifest, holder: Holder) -> Result<Imported, NoCache> {
    let manifest = match manifest {
        Manifest::Image(manifest) => *manifest,
        Manifest::Index(index) => {
            let mut parts = index.manifests().iter();
            if parts.any(|part| part.media_type().to_string() == BUILDKIT_INDEX) {
                return Err(of_buildkit());
            }
            let chosen = choose("the index", &Platform::host(), index.manifests());
            let bytes = holder.manifest(chosen.map_err(failed)?)?;
            match parse_manifest(&bytes.1, &bytes.0).map_err(failed)? {
                Manifest::Image(manifest) => *manifest,
                Manifest::Index(_) => {
                    return Err(NoCache::Failed("it is an index within an index".to_owned()));
                }
            }
        }
    };
    match manifest.config().media_type().to_string().as_str() {
        INDEX_TYPE => of_cache(&manifest, holder),
        BUILDKIT_INDEX => Err(of_buildkit()),
        _ => of_image(&manifest, holder),
    }
}

/// BuildKit puts its index into buckets without a manifest (R-CEXP-6).
fn is_of_buildkit(bytes: &[u8]) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    value.is_some_and(|value| value.get("records").is_some() && value.get("config").is_none())
}

fn of_buildkit() -> NoCache {
    NoCache::Failed("it is a cache of BuildKit's, whose keys are not kiln's".to_owned())
}

fn of_cache(manifest: &ImageManifest, holder: Holder) -> Result<Imported, NoCache> {
    let index = holder.blob(manifest.config(), INDEX_LIMIT)?;
    let index: CacheIndex = serde_json::from_slice(&index).map_err(failed)?;
    let of_type = |wanted: &str| -> Vec<Descriptor> {
        let blobs = manifest.layers().iter();
        let found = blobs.filter(|blob| blob.media_type().to_string() == wanted);
        found.cloned().collect()
    };
    let (preimages, mounts) = (of_type(PREIMAGES_TYPE), of_type(MOUNT_TYPE));
    let mut blobs = manifest.layers().clone();
    blobs.retain(|blob| !preimages.contains(blob) && !mounts.contains(blob));
    let preimages = preimages.into_iter().next();
    Imported::new(index, blobs, mounts, holder, preimages)
}

/// R-CEXP-2, under a key of our own.
fn of_image(manifest: &ImageManifest, holder: Holder) -> Result<Imported, NoCache> {
    let bytes = holder.blob(manifest.config(), INDEX_LIMIT)?;
    let mut config = ImageConfig::from_json(&bytes).map_err(failed)?;
    let Some(value) = config.other.remove(INLINE) else {
        return Err(NoCache::Failed(
            "it is an image without a cache in it".to_owned(),
        ));
    };
    let mut index: CacheIndex = serde_json::from_value(value).map_err(failed)?;
    index.layers = config.diff_ids().to_vec();
    let mut blobs = manifest.layers().clone();
    keep_firsts(&mut index.layers, &mut blobs);
    Imported::new(index, blobs, Vec::new(), holder, None)
}

/// An image may have a layer twice: two steps that do the same to a root filesystem have made it.
fn keep_firsts(layers: &mut Vec<DiffId>, blobs: &mut Vec<Descriptor>) {
    if layers.len() != blobs.len() {
        return; // which belongs to which nobody can tell
    }
    let mut seen = HashSet::new();
    let is_first: Vec<bool> = layers.iter().map(|layer| seen.insert(*layer)).collect();
    let mut keep = is_first.iter();
    layers.retain(|_| keep.next() == Some(&true));
    let mut keep = is_first.iter();
    blobs.retain(|_| keep.next() == Some(&true));
}

impl Imported {
    pub(super) fn new(
        index: CacheIndex,
        blobs: Vec<Descriptor>,
        mounts: Vec<Descriptor>,
        holder: Holder,
        preimages: Option<Descriptor>,
    ) -> Result<Self, NoCache> {
        index.check().map_err(failed)?;
        for blob in &blobs {
            let media_type = blob.media_type().to_string();
            if layer_compression(&media_type).is_none() {
                return Err(NoCache::Failed(format!(
                    "its manifest has a layer of type `{}`",
                    media_type.escape_debug()
                )));
            }
        }
        for blob in blobs.iter().chain(&mounts).chain(&preimages) {
            Digest::try_from(blob.digest()).map_err(failed)?;
        }
        if index.layers.len() != blobs.len() {
            return Err(NoCache::Failed(format!(
                "its index has {} layers and its manifest {}",
                index.layers.len(),
                blobs.len()
            )));
        }
        Ok(Self {
            index,
            blobs,
            mounts,
            holder,
            preimages,
            read: OnceLock::new(),
            places: OnceLock::new(),
        })
    }

    /// What a key was made of; `None` too where that can't be read.
    pub(super) fn preimage(&self, key: &CacheKey) -> Option<&Preimage> {
        self.preimages().0.get(key)
    }

    /// The step that one is to be compared with, and what its key was made of.
    pub(super) fn closest(&self, preimage: &Preimage) -> Option<(CacheKey, &Preimage)> {
        let preimages = self.preimages();
        let places = self.places.get_or_init(|| Places::of(preimages));
        places.closest(preimages, preimage)
    }

    /// What all keys were made of, read at the first call.
    pub(super) fn preimages(&self) -> &Preimages {
        let Some(blob) = &self.preimages else {
            return &self.index.preimages;
        };
        self.read.get_or_init(|| {
            let bytes = self.holder.blob(blob, PREIMAGES_LIMIT).ok();
            bytes.and_then(|bytes| unpack(&bytes)).unwrap_or_default()
        })
    }
}

fn unpack(bytes: &[u8]) -> Option<Preimages> {
    let mut json = Vec::new();
    let decoder = compress::decoder(bytes).ok()?;
    decoder.take(PREIMAGES_LIMIT).read_to_end(&mut json).ok()?;
    serde_json::from_slice(&json).ok()
}

impl Holder {
    /// The same as layers are had from it, and who asks.
    pub(super) fn of_layers(&self) -> (layers::Holder, Option<Arc<Client>>) {
        match self {
            Self::Registry(client, reference) => {
                let holder = layers::Holder::Registry(reference.clone());
                (holder, Some(client.clone()))
            }
            Self::Layout(layout) => (layers::Holder::Layout(layout.clone()), None),
            Self::Bucket(client, cache) => {
                let holder = layers::Holder::Bucket(cache.clone());
                (holder, Some(client.clone()))
            }
        }
    }

    /// A manifest with its media type.
    fn manifest(&self, descriptor: &Descriptor) -> Result<(String, Vec<u8>), NoCache> {
        let digest = Digest::try_from(descriptor.digest()).map_err(failed)?;
        let bytes = match self {
            Self::Registry(client, reference) => client.manifest_by_digest(reference, &digest)?,
            Self::Layout(layout) => layout.read_blob(descriptor).map_err(failed)?,
            Self::Bucket(..) => self.blob(descriptor, MANIFEST_LIMIT)?,
        };
        Ok((descriptor.media_type().to_string(), bytes))
    }

    /// A blob, whole and verified.
    fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, NoCache> {
        if descriptor.size() > limit {
            return Err(NoCache::Failed(format!(
                "{} has {} bytes, more than the {limit} that are read",
                descriptor.digest(),
                descriptor.size()
            )));
        }
        let mut bytes = Vec::new();
        self.fetch(descriptor, &mut bytes, &|_| ())?;
        Ok(bytes)
    }

    /// A blob, verified when it has come to its end; `told` hears how many bytes of it are there.
    pub(super) fn fetch(
        &self,
        blob: &Descriptor,
        out: &mut dyn Write,
        told: &dyn Fn(u64),
    ) -> Result<(), NoCache> {
        match self {
            Self::Registry(client, reference) => client.pull_blob(reference, blob, out, told)?,
            Self::Layout(layout) => {
                let mut blob = layout.open_blob(blob).map_err(failed)?;
                io::copy(&mut blob, out).map_err(failed)?;
            }
            Self::Bucket(client, cache) => {
                let digest = Digest::try_from(blob.digest()).map_err(failed)?;
                let bucket = client.bucket(&cache.settings)?;
                bucket.download(&cache.blob_key(&digest), blob.size(), &digest, out, told)?;
            }
        }
        Ok(())
    }
}
