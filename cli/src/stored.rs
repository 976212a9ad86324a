//! Images in the store as commands need them: found by what was typed, with sizes and dates to show.

use jiff::Timestamp;
use kiln_cache::{ContainerRecord, Store};
use kiln_executor::container;
use kiln_executor::images::{self, StoredImage};
use kiln_executor::{Cause, Services};
use kiln_image::{DiffId, Digest, Platform, Reference};

use crate::exit::Exit;
use crate::failure::Failure;

/// 0001-01-01, which is no date in Go.
const GO_ZERO_TIME: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// The image that `text` names: a reference, an id, or the beginning of one.
pub(crate) fn find(services: &Services<'_>, text: &str) -> Result<StoredImage, Failure> {
    find_for(services, text, None)
}

/// The same for a platform, if one is asked for.
pub(crate) fn find_for(
    services: &Services<'_>,
    text: &str,
    platform: Option<&Platform>,
) -> Result<StoredImage, Failure> {
    images::find_for(services, text, platform).map_err(|error| match &*error.cause {
        Cause::Image(message) => {
            with_guess(services, text, Failure::new(Exit::Failed, "image", message))
        }
        _ => Failure::from_build_error(None, &error),
    })
}

/// The container that ended and is named by `text`: by its name, its id, or the beginning of one.
pub(crate) fn container(services: &Services<'_>, text: &str) -> Result<ContainerRecord, Failure> {
    container::find(services, text).map_err(|error| match &*error.cause {
        Cause::Image(message) => Failure::new(Exit::Failed, "container", message)
            .help("`kiln ps` lists what is there; `kiln run --rm` keeps nothing"),
        _ => Failure::from_build_error(None, &error),
    })
}

/// What a command can work on.
pub(crate) enum Found {
    Container(Box<ContainerRecord>),
    Image(Box<StoredImage>),
}

/// The container that `text` names, else the image.
pub(crate) fn container_or_image(services: &Services<'_>, text: &str) -> Result<Found, Failure> {
    match container(services, text) {
        Ok(container) => Ok(Found::Container(Box::new(container))),
        Err(failure) if failure.exit == Exit::Failed => {
            find(services, text).map(|image| Found::Image(Box::new(image)))
        }
        Err(failure) => Err(failure),
    }
}

/// Every image, one for each name, and those without a name.
pub(crate) fn all(services: &Services<'_>) -> Result<Vec<StoredImage>, Failure> {
    images::list(services).map_err(Failure::from_engine)
}

/// All names of the image with this id.
pub(crate) fn names(services: &Services<'_>, id: Digest) -> Result<Vec<Reference>, Failure> {
    let same = all(services)?
        .into_iter()
        .filter(|image| image.record.config == id);
    Ok(same.filter_map(|image| image.reference).collect())
}

/// The size of the layers unpacked, in bytes; layers not pulled yet count nothing.
pub(crate) fn size(store: &Store, layers: &[DiffId]) -> u64 {
    layers.iter().map(|layer| layer_size(store, layer)).sum()
}

/// The size of one layer's uncompressed tar, in bytes.
pub(crate) fn layer_size(store: &Store, layer: &DiffId) -> u64 {
    store
        .layers()
        .meta(layer)
        .and_then(|meta| meta.size)
        .unwrap_or(0)
}

/// An id as lists show it: the first twelve digits, or all with their algorithm.
pub(crate) fn id(digest: Digest, full: bool) -> String {
    match full {
        true => digest.to_string(),
        false => digest.hex()[..12].to_owned(),
    }
}

/// A moment as configs have it; programs in Go write the year 1 for one that they don't know.
pub(crate) fn moment(text: Option<&str>) -> Option<Timestamp> {
    let moment: Timestamp = text?.parse().ok()?;
    (moment != GO_ZERO_TIME).then_some(moment)
}

fn with_guess(services: &Services<'_>, text: &str, failure: Failure) -> Failure {
    let names: Vec<_> = all(services)
        .unwrap_or_default()
        .iter()
        .filter_map(|image| image.reference.as_ref())
        .map(short_name)
        .collect();
    match kiln_parser::suggest(text, names.iter().map(String::as_str)) {
        Some(near) => failure.help(format!("did you mean `{near}`?")),
        None => failure.help("`kiln images` lists what is there"),
    }
}

/// As people type it: `latest` goes without saying.
fn short_name(name: &Reference) -> String {
    let familiar = name.familiar();
    familiar
        .strip_suffix(":latest")
        .map(str::to_owned)
        .unwrap_or(familiar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_date_in_go_is_none() {
        assert_eq!(
            moment(Some("1970-01-01T00:00:00Z")),
            Some(Timestamp::UNIX_EPOCH)
        );
        for none in [None, Some("0001-01-01T00:00:00Z"), Some("yesterday")] {
            assert_eq!(moment(none), None, "{none:?}");
        }
    }
}
