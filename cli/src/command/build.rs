//! `kiln build`: a Dockerfile and a context in, an image out.

mod cache;
mod checks;
mod collect;
mod history;
mod log_limit;
pub(crate) mod outputs;
mod receiver;
mod report;
mod results;
pub(crate) mod secret;
pub(crate) mod ssh;
mod waste;

use std::io::Write;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use kiln_executor::export::export;
use kiln_executor::lock::Lock;
use kiln_executor::{
    Agents, BuildError, BuildFailure, BuildRequest, Product, Secrets, StepOptions, build_on,
    images, resolve_bases,
};
use kiln_parser::{Instruction, Parsed, Source, Statement};
use kiln_planner::lint::Finding;
use kiln_planner::{NoCache, PlanOptions};

use crate::annotation::AnnotationFlag;
use crate::args::ProgressMode;
use crate::attest_flags::AttestFlags;
use crate::cache_flags::{CacheFrom, CacheTo};
use crate::command::call::{self, Call};
use crate::command::check;
use crate::command::explain;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::gc_budget::GcBudget;
use crate::lock_file;
use crate::output::Output;
use crate::quantity::Span;
use crate::recipe::Recipe;
use crate::recorder::Recorder;
use crate::resources::{self, ResourceFlags};
use crate::session::{LazySession, Session, Watched};
use crate::tag::Tag;
use outputs::TargetOutputs;
use receiver::Receiver;
use results::Results;

