//! Sending an image to its registry.

use std::io::{self, Read};

use kiln_image::media_type::{self, MediaTypes};
use kiln_image::{Descriptor, Digest, Reference};
use kiln_registry::{BlobSource, ManifestTree};

use super::found::{self, StoredImage};
use super::tree;
use crate::Services;
use crate::error::{BuildError, Cause};
use crate::event::{Reporter, Task};

/// Sends the image that the store has under `reference`, or all of an index, to the registry that `reference` names. Gives the
/// digest of the manifest or index.
pub fn push(
    services: &Services<'_>,
    reference: &Reference,
    reporter: &Reporter<'_>,
) -> Result<Digest, BuildError> {
    let image = found::find_by_name(services, reference, None)
        .and_then(|image| {
            image.ok_or_else(|| {
                Cause::Image(format!("there is no image `{reference}` in the store"))
            })
        })
        .map_err(BuildError::new)?;
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
    send_tree(
        services,
        reference,
        &tree,
        mount_from(image, reference),
        task,
    )
}

/// Sends a manifest or index whose blobs are in the store; `mount_from` is a repository of the same registry that has them.
pub(crate) fn send_tree(
    services: &Services<'_>,
    reference: &Reference,
    tree: &ManifestTree,
    mount_from: Option<String>,
    task: &Task<'_>,
) -> Result<Digest, Cause> {
    let stored = Stored {
        services,
        task,
        registry: reference.registry(),
        mount_from,
    };
    Ok(services.registry.push_tree(reference, tree, &stored)?)
}

/// Blobs of the store on their way to a registry.
struct Stored<'a> {
    services: &'a Services<'a>,
    task: &'a Task<'a>,
    registry: &'a str,
    mount_from: Option<String>,
}

impl BlobSource for Stored<'_> {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read>> {
        let digest = Digest::try_from(blob.digest()).map_err(io::Error::other)?;
        let reader = self.services.store.cas().open(&digest);
        Ok(Box::new(reader.map_err(io::Error::other)?))
    }

    fn mount_from(&self, blob: &Descriptor) -> Option<String> {
        let digest = Digest::try_from(blob.digest()).ok()?;
        let known = || self.services.layers.repository_with(digest, self.registry);
        self.mount_from.clone().or_else(known)
    }

    fn progress(&self, blob: &Descriptor, done: u64) {
        let part = blob.digest().to_string();
        self.task.progress(&part, done, Some(blob.size()));
    }
}

/// The repository the image came from, when the same registry has it.
fn mount_from(image: &StoredImage, to: &Reference) -> Option<String> {
    let from = image.reference.as_ref()?;
    (from.registry() == to.registry() && from.repository() != to.repository())
        .then(|| from.repository().to_owned())
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
