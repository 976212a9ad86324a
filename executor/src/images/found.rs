//! Images as the store has them: by name, by id, all of them.

use std::collections::BTreeMap;

use kiln_cache::{ImageRecord, ManifestRecord, NamedImages, Refs, Store, StoreError};
use kiln_image::compress::{Compression, LayerFormat};
use kiln_image::manifest::{manifest_json, parse_manifest};
use kiln_image::media_type::MediaTypes;
use kiln_image::{Descriptor, DiffId, Digest, ImageConfig, Manifest, Platform, Reference};

use super::pull::read_config;
use super::push::{config_descriptor, layer_media_type};
use crate::Services;
use crate::error::{BuildError, Cause, chain};
use crate::event::{Stream, Task};
use crate::layers::{Holder, Origin, ReadyLayer};

/// Largest manifest that is read, in bytes.
pub(super) const MANIFEST_LIMIT: u64 = 4 << 20;
/// Largest config that is read, in bytes.
pub(super) const CONFIG_LIMIT: u64 = 16 << 20;

/// An image of the store.
#[derive(Debug, Clone)]
pub struct StoredImage {
    /// The name it was found by; `None` for one that has none.
    pub reference: Option<Reference>,
    /// All that its name stands for: itself, and images for other platforms.
    pub named: Option<NamedImages>,
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
        own_manifest: false,
        platform: config.platform(),
        created_at: jiff::Timestamp::now(),
    }
}

/// The image with this name, for a platform if one is asked for; `None` if there is none, or if it is damaged (it can be
/// pulled or built again).
pub(crate) fn find_by_name(
    services: &Services<'_>,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Option<StoredImage>, Cause> {
    let Some(named) = services.store.refs().get(reference)? else {
        return Ok(None);
    };
    let Some(record) = choose(&named, reference.digest().as_ref(), platform).cloned() else {
        return Ok(None);
    };
    services.store.refs().note_use(&record.config);
    let found = open(services, Some(reference.clone()), record).ok();
    Ok(found.map(|image| image.among(named)))
}

/// The image that suits best of those with a name: the first one where no platform is asked for. A digest is that of the
/// index or of an image.
fn choose<'n>(
    named: &'n NamedImages,
    digest: Option<&Digest>,
    platform: Option<&Platform>,
) -> Option<&'n ImageRecord> {
    let is = |manifest: &ManifestRecord| digest.is_none_or(|wanted| manifest.digest == *wanted);
    let any = digest.is_none() || named.index.as_ref().is_some_and(is);
    let mut suit = named
        .iter()
        .filter(|image| any || image.manifest.as_ref().is_some_and(is));
    match platform {
        None => suit.next(),
        Some(platform) => suit
            .filter_map(|image| Some((platform.preference(&image.platform)?, image)))
            .min_by_key(|(preference, _)| *preference)
            .map(|(_, image)| image),
    }
}

/// What a name is here for.
pub(super) fn platforms(named: &NamedImages) -> Vec<Platform> {
    named.iter().map(|image| image.platform.clone()).collect()
}

/// Platforms, for people.
pub(super) fn in_words(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// The config of an image of the store.
pub fn stored_config(store: &Store, record: &ImageRecord) -> Result<ImageConfig, BuildError> {
    let read = || {
        let bytes = store.cas().read(&record.config, CONFIG_LIMIT)?;
        ImageConfig::from_json(&bytes)
            .map_err(|error| Cause::Image(format!("can't use `{}`: {error}", record.config)))
    };
    read().map_err(BuildError::new)
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
        named: None,
        record,
        config,
        config_bytes,
    };
    if let (Some(reference), Some(manifest)) = (&image.reference, known_manifest(services, &image)?)
    {
        if manifest.layers.len() != image.config.diff_ids().len() {
            return Err(Cause::Image(format!(
                "`{reference}` has {} layers in its manifest and {} in its config",
                manifest.layers.len(),
                image.config.diff_ids().len()
            )));
        }
        let holder = Holder::Registry(reference.clone());
        let layers = layers_of(&image, &manifest).into_iter();
        let digest = Digest::of(&manifest.bytes);
        let is_source = !image.record.own_manifest;
        services
            .layers
            .add_image(digest, &holder, layers, is_source);
    }
    Ok(image)
}

