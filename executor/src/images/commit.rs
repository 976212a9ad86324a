//! A new image of one that is there: its layers or others, its history with one entry more.

use kiln_cache::ContainerRecord;
use kiln_image::{DiffId, History, ImageConfig, Reference, RunConfig};

use super::archive::keep_image;
use super::found::StoredImage;
use crate::Services;
use crate::container::platform_of;
use crate::error::{BuildError, Cause};
use crate::event::Task;

/// What `kiln commit` says of the image.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Its name.
    pub name: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// What is said of the change.
    pub message: String,
    /// How it is run.
    pub config: RunConfig,
    /// When it was made, as RFC 3339 says it; `None` for now.
    pub created: Option<String>,
}

/// The config of the image that a container is of, with the container's way to run it.
pub fn config_of(
    services: &Services<'_>,
    container: &ContainerRecord,
) -> Result<ImageConfig, BuildError> {
    let read = || -> Result<ImageConfig, Cause> {
        let Some(image) = &container.image else {
            let below = container.layers.iter().map(|_| History {
                created_by: container.image_name.clone(),
                ..History::default()
            });
            return Ok(ImageConfig {
                history: Some(below.collect()),
                ..ImageConfig::for_platform(&platform_of(container))
            });
        };
        let bytes = services
            .store
            .cas()
            .read(image, super::found::CONFIG_LIMIT)?;
        ImageConfig::from_json(&bytes).map_err(|error| Cause::Image(error.to_string()))
    };
    let mut config = read().map_err(BuildError::new)?;
    config.config = container.config.clone();
    Ok(config)
}

/// Makes an image of a container.
pub fn commit(
    services: &Services<'_>,
    container: &ContainerRecord,
    commit: Commit,
    task: &Task<'_>,
) -> Result<StoredImage, BuildError> {
    let base = config_of(services, container)?;
    let make = || -> Result<StoredImage, Cause> {
        services.layers.fetch_all(&container.all_layers(), task)?;
        let entry = History {
            author: commit.author.clone(),
            created_by: container
                .config
                .cmd
                .iter()
                .flatten()
                .cloned()
                .collect::<Vec<_>>()
                .join(" "),
            comment: commit.message,
            created: commit.created,
            empty_layer: container.changes.is_none(),
        };
        let config = ImageConfig {
            author: commit.author,
            config: commit.config,
            ..base
        };
        keep_with(services, config, container.all_layers(), entry, commit.name)
    };
    make().map_err(BuildError::new)
}

/// Keeps an image with this config, these layers and one entry of history more, dated now.
pub(super) fn keep_with(
    services: &Services<'_>,
    mut config: ImageConfig,
    layers: Vec<DiffId>,
    entry: History,
    name: Option<Reference>,
) -> Result<StoredImage, Cause> {
    let created = entry
        .created
        .clone()
        .unwrap_or_else(|| jiff::Timestamp::now().to_string());
    config.created = Some(created.clone());
    config.history.get_or_insert_default().push(History {
        created: Some(created),
        ..entry
    });
    config.rootfs.diff_ids = (!layers.is_empty()).then_some(layers);
    let bytes = config
        .to_json()
        .map_err(|error| Cause::Image(error.to_string()))?;
    keep_image(services, &bytes, config, name.into_iter().collect())
}
