//! What is to be built.

use std::sync::Arc;

use kiln_image::{DiffId, Digest, History, ImageConfig, Platform};
use kiln_parser::{Diagnostic, Parsed, Variables};

use crate::evaluate::{Builder, StageState, mentioned};
use crate::pragma;
use crate::resolve::{Base, Resolution};
use crate::{
    Argument, Bases, Graph, PlanOptions, StageSummary, VertexId, code, graph, scope, stage,
};

/// The mark of entries in a history that stand for no instruction (R-HIST-3).
const EXPORTER_COMMENT: &str = "buildkit.exporter.image.v0";

/// A build: what to do, and the image it gives.
///
/// The result's layers are [`base_layers`](Plan::base_layers), that of [`attached`](Plan::attached), then one for each vertex of
/// [`history`](Plan::history), in that order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The operations. Every vertex is needed for the target, or for a stage that is built too, or for a plan that this one was
    /// [joined](crate::join()) with.
    pub graph: Arc<Graph>,
    /// The vertex whose output is the result's filesystem.
    pub target: VertexId,
    /// The result's config. Its `history` is the base image's, unchanged (R-HIST-1); `created` is empty and `rootfs` has no
    /// diff ids: these wait for the layers.
    pub config: ImageConfig,
    /// The vertex whose layer comes first among the new ones and has no entry of its own in the history: the files of a named
    /// context that a stage starts from (R-CTX-5).
    pub attached: Option<VertexId>,
    /// What this build adds to the history.
    pub history: Vec<HistoryStep>,
    /// The layers of the image that the target's chain of stages starts from, bottom first; empty for `scratch`.
    pub base_layers: Vec<DiffId>,
    /// The manifest of that image; `None` where there is no image, or none with a manifest.
    pub base_manifest: Option<Digest>,
    /// All stages of the Dockerfile, the dropped ones too, by index.
    pub stages: Vec<StageSummary>,
    /// The stage to build, by index.
    pub target_stage: usize,
    /// The ARGs before the first FROM.
    pub global_arguments: Vec<Argument>,
    /// The platform of the result.
    pub platform: Platform,
    /// Seconds since 1970 for all dates of the result (R-SDE-1).
    pub source_date_epoch: Option<i64>,
    /// Build arguments that no ARG declares and nothing else reads (R-ARG-13).
    pub unused_build_args: Vec<String>,
    /// Warnings.
    pub diagnostics: Vec<Diagnostic>,
}

/// An entry of the history, complete but for its date (R-HIST-2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryStep {
    /// The entry; `created` is empty.
    pub entry: History,
    /// The vertex whose change is the entry's layer; `None` for an entry without a layer.
    pub vertex: Option<VertexId>,
}

/// Makes the plan.
///
/// The errors of `parsed` itself are the caller's to show first; instructions that could not be read are as if they were not there.
///
/// # Errors
/// Every error of the stages, and of the instructions that the target needs (R-ERR-3), in the order of R-STG-10.
pub fn plan(
    parsed: &Parsed,
    options: &PlanOptions,
    bases: &Bases,
) -> Result<Plan, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let resolution = Resolution::of(parsed, options, bases, &mut diagnostics);
    planned(parsed, options, bases, resolution.as_ref(), diagnostics)
}

/// The plan of stages that were put in relation, with what was told of them.
pub(crate) fn planned(
    parsed: &Parsed,
    options: &PlanOptions,
    bases: &Bases,
    resolution: Option<&Resolution<'_>>,
    mut diagnostics: Vec<Diagnostic>,
) -> Result<Plan, Vec<Diagnostic>> {
    let Some(resolution) = resolution else {
        return Err(errors_of(diagnostics));
    };
    let source_date_epoch = source_date_epoch(options, resolution, &mut diagnostics);
    pragma::check_loose(&parsed.dockerfile, &mut diagnostics);
    let mut builder = Builder::new(options, resolution, bases, source_date_epoch);
    builder.evaluate();
    let Builder {
        graph,
        mut states,
        arguments,
        diagnostics: told,
        ..
    } = builder;
    diagnostics.extend(told);
    let outputs: Vec<_> = states
        .iter()
        .map(|state| state.as_ref().map(|state| state.output))
        .collect();
    let history = history(&mut states, resolution);
    let Some(target) = states
        .swap_remove(resolution.target)
        .filter(|_| !diagnostics.iter().any(Diagnostic::is_error))
    else {
        return Err(errors_of(diagnostics));
    };
    let also = resolution.also.iter().filter_map(|stage| outputs[*stage]);
    let targets: Vec<VertexId> = also.chain([target.output]).collect();
    let (graph, places) = graph::needed(&graph, &targets);
    let place = |vertex: VertexId| places[vertex.index()];
    let placed = history.into_iter().map(|step| HistoryStep {
        vertex: step.vertex.and_then(place),
        ..step
    });
    let mut history: Vec<HistoryStep> = placed.collect();
    history.extend(unattributed(&target, &history, &graph));
    Ok(Plan {
        graph: Arc::new(graph),
        target: place(target.output).expect("the target needs itself"),
        config: finished_config(target.config, options),
        history,
        base_layers: target.base_layers,
        base_manifest: target.base_manifest,
        attached: target.attached.and_then(|attached| place(attached.vertex)),
        stages: summaries(
            resolution,
            arguments,
            outputs.into_iter().map(|output| output.and_then(place)),
        ),
        target_stage: resolution.target,
        global_arguments: resolution.globals.arguments.clone(),
        platform: target.platform,
        source_date_epoch,
        unused_build_args: scope::unused(&parsed.dockerfile, options),
        diagnostics,
    })
}

