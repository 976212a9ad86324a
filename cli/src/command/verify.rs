//! `kiln verify`: builds again what the history has, and says whether it came out the same.

mod compare;
mod told;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use kiln_cache::builds::{BuildEntry, BuildOutcome, BuildRecord, Invocation, KnownBuild};
use kiln_executor::attest::Attest;
use kiln_executor::event::{Event, Reporter};
use kiln_executor::export::image_ids;
use kiln_executor::lock::Lock;
use kiln_executor::{BuildFailure, BuildRequest, Journal, build};
use kiln_image::Digest;
use kiln_parser::Source;
use kiln_planner::NoCache;
use tempfile::NamedTempFile;

use super::build::{self as build_command, secret, ssh};
use super::{builds, plan};
use crate::args::{Cli, Command, KeyValue, ProgressMode};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::recipe::Recipe;
use crate::session::{LazySession, Session};
use crate::stored;

/// Build again what a build made, and say whether it is the same
///
/// Every step is done again: from the Dockerfile, arguments and sources of then, and the context, which must not have changed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files that only have other times, and other dates in the config, count as the same
    #[arg(long)]
    ignore_times: bool,
    /// Value of an ARG that was not kept, because its name tells of a secret; KEY alone takes it from the environment
    #[arg(long = "build-arg", value_name = "KEY[=VALUE]")]
    build_args: Vec<KeyValue>,
    /// Secret, as for `kiln build`, if it is elsewhere now; may be repeated
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<secret::SecretFlag>,
    /// How to show progress [env: BUILDKIT_PROGRESS] [default: auto]
    #[arg(long, value_enum, value_name = "MODE")]
    progress: Option<ProgressMode>,
    /// A build, by its id, the beginning of that, or `^N` for the one N before the last; or an image that a build of the history
    /// made
    #[arg(value_name = "IMAGE|BUILD")]
    which: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let record = which(&args.which, &Session::open(config)?)?;
    let ids = ids(&record.outcome);
    if ids.is_empty() {
        return Err(impossible("it made no image"));
    }
    let Some(invocation) = &record.invocation else {
        return Err(impossible("an older kiln did it, which kept too little"));
    };
    let mut asked = asked(invocation, &args.build_args)?;
    let _kept = file_of_then(&mut asked.recipe, invocation)?;
    if !args.secrets.is_empty() {
        asked.secrets.clone_from(&args.secrets);
    }
    again(args, &asked, (&record, invocation), ids, config)
}

/// The flags of then.
fn asked(invocation: &Invocation, given: &[KeyValue]) -> Result<build_command::Args, Failure> {
    std::env::set_current_dir(&invocation.directory)
        .map_err(|error| Failure::unreadable(Path::new(&invocation.directory), &error))?;
    let words = ["kiln", "build"].into_iter().map(str::to_owned);
    let words = words.chain(invocation.words.iter().cloned());
    let parsed = Cli::try_parse_from(words).map_err(|error| {
        let message = error.to_string();
        let line = message.lines().next().unwrap_or_default();
        impossible(&format!("its command line can't be read: {line}"))
    })?;
    let Command::Build(mut asked) = parsed.command else {
        return Err(impossible("its command line is no build"));
    };
    let recipe = &mut asked.recipe;
    if recipe.context == Path::new("-") {
        return Err(impossible("its context came from stdin"));
    }
    recipe.build_args = build_args(invocation, given)?;
    Ok(*asked)
}

fn build_args(invocation: &Invocation, given: &[KeyValue]) -> Result<Vec<KeyValue>, Failure> {
    let mut arguments = Vec::new();
    let mut missing = Vec::new();
    for (name, value) in &invocation.build_args {
        let given = given.iter().rev().find(|given| given.key == *name);
        match (given, value) {
            (Some(given), _) => arguments.push(given.clone()),
            (None, Some(value)) => arguments.push(KeyValue {
                key: name.clone(),
                value: Some(value.clone()),
            }),
            (None, None) => missing.push(format!("`--build-arg {name}`")),
        }
    }
    match missing.is_empty() {
        true => Ok(arguments),
        false => {
            let message = "values of build arguments that tell of a secret are not kept";
            let failure = Failure::new(Exit::Usage, "secret-not-kept", message);
            Err(failure.help(format!("give {} again", missing.join(", "))))
        }
    }
}

