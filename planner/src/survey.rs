//! What there is to know of a Dockerfile without building it: the ground that checks stand on.
//!
//! The instructions are evaluated as for a plan, as far as the known base images allow. What a missing base leaves open is not guessed:
//! its variables are neither set nor undefined.

use kiln_parser::{Diagnostic, Parsed, Span};

use crate::evaluate::Builder;
use crate::resolve::{Base, Resolution};
use crate::scope::Globals;
use crate::{Bases, CopySourceOp, FileOp, Op, PlanOptions, SourceOp, code};

/// A Dockerfile, evaluated.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Warnings and errors of the evaluation.
    pub diagnostics: Vec<Diagnostic>,
    /// What became of each stage, by index.
    pub stages: Vec<SurveyedStage>,
    /// The index of the stage to build; `None` when there is none.
    pub target: Option<usize>,
    /// Paths that COPY and ADD take from the build context.
    pub context_reads: Vec<ContextRead>,
}

/// A stage, evaluated.
#[derive(Debug, Clone, Default)]
pub struct SurveyedStage {
    /// Whether it was looked at: the target needs it, or all stages were asked for.
    pub evaluated: bool,
    /// The stage it is based on.
    pub parent: Option<usize>,
    /// Its base as it expands when no build argument is given.
    pub default_base: Option<String>,
    /// The user that the final image would run as; `None` when a base is not known.
    pub user: Option<String>,
}

/// A path in the build context that is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextRead {
    /// The path or pattern, relative to the context; `.` is all of it.
    pub path: String,
    /// Where it stands.
    pub span: Span,
    /// Whether ADD reads it.
    pub add: bool,
    /// Whether `--exclude` leaves something out.
    pub partial: bool,
}

/// Evaluates all that can be evaluated.
#[must_use]
pub fn survey(parsed: &Parsed, options: &PlanOptions, bases: &Bases) -> Survey {
    let mut diagnostics = Vec::new();
    let Some(resolution) = Resolution::of(parsed, options, bases, &mut diagnostics) else {
        return Survey {
            diagnostics,
            ..Survey::default()
        };
    };
    let mut builder = Builder::new(options, &resolution, bases, None);
    builder.evaluate();
    diagnostics.append(&mut builder.diagnostics);
    diagnostics.retain(|diagnostic| diagnostic.code != code::BASE_NOT_RESOLVED);
    Survey {
        diagnostics,
        stages: stages(parsed, options, &resolution, &builder),
        target: Some(resolution.target),
        context_reads: context_reads(&builder),
    }
}

fn stages(
    parsed: &Parsed,
    options: &PlanOptions,
    resolution: &Resolution<'_>,
    builder: &Builder<'_>,
) -> Vec<SurveyedStage> {
    let defaults = PlanOptions {
        build_args: Vec::new(),
        ..options.clone()
    };
    let globals = Globals::evaluate(&parsed.dockerfile, &defaults, &mut Vec::new());
    let stages = resolution.stages.iter().zip(&builder.states);
    stages
        .map(|(stage, state)| SurveyedStage {
            evaluated: stage.reachable,
            parent: match stage.base {
                Base::Stage(parent) => Some(parent),
                _ => None,
            },
            default_base: stage
                .stage
                .from
                .image
                .expand(&globals.values)
                .ok()
                .map(|expanded| expanded.text),
            user: state
                .as_ref()
                .filter(|state| !state.guessed || !state.config.config.user.is_empty())
                .map(|state| state.config.config.user.clone()),
        })
        .collect()
}

fn context_reads(builder: &Builder<'_>) -> Vec<ContextRead> {
    let graph = &builder.graph;
    let mut reads = Vec::new();
    for vertex in graph.node_indices() {
        let Op::File(FileOp::Copy(copy)) = &graph[vertex].op else {
            continue;
        };
        let inputs = crate::inputs(graph, vertex);
        for source in &copy.sources {
            if let CopySourceOp::Path {
                input, path, span, ..
            } = source
                && let Some(from) = inputs.get(*input)
                && matches!(graph[*from].op, Op::Source(SourceOp::Local { name: None }))
            {
                let path = path.trim_start_matches('/');
                reads.push(ContextRead {
                    path: if path.is_empty() { "." } else { path }.to_owned(),
                    span: *span,
                    add: copy.add,
                    partial: !copy.exclude.is_empty(),
                });
            }
        }
    }
    reads
}
