//! All that `kiln explain` knows, as one value. Printed as JSON it is the command's stable interface; the other formats show parts
//! of it.

use kiln_cache::builds::{BuildRecord, GraphRecord, StepRecord, StepState};
use kiln_cache::explain::{Cause, Explainer, Why};
use kiln_cache::{CacheKey, Store, Value};
use serde::Serialize;

/// A build and why each of its steps was done or not.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Picture {
    pub(super) build: String,
    pub(super) dockerfile: String,
    pub(super) context: String,
    pub(super) target: String,
    pub(super) started: jiff::Timestamp,
    /// Steps that were done, and those that have a key.
    pub(super) rebuilt: usize,
    pub(super) keyed: usize,
    /// Those that have a key, in an order of execution.
    pub(super) steps: Vec<Step>,
}

/// A step.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Step {
    /// Its position in the build's graph.
    pub(crate) step: usize,
    pub(crate) name: String,
    pub(super) line: Option<usize>,
    /// `rebuilt`, `same-output`, `hit`, `failed` or `canceled`.
    pub(crate) state: &'static str,
    pub(super) key: Option<String>,
    /// The reason on one line.
    pub(crate) message: String,
    /// Why it was done; empty for a hit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) causes: Vec<Cause>,
    /// The step that the causes are about, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) because_of: Option<StepName>,
    /// What of that step's work it reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) through: Vec<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compared_with: Option<String>,
    /// Whether it was compared with a step of an imported cache.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) elsewhere: bool,
    /// Of a hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) made: Option<Made>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StepName {
    pub(super) step: usize,
    pub(super) name: String,
    pub(super) line: Option<usize>,
}

/// Where a cached result is from.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Made {
    pub(super) at: jiff::Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) by_build: Option<String>,
}

impl Picture {
    /// Compares a build with earlier ones of the same Dockerfile, the latest first.
    pub(crate) fn of(record: &BuildRecord, earlier: &[BuildRecord], store: &Store) -> Self {
        let none = GraphRecord::default();
        let graph = record.graph.as_ref().unwrap_or(&none);
        let preimages = |key: &CacheKey| store.actions().preimage(key);
        let explainer = Explainer::new(graph, earlier, &preimages);
        let steps = graph.steps.iter().enumerate();
        let steps: Vec<Step> = steps
            .filter_map(|(at, step)| Step::of(at, step, graph, &explainer, store))
            .collect();
        let is_rebuilt = |step: &&Step| !matches!(step.state, "hit" | "canceled");
        Self {
            build: record.header.id.to_string(),
            dockerfile: record.header.dockerfile.clone(),
            context: record.header.context.clone(),
            target: graph.target.clone(),
            started: record.header.started,
            rebuilt: steps.iter().filter(is_rebuilt).count(),
            keyed: steps.len(),
            steps,
        }
    }

    /// Leaves what a stage needs.
    pub(super) fn keep_stage(&mut self, graph: &GraphRecord, stage: &str) {
        let is_in = |step: &StepRecord| {
            let of = graph.stage_of(step);
            of.is_some_and(|of| of.name.eq_ignore_ascii_case(stage))
        };
        let mut needed: Vec<bool> = graph.steps.iter().map(is_in).collect();
        for at in (0..needed.len()).rev() {
            if needed[at] {
                for input in &graph.steps[at].inputs {
                    needed[*input] = true;
                }
            }
        }
        self.steps.retain(|step| needed[step.step]);
        self.keyed = self.steps.len();
        self.rebuilt = self.rebuilt().count();
        stage.clone_into(&mut self.target);
    }

    /// What is told of a step.
    pub(crate) fn step(&self, at: usize) -> Option<&Step> {
        self.steps.iter().find(|step| step.step == at)
    }

    /// Those that were done.
    pub(super) fn rebuilt(&self) -> impl Iterator<Item = &Step> {
        let steps = self.steps.iter();
        steps.filter(|step| !matches!(step.state, "hit" | "canceled"))
    }

    /// The Dockerfile as seen from here, where it is below, else from its context: for programs that look for it in a checkout.
    pub(super) fn file(&self) -> &str {
        let here = std::env::current_dir().unwrap_or_default();
        let inside = |folder: &str| {
            let inside = self.dockerfile.strip_prefix(folder)?;
            inside.strip_prefix('/').filter(|inside| !inside.is_empty())
        };
        let here = here.to_str().filter(|here| here.len() > 1);
        let found = here.and_then(inside).or_else(|| inside(&self.context));
        found.unwrap_or(&self.dockerfile)
    }
}