/// Does the build again, and tells how it compares.
fn again(
    args: &Args,
    asked: &build_command::Args,
    (record, invocation): (&BuildRecord, &Invocation),
    ids: Vec<Digest>,
    config: &Config,
) -> Result<Exit, Failure> {
    let secrets = secret::secrets(&asked.secrets, |name| config.variable(name))
        .map_err(|failure| failure.help("give the secret again with `--secret`"))?;
    let agents = ssh::agents(&asked.agents, |name| config.variable(name))?;
    let mode = config.progress(args.progress, false)?;
    let session = LazySession::new(|| {
        let session = Session::open_with_files(config, asked.sandbox.as_deref())?;
        Ok(session.with_agent(ssh::default_socket(&agents)?))
    });
    let recipe = &asked.recipe;
    let input = recipe.read(&secrets, mode, &session, config)?;
    let source = source_of_then(invocation, &input.dockerfile);
    let parsed = plan::parse(&source)?;
    let mut images = recipe.images(config)?;
    recipe.date(&mut images, &input, config)?;
    for image in &mut images {
        image.no_cache = NoCache::All;
    }
    let session = session.opened()?;
    let journal = Journal::new(&record.header);
    let request = BuildRequest {
        source: &source,
        parsed: &parsed,
        images,
        contexts: input.contexts.clone(),
        pull: recipe.pull_policy(),
        steps: build_command::steps(asked, config, secrets, &agents)?,
        inline_cache: false,
        attest: Attest::default(),
        journal: Some(&journal),
    };
    let sources = record.graph.iter().flat_map(|graph| &graph.sources);
    let lock = Lock::of(&sources.cloned().collect::<Vec<_>>());
    let (made, _) = session.watch(mode, |watched| {
        let (services, reporter) = (&watched.services, &watched.reporter);
        services.hold_to(lock);
        let made = build(&request, services, reporter, &watched.interrupt.cancel);
        let made = made.map_err(|failure| match failure {
            BuildFailure::Dockerfile(diagnostics) => {
                Failure::from_diagnostics(Exit::Usage, &source, &diagnostics)
            }
            BuildFailure::Failed(error) => Failure::from_build_error(Some(&source), &error),
        })?;
        let made = match asked.squash {
            true => build_command::squashed(made, &watched)?,
            false => made,
        };
        let form = build_command::outputs::form(asked);
        let mut ids = Vec::new();
        for product in &made {
            let of_product = image_ids(product, &form, services, reporter);
            ids.extend(of_product.map_err(Failure::from_engine)?);
        }
        Ok((made, ids))
    });
    let (made, made_ids) = made?;
    drop(request);
    let (Some(graph), Some(now)) = (&record.graph, journal.into_graph()) else {
        return Err(impossible("its steps were not kept"));
    };
    let sides = compare::Sides {
        then: record,
        graph,
        now,
        ids,
        made: compare::made(&made, made_ids),
    };
    let silent = |_: Event| {};
    let services = session.services()?;
    let compared = sides.compared(&services, &Reporter::new(&silent))?;
    told::tell(&compared, record, args.ignore_times)
}

/// A Dockerfile that came from stdin is a file now, which must stay as long as it is used.
fn file_of_then(
    recipe: &mut Recipe,
    invocation: &Invocation,
) -> Result<Option<NamedTempFile>, Failure> {
    if recipe.file.as_deref() != Some(Path::new("-")) {
        return Ok(None);
    }
    let Some(text) = &invocation.dockerfile else {
        let why = "its Dockerfile came from stdin and was not kept";
        return Err(impossible(why));
    };
    let written = || {
        let mut file = NamedTempFile::new()?;
        file.write_all(text.as_bytes())?;
        Ok(file)
    };
    let file: NamedTempFile = written().map_err(|error: std::io::Error| {
        Failure::environment(format!("could not write a temporary file: {error}"))
    })?;
    recipe.file = Some(file.path().to_owned());
    Ok(Some(file))
}

/// The Dockerfile of then, under the name it has now.
fn source_of_then(invocation: &Invocation, now: &Arc<Source>) -> Arc<Source> {
    match &invocation.dockerfile {
        Some(text) if text != now.text() => Arc::new(Source::new(now.name(), text.clone())),
        _ => Arc::clone(now),
    }
}

/// The ids of the images that a build made.
fn ids(outcome: &BuildOutcome) -> Vec<Digest> {
    match outcome {
        BuildOutcome::Done { image, others } => {
            let mut ids = vec![*image];
            ids.extend(others);
            ids
        }
        BuildOutcome::Failed { .. } | BuildOutcome::Canceled => Vec::new(),
    }
}

/// The build that a text names, or the last that made the image of this name.
fn which(text: &str, session: &Session) -> Result<BuildRecord, Failure> {
    let all = builds::all(&session.store)?;
    let read = |entry: &BuildEntry| match session.store.builds().read(entry) {
        Some(KnownBuild::Ended(record)) => Some(*record),
        _ => None,
    };
    if let Some(entry) = builds::named(&all, text) {
        return read(&entry)
            .ok_or_else(|| impossible("it has not ended, or its record is damaged"));
    }
    let services = session.services()?;
    let image = stored::find(&services, text)?.record.config;
    let mut records = all.iter().rev().filter_map(read);
    records
        .find(|record| ids(&record.outcome).contains(&image))
        .ok_or_else(|| {
            let message = format!("no build of the history made the image `{text}`");
            Failure::new(Exit::Failed, "build-not-found", message)
                .help("`kiln builds` lists those that are kept")
        })
}

fn impossible(why: &str) -> Failure {
    let message = format!("the build can't be verified: {why}");
    Failure::new(Exit::Failed, "not-verifiable", message)
}
