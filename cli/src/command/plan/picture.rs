//! All that `kiln plan` shows, as one value. Printed as JSON it is the command's stable interface; the other formats
//! show parts of it.

use kiln_cache::{Closest, MissReason};
use kiln_executor::{KeyState, Preview, ResolvedBase};
use kiln_parser::{Source, Span};
use kiln_planner::{
    ArgumentOrigin, FileOp, Need, NeedReason, Op, SourceOp, StageSummary, VertexId, inputs,
};
use serde::Serialize;

/// How many differences of a missed key are named.
const NAMED_DIFFERENCES: usize = 3;

/// A build before it happens.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Picture {
    pub(super) dockerfile: String,
    /// The stage to build, as progress calls it.
    pub(super) target: String,
    pub(super) platform: String,
    /// In the order of the file, the dropped ones too.
    pub(super) stages: Vec<Stage>,
    /// The global scope first, then stage by stage.
    pub(super) arguments: Vec<Argument>,
    pub(super) unused_build_args: Vec<String>,
    pub(super) images: Vec<Image>,
    /// In an order of execution; `id`s count from 1.
    pub(super) steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stage {
    pub(super) index: usize,
    /// As progress calls it: `stage-0` without a name.
    pub(super) name: String,
    pub(super) base: String,
    pub(super) line: usize,
    pub(super) kept: bool,
    /// Empty for a stage that is dropped.
    pub(super) needed_by: Vec<NeededBy>,
}

