//! `kiln images`: what is in the store.

use crate::args::ListFormat;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// List images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show only image ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// Show manifest digests
    #[arg(long)]
    digests: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: ListFormat,
    /// Only images of this name, with or without a tag
    #[arg(value_name = "REPOSITORY[:TAG]")]
    filter: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let _ = (args, config);
    Ok(Exit::Done)
}
