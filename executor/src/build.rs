//! From a parsed Dockerfile to images in hand.

use std::collections::{BTreeSet, HashSet};
use std::num::NonZero;
use std::sync::Arc;

use kiln_cache::transfer::INLINE;
use kiln_cache::{CacheKey, StoreError};
use kiln_image::{DiffId, Digest, History, ImageConfig, Platform};
use kiln_parser::{Diagnostic, Parsed, Source};
use kiln_planner::{BaseImage, BaseRequest, Bases, Plan, PlanOptions, base_images, join, outlook};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::Services;
use crate::attest::{Attest, Attestation, Facts};
use crate::cancel::Cancel;
use crate::container;
use crate::emulation;
use crate::error::{BuildError, Cause};
use crate::event::Reporter;
use crate::images::{self, PullPolicy};
use crate::journal::Journal;
use crate::preview;
use crate::product::Product;
use crate::remote_cache::inline_value;
use crate::rootfs::RootFs;
use crate::solve::{SolveOptions, Solved, solve};
use crate::source::context::{ContextSource, ContextSources, Contexts};
use crate::step_options::StepOptions;

/// How many vertices run at once where nobody says so. RUNs mostly wait, so more than there are cores.
const DEFAULT_JOBS: usize = 16;

/// What to build.
#[derive(Debug)]
pub struct BuildRequest<'a> {
    /// The Dockerfile's text.
    pub source: &'a Source,
    /// The Dockerfile, without errors.
    pub parsed: &'a Parsed,
    /// What is asked of it, for each image: those of one target stand together. At least one.
    pub images: Vec<PlanOptions>,
    /// The build context and the named ones.
    pub contexts: ContextSources,
    /// When to ask registries for base images.
    pub pull: PullPolicy,
    /// What steps are given that is in no key.
    pub steps: StepOptions,
    /// Whether the image's config tells what is known of its steps (R-CEXP-2).
    pub inline_cache: bool,
    /// What is said about the images beside them.
    pub attest: Attest,
    /// Where to note what is done, if anybody wants to know.
    pub journal: Option<&'a Journal>,
}

/// A finished image.
#[derive(Debug)]
pub struct Built {
    /// The platform it was built for.
    pub platform: Platform,
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
    /// What is said about it.
    pub attestations: Vec<Attestation>,
    pub(crate) root: Arc<RootFs>,
    /// How many of its layers are its base image's.
    pub(crate) base_layers: usize,
    /// The manifest of that.
    pub(crate) base_manifest: Option<Digest>,
    /// Keys of its steps.
    pub(crate) keys: Vec<CacheKey>,
}

impl Built {
    /// What is said about it. What is for images in stores and registries alone is there where it is wanted `inline`.
    pub(crate) fn said(&self, inline: bool) -> impl Iterator<Item = &Attestation> {
        let said = self.attestations.iter();
        said.filter(move |said| inline || !said.inline_only)
    }
}

/// A build on base images that were resolved.
#[derive(Debug)]
pub struct Planned {
    /// What their names stand for.
    pub bases: Bases,
    /// A plan for each image, over one graph.
    pub(crate) plans: Result<Vec<Plan>, Vec<Diagnostic>>,
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

/// Builds every target for every platform that it is asked for.
pub fn build(
    request: &BuildRequest<'_>,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
    cancel: &Cancel,
) -> Result<Vec<Product>, BuildFailure> {
    let planned = resolve_bases(request, services, reporter)?;
    let built = build_on(request, planned, services, reporter, cancel);
    services.store.finish_sync()?;
    built
}

/// Builds on base images that were resolved before, for callers that want a look at them first. A sync of the store has begun
/// then, and they call [`Store::finish_sync`](kiln_cache::Store::finish_sync) in the end.
pub fn build_on(
    request: &BuildRequest<'_>,
    planned: Planned,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
    cancel: &Cancel,
) -> Result<Vec<Product>, BuildFailure> {
    let plans = planned.plans.map_err(BuildFailure::Dockerfile)?;
    if let Some(journal) = request.journal {
        journal.begin(&plans, request);
    }
    emulation::check(&plans[0], services, || {
        preview::states(&plans[0], request, services, cancel)
    })?;
    services.uploads.expect(&plans);
    services.mounts.expect(&plans);
    let contexts = contexts(request, services);
    let solved = loop {
        let options = solve_options(request);
        // Any of them will do: they have one graph.
        let solved = solve(&plans[0], services, &contexts, options, reporter, cancel)
            .and_then(|solved| fetch_found(&plans, solved, services, reporter));
        // What a cache elsewhere promised and doesn't have is a miss after all.
        let lost = services.layers.take_lost();
        if solved.is_ok() || !services.imports.give_up(&lost, reporter) {
            break solved;
        }
    };
    if let Some(journal) = request.journal {
        journal.read(services.hold.seen());
    }
    contexts.save().map_err(BuildError::new)?;
    let kept = |_: &Solved| services.imports.keep(services.store, &build_name(request));
    let solved = solved.and_then(|solved| {
        kept(&solved).map_err(BuildError::new)?;
        Ok(solved)
    });
    services.store.begin_sync()?;
    let solved = solved?;
    if request.steps.keep_failed {
        container::forget(services.store, &build_name(request))?;
    }
    let mut products: Vec<Product> = Vec::new();
    for (plan, options) in plans.into_iter().zip(&request.images) {
        let inline = match request.inline_cache {
            true => Some(inline_cache(&plan, &solved, services)?),
            false => None,
        };
        let mut built = assemble(&plan, &solved, inline)?;
        if request.attest.is_asked() {
            let facts = Facts::of(&plan, options, request, built.id, services);
            let said = request.attest.say(&facts, &built.root, services, reporter);
            built.attestations = said.map_err(BuildError::new)?;
        }
        match products.last_mut() {
            Some(product) if product.target == options.target => product.images.push(built),
            _ => products.push(Product {
                target: options.target.clone(),
                images: vec![built],
                multi_platform: options.multi_platform,
            }),
        }
    }
    Ok(products)
}

impl BuildRequest<'_> {
    /// What is asked for the first image.
    #[must_use]
    pub fn first(&self) -> &PlanOptions {
        self.images.first().expect("an image is asked for")
    }
}