impl StoredImage {
    /// What its name stands for: an index, or its config.
    pub(super) fn id(&self) -> Digest {
        let index = self.named.as_ref().and_then(|named| named.index.as_ref());
        index.map_or(self.record.config, |index| index.digest)
    }

    fn among(self, named: NamedImages) -> Self {
        Self {
            named: Some(named),
            ..self
        }
    }
}

/// The manifest the image has already: it was pulled with it, or given one; `None` for one that waits for its first.
fn known_manifest(
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

/// A manifest for the image with all its blobs in the store: the one it has already, else one made now.
pub(crate) fn manifest_of(
    services: &Services<'_>,
    image: &StoredImage,
    compression: Compression,
    media_types: MediaTypes,
    task: &Task<'_>,
) -> Result<ReadyManifest, Cause> {
    if let Some(pulled) = known_manifest(services, image)?
        && has_own_blobs(services, image, &pulled, task)?
    {
        return Ok(pulled);
    }
    let format = LayerFormat {
        compression,
        ..LayerFormat::default()
    };
    let manifest = image.record.manifest.as_ref().map(|known| known.digest);
    let ready = |(at, layer): (usize, &DiffId)| {
        let origin = Origin::Base(services.layers.of_image(manifest, at));
        services.layers.ready(*layer, origin, format, task)
    };
    let layers = image.config.diff_ids().iter().enumerate().map(ready);
    let layers: Result<Vec<_>, _> = layers.collect();
    new_manifest(image, &layers?, media_types, &Default::default())
}

/// A manifest made now, of an image whose layers are these.
pub(crate) fn new_manifest(
    image: &StoredImage,
    layers: &[ReadyLayer],
    media_types: MediaTypes,
    annotations: &BTreeMap<String, String>,
) -> Result<ReadyManifest, Cause> {
    let config = config_descriptor(
        media_types,
        image.record.config,
        image.config_bytes.len() as u64,
    );
    let descriptor = |ready: &ReadyLayer| {
        let blob = &ready.blob;
        let media_type = layer_media_type(media_types, &blob.media_type);
        let digest = blob.digest.to_oci();
        let mut descriptor = Descriptor::new(media_type.as_str().into(), blob.size, digest);
        if !ready.annotations.is_empty() {
            descriptor.set_annotations(Some(ready.annotations.clone().into_iter().collect()));
        }
        descriptor
    };
    let layers: Vec<Descriptor> = layers.iter().map(descriptor).collect();
    let bytes = manifest_json(&config, &layers, media_types, annotations)
        .map_err(|error| Cause::Image(error.to_string()))?;
    Ok(ReadyManifest {
        media_type: media_types.manifest().to_owned(),
        bytes,
        config,
        layers,
    })
}

/// Whether all the very blobs that a manifest names are in the store, after pulling those that can be.
fn has_own_blobs(
    services: &Services<'_>,
    image: &StoredImage,
    manifest: &ReadyManifest,
    task: &Task<'_>,
) -> Result<bool, Cause> {
    let layers = layers_of(image, manifest);
    let is_here = |(layer, blob): &(DiffId, &Descriptor)| services.layers.has_as(*layer, blob);
    if layers.iter().all(is_here) {
        return Ok(true);
    }
    let has_content =
        |(layer, _): &(DiffId, &Descriptor)| services.store.layers().has_content(layer);
    let mut pulled = Ok(());
    for name in holders(services, image)? {
        pulled = services.layers.fetch_blobs(&name, &layers, task);
        if pulled.is_ok() {
            break;
        }
    }
    match pulled {
        Err(cause) if !layers.iter().all(has_content) => return Err(cause),
        Err(cause) => {
            let why = chain(&cause);
            let told = format!("not with the manifest it was pulled with: {why}\n");
            task.log(Stream::Stderr, told.as_bytes());
        }
        Ok(()) => services.layers.fetch_all(image.config.diff_ids(), task)?,
    }
    Ok(layers.iter().all(is_here))
}

/// The names by which a registry can be asked for an image. What it was given here besides comes last: nobody need have it there.
fn holders(services: &Services<'_>, image: &StoredImage) -> Result<Vec<Reference>, Cause> {
    let (Some(reference), false) = (&image.reference, image.record.own_manifest) else {
        return Ok(Vec::new());
    };
    let named = services.store.refs().list()?.into_iter();
    let is_it = |record: &ImageRecord| record.manifest == image.record.manifest;
    let others = named.filter(|(name, images)| name != reference && images.iter().any(is_it));
    let others = others.map(|(name, _)| name);
    Ok(others.chain([reference.clone()]).collect())
}

/// Has a pulled image's layers as the very blobs that its manifest names, even where the store knows them as others: what is pulled can be
/// pushed as it came.
pub(super) fn fetch_own_blobs(
    services: &Services<'_>,
    image: &StoredImage,
    task: &Task<'_>,
) -> Result<(), Cause> {
    match (&image.reference, known_manifest(services, image)?) {
        (Some(reference), Some(manifest)) => {
            let layers = layers_of(image, &manifest);
            services.layers.fetch_blobs(reference, &layers, task)
        }
        _ => services.layers.fetch_all(image.config.diff_ids(), task),
    }
}

fn layers_of<'m>(
    image: &StoredImage,
    manifest: &'m ReadyManifest,
) -> Vec<(DiffId, &'m Descriptor)> {
    let layers = image.config.diff_ids().iter().copied();
    layers.zip(&manifest.layers).collect()
}

