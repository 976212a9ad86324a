//! From a parsed Dockerfile to an image in hand.

use std::collections::HashSet;
use std::sync::Arc;

use kiln_cache::StoreError;
use kiln_image::{DiffId, Digest, History, ImageConfig};
use kiln_parser::{Diagnostic, Parsed, Source};
use kiln_planner::{BaseImage, BaseRequest, Bases, Plan, PlanOptions, base_images, plan};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::Services;
use crate::cancel::Cancel;
use crate::error::{BuildError, Cause};
use crate::event::Reporter;
use crate::images::{self, PullPolicy};
use crate::rootfs::RootFs;
use crate::solve::{SolveOptions, Solved, solve};
use crate::source::context::{ContextSource, ContextSources, Contexts};
use crate::step_options::StepOptions;

/// How many vertices run at once. RUNs mostly wait, so more than there are cores.
const DEFAULT_JOBS: usize = 16;

/// What to build.
#[derive(Debug)]
pub struct BuildRequest<'a> {
    /// The Dockerfile's text.
    pub source: &'a Source,
    /// The Dockerfile, without errors.
    pub parsed: &'a Parsed,
    /// What is asked of it.
    pub options: PlanOptions,
    /// The build context and the named ones.
    pub contexts: ContextSources,
    /// When to ask registries for base images.
    pub pull: PullPolicy,
    /// What steps are given that is in no key.
    pub steps: StepOptions,
}

/// A finished build.
#[derive(Debug)]
pub struct Built {
    /// The image's config.
    pub config: ImageConfig,
    /// Its exact bytes.
    pub config_bytes: Vec<u8>,
    /// Its digest: the image's id.
    pub id: Digest,
    /// Seconds since 1970 for dates of what is exported, where the build has fixed them.
    pub source_date_epoch: Option<i64>,
    /// Warnings about the Dockerfile.
    pub warnings: Vec<Diagnostic>,
    /// Build arguments that nothing used.
    pub unused_build_args: Vec<String>,
    pub(crate) root: Arc<RootFs>,
}

/// Why there is no image.
#[derive(Debug)]
pub enum BuildFailure {
    /// The Dockerfile can't be planned.
    Dockerfile(Vec<Diagnostic>),
    /// A step failed.
    Failed(BuildError),
}

impl From<BuildError> for BuildFailure {
    fn from(error: BuildError) -> Self {
        BuildFailure::Failed(error)
    }
}

impl From<StoreError> for BuildFailure {
    fn from(error: StoreError) -> Self {
        BuildError::new(error).into()
    }
}

/// Builds.
pub fn build(
    request: &BuildRequest<'_>,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
    cancel: &Cancel,
) -> Result<Built, BuildFailure> {
    let bases = resolve_bases(request, services, reporter)?;
    build_on(request, &bases, services, reporter, cancel)
}

/// Builds on base images that were resolved before, for callers that want a look at them first.
pub fn build_on(
    request: &BuildRequest<'_>,
    bases: &Bases,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
    cancel: &Cancel,
) -> Result<Built, BuildFailure> {
    let plan = plan(request.parsed, &request.options, bases).map_err(BuildFailure::Dockerfile)?;
    let contexts = contexts(request, services);
    let solved = solve(
        &plan,
        services,
        &contexts,
        solve_options(request),
        reporter,
        cancel,
    );
    contexts.save().map_err(BuildError::new)?;
    services.store.sync()?;
    Ok(assemble(plan, &solved?)?)
}

/// The contexts, not read yet.
pub(crate) fn contexts(request: &BuildRequest<'_>, services: &Services<'_>) -> Contexts {
    Contexts::new(&request.contexts, services.store)
}

/// How its plan is solved. Its name is what is the same the next time this Dockerfile is built.
pub(crate) fn solve_options(request: &BuildRequest<'_>) -> SolveOptions {
    let context = request.contexts.main.as_ref();
    SolveOptions {
        build_name: format!(
            "{} {}",
            context.map_or("", ContextSource::shown),
            request.source.name()
        ),
        jobs: DEFAULT_JOBS,
        steps: request.steps.clone(),
    }
}

/// Finds out what the names of base images stand for, as often as answers bring new questions (R-ONB-5).
pub fn resolve_bases(
    request: &BuildRequest<'_>,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
) -> Result<Bases, BuildFailure> {
    let mut bases = Bases::new();
    loop {
        let missing = base_images(request.parsed, &request.options, &bases)
            .map_err(BuildFailure::Dockerfile)?;
        if missing.is_empty() {
            return Ok(bases);
        }
        let resolve =
            |base: &BaseRequest| resolve_base(base, request, request.pull, services, reporter);
        let resolved: Vec<BaseImage> = match &missing[..] {
            [only] => vec![resolve(only)?],
            several => several.par_iter().map(resolve).collect::<Result<_, _>>()?,
        };
        bases.extend(missing.iter().map(BaseRequest::key).zip(resolved));
    }
}