/// Brings the images' layers that were found elsewhere into the store.
fn fetch_found(
    plans: &[Plan],
    solved: Solved,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
) -> Result<Solved, BuildError> {
    let found = services.imports.found_layers();
    let layers = plans.iter().flat_map(|plan| layers_of(plan, &solved));
    let mut missing: Vec<DiffId> = layers.collect::<BTreeSet<_>>().into_iter().collect();
    missing.retain(|layer| found.contains(layer) && !services.store.layers().has_content(layer));
    if missing.is_empty() {
        return Ok(solved);
    }
    let task = reporter.start("pulling cached layers");
    let fetched = missing
        .par_iter()
        .try_for_each(|layer| services.layers.fetch(*layer, &task));
    if let Err(cause) = fetched {
        if !services.tell_miss(&cause, &task) {
            task.fail(cause.in_progress());
        }
        return Err(BuildError::new(cause));
    }
    task.done();
    Ok(solved)
}

fn inline_cache(
    plan: &Plan,
    solved: &Solved,
    services: &Services<'_>,
) -> Result<serde_json::Value, BuildError> {
    let layers = layers_of(plan, solved);
    inline_value(services, &solved.keys(), &layers).map_err(BuildError::new)
}

/// The layers of the image, lowest first.
fn layers_of(plan: &Plan, solved: &Solved) -> Vec<DiffId> {
    let mut layers: Vec<DiffId> = plan.base_layers.clone();
    let made = plan.history.iter().filter_map(|step| step.vertex);
    let new = plan.attached.into_iter().chain(made);
    layers.extend(new.filter_map(|vertex| solved.result(vertex)?.layer));
    layers
}

/// The contexts, not read yet.
pub(crate) fn contexts(request: &BuildRequest<'_>, services: &Services<'_>) -> Contexts {
    Contexts::new(&request.contexts, services.store)
}

/// How its plan is solved. Its name is what is the same the next time this Dockerfile is built.
pub(crate) fn solve_options<'a>(request: &BuildRequest<'a>) -> SolveOptions<'a> {
    SolveOptions {
        build_name: build_name(request),
        jobs: request.steps.jobs.map_or(DEFAULT_JOBS, NonZero::get),
        steps: request.steps.clone(),
        journal: request.journal,
    }
}

fn build_name(request: &BuildRequest<'_>) -> String {
    let context = request.contexts.main.as_ref();
    let shown = context.map_or("", ContextSource::shown);
    // A folder is called `.` in many places.
    let real = std::fs::canonicalize(shown).unwrap_or_else(|_| shown.into());
    format!("{} {}", real.display(), request.source.name())
}

/// Finds out what the names of base images stand for, as often as answers bring new questions (R-ONB-5), and plans on them.
pub fn resolve_bases(
    request: &BuildRequest<'_>,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
) -> Result<Planned, BuildFailure> {
    let mut bases = Bases::new();
    loop {
        let mut missing: Vec<BaseRequest> = Vec::new();
        let mut plans = Vec::new();
        for options in &request.images {
            let outlook = outlook(request.parsed, options, &bases);
            let outlook = outlook.map_err(BuildFailure::Dockerfile)?;
            plans.push(outlook.plan);
            for base in outlook.missing {
                if missing.iter().all(|known| known.key() != base.key()) {
                    missing.push(base);
                }
            }
        }
        if missing.is_empty() {
            let plans: Result<Vec<Plan>, _> = plans.into_iter().collect();
            let plans = plans.map(join);
            return Ok(Planned { bases, plans });
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
    while let Ok(missing) = base_images(request.parsed, request.first(), &bases) {
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
        kept: None,
    })
}

/// Puts the image together: layers, history with its dates, config.
fn assemble(
    plan: &Plan,
    solved: &Solved,
    inline: Option<serde_json::Value>,
) -> Result<Built, BuildError> {
    let mut config = plan.config.clone();
    let layers = layers_of(plan, solved);
    config.other.remove(INLINE); // a base image's is about other layers
    config
        .other
        .extend(inline.map(|value| (INLINE.to_owned(), value)));
    let new = dated_history(plan, solved);
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
        platform: plan.platform.clone(),
        id: Digest::of(&config_bytes),
        config,
        config_bytes,
        source_date_epoch: plan.source_date_epoch,
        warnings: plan.diagnostics.clone(),
        unused_build_args: plan.unused_build_args.clone(),
        attestations: Vec::new(),
        root,
        base_layers: plan.base_layers.len(),
        base_manifest: plan.base_manifest,
        keys: solved.keys(),
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
