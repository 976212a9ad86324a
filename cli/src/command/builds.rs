//! `kiln builds`: the history of builds.

mod inspect;
mod logs;
mod ls;
mod rm;

use kiln_cache::Store;
use kiln_cache::builds::{BuildEntry, BuildHeader, BuildOutcome, BuildRecord, KnownBuild};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// List builds, and look at one: what it was, what its steps came to, what they printed
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    ls: ls::Args,
}

/// Each variant is a file in `builds/`.
#[derive(Debug, clap::Subcommand)]
enum Command {
    Ls(ls::Args),
    Inspect(inspect::Args),
    Logs(logs::Args),
    Rm(rm::Args),
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    match &args.command {
        None => ls::run(&args.ls, config),
        Some(Command::Ls(args)) => ls::run(args, config),
        Some(Command::Inspect(args)) => inspect::run(args, config),
        Some(Command::Logs(args)) => logs::run(args, config),
        Some(Command::Rm(args)) => rm::run(args, config),
    }
}

/// All builds, the oldest first.
pub(super) fn all(store: &Store) -> Result<Vec<BuildEntry>, Failure> {
    let builds = store.builds().list();
    builds.map_err(|error| Failure::from_store(&error))
}

/// The build that a text names: an id or the beginning of one, or `^N` for the one N before the last. `None` if it has
/// neither form, or no build is called so.
pub(super) fn named(builds: &[BuildEntry], text: &str) -> Option<BuildEntry> {
    if let Some(back) = text.strip_prefix('^') {
        let back: usize = back.parse().ok()?;
        return builds.iter().rev().nth(back).cloned();
    }
    let mut found = builds
        .iter()
        .filter(|entry| !text.is_empty() && entry.id().as_str().starts_with(text));
    let only = found.next()?;
    found.next().is_none().then(|| only.clone())
}

/// As [`named`]; the last one without a text.
fn find(store: &Store, text: Option<&str>) -> Result<BuildEntry, Failure> {
    let builds = all(store)?;
    let found = named(&builds, text.unwrap_or("^0"));
    found.ok_or_else(|| not_found(text))
}

pub(super) fn not_found(text: Option<&str>) -> Failure {
    let message = match text {
        Some(text) => format!("no build is called `{text}`"),
        None => "no build is in the history".to_owned(),
    };
    Failure::new(Exit::Failed, "build-not-found", message)
        .help("`kiln builds` lists them; `^0` is the last one, `^1` the one before")
}

/// How a build stands, in a word.
fn status(build: &KnownBuild) -> &'static str {
    match build {
        KnownBuild::Running(_) => "Running",
        KnownBuild::Killed(_) => "Killed",
        KnownBuild::Ended(record) => match record.outcome {
            BuildOutcome::Done { .. } => "Completed",
            BuildOutcome::Failed { .. } => "Error",
            BuildOutcome::Canceled => "Canceled",
        },
    }
}

fn header(build: &KnownBuild) -> &BuildHeader {
    match build {
        KnownBuild::Running(header) | KnownBuild::Killed(header) => header,
        KnownBuild::Ended(record) => &record.header,
    }
}

fn record(build: &KnownBuild) -> Option<&BuildRecord> {
    match build {
        KnownBuild::Ended(record) => Some(record),
        _ => None,
    }
}
