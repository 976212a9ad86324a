//! From a name to an image: from the store if it is there, from its registry if not.

use kiln_cache::{ImageRecord, ManifestRecord};
use kiln_image::manifest::parse_manifest;
use kiln_image::{Digest, ImageConfig, ImageManifest, Manifest, Platform, Reference};

use super::found::{self, StoredImage};
use super::{MOST_NESTED, index};
use crate::Services;
use crate::error::{BuildError, Cause};
use crate::event::{Reporter, Task};
use crate::layers::digest_of;
use crate::lock::{LockedImage, Say};

/// Largest config that is read, in bytes.
const CONFIG_LIMIT: u64 = 16 << 20;

/// When to ask a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Only for what the store doesn't have.
    #[default]
    Missing,
    /// Always (`--pull`).
    Always,
    /// Never: what the store doesn't have is not there.
    Never,
}

/// Finds an image by name, asking its registry as `policy` says. Layers are not pulled yet.
pub(crate) fn resolve(
    services: &Services<'_>,
    reference: &Reference,
    platform: &Platform,
    policy: PullPolicy,
    reporter: &Reporter<'_>,
) -> Result<StoredImage, Cause> {
    let image = match services.hold.image(reference)? {
        Say::Ask => resolve_any(services, reference, platform, policy, reporter),
        Say::Is(locked) => resolve_locked(services, reference, platform, &locked, reporter),
        Say::Note => note(services, reference, platform, reporter),
    }?;
    let index = index_of(services, reference, &image)?;
    let hold = &services.hold;
    hold.saw_image(reference, platform, &image.record, index);
    Ok(image)
}

/// The index that a name stands for. Whoever names the manifest of an image means that.
fn index_of(
    services: &Services<'_>,
    reference: &Reference,
    image: &StoredImage,
) -> Result<Option<Digest>, Cause> {
    let named = match &image.named {
        Some(named) => named.clone(),
        None => match services.store.refs().get(reference)? {
            Some(named) => named,
            None => return Ok(None),
        },
    };
    let is_of_it = named
        .iter()
        .any(|known| known.config == image.record.config);
    let index = named.index.filter(|_| is_of_it).map(|index| index.digest);
    let wanted = reference.digest();
    Ok(index.filter(|index| wanted.is_none_or(|wanted| wanted == *index)))
}

/// What a name must stand for, by a lock. Nobody is asked for a tag.
fn resolve_locked(
    services: &Services<'_>,
    reference: &Reference,
    platform: &Platform,
    locked: &LockedImage,
    reporter: &Reporter<'_>,
) -> Result<StoredImage, Cause> {
    let here = found::find_by_name(services, reference, Some(platform))?;
    let image = match (locked, locked.digest_for(platform)) {
        (_, Some(digest)) => {
            let is_it = |image: &StoredImage| {
                let manifest = image.record.manifest.as_ref();
                manifest.is_some_and(|manifest| manifest.digest == digest)
            };
            match here.filter(is_it) {
                Some(image) => image,
                None => {
                    let pinned = reference.by_digest(digest);
                    resolve_any(services, &pinned, platform, PullPolicy::Missing, reporter)?
                }
            }
        }
        (&LockedImage::Store { id }, None) => {
            let is_it = |image: &StoredImage| image.id() == id;
            here.filter(is_it).ok_or_else(|| Cause::LockDiffers {
                what: format!("the image `{reference}`"),
                locked: id.to_string(),
            })?
        }
        (LockedImage::Registry { digest, .. }, None) => {
            return Err(Cause::LockDiffers {
                what: format!("the image `{reference}`"),
                locked: digest.to_string(),
            });
        }
    };
    services
        .hold
        .note_image(reference, platform, locked.clone());
    Ok(image)
}

