//! What a build does, noted for its history while it does it.
//!
//! A note is a few words in memory; who gave the journal writes them down at the end. Only where a step was done is there a
//! look at earlier builds: whether it gave what it gave before.

use std::collections::HashSet;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use kiln_cache::builds::{
    ArgumentRecord, BuildHeader, BuildId, GraphRecord, IgnoreRecord, Miss, RecipeId, ShownRecord,
    SourceRecord, StageRecord, StepEnd, StepRecord, StepState,
};
use kiln_cache::key::conceal;
use kiln_cache::{CacheKey, OutputId, Store, explain};
use kiln_image::{ChainId, DiffId};
use kiln_parser::Source;
use kiln_planner::{
    Argument, ContextName, FileOp, Mount, NoCache, Op, Plan, SourceOp, StageSummary, Vertex,
    VertexId, inputs,
};

use crate::build::BuildRequest;
use crate::lock::{download_name, repository_name};
use crate::source::context::{ContextSource, ContextSources};

/// With so many earlier builds a step's output is compared.
const COMPARED_BUILDS: usize = 3;

/// Notes of one build.
#[derive(Debug)]
pub struct Journal {
    id: BuildId,
    recipe: RecipeId,
    began: Instant,
    started: Timestamp,
    graph: OnceLock<GraphRecord>,
    no_cache: OnceLock<NoCache>,
    notes: Mutex<Vec<Note>>,
    sources: Mutex<Vec<SourceRecord>>,
    /// What each step gave in earlier builds.
    earlier: OnceLock<Vec<HashSet<OutputId>>>,
}

/// What is known of a step so far.
#[derive(Debug, Clone, Default)]
struct Note {
    key: Option<CacheKey>,
    miss: Option<Miss>,
    elsewhere: Option<CacheKey>,
    end: Option<StepEnd>,
}

impl Journal {
    /// An empty one for a build that begins now.
    #[must_use]
    pub fn new(header: &BuildHeader) -> Self {
        Self {
            id: header.id.clone(),
            recipe: header.recipe.clone(),
            began: Instant::now(),
            started: header.started,
            graph: OnceLock::new(),
            no_cache: OnceLock::new(),
            notes: Mutex::new(Vec::new()),
            sources: Mutex::default(),
            earlier: OnceLock::new(),
        }
    }

    /// Notes what the names of sources stood for.
    pub(crate) fn read(&self, sources: Vec<SourceRecord>) {
        *self.sources.lock().unwrap_or_else(PoisonError::into_inner) = sources;
    }

    /// The plan and what came of its steps; `None` if it never came to a plan.
    #[must_use]
    pub fn into_graph(self) -> Option<GraphRecord> {
        let mut graph = self.graph.into_inner()?;
        graph.sources = self
            .sources
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let notes = self
            .notes
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        for (step, note) in graph.steps.iter_mut().zip(notes) {
            step.end = note.end;
            step.elsewhere = note.elsewhere;
        }
        Some(graph)
    }

    /// When the build began.
    pub(crate) fn started(&self) -> Timestamp {
        self.started
    }

    /// The build's name, for what its steps leave in the store.
    pub(crate) fn id(&self) -> String {
        self.id.to_string()
    }

    /// Notes what is to be done.
    pub(crate) fn begin(&self, plans: &[Plan], request: &BuildRequest<'_>) {
        let _ = self.no_cache.set(request.first().no_cache.clone());
        let vertices = &plans[0].graph;
        let mut graph = graph(plans, request.source);
        for (step, vertex) in graph.steps.iter_mut().zip(vertices.node_weights()) {
            if let Op::Source(SourceOp::Local { name }) = &vertex.op {
                step.ignore = ignored(&request.contexts, name.as_ref());
            }
        }
        let _ = self.graph.set(graph);
        let count = vertices.node_count();
        *self.notes() = vec![Note::default(); count];
    }

    /// Notes why a step with this key has to be done.
    pub(crate) fn missed(&self, id: VertexId, key: CacheKey, miss: Miss) {
        if let Some(note) = self.notes().get_mut(id.index()) {
            note.key = Some(key);
            note.miss = Some(miss);
        }
    }