/// As [`resolve_bases`], for checks: what can't be had is left out, and told. With `offline` no registry is asked.
pub fn resolve_known_bases(
    request: &BuildRequest<'_>,
    offline: bool,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
) -> (Bases, Vec<BuildError>) {
    let (mut bases, mut errors) = (Bases::new(), Vec::new());
    let mut asked = HashSet::new();
    // What is wrong with the Dockerfile is told by the checks themselves.
    while let Ok(missing) = base_images(request.parsed, &request.options, &bases) {
        let mut new = missing;
        new.retain(|base| asked.insert(base.key()));
        if new.is_empty() {
            break;
        }
        for base in new {
            let policy = if offline {
                PullPolicy::Never
            } else {
                request.pull
            };
            match resolve_base(&base, request, policy, services, reporter) {
                Ok(image) => {
                    bases.insert(base.key(), image);
                }
                Err(error) => errors.push(error),
            }
        }
    }
    (bases, errors)
}

fn resolve_base(
    base: &BaseRequest,
    request: &BuildRequest<'_>,
    policy: PullPolicy,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
) -> Result<BaseImage, BuildError> {
    let (name, platform) = (&base.reference, &base.platform);
    let layout = |name| request.contexts.layouts.get(name);
    let found = match base.layout.as_ref().and_then(layout) {
        Some(layout) => images::resolve_in_layout(services, layout, platform),
        None => {
            images::resolve(services, name, platform, policy, reporter).map(|image| BaseImage {
                manifest_digest: image.record.manifest.map(|manifest| manifest.digest),
                config: image.config,
            })
        }
    };
    found.map_err(|cause| BuildError {
        span: Some(base.span),
        place: None,
        cause: Box::new(cause),
    })
}

/// Puts the image together: layers, history with its dates, config.
fn assemble(plan: Plan, solved: &Solved) -> Result<Built, BuildError> {
    let mut config = plan.config.clone();
    let mut layers: Vec<DiffId> = plan.base_layers.clone();
    let made = plan.history.iter().filter_map(|step| step.vertex);
    let new = plan.attached.into_iter().chain(made);
    layers.extend(new.filter_map(|vertex| solved.result(vertex)?.layer));
    let new = dated_history(&plan, solved);
    if !new.is_empty() || config.history.is_some() {
        config.history.get_or_insert_default().extend(new);
    }
    config.created = match plan.source_date_epoch {
        Some(epoch) => config
            .history
            .as_ref()
            .and_then(|history| history.last())
            .map(|_| time(epoch)),
        None => config
            .history
            .as_ref()
            .and_then(|history| history.last())
            .and_then(|last| last.created.clone()),
    };
    config.rootfs.diff_ids = (!layers.is_empty()).then_some(layers);
    let config_bytes = config
        .to_json()
        .map_err(|error| BuildError::new(Cause::Image(error.to_string())))?;
    let root = solved
        .root(plan.target)
        .expect("the target is a root filesystem")
        .clone();
    Ok(Built {
        id: Digest::of(&config_bytes),
        config,
        config_bytes,
        source_date_epoch: plan.source_date_epoch,
        warnings: plan.diagnostics,
        unused_build_args: plan.unused_build_args,
        root,
    })
}

/// The new entries with their dates: of their layer, of the nearest layer before, or of the first one (R-HIST-2). A
/// build without new layers is as old as its base, so that it gives the same image every time.
fn dated_history(plan: &Plan, solved: &Solved) -> Vec<History> {
    let made: Vec<Option<String>> = plan
        .history
        .iter()
        .map(|step| Some(solved.result(step.vertex?)?.created.to_string()))
        .collect();
    let base = plan
        .config
        .history
        .as_ref()
        .and_then(|history| history.last()?.created.clone());
    let attached = plan.attached.and_then(|vertex| solved.result(vertex));
    let attached = attached.map(|result| result.created.to_string());
    let first = attached.or_else(|| made.iter().flatten().next().cloned());
    let mut date = first.or(base).unwrap_or_else(|| time(0));
    let mut dated = Vec::with_capacity(made.len());
    for (step, made) in plan.history.iter().zip(made) {
        date = made.unwrap_or(date);
        let created = plan.source_date_epoch.map_or_else(|| date.clone(), time);
        dated.push(History {
            created: Some(created),
            ..step.entry.clone()
        });
    }
    dated
}

/// Seconds since 1970 as RFC 3339 says it.
fn time(epoch: i64) -> String {
    jiff::Timestamp::from_second(epoch)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}
