//! `kiln context`: what a folder is as a build context.

mod ls;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Look at a build context
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Each variant is a file in `context/`.
#[derive(Debug, clap::Subcommand)]
enum Command {
    Ls(ls::Args),
}

/// Runs the command.
pub(crate) fn run(args: &Args, _: &Config) -> Result<Exit, Failure> {
    match &args.command {
        Command::Ls(args) => ls::run(args),
    }
}
