//! `kiln save`: images from the store as one archive.

use std::io::Write;
use std::path::PathBuf;

use kiln_executor::images::{self, StoredImage};
use kiln_image::Platform;

use crate::archive_file::{check_output, write_to};
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
    /// Only the images for this platform [default: all that a name stands for]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let mode = config.progress(None, args.quiet)?;
    check_output(args.output.as_deref())?;
    let session = Session::open_with_files(config, None)?;
    let services = session.services()?;
    let images = args
        .images
        .iter()
        .map(|text| match &args.platform {
            None => stored::find(&services, text),
            asked => stored::find_for(&services, text, asked.as_ref()).map(StoredImage::alone),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let (saved, _) = session.watch(mode, |watched| {
        write_to(args.output.as_deref(), |out| write(&watched, &images, out))
    });
    saved.map(|()| Exit::Done)
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
