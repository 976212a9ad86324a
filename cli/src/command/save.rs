//! `kiln save`: images from the store as one archive.

use std::path::PathBuf;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Save images as an archive that `load`, `docker load` and `podman load` read
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Names or ids of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let _ = (args, config);
    Ok(Exit::Done)
}