/// Who needs a stage.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NeededBy {
    /// `target`, `base`, `copy` or `mount`.
    pub(super) reason: &'static str,
    /// The stage that says so; none for the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Argument {
    pub(super) name: String,
    pub(super) value: Option<String>,
    /// `build-arg`, `default`, `global`, `automatic`, `environment` or `unset`.
    pub(super) origin: &'static str,
    /// None for the global scope.
    pub(super) stage: Option<String>,
    pub(super) line: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Image {
    pub(super) name: String,
    /// The platform that was asked for.
    pub(super) platform: String,
    /// The manifest's digest; none for an image that was made here.
    pub(super) digest: Option<String>,
    pub(super) layers: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Step {
    pub(super) id: usize,
    pub(super) name: String,
    /// `image`, `scratch`, `context`, `exec`, `copy`, `add` or `mkdir`.
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    /// What it reads; the first is the root filesystem that it changes.
    pub(super) inputs: Vec<usize>,
    /// `hit`, `miss` or `unknown`; none for a source, which has no key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// Why it is a miss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// The step to be done first, or the image to be pulled, before its key can be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waits_for: Option<usize>,
}

impl Picture {
    pub(super) fn of(preview: &Preview, source: &Source) -> Self {
        let plan = preview.first();
        let vertices = plan.graph.node_indices();
        Self {
            dockerfile: source.name().to_owned(),
            target: stage_name(&plan.stages, plan.target_stage),
            platform: platforms(preview),
            stages: (0..plan.stages.len())
                .map(|index| Stage::of(&plan.stages, index, source))
                .collect(),
            arguments: arguments(preview, source),
            unused_build_args: plan.unused_build_args.clone(),
            images: preview.bases.iter().map(Image::of).collect(),
            steps: vertices.map(|id| Step::of(preview, id, source)).collect(),
        }
    }
}

impl Stage {
    fn of(stages: &[StageSummary], index: usize, source: &Source) -> Self {
        let stage = &stages[index];
        let needs = stage.needs.iter();
        Self {
            index,
            name: stage_name(stages, index),
            base: stage.base.clone(),
            line: source.line_of(stage.span),
            kept: !stage.needs.is_empty(),
            needed_by: needs
                .map(|need| NeededBy::of(need, stages, source))
                .collect(),
        }
    }
}

impl NeededBy {
    fn of(need: &Need, stages: &[StageSummary], source: &Source) -> Self {
        match need {
            Need::Target => Self {
                reason: "target",
                stage: None,
                line: None,
            },
            Need::Stage {
                stage,
                reason,
                span,
            } => Self {
                reason: match reason {
                    NeedReason::Base => "base",
                    NeedReason::Copy => "copy",
                    NeedReason::Mount => "mount",
                },
                stage: Some(stage_name(stages, *stage)),
                line: Some(source.line_of(*span)),
            },
        }
    }
}

impl Argument {
    fn of(argument: &kiln_planner::Argument, stage: Option<String>, source: &Source) -> Self {
        Self {
            name: argument.name.clone(),
            value: argument.value.clone(),
            origin: match argument.origin {
                ArgumentOrigin::BuildArg => "build-arg",
                ArgumentOrigin::Default => "default",
                ArgumentOrigin::Global => "global",
                ArgumentOrigin::Automatic => "automatic",
                ArgumentOrigin::Environment => "environment",
                ArgumentOrigin::Unset => "unset",
            },
            stage,
            line: source.line_of(argument.span),
        }
    }
}

impl Image {
    fn of(base: &ResolvedBase) -> Self {
        let digest = base.image.manifest_digest;
        Self {
            name: base.reference.to_string(),
            platform: base.platform.to_string(),
            digest: digest.map(|digest| digest.to_string()),
            layers: base.image.config.diff_ids().len(),
        }
    }
}

impl Step {
    fn of(preview: &Preview, id: VertexId, source: &Source) -> Self {
        let plan = preview.first();
        let vertex = &plan.graph[id];
        let inputs = inputs(&plan.graph, id);
        let step = Self {
            id: number(id),
            name: vertex.name.clone(),
            kind: kind(&vertex.op),
            stage: vertex.stage.map(|stage| stage_name(&plan.stages, stage)),
            line: vertex.span.map(|span: Span| source.line_of(span)),
            inputs: inputs.into_iter().map(number).collect(),
            state: None,
            key: None,
            reason: None,
            waits_for: None,
        };
        match &preview.states[id.index()] {
            Some(state) => step.in_state(state),
            None => step,
        }
    }

    fn in_state(mut self, state: &KeyState) -> Self {
        match state {
            KeyState::Hit { key } => {
                self.state = Some("hit");
                self.key = Some(key.0.to_string());
            }
            KeyState::Miss { key, reason } => {
                self.state = Some("miss");
                self.key = Some(key.0.to_string());
                self.reason = Some(in_words(reason));
            }
            KeyState::Unknown { waits_for } => {
                self.state = Some("unknown");
                self.waits_for = Some(number(*waits_for));
            }
        }
        self
    }
}

/// All that are built for, with commas between them.
fn platforms(preview: &Preview) -> String {
    let mut all: Vec<String> = Vec::new();
    for plan in &preview.plans {
        let platform = plan.platform.to_string();
        if !all.contains(&platform) {
            all.push(platform);
        }
    }
    all.join(",")
}

fn arguments(preview: &Preview, source: &Source) -> Vec<Argument> {
    let plan = preview.first();
    let globals = plan.global_arguments.iter();
    let mut arguments: Vec<Argument> = globals
        .map(|argument| Argument::of(argument, None, source))
        .collect();
    for (index, stage) in plan.stages.iter().enumerate() {
        let name = stage_name(&plan.stages, index);
        let locals = stage.arguments.iter();
        arguments.extend(locals.map(|argument| Argument::of(argument, Some(name.clone()), source)));
    }
    arguments
}

/// A stage's name as progress shows it (R-STG-6).
fn stage_name(stages: &[StageSummary], index: usize) -> String {
    let name = stages[index].name.clone();
    name.unwrap_or_else(|| format!("stage-{index}"))
}

fn number(id: VertexId) -> usize {
    id.index() + 1
}

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Source(SourceOp::Image { .. }) => "image",
        Op::Source(SourceOp::Local { .. }) => "context",
        Op::Source(SourceOp::Http(_)) => "http",
        Op::Source(SourceOp::Git(_)) => "git",
        Op::Source(SourceOp::Scratch) => "scratch",
        Op::Exec(_) => "exec",
        Op::File(FileOp::Copy(copy)) if copy.add => "add",
        Op::File(FileOp::Copy(_)) => "copy",
        Op::File(FileOp::Mkdir(_)) => "mkdir",
    }
}

/// A reason on one line, however many files changed.
fn in_words(reason: &MissReason) -> String {
    let MissReason::NoRecord {
        closest: Some(Closest { key, differences }),
    } = reason
    else {
        return reason.to_string();
    };
    let Some(more) = differences.len().checked_sub(NAMED_DIFFERENCES + 1) else {
        return reason.to_string();
    };
    let named = Closest {
        key: *key,
        differences: differences[..NAMED_DIFFERENCES].to_vec(),
    };
    format!("{named}; and {} more", more + 1)
}

/// Text of a Dockerfile for a terminal or a graph: on one line, without control characters.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_debug()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_cache::{Difference, FileChange, Preimage};

    #[test]
    fn many_changes_are_counted() {
        let changed = |count: usize| MissReason::NoRecord {
            closest: Some(Closest {
                key: Preimage::new("copy").key(),
                differences: (0..count)
                    .map(|at| Difference::FileChanged {
                        path: at.to_string(),
                        changes: vec![FileChange::Content],
                    })
                    .collect(),
            }),
        };
        let three = "`0` changed; `1` changed; `2` changed";
        assert_eq!(in_words(&changed(3)), three);
        assert_eq!(in_words(&changed(1000)), format!("{three}; and 997 more"));
    }

    #[test]
    fn control_characters_are_spelt() {
        assert_eq!(printable("a\u{1b}[31m\nb é"), "a\\u{1b}[31m\\nb é");
    }
}
