//! Sending an image to its registry.

use std::collections::HashMap;
use std::io::{self, Read};

use kiln_cache::ManifestRecord;
use kiln_image::manifest::parse_manifest;
use kiln_image::media_type::{self, MediaTypes};
use kiln_image::{Descriptor, Digest, Manifest, Platform, Reference};
use kiln_registry::{BlobSource, ManifestTree};

use super::found::{self, MANIFEST_LIMIT, StoredImage};
use super::tree;
use crate::Services;
use crate::error::{BuildError, Cause};
use crate::event::{Reporter, Task};

/// Sends the image that the store has under `reference`, or all of an index, to the registry that `reference` names; with a
/// platform the image for that alone. Gives the digest of the manifest or index.
pub fn push(
    services: &Services<'_>,
    reference: &Reference,
    platform: Option<&Platform>,
    reporter: &Reporter<'_>,
) -> Result<Digest, BuildError> {
    let image = match platform {
        Some(_) => found::find_for(services, &reference.to_string(), platform)?.alone(),
        None => found::find_by_name(services, reference, None)
            .and_then(|image| {
                image.ok_or_else(|| {
                    Cause::Image(format!("there is no image `{reference}` in the store"))
                })
            })
            .map_err(BuildError::new)?,
    };
    let task = reporter.start(format!("push {reference}"));
    let sent = send(services, reference, &image, &task);
    task.end_with(sent).map_err(BuildError::new)
}

fn send(
    services: &Services<'_>,
    reference: &Reference,
    image: &StoredImage,
    task: &Task<'_>,
) -> Result<Digest, Cause> {
    let tree = tree::tree_of(services, image, task)?;
    send_tree(services, reference, &tree, task)
}

/// Sends a manifest or index whose blobs are in the store.
pub(crate) fn send_tree(
    services: &Services<'_>,
    reference: &Reference,
    tree: &ManifestTree,
    task: &Task<'_>,
) -> Result<Digest, Cause> {
    let stored = Stored {
        services,
        task,
        registry: reference.registry(),
        elsewhere: known_elsewhere(services, reference, tree)?,
    };
    Ok(services.registry.push_tree(reference, tree, &stored)?)
}

/// Blobs of the store on their way to a registry.
struct Stored<'a> {
    services: &'a Services<'a>,
    task: &'a Task<'a>,
    registry: &'a str,
    /// For mounts: blobs and the repositories that have them.
    elsewhere: HashMap<String, String>,
}

impl BlobSource for Stored<'_> {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read>> {
        let digest = Digest::try_from(blob.digest()).map_err(io::Error::other)?;
        let reader = self.services.store.cas().open(&digest);
        Ok(Box::new(reader.map_err(io::Error::other)?))
    }

    fn mount_from(&self, blob: &Descriptor) -> Option<String> {
        let digest = Digest::try_from(blob.digest()).ok()?;
        let named = self.elsewhere.get(&digest.to_string()).cloned();
        let known = || self.services.layers.repository_with(digest, self.registry);
        named.or_else(known)
    }

    fn progress(&self, blob: &Descriptor, done: u64) {
        let part = blob.digest().to_string();
        self.task.progress(&part, done, Some(blob.size()));
    }
}

/// Repositories of the registry of `to` that have blobs, by those blobs, as far as names in the store tell: an image that is
/// pushed beside the one it was made from, or under one more name, finds its layers there. What isn't there after all is sent.
fn known_elsewhere(
    services: &Services<'_>,
    to: &Reference,
    tree: &ManifestTree,
) -> Result<HashMap<String, String>, Cause> {
    let mut known = HashMap::new();
    for (name, images) in services.store.refs().list()? {
        if name.registry() != to.registry() || name.repository() == to.repository() {
            continue;
        }
        for image in images.iter() {
            let blobs = match &image.manifest {
                Some(manifest) => &blobs_of(services, manifest),
                None => blobs_with(tree, &image.config.to_string()),
            };
            let repository = name.repository();
            known.extend(
                blobs
                    .iter()
                    .map(|blob| (blob.digest().to_string(), repository.to_owned())),
            );
        }
    }
    Ok(known)
}

/// The blobs of the manifest with this config.
fn blobs_with<'a>(tree: &'a ManifestTree, config: &str) -> &'a [Descriptor] {
    let has = |blob: &Descriptor| blob.digest().to_string() == config;
    if tree.blobs.iter().any(has) {
        return &tree.blobs;
    }
    let mut children = tree.children.iter();
    let found =
        children.find_map(|child| Some(blobs_with(child, config)).filter(|b| !b.is_empty()));
    found.unwrap_or_default()
}

/// Those of a manifest in the store. One that is damaged is no reason not to push another image.
fn blobs_of(services: &Services<'_>, manifest: &ManifestRecord) -> Vec<Descriptor> {
    let read = services.store.cas().read(&manifest.digest, MANIFEST_LIMIT);
    let Ok(bytes) = read else { return Vec::new() };
    match parse_manifest(&bytes, &manifest.media_type) {
        Ok(Manifest::Image(parsed)) => {
            let blobs = parsed.layers().iter().chain([parsed.config()]);
            blobs.cloned().collect()
        }
        _ => Vec::new(),
    }
}

/// What a config of this size and digest is called in a manifest.
pub(super) fn config_descriptor(media_types: MediaTypes, digest: Digest, size: u64) -> Descriptor {
    Descriptor::new(media_types.config().into(), size, digest.to_oci())
}

/// The media type a layer has in a manifest of the family `media_types`.
pub(crate) fn layer_media_type(media_types: MediaTypes, stored: &str) -> String {
    match media_type::layer_compression(stored) {
        Some(compression) => media_types.layer(compression).to_owned(),
        None => stored.to_owned(),
    }
}
