//! Puts what a build knows where other builds can look it up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use kiln_cache::transfer::{INDEX_TYPE, PREIMAGES_TYPE};
use kiln_cache::{CacheIndex, CacheKey, Preimages, Store};
use kiln_image::compress::{self, Compression};
use kiln_image::layout::Layout;
use kiln_image::manifest::manifest_json;
use kiln_image::media_type::MediaTypes;
use kiln_image::{Descriptor, DiffId, Digest, Reference};
use kiln_registry::{Client, Pushed};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::save_mounts::SavedMounts;
use super::{CacheExport, CacheMode, CacheTarget, bucket, folder};
use crate::Services;
use crate::error::{BuildError, Cause, chain};
use crate::event::{Reporter, Stream, Task};
use crate::images::layer_media_type;
use crate::layers::{Holder, digest_of};
use crate::product::Product;
use crate::secrets::Secrets;

/// What an export moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheExported {
    /// Layers in the cache.
    pub layers: u64,
    /// Those of them that had to be sent.
    pub sent: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A cache ready to be put somewhere.
pub(super) struct Ready {
    pub(super) manifest: Vec<u8>,
    pub(super) config: (Descriptor, Vec<u8>),
    pub(super) preimages: (Descriptor, Vec<u8>),
    pub(super) layers: Vec<Descriptor>,
    /// Those of them that were not sent while the build went on.
    pub(super) unsent: Vec<Descriptor>,
    /// What cache mounts have in them.
    pub(super) mounts: SavedMounts,
}

/// Puts what the build knows of its steps somewhere. What has the value of one of `secrets` in it stays here.
pub fn export_cache(
    products: &[Product],
    export: &CacheExport,
    secrets: &Secrets,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
) -> Result<CacheExported, BuildError> {
    let task = reporter.start(match &export.target {
        CacheTarget::Registry(_) => "exporting cache to registry",
        CacheTarget::Layout { .. } => "exporting cache to client directory",
        CacheTarget::Bucket(_) => "exporting cache to Amazon S3",
    });
    let early = services.uploads.finish(export);
    let sent = early.and_then(|early| {
        let mounts = match export.mounts {
            true => SavedMounts::collect(export, secrets, services, reporter, &task)?,
            false => SavedMounts::default(),
        };
        let mut ready = prepare(products, export, mounts, services, &task)?;
        ready.unsent.retain(|layer| {
            let digest = digest_of(layer);
            !digest.is_ok_and(|digest| early.contains_key(&digest))
        });
        let before = ready
            .layers
            .iter()
            .filter(|layer| !ready.unsent.contains(layer));
        let mut sent = match &export.target {
            CacheTarget::Registry(reference) => push(&ready, reference, services, &task),
            CacheTarget::Layout { path, tag } => folder::write(&ready, path, tag, services),
            CacheTarget::Bucket(cache) => bucket::put(&ready, cache, services, &task),
        }?;
        sent.sent += before.clone().count() as u64;
        sent.bytes += before.map(Descriptor::size).sum::<u64>();
        let mounts = match (ready.mounts.unsent.len(), ready.mounts.saved.len()) {
            (_, 0) => String::new(),
            (unsent, all) => format!(", {unsent} of {all} cache mounts"),
        };
        let told = format!(
            "{} of {} layers sent{mounts}, {} bytes\n",
            sent.sent, sent.layers, sent.bytes
        );
        task.log(Stream::Stderr, told.as_bytes());
        Ok(sent)
    });
    if let Err(cause) = &sent
        && !matches!(cause, Cause::Canceled)
    {
        // All of it: whoever goes on without the cache is told nothing else.
        task.log(Stream::Stderr, format!("{}\n", chain(cause)).as_bytes());
    }
    task.end_with(sent).map_err(BuildError::new)
}

