//! `kiln save`: images from the store as one archive.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use kiln_executor::images::{self, StoredImage};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::{Session, Watched};
use crate::stored;

/// Save images as an archive that `load`, `docker load` and `podman load` read
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let mode = config.progress(None, args.quiet)?;
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(
            Failure::usage("stdout is a terminal, and an archive would garble it")
                .help("redirect stdout, or name a file with `--output`"),
        );
    }
    let session = Session::open_with_files(config, None)?;
    let services = session.services()?;
    let images = args
        .images
        .iter()
        .map(|text| stored::find(&services, text))
        .collect::<Result<Vec<_>, _>>()?;
    let (saved, _) = session.watch(mode, |watched| match &args.output {
        Some(path) => to_file(&watched, &images, path),
        None => write(&watched, &images, &mut std::io::stdout().lock()),
    });
    saved.map(|()| Exit::Done)
}

/// A file that could not be finished is taken away again: half an archive looks too much like a whole one.
fn to_file(watched: &Watched<'_>, images: &[StoredImage], path: &Path) -> Result<(), Failure> {
    let file = File::create(path).map_err(|error| Failure::unwritable(path, &error))?;
    let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
    let mut out = BufWriter::new(file);
    let written = write(watched, images, &mut out).and_then(|()| {
        out.flush()
            .map_err(|error| Failure::unwritable(path, &error))
    });
    if written.is_err() && regular {
        let _ = std::fs::remove_file(path);
    }
    written
}

fn write(
    watched: &Watched<'_>,
    images: &[StoredImage],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    watched.task("save".to_owned(), |task| {
        images::save(&watched.services, images, out, task).map_err(Failure::from_engine)
    })
}