/// Finds out what a name stands for now, and notes it.
fn note(
    services: &Services<'_>,
    reference: &Reference,
    platform: &Platform,
    reporter: &Reporter<'_>,
) -> Result<StoredImage, Cause> {
    if let Some(image) = found::find_by_name(services, reference, Some(platform))?
        && image.record.is_made_here()
    {
        let id = image.id();
        let is = LockedImage::Store { id };
        services.hold.note_image(reference, platform, is);
        return Ok(image);
    }
    let task = reporter.start(format!("[internal] load metadata for {reference}"));
    let found = fetch(services, reference, platform, &task).and_then(|fetched| {
        let digest = fetched.digest;
        let image = fetched.named(services, reference, Precedence::Host)?;
        Ok((image, digest))
    });
    let (image, digest) = task.end_with(found)?;
    let manifest = image.record.manifest.as_ref();
    let manifest = manifest.map(|manifest| (platform.to_string(), manifest.digest));
    let is = LockedImage::Registry {
        digest,
        platforms: manifest.into_iter().collect(),
    };
    services.hold.note_image(reference, platform, is);
    Ok(image)
}

fn resolve_any(
    services: &Services<'_>,
    reference: &Reference,
    platform: &Platform,
    policy: PullPolicy,
    reporter: &Reporter<'_>,
) -> Result<StoredImage, Cause> {
    if policy != PullPolicy::Always
        && let Some(image) = found::find_by_name(services, reference, Some(platform))?
    {
        return Ok(image);
    }
    if policy == PullPolicy::Never {
        return Err(Cause::Image(format!("`{reference}` is not in the store")));
    }
    load_metadata(services, reference, platform, Precedence::Host, reporter)
}

fn load_metadata(
    services: &Services<'_>,
    reference: &Reference,
    platform: &Platform,
    precedence: Precedence,
    reporter: &Reporter<'_>,
) -> Result<StoredImage, Cause> {
    let task = reporter.start(format!("[internal] load metadata for {reference}"));
    let named = fetch(services, reference, platform, &task)
        .and_then(|fetched| fetched.named(services, reference, precedence));
    task.end_with(named)
}

/// That a registry can't be reached says little to whoever sees the image in the store, for another platform.
fn with_those_here(
    cause: Cause,
    services: &Services<'_>,
    reference: &Reference,
    wanted: &Platform,
) -> Cause {
    let Cause::Registry(source) = cause else {
        return cause;
    };
    let here = match services.store.refs().get(reference) {
        Ok(Some(named)) => found::platforms(&named),
        _ => Vec::new(),
    };
    match here.first() {
        Some(first) if here.iter().all(|one| wanted.preference(one).is_none()) => {
            Cause::OtherPlatforms {
                name: reference.familiar(),
                here: found::in_words(&here),
                first: Box::new(first.clone()),
                wanted: Box::new(wanted.clone()),
                source: Box::new(source),
            }
        }
        _ => Cause::Registry(source),
    }
}

/// Which image a name stands for, of those of its index that are here, where nobody says a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precedence {
    /// The one that was pulled last.
    Latest,
    /// This machine's, else the first.
    Host,
}

/// Pulls an image with all its layers, and then gives it its name in the store: what had the name before keeps it if something
/// goes wrong.
pub fn pull(
    services: &Services<'_>,
    reference: &Reference,
    platform: &Platform,
    reporter: &Reporter<'_>,
) -> Result<StoredImage, BuildError> {
    let task = reporter.start(format!("[internal] load metadata for {reference}"));
    let fetched = fetch(services, reference, platform, &task);
    let fetched = task.end_with(fetched).map_err(BuildError::new)?;
    let task = reporter.start(format!("pull {reference}"));
    let image = fetched
        .image(services, reference)
        .and_then(|image| found::fetch_own_blobs(services, &image, &task))
        .and_then(|()| Ok(services.store.sync()?))
        .and_then(|()| fetched.named(services, reference, Precedence::Latest));
    task.end_with(image).map_err(BuildError::new)
}

/// Manifest and config of an image, which has no name yet.
struct Fetched {
    record: ImageRecord,
    /// The index that it was chosen from.
    index: Option<ManifestRecord>,
    /// What the name stands for itself: an index, or the manifest.
    digest: Digest,
}

impl Fetched {
    fn image(&self, services: &Services<'_>, reference: &Reference) -> Result<StoredImage, Cause> {
        found::open(services, Some(reference.clone()), self.record.clone())
    }