impl Step {
    fn of(
        at: usize,
        step: &StepRecord,
        graph: &GraphRecord,
        explainer: &Explainer<'_>,
        store: &Store,
    ) -> Option<Self> {
        let end = step.end.as_ref()?;
        let state = match &end.state {
            StepState::Read => return None,
            StepState::Hit { .. } => "hit",
            StepState::Rebuilt {
                same_output: true, ..
            } => "same-output",
            StepState::Rebuilt { .. } => "rebuilt",
            StepState::Failed { .. } => "failed",
            StepState::Canceled => "canceled",
        };
        let why = explainer.why(at);
        let made = match &end.state {
            StepState::Hit { created } => Some(Made {
                at: *created,
                by_build: step
                    .key()
                    .and_then(|key| store.actions().preimage(&key)?.build),
            }),
            _ => None,
        };
        let because_of = why
            .as_ref()
            .filter(|why| why.of != at)
            .map(|why| StepName::of(why.of, graph));
        let message = match (&why, &made) {
            (Some(why), _) => reason(why, because_of.as_ref()),
            (None, Some(made)) => legality(step, graph, made, is_linked(step, store)),
            (None, None) => "stopped".to_owned(),
        };
        let why = why.unwrap_or(Why {
            causes: Vec::new(),
            of: at,
            through: Vec::new(),
            compared_with: None,
            elsewhere: false,
        });
        Some(Self {
            step: at,
            name: step.name.clone(),
            line: step.line,
            state,
            key: step.key().map(|key| key.0.to_string()),
            message: match state {
                "same-output" => format!("{message} (same output, continuing from cache)"),
                _ => message,
            },
            causes: why.causes,
            because_of,
            through: why.through,
            compared_with: why.compared_with.map(|id| id.to_string()),
            elsewhere: why.elsewhere,
            made,
        })
    }
}

impl StepName {
    fn of(at: usize, graph: &GraphRecord) -> Self {
        let step = &graph.steps[at];
        Self {
            step: at,
            name: step.name.clone(),
            line: step.line,
        }
    }
}

/// The cause first, then the step that it is about, then what of that step's work is read.
fn reason(why: &Why, because_of: Option<&StepName>) -> String {
    let causes = why.causes.iter();
    let causes: Vec<String> = causes
        .map(|cause| match why.elsewhere {
            true => cause.beside_elsewhere(),
            false => cause.to_string(),
        })
        .collect();
    let mut text = causes.join("; ");
    if let Some(step) = because_of {
        let name = step.name.split_whitespace().collect::<Vec<_>>().join(" ");
        text.push_str(&format!(", at {name}"));
    }
    if !why.through.is_empty() {
        let through: Vec<String> = why.through.iter().map(ToString::to_string).collect();
        text.push_str(&format!(
            ", which changed what it reads: {}",
            through.join("; ")
        ));
    }
    text
}

/// Whether a step is a linked copy: what is below that has no part in its result.
fn is_linked(step: &StepRecord, store: &Store) -> bool {
    let preimage = step.key().and_then(|key| store.actions().preimage(&key));
    preimage.is_some_and(|preimage| {
        let mut fields = preimage.fields.iter();
        fields.any(|field| field.name == "link" && field.value == Value::Flag(true))
    })
}

/// Why a cached result could be used.
fn legality(step: &StepRecord, graph: &GraphRecord, made: &Made, is_linked: bool) -> String {
    let key = step.key().map_or_else(String::new, |key| key.to_string());
    let key = &key[..key.len().min(12)];
    let by = match &made.by_build {
        Some(build) => format!(" by build {build}"),
        None => String::new(),
    };
    let inputs = step.inputs.iter().skip(usize::from(is_linked));
    let inputs = inputs.map(|at| &graph.steps[*at]);
    let again: Vec<&str> = inputs
        .filter(|input| input.was_rebuilt())
        .map(StepRecord::instruction)
        .collect();
    let again = match again.first() {
        Some(input) => {
            let input: String = input.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("; `{input}` was done again and gave the same")
        }
        None => String::new(),
    };
    format!("key {key} was made {}{by}{again}", made.at)
}
