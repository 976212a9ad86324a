//! `index.json`: which images a layout holds and what they are called (R-EXPORT-3).

use std::collections::BTreeMap;

use serde::Serialize;

use super::LayoutError;
use crate::written::WrittenDescriptor;
use crate::{Descriptor, Platform, Reference, json, media_type};

/// The annotation with an image's full normalised name.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The annotation with an image's tag.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation with the time an image was made, as RFC 3339 says it.
pub const CREATED: &str = "org.opencontainers.image.created";

/// One image of a layout, under all of its names.
#[derive(Debug, Clone)]
pub struct IndexEntry {
    /// Its manifest or index.
    pub descriptor: Descriptor,
    /// Its platform; `None` for an index, whose descriptor doesn't carry one.
    pub platform: Option<Platform>,
    /// Its names; there may be none.
    pub names: Vec<Reference>,
    /// When it was made, as RFC 3339 says it.
    pub created: Option<String>,
    /// Further annotations, which the ones above outrank.
    pub annotations: BTreeMap<String, String>,
}

/// The bytes of `index.json`: one descriptor for each name, compact JSON (R-MAN-3, R-EXPORT-3).
pub fn index_json(entries: &[IndexEntry]) -> Result<Vec<u8>, LayoutError> {
    let manifests = entries.iter().flat_map(written).collect();
    let index = WrittenIndex {
        schema_version: 2,
        media_type: media_type::OCI_INDEX,
        manifests,
    };
    json::compact(&index).map_err(|source| LayoutError::Serialise {
        name: "index.json".to_owned(),
        source,
    })
}

/// The name an entry of an index gives its image: a full name, or nothing if it has only a tag.
pub(super) fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    let annotations = descriptor.annotations().as_ref()?;
    let full = annotations
        .get(CONTAINERD_NAME)
        .and_then(|name| name.parse().ok());
    // Some tools put the full name where the tag belongs.
    let tagged = || {
        annotations
            .get(REF_NAME)
            .filter(|name| name.contains(['/', ':']))?
            .parse()
            .ok()
    };
    full.or_else(tagged)
}

fn written(entry: &IndexEntry) -> Vec<WrittenDescriptor> {
    if entry.names.is_empty() {
        return vec![written_as(entry, None)];
    }
    entry
        .names
        .iter()
        .map(|name| written_as(entry, Some(name)))
        .collect()
}

fn written_as(entry: &IndexEntry, name: Option<&Reference>) -> WrittenDescriptor {
    let mut annotations = entry.annotations.clone();
    let mut say = |key: &str, value: Option<String>| {
        annotations.extend(value.map(|value| (key.to_owned(), value)));
    };
    say(CONTAINERD_NAME, name.map(ToString::to_string));
    say(REF_NAME, name.and_then(Reference::tag).map(str::to_owned));
    say(CREATED, entry.created.clone());
    WrittenDescriptor::new(&entry.descriptor, annotations, entry.platform.as_ref())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenIndex {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<WrittenDescriptor>,
}
