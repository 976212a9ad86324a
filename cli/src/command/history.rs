//! `kiln history`: how an image came to be, newest step first.

use crate::args::ListFormat;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Show the steps an image was made by
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show only layer ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: ListFormat,
    /// Name or id of an image
    image: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let _ = (args, config);
    Ok(Exit::Done)
}