/// Build an image from a Dockerfile
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the image; may be repeated. With several targets STAGE=NAME[:TAG]
    #[arg(short = 't', long = "tag", value_name = "NAME[:TAG]")]
    pub(crate) tags: Vec<Tag>,
    #[command(flatten)]
    pub(crate) recipe: Recipe,
    /// What to do: build, check, outline (print what the target takes from outside) or targets (print what can be built), with
    /// `,format=json` as JSON [default: build]
    #[arg(long, value_name = "METHOD")]
    pub(crate) call: Option<Call>,
    /// How to show progress [env: BUILDKIT_PROGRESS] [default: auto]
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) progress: Option<ProgressMode>,
    /// What to make: PATH, `-`, or type=oci|docker|tar|local|image|cacheonly,dest=PATH; may be repeated
    /// [default: type=image]
    #[arg(short = 'o', long = "output", value_name = "OUTPUT")]
    pub(crate) outputs: Vec<Output>,
    /// What the image's manifest says besides, as KEY=VALUE, or TYPE[PLATFORM],…:KEY=VALUE where TYPE is manifest, manifest-descriptor, index or
    /// index-descriptor; may be repeated
    #[arg(long = "annotation", value_name = "[TYPE:]KEY=VALUE")]
    pub(crate) annotations: Vec<AnnotationFlag>,
    /// Secret for `RUN --mount=type=secret`, or a token for sources elsewhere (GIT_AUTH_TOKEN, HTTP_AUTH_TOKEN_<host>):
    /// id=ID[,src=FILE|,env=VARIABLE]; may be repeated [default: the variable ID, else the file ID]
    #[arg(long = "secret", value_name = "SECRET")]
    pub(crate) secrets: Vec<secret::SecretFlag>,
    /// SSH agent for `RUN --mount=type=ssh`, and for git repositories if it is the default one: default, or ID[=SOCKET]; may be
    /// repeated [default socket: $SSH_AUTH_SOCK]
    #[arg(long = "ssh", value_name = "AGENT")]
    pub(crate) agents: Vec<ssh::SshFlag>,
    /// Limits of each step, as memory=2g,pids-limit=500; keys are the long names under Limits; may be repeated
    #[arg(long = "resource", value_name = "KEY=VALUE")]
    pub(crate) resources: Vec<String>,
    #[command(flatten)]
    pub(crate) resource_flags: ResourceFlags,
    /// Stop a step that takes longer, and fail with status 124; `# kiln: timeout=` above a RUN goes before
    #[arg(long, value_name = "DURATION")]
    pub(crate) step_timeout: Option<Span>,
    /// Keep what a failed RUN leaves, for `kiln shell`, until the Dockerfile can be built; of all Dockerfiles the last eight [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) keep_failed: Option<bool>,
    /// How many steps run at a time [default: 16; most of them wait for something]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<NonZero<usize>>,
    /// How steps are kept apart: root, userns-range, userns-given, userns-single or chroot [env: KILN_SANDBOX] [default: the best
    /// there is]
    #[arg(long, value_name = "SANDBOX")]
    pub(crate) sandbox: Option<String>,
    /// Cache to look into besides the store: user/app:cache, type=registry,ref=NAME, type=local,src=DIR[,tag=TAG][,digest=DIGEST]
    /// or type=s3 (as for --cache-to); may be repeated
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_from: Vec<CacheFrom>,
    /// Where to put what this build knows: user/app:cache, type=registry,ref=NAME, type=local,dest=DIR[,tag=TAG] or
    /// type=s3,bucket=NAME[,region=NAME][,name=NAME][,prefix=TEXT][,endpoint_url=URL][,use_path_style=BOOL], with
    /// mode=min|max, cache-mounts=BOOL, compression=gzip|zstd|uncompressed, compression-level=N, ignore-error=BOOL; or type=inline (in
    /// the image); may be repeated
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_to: Vec<CacheTo>,
    /// How much space the cache may take when the build has ended: off, or max-used=SIZE,min-free=SIZE,keep-storage=SIZE,
    /// keep-duration=DURATION, with sizes as 20g or 10% of the disk [env: KILN_GC] [default:
    /// max-used=50%,min-free=5%,keep-storage=2g]
    #[arg(long, value_name = "LIMITS")]
    pub(crate) gc: Option<GcBudget>,
    /// Take the names of images, downloads and repositories for what the lock file of `kiln lock` says, and ask nobody what they
    /// stand for now
    #[arg(long)]
    pub(crate) locked: bool,
    /// The lock file [default: the Dockerfile's name with .lock]
    #[arg(long, value_name = "FILE", requires = "locked")]
    pub(crate) lock_file: Option<PathBuf>,
    /// Make one layer of all above the base image's; the history stays as it is, with one entry more
    #[arg(long)]
    pub(crate) squash: bool,
    /// Fail with status 5, and hand nothing out, if later layers hide or delete more than this part of the image: 10%, or 50m
    #[arg(long, value_name = "LIMIT")]
    pub(crate) fail_if_waste: Option<waste::WasteLimit>,
    /// Push the image to the registries that its names say, as `-o type=registry` does
    #[arg(long)]
    pub(crate) push: bool,
    /// Load the image into Docker or podman, as `-o type=docker` without `dest=` does [default: Docker if its daemon answers, else
    /// podman]
    #[arg(long, value_enum, value_name = "ENGINE", num_args = 0..=1, require_equals = true)]
    pub(crate) load: Option<Option<receiver::Engine>>,
    #[command(flatten)]
    pub(crate) attest: AttestFlags,
    /// Write the image id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Show no progress, print the image id
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Say at the end why steps were done again: text, on stderr, or json, github or gitlab, on stdout
    #[arg(long, value_enum, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub(crate) explain: Option<explain::Format>,
    /// Show all about the warnings of the checks
    #[arg(short = 'D', long)]
    pub(crate) debug: bool,
    /// Check the Dockerfile, build nothing: `--call=check`
    #[arg(long, conflicts_with = "call")]
    pub(crate) check: bool,
}

