//! One layer in the place of several.

use std::io::BufWriter;

use kiln_image::tar::write_layer;
use kiln_image::{DiffId, Digest, History, ImageConfig, Reference, Waste};

use super::commit::keep_with;
use super::found::StoredImage;
use crate::Services;
use crate::build::Built;
use crate::container::root_of;
use crate::error::{BuildError, Cause};
use crate::event::Task;
use crate::export::changes_over;
use crate::product::Product;

/// Makes an image with one layer in the place of all above the lowest `kept`. Its history is the same with one entry more, as Docker has
/// it: the entries of what was squashed have no layers any more.
pub fn squash(
    services: &Services<'_>,
    image: &StoredImage,
    kept: usize,
    name: Option<Reference>,
    task: &Task<'_>,
) -> Result<StoredImage, BuildError> {
    let make = || -> Result<StoredImage, Cause> {
        let layers = squashed(services, image.config.diff_ids(), kept, task)?;
        let (config, mut entry) = retold(&image.config, image.record.config, kept);
        entry.empty_layer = layers.len() <= kept;
        keep_with(services, config, layers, entry, name)
    };
    make().map_err(BuildError::new)
}

/// The same for what was built: one layer over those of its base image, in each image.
pub fn squash_product(
    services: &Services<'_>,
    product: Product,
    task: &Task<'_>,
) -> Result<Product, BuildError> {
    let images = product.images.into_iter();
    let images: Result<_, _> = images
        .map(|built| squash_built(services, built, task))
        .collect();
    Ok(Product {
        images: images?,
        ..product
    })
}

fn squash_built(
    services: &Services<'_>,
    built: Built,
    task: &Task<'_>,
) -> Result<Built, BuildError> {
    let make = || -> Result<Built, Cause> {
        let layers = squashed(services, built.config.diff_ids(), built.base_layers, task)?;
        let (mut config, mut entry) = retold(&built.config, built.id, built.base_layers);
        entry.empty_layer = layers.len() <= built.base_layers;
        entry.created = config.created.clone();
        config.history.get_or_insert_default().push(entry);
        config.rootfs.diff_ids = (!layers.is_empty()).then(|| layers.clone());
        let config_bytes = config
            .to_json()
            .map_err(|error| Cause::Image(error.to_string()))?;
        services.store.sync()?;
        Ok(Built {
            id: Digest::of(&config_bytes),
            config,
            config_bytes,
            root: root_of(&layers).into(),
            ..built
        })
    };
    make().map_err(BuildError::new)
}

/// What the layers waste, which must be known or to be had.
pub fn waste(
    services: &Services<'_>,
    layers: &[DiffId],
    task: &Task<'_>,
) -> Result<Waste, BuildError> {
    let look = || -> Result<Waste, Cause> {
        services.layers.learn_all(layers, task)?;
        let changesets = layers
            .iter()
            .map(|layer| services.layers.changeset(*layer, task))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Waste::of(changesets.iter().map(|changeset| &**changeset)))
    };
    look().map_err(BuildError::new)
}

/// The lowest `kept` layers, and one with what the others come to.
fn squashed(
    services: &Services<'_>,
    layers: &[DiffId],
    kept: usize,
    task: &Task<'_>,
) -> Result<Vec<DiffId>, Cause> {
    let (base, above) = layers.split_at(kept.min(layers.len()));
    if above.is_empty() {
        return Ok(layers.to_vec());
    }
    let whole = root_of(layers);
    let (changeset, contents) = changes_over(base, &whole, services, task)?;
    let mut squashed = base.to_vec();
    if changeset.is_empty() {
        return Ok(squashed);
    }
    let staging = services.store.layers().stage()?;
    let out = BufWriter::new(staging.create_tar()?);
    let summary = write_layer(&changeset, &contents, out)
        .map_err(Cause::layer("write", "of the squashed image"))?;
    staging.commit(&summary.diff_id, &changeset, summary.size)?;
    services.layers.remember(summary.diff_id, changeset);
    squashed.push(summary.diff_id);
    Ok(squashed)
}

/// The config with a history in which only the lowest `kept` entries have layers, and the entry of what took the place of the
/// others: a layer, unless they come to nothing.
fn retold(config: &ImageConfig, id: Digest, kept: usize) -> (ImageConfig, History) {
    let mut config = config.clone();
    let mut with_layers = 0;
    for entry in config.history.iter_mut().flatten() {
        if !entry.empty_layer {
            with_layers += 1;
            entry.empty_layer = with_layers > kept;
        }
    }
    let comment = match kept {
        0 => format!("create new from {id}"),
        _ => format!("merge {id} over {kept} layers"),
    };
    let entry = History {
        comment,
        ..History::default()
    };
    (config, entry)
}
