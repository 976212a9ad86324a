//! `kiln load`: images from an archive into the store.

use std::path::PathBuf;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Load images from an archive made by `save`, `docker save` or `build -o type=oci|docker`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The archive, plain or compressed [default: stdin]
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let _ = (args, config);
    Ok(Exit::Done)
}