/// Results and preimages of the steps with these keys, from the store or from the caches of this build.
pub(super) fn collect_index(services: &Services<'_>, keys: &[CacheKey]) -> (CacheIndex, Preimages) {
    let (mut index, mut preimages) = (CacheIndex::default(), Preimages::default());
    let actions = services.store.actions();
    for key in keys {
        let known = match actions.recorded(key) {
            (found, Some(result)) => Some((found, result, actions.preimage(&found))),
            (found, None) => {
                let imports = &services.imports;
                imports.found(key).or_else(|| imports.found(&found))
            }
        };
        let Some((found, result, preimage)) = known else {
            continue; // collected meanwhile
        };
        if found != *key {
            index.aliases.insert(*key, found);
        }
        index.records.insert(found, result);
        if let Some(preimage) = preimage {
            preimages.add(found, preimage);
        }
    }
    (index, preimages)
}

fn prepare(
    products: &[Product],
    export: &CacheExport,
    mounts: SavedMounts,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<Ready, Cause> {
    let images = products.iter().flat_map(|product| &product.images);
    let keys: BTreeSet<CacheKey> = images
        .clone()
        .flat_map(|built| built.keys.clone())
        .collect();
    let keys: Vec<CacheKey> = keys.into_iter().collect();
    let (mut index, preimages) = collect_index(services, &keys);
    let of_image = images.flat_map(|built| built.config.diff_ids());
    let of_image: BTreeSet<DiffId> = of_image.copied().collect();
    let of_steps = index.records.values().filter_map(|result| result.layer);
    let wanted: BTreeSet<DiffId> = of_steps
        .filter(|layer| export.mode == CacheMode::Max || of_image.contains(layer))
        .collect();
    let mut layers = Vec::new();
    for layer in wanted {
        if let Some(there) = already_there(layer, &export.target, services) {
            layers.push(there);
            index.layers.push(layer);
            continue;
        }
        let blob = match services.layers.blob(layer, export.compression, task) {
            Ok(blob) => blob,
            // It is in no cache any more and was not needed here: what its step came to is told without it.
            Err(Cause::LayerLost(_) | Cause::Registry(_) | Cause::Bucket(_))
                if !of_image.contains(&layer) =>
            {
                continue;
            }
            Err(cause) => return Err(cause),
        };
        let media_type = layer_media_type(MediaTypes::Oci, &blob.media_type);
        layers.push(descriptor(&media_type, blob.size, &blob.digest));
        index.layers.push(layer);
    }
    index.mounts.clone_from(&mounts.saved);
    let unwritable = |error: serde_json::Error| Cause::Image(error.to_string());
    let config = serde_json::to_vec(&index).map_err(unwritable)?;
    let config = (described(INDEX_TYPE, &config), config);
    let preimages = pack(&serde_json::to_vec(&preimages).map_err(unwritable)?)?;
    let preimages = (described(PREIMAGES_TYPE, &preimages), preimages);
    let all = [&preimages.0]
        .into_iter()
        .chain(&layers)
        .chain(&mounts.blobs);
    let all: Vec<Descriptor> = all.cloned().collect();
    let manifest = manifest_json(&config.0, &all, MediaTypes::Oci, &BTreeMap::new())
        .map_err(|error| Cause::Image(error.to_string()))?;
    Ok(Ready {
        manifest,
        config,
        preimages,
        unsent: layers.clone(),
        layers,
        mounts,
    })
}

/// A layer that this store doesn't have and the target does: it was found there, and need not be fetched to be named again.
fn already_there(
    layer: DiffId,
    target: &CacheTarget,
    services: &Services<'_>,
) -> Option<Descriptor> {
    if services.store.layers().has_content(&layer) {
        return None;
    }
    let found = services
        .layers
        .blob_at(layer, |holder| is_same_place(holder, target))?;
    let digest = digest_of(&found).ok()?;
    holds(target, &digest, services).then_some(found)
}

/// Whether a blob needn't be sent.
pub(super) fn holds(target: &CacheTarget, blob: &Digest, services: &Services<'_>) -> bool {
    match target {
        CacheTarget::Registry(reference) => {
            let holds = services.registry.has_blob(reference, blob);
            holds.is_ok_and(|holds| holds)
        }
        CacheTarget::Bucket(cache) => bucket::holds(cache, blob, services),
        CacheTarget::Layout { path, .. } => {
            Layout::open(path).is_ok_and(|layout| layout.has_blob(blob))
        }
    }
}

/// Whether what is there needn't be sent to the target.
fn is_same_place(holder: &Holder, target: &CacheTarget) -> bool {
    match (holder, target) {
        (Holder::Registry(image), CacheTarget::Registry(target)) => {
            (image.registry(), image.repository()) == (target.registry(), target.repository())
        }
        (Holder::Bucket(cache), CacheTarget::Bucket(target)) => cache.shares_blobs_with(target),
        _ => false,
    }
}

/// Preimages are text, much of it again and again.
fn pack(json: &[u8]) -> Result<Vec<u8>, Cause> {
    let failed = |error: std::io::Error| Cause::Image(error.to_string());
    let mut encoder = compress::encoder(Compression::default(), Vec::new()).map_err(failed)?;
    encoder.write_all(json).map_err(failed)?;
    encoder.finish().map_err(failed)
}

pub(super) fn described(media_type: &str, bytes: &[u8]) -> Descriptor {
    descriptor(media_type, bytes.len() as u64, &Digest::of(bytes))
}

pub(super) fn descriptor(media_type: &str, size: u64, digest: &Digest) -> Descriptor {
    Descriptor::new(media_type.into(), size, digest.to_oci())
}

/// Sends a layer that isn't there; returns whether it had to be.
pub(super) fn push_layer(
    blob: &Descriptor,
    reference: &Reference,
    registry: &Client,
    store: &Store,
    task: &Task<'_>,
) -> Result<bool, Cause> {
    let digest = digest_of(blob)?;
    let part = digest.to_string();
    let open = || -> std::io::Result<Box<dyn Read>> {
        let reader = store.cas().open(&digest);
        Ok(Box::new(reader.map_err(std::io::Error::other)?))
    };
    let told = |done| task.progress(&part, done, Some(blob.size()));
    let pushed = registry.push_blob(reference, blob, &open, None, &told)?;
    Ok(pushed == Pushed::Uploaded)
}

/// Layers first, the manifest last: nobody finds a cache that isn't whole. What is there is not sent.
fn push(
    ready: &Ready,
    reference: &Reference,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<CacheExported, Cause> {
    let (sent, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let registry = services.registry;
    let send = |blob: &Descriptor| -> Result<(), Cause> {
        if push_layer(blob, reference, registry, services.store, task)? {
            sent.fetch_add(1, Ordering::Relaxed);
            bytes.fetch_add(blob.size(), Ordering::Relaxed);
        }
        Ok(())
    };
    ready.unsent.par_iter().try_for_each(send)?;
    for (blob, path) in &ready.mounts.unsent {
        let open = || -> std::io::Result<Box<dyn Read>> { Ok(Box::new(File::open(path)?)) };
        let part = digest_of(blob)?.to_string();
        let told = |done| task.progress(&part, done, Some(blob.size()));
        registry.push_blob(reference, blob, &open, None, &told)?;
        bytes.fetch_add(blob.size(), Ordering::Relaxed);
    }
    for (blob, content) in [&ready.preimages, &ready.config] {
        let open = || -> std::io::Result<Box<dyn Read>> {
            Ok(Box::new(std::io::Cursor::new(content.clone())))
        };
        registry.push_blob(reference, blob, &open, None, &|_| ())?;
    }
    registry.push_manifest(reference, MediaTypes::Oci.manifest(), &ready.manifest)?;
    Ok(CacheExported {
        layers: ready.layers.len() as u64,
        sent: sent.into_inner(),
        bytes: bytes.into_inner(),
    })
}
