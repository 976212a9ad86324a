//! Images as the store has them: by name, by id, all of them.

use kiln_cache::ImageRecord;
use kiln_image::compress::Compression;
use kiln_image::manifest::{manifest_json, parse_manifest};
use kiln_image::media_type::MediaTypes;
use kiln_image::{Descriptor, Digest, ImageConfig, Manifest, Reference};

use super::pull::read_config;
use super::push::{config_descriptor, layer_media_type};
use crate::Services;
use crate::error::{BuildError, Cause};
use crate::event::Task;
use crate::layers::digest_of;

/// Largest manifest that is read, in bytes.
const MANIFEST_LIMIT: u64 = 4 << 20;
/// Largest config that is read, in bytes.
pub(super) const CONFIG_LIMIT: u64 = 16 << 20;

/// An image of the store.
#[derive(Debug, Clone)]
pub struct StoredImage {
    /// The name it was found by; `None` for one that has none.
    pub reference: Option<Reference>,
    /// What the store knows of it.
    pub record: ImageRecord,
    /// Its config.
    pub config: ImageConfig,
    /// The exact bytes of its config.
    pub config_bytes: Vec<u8>,
}

/// A manifest ready to be sent or written, and what it names.
pub(crate) struct ReadyManifest {
    pub media_type: String,
    pub bytes: Vec<u8>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// The record of an image with this config.
pub(crate) fn record(config_digest: Digest, config: &ImageConfig) -> ImageRecord {
    ImageRecord {
        config: config_digest,
        manifest: None,
        platform: config.platform(),
        created_at: jiff::Timestamp::now(),
    }
}

/// The image with this name; `None` if there is none, or if it is damaged (it can be pulled or built again).
pub(crate) fn find_by_name(
    services: &Services<'_>,
    reference: &Reference,
) -> Result<Option<StoredImage>, Cause> {
    let Some(record) = services.store.refs().get(reference)? else {
        return Ok(None);
    };
    if reference.digest().is_some_and(|wanted| {
        record
            .manifest
            .as_ref()
            .is_none_or(|manifest| manifest.digest != wanted)
    }) {
        return Ok(None);
    }
    services.store.refs().note_use(&record.config);
    Ok(open(services, Some(reference.clone()), record).ok())
}

/// Reads what a record names, and makes the layers known that a registry has.
pub(crate) fn open(
    services: &Services<'_>,
    reference: Option<Reference>,
    record: ImageRecord,
) -> Result<StoredImage, Cause> {
    let config_bytes = services.store.cas().read(&record.config, CONFIG_LIMIT)?;
    let shown = || {
        reference
            .as_ref()
            .map_or_else(|| record.config.to_string(), ToString::to_string)
    };
    let config = match &reference {
        Some(reference) => read_config(reference, &config_bytes)?,
        None => ImageConfig::from_json(&config_bytes)
            .map_err(|error| Cause::Image(format!("can't use `{}`: {error}", shown())))?,
    };
    let image = StoredImage {
        reference,
        record,
        config,
        config_bytes,
    };
    if let (Some(reference), Some(manifest)) =
        (&image.reference, pulled_manifest(services, &image)?)
    {
        if manifest.layers.len() != image.config.diff_ids().len() {
            return Err(Cause::Image(format!(
                "`{reference}` has {} layers in its manifest and {} in its config",
                manifest.layers.len(),
                image.config.diff_ids().len()
            )));
        }
        for (layer, descriptor) in image.config.diff_ids().iter().zip(&manifest.layers) {
            services.layers.add_remote(*layer, reference, descriptor);
        }
    }
    Ok(image)
}

/// The manifest the image was pulled with; `None` for one that was made here.
fn pulled_manifest(
    services: &Services<'_>,
    image: &StoredImage,
) -> Result<Option<ReadyManifest>, Cause> {
    let Some(known) = &image.record.manifest else {
        return Ok(None);
    };
    let bytes = services.store.cas().read(&known.digest, MANIFEST_LIMIT)?;
    let parsed = parse_manifest(&bytes, &known.media_type)
        .map_err(|error| Cause::Image(error.to_string()))?;
    let Manifest::Image(manifest) = parsed else {
        return Err(Cause::Image(format!(
            "{} is not the manifest of one image",
            known.digest
        )));
    };
    Ok(Some(ReadyManifest {
        media_type: known.media_type.clone(),
        bytes,
        config: manifest.config().clone(),
        layers: manifest.layers().clone(),
    }))
}

/// A manifest for the image with all its blobs in the store: the one it was pulled with, else one made now.
pub(crate) fn manifest_of(
    services: &Services<'_>,
    image: &StoredImage,
    compression: Compression,
    media_types: MediaTypes,
    task: &Task<'_>,
) -> Result<ReadyManifest, Cause> {
    if let Some(pulled) = pulled_manifest(services, image)?
        && pulled_blobs(services, image, &pulled, task)?
    {
        return Ok(pulled);
    }
    let config = config_descriptor(
        media_types,
        image.record.config,
        image.config_bytes.len() as u64,
    );
    let mut layers = Vec::new();
    for layer in image.config.diff_ids() {
        let blob = services.layers.blob(*layer, compression, task)?;
        let media_type = layer_media_type(media_types, &blob.media_type);
        layers.push(Descriptor::new(
            media_type.as_str().into(),
            blob.size,
            blob.digest.to_oci(),
        ));
    }
    let bytes = manifest_json(&config, &layers, media_types, &Default::default())
        .map_err(|error| Cause::Image(error.to_string()))?;
    Ok(ReadyManifest {
        media_type: media_types.manifest().to_owned(),
        bytes,
        config,
        layers,
    })
}

/// Whether all the very blobs a pulled manifest names are in the store, after pulling those that can be.
fn pulled_blobs(
    services: &Services<'_>,
    image: &StoredImage,
    manifest: &ReadyManifest,
    task: &Task<'_>,
) -> Result<bool, Cause> {
    for (layer, descriptor) in image.config.diff_ids().iter().zip(&manifest.layers) {
        services.layers.fetch(*layer, task)?;
        if services.store.cas().size(&digest_of(descriptor)?) != Some(descriptor.size()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The image that `text` names: a reference, or an id or its beginning.
pub fn find(services: &Services<'_>, text: &str) -> Result<StoredImage, BuildError> {
    let by_name = match text.parse::<Reference>() {
        Ok(reference) => find_by_name(services, &reference).map_err(BuildError::new)?,
        Err(_) => None,
    };
    match by_name {
        Some(image) => Ok(image),
        None => {
            let id = resolve_id(services, text)?;
            by_id(services, id).map_err(BuildError::new)
        }
    }
}

fn by_id(services: &Services<'_>, id: Digest) -> Result<StoredImage, Cause> {
    for (reference, record) in services.store.refs().list()? {
        if record.config == id {
            return open(services, Some(reference), record);
        }
    }
    let record = services.store.refs().image(&id)?;
    let record =
        record.ok_or_else(|| Cause::Image(format!("there is no image {id} in the store")))?;
    open(services, None, record)
}

/// The id (config digest) that begins with `text`, with or without `sha256:`.
pub fn resolve_id(services: &Services<'_>, text: &str) -> Result<Digest, BuildError> {
    let not_found = || {
        BuildError::new(Cause::Image(format!(
            "there is no image `{text}` in the store"
        )))
    };
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    if prefix.is_empty()
        || !prefix
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Err(not_found());
    }
    let images = services.store.refs().images().map_err(BuildError::new)?;
    let mut found: Vec<Digest> = images
        .into_iter()
        .map(|record| record.config)
        .filter(|id| id.hex().starts_with(prefix))
        .collect();
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [id] => Ok(id),
        [] => Err(not_found()),
        _ => Err(BuildError::new(Cause::Image(format!(
            "several images have an id that begins with `{text}`"
        )))),
    }
}

/// All images, each name by itself, those without a name too. Damaged ones are left out.
pub fn list(services: &Services<'_>) -> Result<Vec<StoredImage>, BuildError> {
    let refs = services.store.refs();
    let named = refs.list().map_err(BuildError::new)?;
    let mut images: Vec<StoredImage> = named
        .into_iter()
        .filter_map(|(reference, record)| open(services, Some(reference), record).ok())
        .collect();
    for record in refs.images().map_err(BuildError::new)? {
        if !images
            .iter()
            .any(|image| image.record.config == record.config)
        {
            images.extend(open(services, None, record).ok());
        }
    }
    Ok(images)
}

/// Gives an image another name.
pub fn tag(
    services: &Services<'_>,
    image: &StoredImage,
    name: &Reference,
) -> Result<(), BuildError> {
    services
        .store
        .refs()
        .set(name, &image.record)
        .map_err(BuildError::new)
}

/// What [`remove`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// The image itself, when it has no name left.
    pub deleted: Option<Digest>,
}

/// Takes a name away, and with its last name the image. An id takes all names of its image away.
pub fn remove(services: &Services<'_>, text: &str) -> Result<Removed, BuildError> {
    let image = find(services, text)?;
    let refs = services.store.refs();
    let id = image.record.config;
    let names = refs.names_of(&id).map_err(BuildError::new)?;
    let named: Option<Reference> = text.parse().ok().filter(|name| names.contains(name));
    match named {
        Some(name) if names.len() > 1 => {
            refs.remove(&name).map_err(BuildError::new)?;
            Ok(Removed {
                untagged: vec![name],
                deleted: None,
            })
        }
        _ => {
            let untagged = refs.remove_image(&id).map_err(BuildError::new)?;
            Ok(Removed {
                untagged,
                deleted: Some(id),
            })
        }
    }
}