    /// Notes the key of the same step on another machine, which is not its own.
    pub(crate) fn is_unlike(&self, id: VertexId, there: CacheKey) {
        if let Some(note) = self.notes().get_mut(id.index()) {
            note.elsewhere = Some(there);
        }
    }

    /// The key of a step that had to be done.
    pub(crate) fn key(&self, id: VertexId) -> Option<CacheKey> {
        self.notes().get(id.index())?.key
    }

    /// Why a step had to be done.
    pub(crate) fn miss(&self, id: VertexId) -> Option<Miss> {
        self.notes().get(id.index())?.miss.clone()
    }

    /// Notes what came of a step.
    pub(crate) fn ended(&self, id: VertexId, ended: Ended) {
        let at_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let end = StepEnd {
            vertex: ended.vertex,
            at_ms,
            took_ms: ended.took_ms,
            state: ended.state,
            key: ended.key,
            output: ended.output,
            layer: ended.layer,
        };
        if let Some(note) = self.notes().get_mut(id.index()) {
            note.end = Some(end);
        }
    }

    /// The flag or comment by which a step doesn't look for results.
    pub(crate) fn disabled_by(&self, vertex: &Vertex) -> String {
        let stage = vertex.stage.zip(self.graph.get());
        let stage = stage.and_then(|(stage, graph)| graph.stages.get(stage));
        let by = match self.no_cache.get() {
            Some(NoCache::All) => "--no-cache",
            Some(NoCache::Stages(names))
                if stage.is_some_and(|stage| {
                    names
                        .iter()
                        .any(|name| name.eq_ignore_ascii_case(&stage.name))
                }) =>
            {
                "--no-cache-filter"
            }
            _ => "# kiln: no-cache",
        };
        by.to_owned()
    }

    /// Whether a step gave the same in one of the last builds.
    pub(crate) fn gave_before(&self, store: &Store, id: VertexId, output: OutputId) -> bool {
        let earlier = self.earlier.get_or_init(|| self.earlier_outputs(store));
        let known = earlier.get(id.index());
        known.is_some_and(|known| known.contains(&output))
    }

    /// Reads what earlier builds gave, which will be asked for; for whoever has time.
    pub(crate) fn look_back(&self, store: &Store) {
        self.earlier.get_or_init(|| self.earlier_outputs(store));
    }

