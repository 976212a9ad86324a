//! `kiln rmi`: take names of images away.

use std::collections::HashSet;
use std::io::Write;

use kiln_cache::ContainerRecord;
use kiln_executor::Services;
use kiln_executor::images::{self, Removed, StoredImage};
use kiln_image::Reference;

use super::images::repository;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::stored;

/// Remove names of images; an image without a name is gone
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not mind images that are not there, that an id has names in several repositories, nor that containers are of an image
    #[arg(short, long)]
    force: bool,
    /// Names, or ids to remove with all their names
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Runs the command. What can't be removed is told at the end, and the rest is removed all the same.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open(config)?;
    let services = session.services()?;
    let mut out = std::io::stdout().lock();
    let mut failed: Option<Failure> = None;
    for text in &args.images {
        match remove(args, text, &services) {
            Ok(Some(removed)) => {
                for name in &removed.untagged {
                    writeln!(out, "Untagged: {}", name.familiar())?;
                }
                for id in removed.deleted {
                    writeln!(out, "Deleted: {id}")?;
                }
            }
            Ok(None) => {}
            Err(failure) => match &mut failed {
                Some(known) => known.reports.extend(failure.reports),
                None => failed = Some(failure),
            },
        }
    }
    failed.map_or(Ok(Exit::Done), Err)
}

/// `None` if it is not there and nobody minds.
fn remove(args: &Args, text: &str, services: &Services<'_>) -> Result<Option<Removed>, Failure> {
    let image = match stored::find(services, text) {
        Err(failure) if args.force && failure.exit == Exit::Failed => return Ok(None),
        found => found?,
    };
    let names = stored::names(services, image.record.config)?;
    let by_name = text
        .parse::<Reference>()
        .is_ok_and(|name| names.contains(&name));
    let repositories: HashSet<String> = names.iter().map(repository).collect();
    if !by_name && repositories.len() > 1 && !args.force {
        let names = names.iter().map(Reference::familiar).collect::<Vec<_>>();
        return Err(Failure::new(
            Exit::Failed,
            "image",
            format!(
                "`{text}` has names in several repositories: {}",
                names.join(", ")
            ),
        )
        .help("remove the names one by one, or all of them with `--force`"));
    }
    let goes = !by_name || names.len() == 1;
    if goes
        && !args.force
        && let Some(container) = container_of(&image, services)?
    {
        return Err(Failure::new(
            Exit::Failed,
            "image",
            format!("`{text}` is in use: {}", of_container(&container)),
        )
        .help(format!(
            "remove that with `kiln rm {}`, or use `--force`: the container stays as it is",
            container.name
        )));
    }
    images::remove(services, text)
        .map(Some)
        .map_err(Failure::from_engine)
}

/// A container that was made of the image, or what a step left that failed on top of it.
fn container_of(
    image: &StoredImage,
    services: &Services<'_>,
) -> Result<Option<ContainerRecord>, Failure> {
    let containers = services.store.containers().list();
    let containers = containers.map_err(|error| Failure::from_store(&error))?;
    let layers = image.config.diff_ids();
    let is_of_it = |container: &ContainerRecord| match &container.step {
        Some(_) => !layers.is_empty() && container.layers.starts_with(layers),
        None => container.image == Some(image.record.config),
    };
    Ok(containers.into_iter().find(is_of_it))
}

fn of_container(container: &ContainerRecord) -> String {
    match &container.step {
        Some(step) => format!(
            "`{}` failed on top of it, and is kept as `{}`",
            step.name, container.name
        ),
        None => format!("the container `{}` was made of it", container.name),
    }
}
