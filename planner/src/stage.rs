//! The stages of a Dockerfile as a plan sees them: which are needed, and what for.

use kiln_parser::Span;

use crate::resolve::{Base, Resolution};
use crate::{Argument, VertexId};

/// A stage of the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageSummary {
    /// Its name in lower case.
    pub name: Option<String>,
    /// Its base, expanded.
    pub base: String,
    /// Its FROM.
    pub span: Span,
    /// That instruction as written.
    pub text: String,
    /// The variables that it names, with their values.
    pub variables: Vec<(String, String)>,
    /// What needs it; empty for a stage that is dropped (R-STG-2).
    pub needs: Vec<Need>,
    /// Its ARGs in the order they were evaluated, triggers first; empty for a stage that is dropped.
    pub arguments: Vec<Argument>,
    /// The vertex of its final filesystem; `None` when the target doesn't need it.
    pub output: Option<VertexId>,
}

/// Why a stage is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// It is what was asked for.
    Target,
    /// Another stage does.
    Stage {
        /// Its index.
        stage: usize,
        /// How.
        reason: NeedReason,
        /// Where it says so; for an ONBUILD trigger the FROM that fired it.
        span: Span,
    },
}

/// What a stage needs another one for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NeedReason {
    /// `FROM stage`
    Base,
    /// `COPY --from=stage`
    Copy,
    /// `RUN --mount=from=stage`
    Mount,
}

/// What needs each stage, by index: the target itself, then what kept stages say, in the order of the file.
pub(crate) fn needs(resolution: &Resolution<'_>) -> Vec<Vec<Need>> {
    let mut needs = vec![Vec::new(); resolution.stages.len()];
    for target in resolution.also.iter().chain([&resolution.target]) {
        if !needs[*target].contains(&Need::Target) {
            needs[*target].push(Need::Target);
        }
    }
    for (stage, resolved) in resolution.stages.iter().enumerate() {
        if !resolved.reachable {
            continue;
        }
        if let Base::Stage(base) = resolved.base {
            needs[base].push(Need::Stage {
                stage,
                reason: NeedReason::Base,
                span: resolved.stage.span,
            });
        }
        let mut dependencies: Vec<_> = resolved.dependencies.iter().collect();
        // Those of triggers were found last, and stand at the FROM.
        dependencies.sort_by_key(|read| read.span.start);
        for read in dependencies {
            let reason = match read.mount {
                Some(_) => NeedReason::Mount,
                None => NeedReason::Copy,
            };
            needs[read.stage].push(Need::Stage {
                stage,
                reason,
                span: read.span,
            });
        }
    }
    needs
}