    fn earlier_outputs(&self, store: &Store) -> Vec<HashSet<OutputId>> {
        let Some(graph) = self.graph.get() else {
            return Vec::new();
        };
        let mut outputs = vec![HashSet::new(); graph.steps.len()];
        for build in store.builds().last(&self.recipe, COMPARED_BUILDS) {
            let Some(before) = &build.graph else {
                continue;
            };
            let pairs = explain::align(graph, before);
            for (known, pair) in outputs.iter_mut().zip(pairs) {
                known.extend(pair.and_then(|at| before.steps[at].output()));
            }
        }
        outputs
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Vec<Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a step.
pub(crate) struct Ended {
    pub vertex: Option<u32>,
    pub took_ms: u64,
    pub state: StepState,
    pub key: Option<CacheKey>,
    pub output: Option<OutputId>,
    pub layer: Option<DiffId>,
}

impl Ended {
    /// A source was read.
    pub(crate) fn read(output: Option<OutputId>) -> Self {
        Self {
            vertex: None,
            took_ms: 0,
            state: StepState::Read,
            key: None,
            output,
            layer: None,
        }
    }
}

/// All stages are there, so that steps name theirs by its index. Their arguments are those of the first plan that needs them.
fn graph(plans: &[Plan], source: &Source) -> GraphRecord {
    let plan = &plans[0];
    let stages = (0..plan.stages.len()).map(|index| {
        let mut same = plans.iter().map(|plan| &plan.stages[index]);
        let first = &plan.stages[index];
        (
            index,
            same.find(|stage| !stage.needs.is_empty()).unwrap_or(first),
        )
    });
    let steps = plan.graph.node_indices();
    let target = |plan: &Plan| stage_name(plan.target_stage, &plan.stages[plan.target_stage]);
    GraphRecord {
        target: each(plans.iter().map(target)),
        platform: each(plans.iter().map(|plan| plan.platform.to_string())),
        global_arguments: arguments(&plan.global_arguments),
        stages: stages
            .map(|(index, stage)| StageRecord {
                name: stage_name(index, stage),
                text: stage.text.clone(),
                line: source.line_of(stage.span),
                variables: concealed(&stage.variables),
                arguments: arguments(&stage.arguments),
            })
            .collect(),
        steps: steps.map(|id| step(plan, id, source)).collect(),
        sources: Vec::new(),
    }
}

/// With commas between them, and once.
fn each(names: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all.join(",")
}

fn step(plan: &Plan, id: VertexId, source: &Source) -> StepRecord {
    let vertex = &plan.graph[id];
    let inputs = inputs(&plan.graph, id);
    StepRecord {
        name: vertex.name.clone(),
        kind: kind(&vertex.op).to_owned(),
        stage: vertex.stage,
        line: vertex.span.map(|span| source.line_of(span)),
        text: vertex.text.clone(),
        variables: concealed(&vertex.variables),
        shown: shown(&vertex.op, &inputs),
        inputs: inputs.into_iter().map(VertexId::index).collect(),
        platform: Some(vertex.platform.to_string()),
        source: match &vertex.op {
            Op::Source(SourceOp::Http(source)) => Some(download_name(source)),
            Op::Source(SourceOp::Git(source)) => Some(repository_name(source)),
            Op::Source(SourceOp::Image {
                manifest_digest,
                diff_ids,
                ..
            }) => match manifest_digest {
                Some(digest) => Some(digest.to_string()),
                None => ChainId::of(diff_ids).map(|chain| chain.0.to_string()),
            },
            _ => None,
        },
        ignore: None,
        elsewhere: None,
        end: None,
    }
}

/// What bind mounts show of a step's inputs.
fn shown(op: &Op, inputs: &[VertexId]) -> Vec<ShownRecord> {
    let Op::Exec(op) = op else {
        return Vec::new();
    };
    let shown = op.mounts.iter().filter_map(|mount| match mount {
        Mount::Bind(bind) => Some(ShownRecord {
            target: bind.target.clone(),
            from: inputs.get(bind.input)?.index(),
            source: bind.source.clone(),
        }),
        _ => None,
    });
    shown.collect()
}

/// What the ignore file of a context leaves out.
fn ignored(contexts: &ContextSources, name: Option<&ContextName>) -> Option<IgnoreRecord> {
    let context = match name {
        None => contexts.main.as_ref(),
        Some(name) => contexts.named.get(name),
    };
    let ContextSource::Folder(folder) = context? else {
        return None;
    };
    let rules = folder.ignore.rules().iter();
    let path = folder.ignore_name.as_deref()?;
    Some(IgnoreRecord {
        name: path.rsplit('/').next().unwrap_or(path).to_owned(),
        rules: rules
            .map(|rule| (rule.line, rule.pattern.clone()))
            .collect(),
    })
}

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Source(SourceOp::Image { .. }) => "image",
        Op::Source(SourceOp::Local { .. }) => "context",
        Op::Source(SourceOp::Http(_)) => "http",
        Op::Source(SourceOp::Git(_)) => "git",
        Op::Source(SourceOp::Scratch) => "scratch",
        Op::Exec(_) => "exec",
        Op::File(FileOp::Copy(_)) => "copy",
        Op::File(FileOp::Mkdir(_)) => "mkdir",
    }
}

/// As progress calls it (R-STG-6).
fn stage_name(index: usize, stage: &StageSummary) -> String {
    let name = stage.name.clone();
    name.unwrap_or_else(|| format!("stage-{index}"))
}

fn arguments(arguments: &[Argument]) -> Vec<ArgumentRecord> {
    let record = |argument: &Argument| ArgumentRecord {
        name: argument.name.clone(),
        value: argument
            .value
            .as_ref()
            .map(|value| conceal(&argument.name, value)),
    };
    arguments.iter().map(record).collect()
}

fn concealed(variables: &[(String, String)]) -> Vec<(String, String)> {
    let concealed = |(name, value): &(String, String)| (name.clone(), conceal(name, value));
    variables.iter().map(concealed).collect()
}