    /// Remembers the image under its name.
    fn named(
        self,
        services: &Services<'_>,
        reference: &Reference,
        precedence: Precedence,
    ) -> Result<StoredImage, Cause> {
        let (refs, record) = (services.store.refs(), &self.record);
        match &self.index {
            None => refs.set(reference, record)?,
            Some(index) => refs.add_of_index(reference, record, index, |first| {
                precedence == Precedence::Host
                    && (Platform::host().matches(&first.platform)
                        || !Platform::host().matches(&record.platform))
            })?,
        }
        self.image(services, reference)
    }
}

/// Gets manifest and config from the registry.
fn fetch(
    services: &Services<'_>,
    reference: &Reference,
    platform: &Platform,
    task: &Task<'_>,
) -> Result<Fetched, Cause> {
    ask_registry(services, reference, platform, task)
        .map_err(|cause| with_those_here(cause, services, reference, platform))
}

fn ask_registry(
    services: &Services<'_>,
    reference: &Reference,
    platform: &Platform,
    task: &Task<'_>,
) -> Result<Fetched, Cause> {
    let resolved = services.registry.resolve(reference)?;
    let digest = digest_of(&resolved.descriptor)?;
    let mut media_type = resolved.descriptor.media_type().to_string();
    let mut bytes = resolved.bytes;
    let mut manifest = parse(reference, &media_type, &bytes)?;
    let mut of_index = None;
    for _ in 0..MOST_NESTED {
        let Manifest::Index(index) = &manifest else {
            break;
        };
        let chosen =
            index::choose_in_registry(services, reference, platform, index.manifests(), task)?;
        of_index = Some(put_manifest(services, media_type, &bytes)?);
        media_type = chosen.media_type().to_string();
        bytes = services
            .registry
            .manifest_by_digest(reference, &digest_of(&chosen)?)?;
        manifest = parse(reference, &media_type, &bytes)?;
    }
    let Manifest::Image(manifest) = manifest else {
        return Err(Cause::Image(format!(
            "`{reference}` has indexes too deep within each other"
        )));
    };
    let config_bytes = config(services, reference, &manifest, task)?;
    let config_digest = services.store.cas().put(&config_bytes)?;
    let record = ImageRecord {
        manifest: Some(put_manifest(services, media_type, &bytes)?),
        ..found::record(config_digest, &read_config(reference, &config_bytes)?)
    };
    Ok(Fetched {
        record,
        index: of_index,
        digest,
    })
}

/// Puts a manifest or index into the store.
pub(crate) fn put_manifest(
    services: &Services<'_>,
    media_type: String,
    bytes: &[u8],
) -> Result<ManifestRecord, Cause> {
    Ok(ManifestRecord {
        digest: services.store.cas().put(bytes)?,
        media_type,
        size: bytes.len() as u64,
    })
}

pub(super) fn parse(
    reference: &Reference,
    media_type: &str,
    bytes: &[u8],
) -> Result<Manifest, Cause> {
    parse_manifest(bytes, media_type)
        .map_err(|error| Cause::Image(format!("can't use `{reference}`: {error}")))
}

/// The config that a manifest names.
pub(super) fn config(
    services: &Services<'_>,
    reference: &Reference,
    manifest: &ImageManifest,
    task: &Task<'_>,
) -> Result<Vec<u8>, Cause> {
    let descriptor = manifest.config();
    let digest: Digest = digest_of(descriptor)?;
    if descriptor.size() > CONFIG_LIMIT {
        return Err(Cause::Image(format!(
            "the config of `{reference}` is larger than {CONFIG_LIMIT} bytes"
        )));
    }
    if services.store.cas().contains(&digest)
        && let Ok(bytes) = services.store.cas().read(&digest, CONFIG_LIMIT)
    {
        return Ok(bytes);
    }
    let part = digest.to_string();
    let told = |done| task.progress(&part, done, Some(descriptor.size()));
    let bytes = services
        .registry
        .pull_small_blob(reference, descriptor, &told)?;
    Ok(bytes)
}

pub(super) fn read_config(reference: &Reference, bytes: &[u8]) -> Result<ImageConfig, Cause> {
    ImageConfig::from_json(bytes)
        .map_err(|error| Cause::Image(format!("can't use `{reference}`: {error}")))
}
