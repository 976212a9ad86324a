//! `kiln explain`: why the steps of a build were done again, or why they were not.

mod github;
mod gitlab;
mod picture;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};

use kiln_cache::builds::{BuildEntry, KnownBuild, StepRecord};
use kiln_cache::{BuildRecord, RecipeId, Store};

use crate::command::builds;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::recorder::called;
use crate::session::Session;
pub(crate) use picture::Picture;

/// With so many earlier builds of the same Dockerfile a build is compared.
pub(crate) const COMPARED_BUILDS: usize = 5;

/// Say why the steps of a build were done again
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Say of the other steps why they were cached
    #[arg(long)]
    hits: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
    /// The Dockerfile of the build [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The context of the build
    #[arg(long, value_name = "CONTEXT", default_value = ".")]
    context: PathBuf,
    /// A build, by its id, the beginning of that, or `^N` for the one N before the last; or a stage, for what
    /// that needs in the last build of this context that had it [default: the last build of this context]
    #[arg(value_name = "TARGET|BUILD")]
    which: Option<String>,
}

/// Each is a file in `explain/`, but for JSON, which is the picture itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One object with all there is to know
    Json,
    /// Annotations of GitHub Actions, a line each
    Github,
    /// A code quality report for GitLab
    Gitlab,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let session = Session::open(config)?;
    let (entry, stage) = which(args, &session.store)?;
    let builds = session.store.builds();
    let record = match builds.read(&entry) {
        Some(KnownBuild::Ended(record)) => record,
        Some(KnownBuild::Running(_)) => return Err(unknown("it is still running")),
        Some(KnownBuild::Killed(_)) => return Err(unknown("it was killed before its end")),
        None => return Err(unknown("its record is damaged")),
    };
    let earlier = builds.before(&entry, COMPARED_BUILDS);
    let mut picture = Picture::of(&record, &earlier, &session.store);
    if let (Some(stage), Some(graph)) = (stage, &record.graph) {
        picture.keep_stage(graph, &stage);
    }
    let text = printed(&picture, args.format, args.hits)?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

/// What `kiln build --explain` prints at the end of a build that is not in the history yet.
pub(crate) fn after_build(
    record: &BuildRecord,
    earlier: &[BuildRecord],
    store: &Store,
    format: Format,
) -> Result<String, Failure> {
    printed(&Picture::of(record, earlier, store), format, false)
}

fn printed(picture: &Picture, format: Format, hits: bool) -> Result<String, Failure> {
    let json = |value: serde_json::Result<String>| {
        let value = value.map_err(|error| Failure::from_error(Exit::Failed, None, &error))?;
        Ok::<String, Failure>(value + "\n")
    };
    Ok(match format {
        Format::Text => text::of(picture, hits),
        Format::Json => json(serde_json::to_string_pretty(picture))?,
        Format::Github => github::of(picture),
        Format::Gitlab => json(serde_json::to_string_pretty(&gitlab::of(picture)))?,
    })
}

/// The build to speak of, and the stage if not all of it is meant.
fn which(args: &Args, store: &Store) -> Result<(BuildEntry, Option<String>), Failure> {
    let all = builds::all(store)?;
    let mut context = args.context.as_path();
    let mut target = args.which.as_deref();
    if let Some(text) = target {
        if let Some(entry) = builds::named(&all, text) {
            return Ok((entry, None));
        }
        // `kiln explain .` is what one types after `kiln build .`.
        if Path::new(text).is_dir() {
            context = Path::new(text);
            target = None;
        }
    }
    let file = args.file.clone();
    let file = file.unwrap_or_else(|| default_dockerfile(context));
    let recipe = RecipeId::of(&called(context), &called(&file));
    let of_recipe = all.iter().rev().filter(|entry| entry.is_of(&recipe));
    let Some(target) = target else {
        // One that was killed has nothing to say.
        let mut ended = of_recipe.filter(|entry| entry.has_ended());
        let last = ended.next().cloned().map(|entry| (entry, None));
        return last.ok_or_else(|| {
            let message = format!("no build of `{}` is in the history", file.display());
            Failure::new(Exit::Failed, "build-not-found", message)
                .help("`kiln builds` lists all builds; name one by its id")
        });
    };
    let has_stage = |entry: &&BuildEntry| match store.builds().read(entry) {
        Some(KnownBuild::Ended(record)) => record.graph.is_some_and(|graph| {
            let named = |step: &StepRecord| graph.stage_of(step).map(|stage| stage.name.clone());
            let mut names = graph.steps.iter().filter_map(named);
            names.any(|name| name.eq_ignore_ascii_case(target))
        }),
        _ => false,
    };
    let found = { of_recipe }.find(has_stage).cloned();
    let found = found.map(|entry| (entry, Some(target.to_owned())));
    found.ok_or_else(|| {
        builds::not_found(Some(target)).help(format!(
            "no build of `{}` had a stage `{target}` either",
            file.display()
        ))
    })
}

/// As `kiln build` looks for it (R-CTX-9).
pub(crate) fn default_dockerfile(context: &Path) -> PathBuf {
    let lower = context.join("dockerfile");
    let usual = context.join("Dockerfile");
    match !usual.exists() && lower.exists() {
        true => lower,
        false => usual,
    }
}

fn unknown(why: &str) -> Failure {
    let message = format!("the build can't be explained: {why}");
    Failure::new(Exit::Failed, "build-not-ended", message)
}