/// What the target's chain of stages adds to the history, from the first of them on.
fn history(states: &mut [Option<StageState>], resolution: &Resolution<'_>) -> Vec<HistoryStep> {
    let base = |stage: &usize| match resolution.stages[*stage].base {
        Base::Stage(parent) => Some(parent),
        _ => None,
    };
    let mut chain: Vec<usize> = std::iter::successors(Some(resolution.target), base).collect();
    chain.reverse();
    let mut history = Vec::new();
    for stage in chain {
        if let Some(state) = &mut states[stage] {
            history.append(&mut state.history);
        }
    }
    history
}

/// The entry for a layer that no instruction made. It comes last, as a layer too many is found when all are counted, and has the
/// description of the topmost layer (R-HIST-3).
fn unattributed(
    target: &StageState,
    history: &[HistoryStep],
    graph: &Graph,
) -> Option<HistoryStep> {
    let attached = target.attached.as_ref()?;
    let made = history.iter().rev().find_map(|step| step.vertex);
    let created_by = match made {
        Some(topmost) => graph[topmost].name.clone(),
        None => format!("local source for {}", attached.context),
    };
    Some(HistoryStep {
        entry: History {
            created_by,
            comment: EXPORTER_COMMENT.to_owned(),
            ..History::default()
        },
        vertex: None,
    })
}

/// The errors. That a base is missing is news only when nothing else is wrong: else nobody went to look for it.
fn errors_of(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    diagnostics.retain(Diagnostic::is_error);
    if diagnostics
        .iter()
        .any(|error| error.code != code::BASE_NOT_RESOLVED)
    {
        diagnostics.retain(|error| error.code != code::BASE_NOT_RESOLVED);
    }
    diagnostics
}

fn summaries(
    resolution: &Resolution<'_>,
    arguments: Vec<Vec<Argument>>,
    outputs: impl Iterator<Item = Option<VertexId>>,
) -> Vec<StageSummary> {
    let resolved = resolution.stages.iter().zip(stage::needs(resolution));
    resolved
        .zip(arguments)
        .zip(outputs)
        .map(|(((resolved, needs), arguments), output)| StageSummary {
            name: resolved.stage.name().map(str::to_owned),
            base: resolved.base_text.clone(),
            span: resolved.stage.span,
            text: resolved.stage.text.clone(),
            variables: mentioned(&resolved.stage.text, &resolution.globals.values),
            needs,
            arguments,
            output,
        })
        .collect()
}

/// R-LABEL-2. The image is said to be for the platform that was asked for, whatever its base says (R-CFG-7).
fn finished_config(mut config: ImageConfig, options: &PlanOptions) -> ImageConfig {
    config.config.labels.extend(options.labels.iter().cloned());
    if options.platform_requested && !config.architecture.is_empty() {
        set_platform(&mut config, &options.target_platform);
    }
    config
}

fn set_platform(config: &mut ImageConfig, wanted: &Platform) {
    let same = config.os == wanted.os && config.architecture == wanted.architecture;
    wanted.os.clone_into(&mut config.os);
    wanted.architecture.clone_into(&mut config.architecture);
    for (value, wanted) in [
        (&mut config.variant, &wanted.variant),
        (&mut config.os_version, &wanted.os_version),
    ] {
        if !same || wanted.is_some() {
            *value = wanted.clone().unwrap_or_default();
        }
    }
}

/// The date of everything: build argument, else global ARG, else what the caller found (R-SDE-1).
fn source_date_epoch(
    options: &PlanOptions,
    resolution: &Resolution<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<i64> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let text = options
        .build_arg(NAME)
        .or_else(|| resolution.globals.values.lookup(NAME));
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return options.source_date_epoch;
    };
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let is_source = text == "context"
        || resolution
            .stages
            .iter()
            .any(|stage| stage.stage.name() == Some(text));
    let error = if is_source {
        Diagnostic::error(
            code::UNSUPPORTED,
            format!("SOURCE_DATE_EPOCH taken from `{text}` is not supported yet"),
            None,
        )
    } else {
        Diagnostic::error(
            code::SOURCE_DATE_EPOCH,
            format!("invalid SOURCE_DATE_EPOCH: {text}"),
            None,
        )
    };
    diagnostics.push(error.help("give a number of seconds since 1970-01-01T00:00:00Z"));
    None
}
