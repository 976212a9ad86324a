//! `kiln import`: an image of one layer from a tar of a root filesystem.

use std::path::PathBuf;

use kiln_image::{Platform, Reference};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Make an image from a tar of a root filesystem
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Platform to record [default: this machine's]
    #[arg(long)]
    platform: Option<Platform>,
    /// The tar, plain or compressed; `-` is stdin
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Name for the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<Reference>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let _ = (args, config);
    Ok(Exit::Done)
}
