//! The images of an index, in a registry or elsewhere: which of them is for a platform.

use kiln_image::{Descriptor, Manifest, Platform, Reference, media_type};

use super::archive::is_artifact;
use super::pull;
use crate::Services;
use crate::error::Cause;
use crate::event::Task;
use crate::layers::digest_of;

/// How many images that an index says no platform of are asked themselves.
const MOST_ASKED: usize = 32;

/// What an index of a registry has for a platform: a manifest, or another index if there is nothing else in it. Of manifests that it
/// says no platform of, their configs do.
pub(super) fn choose_in_registry(
    services: &Services<'_>,
    reference: &Reference,
    platform: &Platform,
    manifests: &[Descriptor],
    task: &Task<'_>,
) -> Result<Descriptor, Cause> {
    if let [only] = manifests
        && media_type::is_index(only.media_type().as_ref())
    {
        return Ok(only.clone());
    }
    let mut offers = by_index(manifests);
    if best(platform, &offers).is_none() {
        let unsaid = manifests
            .iter()
            .filter(|manifest| manifest.platform().is_none());
        for manifest in unsaid.take(MOST_ASKED) {
            let offered = platform_of(services, reference, manifest, task)?;
            offers.extend(offered.map(|offered| (offered, manifest)));
        }
    }
    let found = best(platform, &offers).ok_or_else(|| no_image(reference, platform, &offers))?;
    Ok(found.clone())
}

/// What an image is for, by its config; `None` for what is no image.
fn platform_of(
    services: &Services<'_>,
    reference: &Reference,
    descriptor: &Descriptor,
    task: &Task<'_>,
) -> Result<Option<Platform>, Cause> {
    let media_type = descriptor.media_type().as_ref();
    if !media_type::MANIFESTS.contains(&media_type) || media_type::is_index(media_type) {
        return Ok(None);
    }
    let digest = digest_of(descriptor)?;
    let bytes = services.registry.manifest_by_digest(reference, &digest)?;
    let Manifest::Image(manifest) = pull::parse(reference, media_type, &bytes)? else {
        return Ok(None);
    };
    if is_artifact(&manifest) {
        return Ok(None);
    }
    let config = pull::config(services, reference, &manifest, task)?;
    Ok(Some(pull::read_config(reference, &config)?.platform()))
}

/// The manifest of an index that suits the platform best.
pub(crate) fn choose<'m>(
    name: impl std::fmt::Display,
    platform: &Platform,
    manifests: &'m [Descriptor],
) -> Result<&'m Descriptor, Cause> {
    let offers = by_index(manifests);
    best(platform, &offers).ok_or_else(|| no_image(name, platform, &offers))
}

/// A manifest and what it is for.
type Offer<'m> = (Platform, &'m Descriptor);

/// What an index says of its manifests.
fn by_index(manifests: &[Descriptor]) -> Vec<Offer<'_>> {
    let offered = |manifest: &Descriptor| Some(Platform::from(manifest.platform().as_ref()?));
    manifests
        .iter()
        .filter_map(|manifest| Some((offered(manifest)?, manifest)))
        .collect()
}

fn best<'m>(platform: &Platform, offers: &[Offer<'m>]) -> Option<&'m Descriptor> {
    let suiting = offers
        .iter()
        .filter_map(|(offered, manifest)| Some((platform.preference(offered)?, *manifest)));
    let best = suiting.min_by_key(|(preference, _)| *preference);
    best.map(|(_, manifest)| manifest)
}

fn no_image(name: impl std::fmt::Display, platform: &Platform, offers: &[Offer<'_>]) -> Cause {
    let all: Vec<String> = offers
        .iter()
        .map(|(offered, _)| offered.to_string())
        .collect();
    Cause::Image(match all.is_empty() {
        true => format!(
            "`{name}` has no image for {platform}, and its index says of none what it is for"
        ),
        false => format!(
            "`{name}` has no image for {platform}, only for {}",
            all.join(", ")
        ),
    })
}