/// Runs the command.
pub(crate) fn run(args: Args, config: &Config) -> Result<Exit, Failure> {
    let secrets = secret::secrets(&args.secrets, |name| config.variable(name))?;
    let agents = ssh::agents(&args.agents, |name| config.variable(name))?;
    let insecure = outputs::insecure_registries(&args);
    let session = LazySession::new(|| {
        let session = Session::open_with_files(config, args.sandbox.as_deref())?;
        let default = ssh::default_socket(&agents)?;
        Ok(session
            .with_agent(default)
            .with_insecure_pushes(config, &insecure))
    });
    let check = |json| check::run_for_build(&args.recipe, &secrets, json, &session, config);
    match args.call {
        Some(Call::Check { json }) => return check(json),
        _ if args.check => return check(false),
        _ => {}
    }
    let mut images = args.recipe.images(config)?;
    let attest = args.attest.attest();
    let outputs = outputs::outputs(&args, &images, &attest)?;
    let is_index = images[0].multi_platform || attest.is_asked();
    let loader = match outputs::flat(&outputs).any(outputs::is_loaded) {
        true => Some(Receiver::start(args.load.flatten(), is_index)?),
        false => None,
    };
    let mode = config.progress(args.progress, args.quiet)?;
    let input = args.recipe.read(&secrets, mode, &session, config)?;
    args.recipe.date(&mut images, &input, config)?;
    let source = Arc::clone(&input.dockerfile);
    if let Some(Call::Print(question)) = args.call {
        return call::run(question, &source, &images[0]);
    }
    let parsed = parse(&source)?;
    let lock = lock(&args)?;
    let session = session.opened()?;
    if surely_runs_steps(&parsed, &images) {
        session.launcher.start_early();
    }
    let redact = history::redactor(&secrets, &images[0]);
    let mut recorder = Recorder::new(&session.store, history::header(&args), redact);
    recorder.asked(history::invocation(&images[0], &source));
    let journal = recorder.journal();
    let request = BuildRequest {
        source: &source,
        parsed: &parsed,
        images,
        contexts: input.contexts.clone(),
        pull: args.recipe.pull_policy(),
        steps: steps(&args, config, secrets, &agents)?,
        inline_cache: cache::is_inline(&args),
        attest,
        journal: Some(&journal),
    };
    let limits = config.gc(args.gc)?;
    let caches = CacheFrom::resolve_all(&args.cache_from, config)?;
    let exports = CacheTo::resolve_all(&args.cache_to, config)?;
    let began = SystemTime::now();
    let findings = OnceLock::new();
    let (result, account) = session.watch_with(mode, Some(&mut recorder), |watched| {
        CacheFrom::begin(&caches, &watched, config);
        cache::begin(&exports, &watched, config);
        lock.into_iter()
            .for_each(|lock| watched.services.hold_to(lock));
        let made = make(
            &watched, &request, &args, &outputs, loader, &findings, config,
        );
        let synced = watched
            .services
            .store
            .finish_sync()
            .map_err(BuildError::new);
        let made = made?;
        synced.map_err(|error| Failure::from_build_error(Some(&source), &error))?;
        let secrets = &request.steps.secrets;
        cache::export(&exports, &made.0, secrets, &source, &watched)?;
        Ok(made)
    });
    let found = findings.get().map_or(&[][..], Vec::as_slice);
    let in_full = args.debug.then_some(config.color);
    let told = || report::warnings(mode, &source, found, in_full);
    collect::keep_within(limits, args.gc.is_some(), began, mode, &session.store);
    if result.is_err() {
        report::tail(mode, &account);
    }
    told();
    history::keep(recorder, journal, &result, args.explain, mode, config)?;
    let (products, results) = result?;
    report::unused_build_args(mode, config, &products[0]);
    report::made(mode, &results, &outputs);
    leave(&args, &results)
}

/// What steps are given that is no part of the plan.
pub(crate) fn steps(
    args: &Args,
    config: &Config,
    secrets: Secrets,
    agents: &Agents,
) -> Result<StepOptions, Failure> {
    let mut flags = args.resource_flags.clone();
    let given = args.resources.iter();
    given
        .map(String::as_str)
        .try_for_each(|text| resources::add(&mut flags, text))
        .map_err(|reason| Failure::usage(format!("invalid value for `--resource`: {reason}")))?;
    Ok(StepOptions {
        log_limit: log_limit::log_limit(|name| config.variable(name)),
        secrets,
        agents: agents.clone(),
        resources: flags.resources().map_err(Failure::usage)?,
        timeout: args.step_timeout.map(|limit| limit.0),
        jobs: args.jobs,
        keep_failed: args.keep_failed.unwrap_or(true),
    })
}

/// What the build is held to.
fn lock(args: &Args) -> Result<Option<Lock>, Failure> {
    if !args.locked {
        return Ok(None);
    }
    let path = lock_file::path(&args.recipe, args.lock_file.as_deref())?;
    match lock_file::read(&path)? {
        Some(lock) => Ok(Some(lock)),
        None => Err(lock_file::missing(&path)),
    }
}

/// The Dockerfile's tree, or all that is wrong with its text.
fn parse(source: &Arc<Source>) -> Result<Parsed, Failure> {
    let parsed = kiln_parser::parse(source);
    if parsed.has_errors() {
        return Err(Failure::from_diagnostics(
            Exit::Usage,
            source,
            &parsed.diagnostics,
        ));
    }
    Ok(parsed)
}

