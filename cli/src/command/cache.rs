//! `kiln cache`: what kiln keeps, how much space it takes, and what of it goes.

mod du;
mod filter;
mod gc;
mod ls;
mod rm;

use jiff::Timestamp;
use kiln_cache::{Entry, Freed};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;

pub(crate) use filter::Filter;

/// Look at the build cache, and remove from it
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Each variant is a file in `cache/`.
#[derive(Debug, clap::Subcommand)]
enum Command {
    Ls(ls::Args),
    Du(du::Args),
    Gc(gc::Args),
    Rm(rm::Args),
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    match &args.command {
        Command::Ls(args) => ls::run(args, config),
        Command::Du(args) => du::run(args, config),
        Command::Gc(args) => gc::run(args, config),
        Command::Rm(args) => rm::run(args, config),
    }
}

/// An entry's id, shortened unless it is to be whole.
fn id(entry: &Entry, whole: bool) -> String {
    let length = if whole { entry.id.len() } else { 12 };
    entry.id[..length.min(entry.id.len())].to_owned()
}

/// When an entry was last used.
fn last_used(entry: &Entry) -> Timestamp {
    Timestamp::try_from(entry.last_used).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A description on one line of a table.
fn shortened(text: &str, whole: bool) -> String {
    const WIDTH: usize = 60;
    if whole || text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    let start: String = text.chars().take(WIDTH - 1).collect();
    format!("{start}…")
}

/// What a collection took, in words.
pub(crate) fn told(freed: &Freed) -> String {
    let Freed {
        images,
        containers,
        records,
        mounts,
        layers,
        blobs,
        bytes,
    } = freed;
    let mounts = match mounts {
        0 => String::new(),
        mounts => format!("{mounts} cache mounts, "),
    };
    let containers = match containers {
        0 => String::new(),
        containers => format!("{containers} containers, "),
    };
    format!(
        "{images} images, {containers}{records} cache records, {mounts}{layers} layers, {blobs} blobs\nReclaimed {}",
        human::size(*bytes)
    )
}

/// Another kiln holds the store.
pub(crate) fn in_use() -> Failure {
    Failure::environment("the store is in use by another kiln, so nothing was removed")
        .help("try again when its build has ended")
}
