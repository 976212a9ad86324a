//! `kiln diff`: what a container changed, or what is different between two images.

mod config_fields;

use std::io::{self, Write};

use kiln_executor::container;
use kiln_executor::images;
use kiln_image::{Aspect, DiffId, Difference, Digest, ImageConfig, Kind, Node};
use serde::Serialize;
use serde_json::json;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::render::shown;
use crate::session::{Session, Watched};
use crate::stored::{self, Found};
use config_fields::{FieldChange, config_changes};

/// Show what a container changed, or what is different between two images: files, and how they are run
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Of two images, tell of files that differ in their time alone, too
    #[arg(long)]
    times: bool,
    /// Name or id of a container, or of an image
    #[arg(value_name = "CONTAINER|IMAGE")]
    first: String,
    /// Name or id of another
    #[arg(value_name = "IMAGE")]
    second: Option<String>,
}

/// How differences are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Format {
    /// A line for each: A for what was added, C for what was changed, D for what was deleted
    #[default]
    Text,
    /// One object for a container's paths each, or one for two images
    Json,
}

/// What is different at a path.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct FileChange {
    path: String,
    change: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aspects: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<Object>,
}

/// A file as it is told of.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Object {
    #[serde(rename = "Type")]
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// One side of a comparison.
struct Side {
    config: ImageConfig,
    layers: Vec<DiffId>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let mode = config.progress(None, true)?;
    let session = Session::open_with_files(config, None)?;
    let (text, _) = session.watch(mode, |watched| match &args.second {
        None => of_container(args, &watched),
        Some(second) => of_images(args, second, &watched),
    });
    io::stdout().lock().write_all(text?.as_bytes())?;
    Ok(Exit::Done)
}

fn of_container(args: &Args, watched: &Watched<'_>) -> Result<String, Failure> {
    let container = stored::container(&watched.services, &args.first)?;
    let found = watched.task("diff".to_owned(), |task| {
        container::differences(&watched.services, &container, task).map_err(Failure::from_engine)
    })?;
    let mut text = String::new();
    for (difference, path) in found {
        let letter = match difference {
            container::Difference::Added => "A",
            container::Difference::Changed => "C",
            container::Difference::Deleted => "D",
        };
        let path = format!("/{path}");
        let line = match args.format {
            Format::Text => format!("{letter} {}\n", shown(&path)),
            Format::Json => format!("{}\n", json!({"Kind": letter, "Path": path})),
        };
        text.push_str(&line);
    }
    Ok(text)
}

fn of_images(args: &Args, second: &str, watched: &Watched<'_>) -> Result<String, Failure> {
    let services = &watched.services;
    let side = |text: &str| -> Result<Side, Failure> {
        Ok(match stored::container_or_image(services, text)? {
            Found::Container(container) => Side {
                config: images::config_of(services, &container).map_err(Failure::from_engine)?,
                layers: container.all_layers(),
            },
            Found::Image(image) => Side {
                layers: image.config.diff_ids().to_vec(),
                config: image.config,
            },
        })
    };
    let (old, new) = (side(&args.first)?, side(second)?);
    let differences = watched.task("diff".to_owned(), |task| {
        images::compare(services, &old.layers, &new.layers, args.times, task)
            .map_err(Failure::from_engine)
    })?;
    let files: Vec<FileChange> = differences.iter().map(FileChange::of).collect();
    let fields = config_changes(&old.config, &new.config);
    Ok(match args.format {
        Format::Json => format!("{:#}\n", json!({"Files": files, "Config": fields})),
        Format::Text => in_words(&files, &fields),
    })
}

fn in_words(files: &[FileChange], fields: &[FieldChange]) -> String {
    let mut text = String::new();
    for file in files {
        text.push_str(&file.line());
        text.push('\n');
    }
    if !files.is_empty() && !fields.is_empty() {
        text.push('\n');
    }
    for field in fields {
        text.push_str(&field.line());
        text.push('\n');
    }
    text
}

impl FileChange {
    fn of(difference: &Difference) -> Self {
        let (old, new) = (&difference.old, &difference.new);
        Self {
            path: format!("/{}", difference.path),
            change: match (old, new) {
                (None, _) => "added",
                (_, None) => "deleted",
                _ => "changed",
            },
            aspects: difference.aspects().into_iter().map(name).collect(),
            old: old.as_ref().map(Object::of),
            new: new.as_ref().map(Object::of),
        }
    }

    /// `A /path (2kB)`, `C /path (mode 0644 -> 0755)`.
    fn line(&self) -> String {
        let path = shown(&self.path);
        match (&self.old, &self.new) {
            (None, Some(new)) => format!("A {path}{}", new.in_brackets()),
            (Some(old), None) => format!("D {path}{}", old.in_brackets()),
            (Some(old), Some(new)) => {
                let told = self
                    .aspects
                    .iter()
                    .map(|aspect| aspect_line(aspect, old, new));
                format!("C {path} ({})", told.collect::<Vec<_>>().join(", "))
            }
            (None, None) => path,
        }
    }
}

fn aspect_line(aspect: &str, old: &Object, new: &Object) -> String {
    match aspect {
        "type" => format!("{} -> {}", old.kind, new.kind),
        "content" => match (old.size, new.size, &old.target, &new.target) {
            (Some(old), Some(new), ..) => {
                format!("content {} -> {}", human::size(old), human::size(new))
            }
            (_, _, Some(old), Some(new)) => format!("target {} -> {}", shown(old), shown(new)),
            _ => "content".to_owned(),
        },
        "mode" => format!("mode {} -> {}", old.mode, new.mode),
        "owner" => format!("owner {}:{} -> {}:{}", old.uid, old.gid, new.uid, new.gid),
        other => other.to_owned(),
    }
}

impl Object {
    fn of(node: &Node) -> Self {
        let metadata = &node.metadata;
        let (size, digest) = match &node.kind {
            Kind::File { size, digest, .. } => (Some(*size), Some(*digest)),
            _ => (None, None),
        };
        let target = match &node.kind {
            Kind::Symlink { target } => Some(String::from_utf8_lossy(target).into_owned()),
            _ => None,
        };
        Self {
            kind: kind(&node.kind),
            mode: format!("{:04o}", metadata.mode),
            uid: metadata.uid,
            gid: metadata.gid,
            size,
            digest,
            target,
        }
    }

    fn in_brackets(&self) -> String {
        match (self.size, &self.target) {
            (Some(size), _) => format!(" ({})", human::size(size)),
            (None, Some(target)) => format!(" (-> {})", shown(target)),
            (None, None) => format!(" ({})", self.kind),
        }
    }
}

fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory => "directory",
        Kind::File { .. } => "file",
        Kind::Symlink { .. } => "symlink",
        Kind::CharDevice { .. } | Kind::BlockDevice { .. } => "device",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}

fn name(aspect: Aspect) -> &'static str {
    match aspect {
        Aspect::Type => "type",
        Aspect::Content => "content",
        Aspect::Mode => "mode",
        Aspect::Owner => "owner",
        Aspect::Xattrs => "xattrs",
        Aspect::Time => "time",
    }
}