/// Whether there are steps that run whatever is cached: then what starts them may start before all else is known.
fn surely_runs_steps(parsed: &Parsed, images: &[PlanOptions]) -> bool {
    let is_run = |statement: &Statement| matches!(statement.instruction, Instruction::Run(_));
    let mut stages = parsed.dockerfile.stages.iter();
    images.iter().any(|image| image.no_cache == NoCache::All)
        && stages.any(|stage| stage.statements.iter().any(is_run))
}

/// Builds once, then makes each output. What the checks find is left in `findings`, whatever comes of the build.
fn make(
    watched: &Watched<'_>,
    request: &BuildRequest<'_>,
    args: &Args,
    outputs: &[TargetOutputs],
    loader: Option<Receiver>,
    findings: &OnceLock<Vec<Finding>>,
    config: &Config,
) -> Result<(Vec<Product>, Vec<Results>), Failure> {
    let source = Arc::new(request.source.clone());
    let Watched {
        services,
        reporter,
        interrupt,
        ..
    } = watched;
    // Reading and parsing came before there was anything to show progress with.
    reporter
        .start(format!(
            "[internal] load build definition from {}",
            source.name()
        ))
        .done();
    let failed = |failure| match failure {
        BuildFailure::Dockerfile(diagnostics) => {
            Failure::from_diagnostics(Exit::Usage, &source, &diagnostics)
        }
        BuildFailure::Failed(error) => {
            let failure = Failure::from_build_error(Some(&source), &error);
            failed_step_help(failure, &error, args.sandbox.as_deref(), config)
        }
    };
    let planned = resolve_bases(request, services, reporter).map_err(failed)?;
    // Before anything runs (R-CHK-1).
    let found = checks::enforced(request, &source, &planned.bases)?;
    findings.get_or_init(|| found);
    let built = build_on(request, planned, services, reporter, &interrupt.cancel);
    services.launcher.wind_down(); // while the image is written
    let products = built.map_err(failed)?;
    let products = match args.squash {
        true => squashed(products, watched)?,
        false => products,
    };
    waste::check(args.fail_if_waste, &products, watched)?;
    let mut results = Vec::new();
    for (product, outputs) in products.iter().zip(outputs) {
        let mut result = Results::of(product);
        for output in &outputs.outputs {
            if let Some(sink) = outputs::sink(output, loader.as_ref()) {
                let options = outputs::export_options(args, outputs, output, loader.as_ref());
                let exported = export(product, &sink, &options, services, reporter);
                drop(sink); // who loads it waits for the end
                match exported {
                    Ok(exported) => result.add(exported, options.names),
                    Err(error) => {
                        // Whoever takes the image knows best why it stopped.
                        if let Some(loader) = loader.filter(|_| outputs::is_loaded(output)) {
                            loader.finish()?;
                        }
                        return Err(Failure::from_build_error(Some(&source), &error));
                    }
                }
            }
        }
        results.push(result);
    }
    if let (Some(loader), Some(result)) = (loader, results.first_mut()) {
        result.loaded = Some(loader.finish()?);
    }
    Ok((products, results))
}

/// Names the command that opens a shell where a step failed, if that is kept.
pub(crate) fn failed_step_help(
    failure: Failure,
    error: &BuildError,
    sandbox: Option<&str>,
    config: &Config,
) -> Failure {
    let Some(container) = &error.kept else {
        return failure;
    };
    let sandbox = sandbox.map_or_else(String::new, |name| format!(" --sandbox {name}"));
    let command = config.own_command(&format!("shell{sandbox} {container}"));
    failure.help(format!("`{command}` opens a shell where it failed"))
}

/// One layer over the base image's, in each image.
pub(crate) fn squashed(
    products: Vec<Product>,
    watched: &Watched<'_>,
) -> Result<Vec<Product>, Failure> {
    watched.task("squashing layers".to_owned(), |task| {
        let squash = |product| images::squash_product(&watched.services, product, task);
        let squashed: Result<_, _> = products.into_iter().map(squash).collect();
        squashed.map_err(Failure::from_engine)
    })
}

/// What scripts read afterwards: the files asked for, and the id on stdout of a quiet build.
fn leave(args: &Args, results: &[Results]) -> Result<Exit, Failure> {
    if let Some(path) = &args.iidfile {
        results[0].write_id(path)?;
    }
    if let Some(path) = &args.metadata_file {
        results::write_metadata(results, path)?;
    }
    if args.quiet {
        for result in results {
            writeln!(std::io::stdout(), "{}", result.id)?;
        }
    }
    Ok(Exit::Done)
}
