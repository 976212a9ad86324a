//! What is sent or written under a name: the manifest of an image, or an index with all that it names.

use kiln_cache::{ImageRecord, ManifestRecord, NamedImages};
use kiln_image::compress::Compression;
use kiln_image::manifest::parse_manifest;
use kiln_image::media_type::MediaTypes;
use kiln_image::{Descriptor, Digest, Manifest, Reference};
use kiln_registry::ManifestTree;

use super::found::{self, MANIFEST_LIMIT, ReadyManifest, StoredImage};
use crate::Services;
use crate::error::Cause;
use crate::event::{Stream, Task};
use crate::layers::digest_of;

/// The tree of an image, all of its blobs in the store: that of the whole index, if the image was found by a name that stands for
/// one and nothing of it is missing here.
pub(crate) fn tree_of(
    services: &Services<'_>,
    image: &StoredImage,
    task: &Task<'_>,
) -> Result<ManifestTree, Cause> {
    let of_index = image.named.as_ref().zip(image.reference.as_ref());
    if let Some((named, reference)) = of_index
        && let Some(index) = &named.index
    {
        if let Some(tree) = index_tree(services, reference, named, index, task)? {
            return Ok(tree);
        }
        let platform = &image.record.platform;
        let told =
            format!("not all images of `{reference}` are in the store: only that for {platform}\n");
        task.log(Stream::Stderr, told.as_bytes());
    }
    Ok(leaf(ready(services, image, task)?))
}

fn ready(
    services: &Services<'_>,
    image: &StoredImage,
    task: &Task<'_>,
) -> Result<ReadyManifest, Cause> {
    found::manifest_of(
        services,
        image,
        Compression::default(),
        MediaTypes::Oci,
        task,
    )
}

/// A manifest with its config and layers.
pub(crate) fn leaf(manifest: ReadyManifest) -> ManifestTree {
    let blobs = manifest.layers.into_iter().chain([manifest.config]);
    ManifestTree::manifest(manifest.media_type, manifest.bytes, blobs)
}

/// The index with its manifests in their order; `None` if one of them, or a blob, is not here.
fn index_tree(
    services: &Services<'_>,
    reference: &Reference,
    named: &NamedImages,
    index: &ManifestRecord,
    task: &Task<'_>,
) -> Result<Option<ManifestTree>, Cause> {
    let Ok(bytes) = services.store.cas().read(&index.digest, MANIFEST_LIMIT) else {
        return Ok(None);
    };
    let parsed = parse_manifest(&bytes, &index.media_type);
    let Ok(Manifest::Index(parsed)) = parsed else {
        return Ok(None);
    };
    let mut children = Vec::new();
    for descriptor in parsed.manifests() {
        let digest = digest_of(descriptor)?;
        let is_it = |image: &&ImageRecord| {
            let manifest = image.manifest.as_ref();
            manifest.is_some_and(|manifest| manifest.digest == digest)
        };
        let child = match named.iter().find(is_it) {
            Some(record) => {
                let image = found::open(services, Some(reference.clone()), record.clone())?;
                Some(leaf(ready(services, &image, task)?))
            }
            None => attachment(services, descriptor, digest),
        };
        match child.filter(|child| Digest::of(&child.bytes) == digest) {
            Some(child) => children.push(child),
            None => return Ok(None),
        }
    }
    Ok(Some(ManifestTree {
        media_type: index.media_type.clone(),
        bytes,
        blobs: Vec::new(),
        children,
    }))
}

/// A manifest of an index that is no image, such as an attestation, if all of it is here.
fn attachment(
    services: &Services<'_>,
    descriptor: &Descriptor,
    digest: Digest,
) -> Option<ManifestTree> {
    let cas = services.store.cas();
    let bytes = cas.read(&digest, MANIFEST_LIMIT).ok()?;
    let media_type = descriptor.media_type().to_string();
    let Manifest::Image(manifest) = parse_manifest(&bytes, &media_type).ok()? else {
        return None;
    };
    let blobs = manifest.layers().iter().chain([manifest.config()]);
    let blobs: Vec<Descriptor> = blobs.cloned().collect();
    let is_here = |blob: &Descriptor| digest_of(blob).is_ok_and(|digest| cas.contains(&digest));
    let complete = blobs.iter().all(is_here);
    complete.then(|| ManifestTree::manifest(media_type, bytes, blobs))
}
