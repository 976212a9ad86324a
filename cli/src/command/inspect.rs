//! `kiln inspect`: all that is known of an image, as JSON in the shape of `docker image inspect`.

use std::io::Write;

use kiln_cache::Store;
use kiln_executor::images::StoredImage;
use kiln_image::Reference;
use serde_json::{Value, json};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::stored;

/// Show images in full, as JSON
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `json` prints one object a line instead of an indented list
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// The one format there is besides the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One object a line
    Json,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open(config)?;
    let services = session.services()?;
    let mut objects = Vec::new();
    for text in &args.images {
        let image = stored::find(&services, text)?;
        let names = stored::names(&services, image.record.config)?;
        objects.push(object(&session.store, &image, &names)?);
    }
    let mut out = std::io::stdout().lock();
    match args.format {
        Some(Format::Json) => objects
            .iter()
            .try_for_each(|object| writeln!(out, "{object}"))?,
        None => writeln!(out, "{:#}", Value::Array(objects))?,
    }
    Ok(Exit::Done)
}

fn object(store: &Store, image: &StoredImage, names: &[Reference]) -> Result<Value, Failure> {
    let config = &image.config;
    let full: Value = serde_json::from_slice(&image.config_bytes)
        .map_err(|error| Failure::from_error(Exit::Failed, Some("image"), &error))?;
    let layers: Vec<_> = config.diff_ids().iter().map(ToString::to_string).collect();
    Ok(json!({
        "Id": image.record.config,
        "RepoTags": names.iter().map(Reference::familiar).collect::<Vec<_>>(),
        "RepoDigests": repository_digests(image, names),
        "Created": config.created,
        "Author": config.author,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": stored::size(store, config.diff_ids()),
        "Config": full.get("config"),
        "History": full.get("history"),
        "RootFS": { "Type": "layers", "Layers": layers },
    }))
}

/// `name@digest` for each repository the image has a name in.
fn repository_digests(image: &StoredImage, names: &[Reference]) -> Vec<String> {
    let Some(manifest) = &image.record.manifest else {
        return Vec::new();
    };
    let mut digests: Vec<_> = names
        .iter()
        .map(|name| format!("{}@{}", name.name(), manifest.digest))
        .collect();
    digests.dedup();
    digests
}