/// The image that `text` names: a reference, or an id or its beginning. Of several platforms this machine's, or else the first.
pub fn find(services: &Services<'_>, text: &str) -> Result<StoredImage, BuildError> {
    find_for(services, text, None)
}

/// The same for a platform, if one is asked for.
pub fn find_for(
    services: &Services<'_>,
    text: &str,
    platform: Option<&Platform>,
) -> Result<StoredImage, BuildError> {
    let by_name = |platform: Option<&Platform>| match text.parse::<Reference>() {
        Ok(reference) => find_by_name(services, &reference, platform).map_err(BuildError::new),
        Err(_) => Ok(None),
    };
    let host = Platform::host();
    if let Some(image) = by_name(Some(platform.unwrap_or(&host)))? {
        return Ok(image);
    }
    let other = match by_name(None)? {
        Some(other) => other,
        None => {
            let found = by_digest(services, text, platform.unwrap_or(&host));
            found.map_err(BuildError::new)?
        }
    };
    match platform {
        Some(asked) if asked.preference(&other.config.platform()).is_none() => {
            let all = other.named.as_ref().map(platforms);
            let all = all.unwrap_or_else(|| vec![other.config.platform()]);
            Err(BuildError::new(Cause::Image(format!(
                "there is no image `{text}` for {asked} in the store, but for {}",
                in_words(&all)
            ))))
        }
        _ => Ok(other),
    }
}

/// The image with an id, or else that of an index, whose digest begins with `text`.
fn by_digest(
    services: &Services<'_>,
    text: &str,
    platform: &Platform,
) -> Result<StoredImage, Cause> {
    let ids = ids(services, text)?;
    if ids.is_empty()
        && let Some(image) = by_index(services, text, platform)?
    {
        return Ok(image);
    }
    by_id(services, one(&ids, text)?)
}

impl StoredImage {
    /// The image alone, without those for other platforms under its name.
    #[must_use]
    pub fn alone(self) -> Self {
        Self {
            named: None,
            ..self
        }
    }
}

fn by_id(services: &Services<'_>, id: Digest) -> Result<StoredImage, Cause> {
    for (reference, named) in services.store.refs().list()? {
        if let Some(record) = named.iter().find(|image| image.config == id) {
            return open(services, Some(reference), record.clone());
        }
    }
    let record = services.store.refs().image(&id)?;
    let record =
        record.ok_or_else(|| Cause::Image(format!("there is no image {id} in the store")))?;
    open(services, None, record)
}

/// The ids (digests of configs) that begin with `text`, with or without `sha256:`.
fn ids(services: &Services<'_>, text: &str) -> Result<Vec<Digest>, Cause> {
    let Some(beginning) = beginning_of_id(text) else {
        return Ok(Vec::new());
    };
    let images = services.store.refs().images()?.into_iter();
    let ids = images.map(|record| record.config);
    Ok(ids.filter(|id| id.hex().starts_with(beginning)).collect())
}

/// What `text` says of a digest, if it can be one.
fn beginning_of_id(text: &str) -> Option<&str> {
    let beginning = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    Some(beginning).filter(|text| !text.is_empty() && text.bytes().all(is_hex))
}

