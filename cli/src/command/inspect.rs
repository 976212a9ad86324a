//! `kiln inspect`: all that is known of an image, as JSON in the shape of `docker image inspect`.

use std::io::Write;

use kiln_cache::Store;
use kiln_executor::images::StoredImage;
use kiln_image::{Platform, Reference};
use serde_json::{Value, json};

use super::images::repository;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format;
use crate::session::Session;
use crate::stored;
use crate::template::Template;

/// Show images in full, as JSON
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `json` prints the list on one line instead of indented; a template such as `{{.Config.Cmd}}` prints a line for each image
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Which platform of the images [default: this machine's, or else the first]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Kind of what is named; there is one
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<Kind>,
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// What can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Image,
}

/// What there is besides the default.
#[derive(Debug, Clone)]
enum Format {
    /// The list on one line.
    Json,
    /// A line for each image.
    Template(Template),
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            _ if !text.contains("{{") => {
                Err("it is `json` or a template such as `{{.Id}}`".to_owned())
            }
            _ => text.parse().map(Self::Template),
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open(config)?;
    let services = session.services()?;
    let found = |text: &String| {
        let image = stored::find_for(&services, text, args.platform.as_ref())?;
        let names = stored::names(&services, image.record.config)?;
        object(&session.store, &image, &names)
    };
    // As Docker has it: what isn't there is told after all that is.
    let (objects, missing): (Vec<_>, Vec<_>) =
        args.images.iter().map(found).partition(Result::is_ok);
    let objects = objects.into_iter().flatten().collect();
    print(objects, args.format.as_ref(), &mut std::io::stdout().lock())?;
    let missing = missing.into_iter().filter_map(Result::err);
    let all = missing.reduce(|mut all, next| {
        all.reports.extend(next.reports);
        all
    });
    all.map_or(Ok(Exit::Done), Err)
}

fn print(objects: Vec<Value>, format: Option<&Format>, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        None => writeln!(out, "{:#}", Value::Array(objects))?,
        Some(Format::Json) => writeln!(out, "{}", Value::Array(objects))?,
        Some(Format::Template(template)) => {
            for mut object in objects {
                fill_empty(&mut object);
                if template.fields().contains("ID") {
                    object["ID"] = object["Id"].clone(); // Docker takes both
                }
                writeln!(out, "{}", format::fill(template, &object)?)?;
            }
        }
    }
    Ok(())
}

/// A template sees empty lists and maps where there are none, so that `{{range}}` and `{{.Config.Labels}}` give what Docker gives.
fn fill_empty(object: &mut Value) {
    const LISTS: [&str; 5] = ["Cmd", "Entrypoint", "Env", "OnBuild", "Shell"];
    const MAPS: [&str; 3] = ["ExposedPorts", "Labels", "Volumes"];
    const TEXTS: [&str; 3] = ["StopSignal", "User", "WorkingDir"];
    let Some(config) = object.get_mut("Config").and_then(Value::as_object_mut) else {
        return;
    };
    let lists = LISTS.map(|name| (name, json!([])));
    let maps = MAPS.map(|name| (name, json!({})));
    let texts = TEXTS.map(|name| (name, json!("")));
    config.entry("Healthcheck").or_insert(Value::Null);
    for (name, empty) in lists.into_iter().chain(maps).chain(texts) {
        let value = config.entry(name).or_insert(Value::Null);
        if value.is_null() {
            *value = empty;
        }
    }
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
        "Parent": "",
        "Comment": config.history.iter().flatten().next_back().map_or("", |entry| &entry.comment),
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
        .map(|name| format!("{}@{}", repository(name), manifest.digest))
        .collect();
    digests.dedup();
    digests
}
