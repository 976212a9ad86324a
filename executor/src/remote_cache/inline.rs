//! A cache in an image's own config (`type=inline`).

use std::collections::HashSet;

use kiln_cache::CacheKey;
use kiln_image::DiffId;
use serde_json::Value;

use super::export::collect_index;
use crate::Services;
use crate::error::Cause;

/// What is known of the steps that gave `keys`, for the config of an image with these layers: only what can be used with them.
pub(crate) fn inline_value(
    services: &Services<'_>,
    keys: &[CacheKey],
    layers: &[DiffId],
) -> Result<Value, Cause> {
    let (mut index, preimages) = collect_index(services, keys);
    let present: HashSet<&DiffId> = layers.iter().collect();
    index.layers.clear(); // they are the image's
    let used = |key: &CacheKey| {
        let layer = index.records.get(key).and_then(|result| result.layer);
        layer.is_some_and(|layer| present.contains(&layer))
    };
    index.preimages.0 = preimages
        .0
        .into_iter()
        .filter(|(key, _)| used(key))
        .collect();
    serde_json::to_value(&index).map_err(|error| Cause::Image(error.to_string()))
}
