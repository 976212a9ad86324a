//! What is to be built.

use kiln_image::{DiffId, History, ImageConfig, Platform};
use kiln_parser::{Diagnostic, Parsed, Source, Span};

use crate::{Bases, Graph, PlanOptions, VertexId};

/// A build: what to do, and the image it gives.
///
/// The result's layers are [`base_layers`](Plan::base_layers), then one for each vertex of [`history`](Plan::history), in that order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The operations. Every vertex is needed for the target.
    pub graph: Graph,
    /// The vertex whose output is the result's filesystem.
    pub target: VertexId,
    /// The result's config. Its `history` is the base image's, unchanged (R-HIST-1); `created` is empty and `rootfs` has no
    /// diff ids: these wait for the layers.
    pub config: ImageConfig,
    /// What this build adds to the history.
    pub history: Vec<HistoryStep>,
    /// The layers of the image that the target's chain of stages starts from, bottom first; empty for `scratch`.
    pub base_layers: Vec<DiffId>,
    /// All stages of the Dockerfile, the dropped ones too, by index.
    pub stages: Vec<StageSummary>,
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

/// A stage of the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageSummary {
    /// Its name in lower case.
    pub name: Option<String>,
    /// Its base, expanded.
    pub base: String,
    /// Its FROM.
    pub span: Span,
    /// The vertex of its final filesystem; `None` when the target doesn't need the stage.
    pub output: Option<VertexId>,
}

/// Makes the plan.
///
/// The errors of `parsed` itself are the caller's to show first; what can't be planned because of them is left out.
///
/// # Errors
/// Every error of the stages and of the instructions that the target needs (R-ERR-3), in the order of R-STG-10.
pub fn plan(
    source: &Source,
    parsed: &Parsed,
    options: &PlanOptions,
    bases: &Bases,
) -> Result<Plan, Vec<Diagnostic>> {
    let _ = (source, parsed, options, bases);
    todo!()
}
