//! An image in the form that an output asks for: its layers compressed in one way or another, with clamped times or not, and the
//! config that belongs to them.

use kiln_cache::transfer::INLINE;
use kiln_image::{DiffId, Digest, Timestamp};

use super::ExportOptions;
use crate::Services;
use crate::build::Built;
use crate::error::Cause;
use crate::event::{Stream, Task};
use crate::images::{StoredImage, record};
use crate::layers::{Origin, ReadyLayer};

/// The image with the layers it is to have, by diff id, its config put into the store.
pub(super) fn image_of(
    built: &Built,
    options: &ExportOptions,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<StoredImage, Cause> {
    let layers = dated_layers(built, options, services, task)?;
    with_layers(built, layers, services, task)
}

/// The same with the layers compressed.
pub(super) fn compressed(
    built: &Built,
    options: &ExportOptions,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<(StoredImage, Vec<ReadyLayer>), Cause> {
    let layers = dated_layers(built, options, services, task)?;
    let mut ready = Vec::new();
    for (at, layer) in layers.into_iter().enumerate() {
        let origin = origin(built, at, services);
        ready.push(services.layers.ready(layer, origin, options.format, task)?);
    }
    let layers = ready.iter().map(|ready| ready.layer).collect();
    Ok((with_layers(built, layers, services, task)?, ready))
}

/// Only layers that were made here get other times (R-SDE-3).
fn dated_layers(
    built: &Built,
    options: &ExportOptions,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<Vec<DiffId>, Cause> {
    let layers = built.config.diff_ids();
    if !options.rewrite_timestamp {
        return Ok(layers.to_vec());
    }
    let Some(epoch) = built.source_date_epoch else {
        let told = b"rewrite-timestamp is asked for, but no SOURCE_DATE_EPOCH is given: times stay as they are\n";
        task.log(Stream::Stderr, told);
        return Ok(layers.to_vec());
    };
    let latest = Timestamp::from_secs(epoch);
    let dated = |(at, layer): (usize, &DiffId)| match origin(built, at, services) {
        Origin::Base(_) => Ok(*layer),
        Origin::Made => services.layers.not_after(*layer, latest, task),
    };
    layers.iter().enumerate().map(dated).collect()
}

fn origin(built: &Built, at: usize, services: &Services<'_>) -> Origin {
    match at < built.base_layers {
        true => Origin::Base(services.layers.of_image(built.base_manifest, at)),
        false => Origin::Made,
    }
}

/// The image as the store has it. Other layers make it another image.
fn with_layers(
    built: &Built,
    layers: Vec<DiffId>,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<StoredImage, Cause> {
    let mut config = built.config.clone();
    let mut config_bytes = built.config_bytes.clone();
    if layers != config.diff_ids() {
        config.rootfs.diff_ids = Some(layers);
        if config.other.remove(INLINE).is_some() {
            let told = b"the inline cache is left out: it is about layers that this output does not have\n";
            task.log(Stream::Stderr, told);
        }
        let written = config.to_json();
        config_bytes = written.map_err(|error| Cause::Image(error.to_string()))?;
    }
    let id: Digest = services.store.cas().put(&config_bytes)?;
    Ok(StoredImage {
        reference: None,
        named: None,
        record: record(id, &config),
        config,
        config_bytes,
    })
}
