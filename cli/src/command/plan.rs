//! `kiln plan`: what a build would do and why, without doing it.

mod dot;
mod mermaid;
mod picture;
mod text;

use std::io::Write;
use std::sync::Arc;

use kiln_executor::attest::Attest;
use kiln_executor::{BuildFailure, BuildRequest, StepOptions, preview};
use kiln_parser::{Parsed, Source};

use super::build::secret::{self, SecretFlag};
use super::build::ssh;
use super::call::{self, Question};
use crate::cache_flags::CacheFrom;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::recipe::Recipe;
use crate::session::{LazySession, Session, Watched};
pub(crate) use picture::printable;

use picture::Picture;

/// Show what a build would do, and why, without building
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    recipe: Recipe,
    /// Token for sources elsewhere (GIT_AUTH_TOKEN, HTTP_AUTH_TOKEN_<host>), as for `kiln build`; may be repeated
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<SecretFlag>,
    /// SSH agent for git repositories, as for `kiln build`; may be repeated
    #[arg(long = "ssh", value_name = "AGENT")]
    agents: Vec<ssh::SshFlag>,
    /// Cache to look into besides the store, as for `kiln build`; may be repeated
    #[arg(long, value_name = "CACHE")]
    cache_from: Vec<CacheFrom>,
    /// How to print it
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
    /// Print something smaller instead: outline (what the target takes from outside) or targets (what can be built),
    /// with `,format=json` as JSON
    #[arg(long, value_name = "METHOD", conflicts_with = "format")]
    call: Option<Question>,
}

/// Each is a file in `plan/`, but for JSON, which is the picture itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// One object with all there is to know
    Json,
    /// The graph of the steps, for Graphviz
    Dot,
    /// The graph of the steps, for Markdown
    Mermaid,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let secrets = secret::secrets(&args.secrets, |name| config.variable(name))?;
    let agents = ssh::agents(&args.agents, |name| config.variable(name))?;
    let mode = config.progress(None, false)?;
    let session = LazySession::new(|| {
        let session = Session::look_at_files(config, None)?;
        Ok(session.with_agent(ssh::default_socket(&agents)?))
    });
    let input = args.recipe.read(&secrets, mode, &session, config)?;
    let source = Arc::clone(&input.dockerfile);
    let mut images = args.recipe.images(config)?;
    args.recipe.date(&mut images, &input, config)?;
    if let Some(question) = args.call {
        return call::run(question, &source, &images[0]);
    }
    let parsed = parse(&source)?;
    let request = BuildRequest {
        source: &source,
        parsed: &parsed,
        images,
        contexts: input.contexts.clone(),
        pull: args.recipe.pull_policy(),
        steps: StepOptions {
            secrets,
            agents: agents.clone(),
            ..StepOptions::default()
        },
        inline_cache: false,
        attest: Attest::default(),
        journal: None,
    };
    let caches = CacheFrom::resolve_all(&args.cache_from, config)?;
    let (picture, _) = session.opened()?.watch(mode, |watched| {
        CacheFrom::begin(&caches, &watched, config);
        look(&watched, &request)
    });
    print(args.format, &picture?)?;
    Ok(Exit::Done)
}

/// The Dockerfile's tree, or all that is wrong with its text.
pub(super) fn parse(source: &Arc<Source>) -> Result<Parsed, Failure> {
    let parsed = kiln_parser::parse(source);
    match parsed.has_errors() {
        true => Err(Failure::from_diagnostics(
            Exit::Usage,
            source,
            &parsed.diagnostics,
        )),
        false => Ok(parsed),
    }
}

fn look(watched: &Watched<'_>, request: &BuildRequest<'_>) -> Result<Picture, Failure> {
    let source = Arc::new(request.source.clone());
    let cancel = &watched.interrupt.cancel;
    match preview(request, &watched.services, &watched.reporter, cancel) {
        Ok(preview) => Ok(Picture::of(&preview, &source)),
        Err(BuildFailure::Dockerfile(diagnostics)) => Err(Failure::from_diagnostics(
            Exit::Usage,
            &source,
            &diagnostics,
        )),
        Err(BuildFailure::Failed(error)) => Err(Failure::from_build_error(Some(&source), &error)),
    }
}

fn print(format: Format, picture: &Picture) -> Result<(), Failure> {
    let text = match format {
        Format::Text => text::of(picture),
        Format::Json => serde_json::to_string_pretty(picture)
            .map(|json| json + "\n")
            .map_err(|error| Failure::from_error(Exit::Failed, None, &error))?,
        Format::Dot => dot::of(picture),
        Format::Mermaid => mermaid::of(picture),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
