//! `kiln lock`: writes down what the names of images, downloads and repositories in a Dockerfile stand for.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_executor::attest::Attest;
use kiln_executor::images::PullPolicy;
use kiln_executor::lock::{self, Lock};
use kiln_executor::{BuildFailure, BuildRequest, StepOptions};

use super::build::{secret, ssh};
use super::plan;
use crate::args::ProgressMode;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lock_file;
use crate::recipe::Recipe;
use crate::session::{LazySession, Session};

/// Pin what the images, downloads and repositories of a Dockerfile stand for, in a lock file
///
/// What is in the lock file stays; what the Dockerfile names besides is added, what it doesn't name goes. `kiln build --locked`
/// then uses exactly that.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    recipe: Recipe,
    /// Find out anew what a name stands for, or all names
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with = "check")]
    update: Vec<String>,
    /// Write nothing; end with status 5 if the lock file lacks something, or has what isn't used
    #[arg(long)]
    check: bool,
    /// The lock file [default: the Dockerfile's name with .lock]
    #[arg(long, value_name = "FILE")]
    lock_file: Option<PathBuf>,
    /// Secret with a token for sources elsewhere, as for `kiln build`; may be repeated
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<secret::SecretFlag>,
    /// SSH agent for git repositories, as for `kiln build`
    #[arg(long = "ssh", value_name = "AGENT")]
    agents: Vec<ssh::SshFlag>,
    /// How to show progress [env: BUILDKIT_PROGRESS] [default: auto]
    #[arg(long, value_enum, value_name = "MODE")]
    progress: Option<ProgressMode>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let secrets = secret::secrets(&args.secrets, |name| config.variable(name))?;
    let agents = ssh::agents(&args.agents, |name| config.variable(name))?;
    let mode = config.progress(args.progress, false)?;
    let session = LazySession::new(|| {
        let session = Session::open_with_files(config, None)?;
        Ok(session.with_agent(ssh::default_socket(&agents)?))
    });
    let path = lock_file::path(&args.recipe, args.lock_file.as_deref())?;
    let known = lock_file::read(&path)?;
    let kept = kept(known.clone().unwrap_or_default(), &args.update)?;
    let input = args.recipe.read(&secrets, mode, &session, config)?;
    let source = Arc::clone(&input.dockerfile);
    let parsed = plan::parse(&source)?;
    let stages: Vec<String> = (0..parsed.dockerfile.stages.len())
        .map(|stage| stage.to_string())
        .collect();
    let mut request = BuildRequest {
        source: &source,
        parsed: &parsed,
        images: args.recipe.images(config)?,
        contexts: input.contexts.clone(),
        pull: PullPolicy::Missing,
        steps: StepOptions {
            secrets,
            agents: agents.clone(),
            ..StepOptions::default()
        },
        inline_cache: false,
        attest: Attest::default(),
        journal: None,
    };
    let (found, _) = session.opened()?.watch(mode, |watched| {
        let (services, cancel) = (&watched.services, &watched.interrupt.cancel);
        let reporter = &watched.reporter;
        lock::lock(&mut request, &stages, kept, services, reporter, cancel).map_err(|failure| {
            match failure {
                BuildFailure::Dockerfile(diagnostics) => {
                    Failure::from_diagnostics(Exit::Usage, &source, &diagnostics)
                }
                BuildFailure::Failed(error) => Failure::from_build_error(Some(&source), &error),
            }
        })
    });
    let found = found?;
    match args.check {
        true => check(&path, known.as_ref(), &found),
        false => keep(&path, known.as_ref(), &found),
    }
}

/// What is known without what is to be found out anew.
fn kept(mut known: Lock, update: &[String]) -> Result<Lock, Failure> {
    for name in update {
        if name.is_empty() {
            return Ok(Lock::default());
        }
        let reference = name.parse::<kiln_image::Reference>();
        let image = reference.map_or_else(|_| name.clone(), |reference| reference.to_string());
        let repository = format!("{name}#");
        let before = known.len();
        known.images.retain(|known, _| *known != image);
        known.downloads.retain(|known, _| known != name);
        let is_it = |known: &String| known == name || known.starts_with(&repository);
        known.repositories.retain(|known, _| !is_it(known));
        if known.len() == before {
            let message = format!("`{name}` is not in the lock file");
            return Err(Failure::usage(message)
                .help("names are as in the lock file; an image may be as in the Dockerfile"));
        }
    }
    Ok(known)
}

fn check(path: &Path, known: Option<&Lock>, found: &Lock) -> Result<Exit, Failure> {
    let Some(known) = known else {
        return Err(lock_file::missing(path));
    };
    let differences = known.differences(found);
    if differences.is_empty() {
        return Ok(Exit::Done);
    }
    let message = format!("`{}` is not what the Dockerfile needs", path.display());
    let mut failure = Failure::new(Exit::Check, "lock-outdated", message);
    for difference in differences {
        failure = failure.note(difference);
    }
    Err(failure.help("`kiln lock` mends it"))
}

fn keep(path: &Path, known: Option<&Lock>, found: &Lock) -> Result<Exit, Failure> {
    let none = Lock::default();
    let known = known.unwrap_or(&none);
    lock_file::write(path, found)?;
    let mut out = std::io::stdout().lock();
    for (name, before, after) in known.changes(found) {
        match (before, after) {
            (None, Some(after)) => writeln!(out, "+ {name} {after}")?,
            (Some(_), None) => writeln!(out, "- {name}")?,
            (Some(before), Some(after)) => writeln!(out, "~ {name} {before} -> {after}")?,
            (None, None) => {}
        }
    }
    Ok(Exit::Done)
}