/// The only one of those that `text` is the beginning of.
fn one(digests: &[Digest], text: &str) -> Result<Digest, Cause> {
    match digests {
        [first, others @ ..] if others.iter().all(|other| other == first) => Ok(*first),
        [] => Err(Cause::Image(format!(
            "there is no image `{text}` in the store"
        ))),
        _ => Err(Cause::Image(format!(
            "several images have an id that begins with `{text}`"
        ))),
    }
}

/// The names that stand for the index whose digest begins with `text`, if it has any.
fn names_of_index(
    services: &Services<'_>,
    text: &str,
) -> Result<Vec<(Reference, NamedImages)>, Cause> {
    let Some(beginning) = beginning_of_id(text) else {
        return Ok(Vec::new());
    };
    let index = |named: &NamedImages| named.index.as_ref().map(|index| index.digest);
    let mut names = services.store.refs().list()?;
    names.retain(|(_, named)| {
        index(named).is_some_and(|digest| digest.hex().starts_with(beginning))
    });
    let digests: Vec<Digest> = names.iter().filter_map(|(_, named)| index(named)).collect();
    if !digests.is_empty() {
        one(&digests, text)?;
    }
    Ok(names)
}

/// An image of the index whose digest begins with `text`: the one for a platform, or else the first.
fn by_index(
    services: &Services<'_>,
    text: &str,
    platform: &Platform,
) -> Result<Option<StoredImage>, Cause> {
    let Some((name, named)) = names_of_index(services, text)?.into_iter().next() else {
        return Ok(None);
    };
    let record = choose(&named, None, Some(platform)).unwrap_or(&named.image);
    let image = open(services, Some(name), record.clone())?;
    Ok(Some(image.among(named)))
}

/// All images, each name by itself and with each of its platforms, those without a name too. Damaged ones are left out.
pub fn list(services: &Services<'_>) -> Result<Vec<StoredImage>, BuildError> {
    let refs = services.store.refs();
    let named = refs.list().map_err(BuildError::new)?;
    let mut images = Vec::new();
    for (reference, named) in named {
        let open = |record: &ImageRecord| open(services, Some(reference.clone()), record.clone());
        let opened = named.iter().filter_map(|record| open(record).ok());
        images.extend(opened.map(|image| image.among(named.clone())));
    }
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

/// Gives an image another name, with all that its own name stands for.
pub fn tag(
    services: &Services<'_>,
    image: &StoredImage,
    name: &Reference,
) -> Result<(), BuildError> {
    let refs = services.store.refs();
    let tagged = match &image.named {
        Some(named) => refs.set_all(name, named),
        None => refs.set(name, &image.record),
    };
    tagged.map_err(BuildError::new)
}

/// What [`remove`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// The images themselves that have no name left.
    pub deleted: Vec<Digest>,
}

/// Takes a name away, and the images of which it was the last. An id takes its image away under all names, and that of an index all that
/// stand for it.
pub fn remove(services: &Services<'_>, text: &str) -> Result<Removed, BuildError> {
    let image = find(services, text)?;
    let remove = || -> Result<Removed, Cause> {
        let refs = services.store.refs();
        let id = image.record.config;
        let names = refs.names_of(&id)?;
        if let Some(name) = text.parse().ok().filter(|name| names.contains(name)) {
            return Ok(remove_names(refs, vec![name])?);
        }
        let is_id = |beginning| id.hex().starts_with(beginning);
        if !beginning_of_id(text).is_some_and(is_id) {
            let of_index = names_of_index(services, text)?.into_iter();
            let of_index = of_index.map(|(name, _)| name).collect();
            return Ok(remove_names(refs, of_index)?);
        }
        Ok(Removed {
            untagged: refs.remove_image(&id)?,
            deleted: vec![id],
        })
    };
    remove().map_err(BuildError::new)
}

fn remove_names(refs: Refs<'_>, names: Vec<Reference>) -> Result<Removed, StoreError> {
    let mut deleted = Vec::new();
    for name in &names {
        for image in refs.remove(name)?.iter().flat_map(NamedImages::iter) {
            if refs.names_of(&image.config)?.is_empty() {
                refs.remove_image(&image.config)?;
                deleted.push(image.config);
            }
        }
    }
    Ok(Removed {
        untagged: names,
        deleted,
    })
}
