//! Sending an image to its registry.

use std::io::Read;

use kiln_image::compress::Compression;
use kiln_image::media_type::{self, MediaTypes};
use kiln_image::{Descriptor, Digest, Reference};

use super::found::{self, StoredImage};
use crate::Services;
use crate::error::{BuildError, Cause};
use crate::event::Reporter;

/// Sends the image that the store has under `reference` to the registry that `reference` names. Gives the digest
/// of its manifest.
pub fn push(
    services: &Services<'_>,
    reference: &Reference,
    reporter: &Reporter<'_>,
) -> Result<Digest, BuildError> {
    let image = found::find_by_name(services, reference)
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
    task: &crate::event::Task<'_>,
) -> Result<Digest, Cause> {
    let manifest = found::manifest_of(
        services,
        image,
        Compression::default(),
        MediaTypes::Oci,
        task,
    )?;
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        let digest = crate::layers::digest_of(blob)?;
        let part = digest.to_string();
        let open = || -> std::io::Result<Box<dyn Read>> {
            let reader = services
                .store
                .cas()
                .open(&digest)
                .map_err(std::io::Error::other)?;
            Ok(Box::new(reader))
        };
        services.registry.push_blob(
            reference,
            blob,
            &open,
            mount_from(image, reference).as_deref(),
            &|done| {
                task.progress(&part, done, Some(blob.size()));
            },
        )?;
    }
    Ok(services
        .registry
        .push_manifest(reference, &manifest.media_type, &manifest.bytes)?)
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
