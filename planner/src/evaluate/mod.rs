//! Instructions take effect, from top to bottom (R-STG-10, step 11).
//!
//! A stage is a state that each instruction changes: the vertex that is its filesystem so far, the config of the image it would
//! be, its variables, its history. A stage based on another starts from a copy of that one's state (R-FROM-9). An instruction that
//! is wrong is told and skipped, so that one run shows what is wrong with the others.

mod base;
mod command;
mod copy;
mod environment;
mod expose;
mod go_text;
mod metadata;
mod mount;
mod name;
mod remote;
mod run;
mod signal;
mod workdir;

pub(crate) use name::mentioned;

use std::collections::HashMap;

use kiln_image::{DiffId, Digest, History, ImageConfig, Platform};
use kiln_parser::{
    Code, Diagnostic, ExpandError, Expanded, Instruction, Span, Spanned, Statement, Variables,
    Word, suggest,
};

use crate::pragma::{self, Pragmas};
use crate::resolve::{Resolution, ResolvedStage, in_trigger};
use crate::scope::Environment;
use crate::{
    Argument, BaseKey, Bases, ContextName, Edge, Graph, HistoryStep, NoCache, Op, PlanOptions,
    SourceOp, Vertex, VertexId, code,
};

use name::Naming;

/// The mark of our entries in a history (R-HIST-1).
const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";

/// The graph while it grows.
pub(crate) struct Builder<'a> {
    pub(crate) options: &'a PlanOptions,
    pub(crate) resolution: &'a Resolution<'a>,
    pub(crate) bases: &'a Bases,
    /// The date of everything, if there is one (R-SDE-1).
    pub(crate) date: Option<i64>,
    pub(crate) graph: Graph,
    /// What the stages came to; `None` for those not needed or not possible.
    pub(crate) states: Vec<Option<StageState>>,
    /// The ARGs of each stage as they were evaluated, by index.
    pub(crate) arguments: Vec<Vec<Argument>>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Sources that are used from several places.
    contexts: HashMap<Option<ContextName>, VertexId>,
    scratch: Option<VertexId>,
    images: HashMap<BaseKey, VertexId>,
    remotes: Vec<(SourceOp, VertexId)>,
}

/// A stage between two instructions.
#[derive(Debug, Clone)]
pub(crate) struct StageState {
    /// Its filesystem.
    pub(crate) output: VertexId,
    /// The config of the image it would be; the base's history is still in it, its diff ids are not.
    pub(crate) config: ImageConfig,
    /// New entries of the history, those of this stage alone.
    pub(crate) history: Vec<HistoryStep>,
    pub(crate) base_layers: Vec<DiffId>,
    pub(crate) base_manifest: Option<Digest>,
    /// A layer above those that has no entry in the history (R-HIST-3).
    pub(crate) attached: Option<Attached>,
    pub(crate) platform: Platform,
    /// The build environment (R-EXP-15).
    pub(crate) environment: Environment,
    /// Declared ARGs in the order of their first declaration, with what they were last declared as (R-HIST-4).
    pub(crate) args: Vec<(String, String)>,
    /// Whether a CMD stood in this very stage (R-ENTRY-2).
    pub(crate) command_set: bool,
    /// Whether this is a stand-in for a base that could not be had, so that what looks unset may not be. Errors that follow
    /// from that are not told; the build fails anyway.
    pub(crate) guessed: bool,
    /// Whether a WORKDIR stood in this chain of stages.
    pub(crate) workdir_set: bool,
}

/// All files of a named context as a layer.
#[derive(Debug, Clone)]
pub(crate) struct Attached {
    /// The vertex that makes it.
    pub(crate) vertex: VertexId,
    pub(crate) context: ContextName,
}

/// A stage being evaluated.
struct Evaluator<'b, 'a> {
    builder: &'b mut Builder<'a>,
    index: usize,
    stage: &'a ResolvedStage<'a>,
    state: StageState,
    naming: Naming,
    /// The instruction at work.
    here: Here,
}

/// The instruction at work.
struct Here {
    span: Span,
    text: String,
    /// For a trigger its text (R-ONB-7).
    trigger: Option<String>,
    /// The variables that its here-documents name, with their values.
    variables: Vec<(String, String)>,
    /// Variables already reported as undefined.
    undefined: Vec<String>,
    /// What the comments above it say.
    pragmas: Pragmas,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(
        options: &'a PlanOptions,
        resolution: &'a Resolution<'a>,
        bases: &'a Bases,
        date: Option<i64>,
    ) -> Builder<'a> {
        Builder {
            options,
            resolution,
            bases,
            date,
            graph: Graph::new(),
            states: Vec::new(),
            arguments: vec![Vec::new(); resolution.stages.len()],
            diagnostics: Vec::new(),
            contexts: HashMap::new(),
            scratch: None,
            images: HashMap::new(),
            remotes: Vec::new(),
        }
    }

    /// Evaluates the stages that the target needs.
    pub(crate) fn evaluate(&mut self) {
        let resolution = self.resolution;
        for (index, stage) in resolution.stages.iter().enumerate() {
            let state = if stage.reachable {
                self.stage(index, stage)
            } else {
                None
            };
            self.states.push(state);
        }
    }

    fn stage(&mut self, index: usize, stage: &'a ResolvedStage<'a>) -> Option<StageState> {
        let mut naming = Naming::of(index, stage, self.resolution, self.options);
        let state = self.base_state(index, stage, &mut naming)?;
        let here = Here {
            span: stage.stage.span,
            text: stage.stage.text.clone(),
            trigger: None,
            variables: Vec::new(),
            undefined: Vec::new(),
            pragmas: Pragmas::default(),
        };
        let from = pragma::Place::Other("FROM");
        pragma::read(&stage.stage.comments, from, &mut self.diagnostics);
        let mut evaluator = Evaluator {
            builder: self,
            index,
            stage,
            state,
            naming,
            here,
        };
        for trigger in &stage.triggers {
            evaluator.statement(&trigger.statement, Some(trigger.text.clone()));
        }
        for statement in stage.statements() {
            evaluator.statement(statement, None);
        }
        Some(evaluator.state)
    }

    /// Adds a vertex that reads `inputs`, in this order.
    fn add(&mut self, vertex: Vertex, inputs: &[VertexId]) -> VertexId {
        let id = self.graph.add_node(vertex);
        for (input, source) in inputs.iter().enumerate() {
            self.graph.add_edge(*source, id, Edge { input });
        }
        id
    }
}

impl Evaluator<'_, '_> {
    fn statement(&mut self, statement: &Statement, trigger: Option<String>) {
        let span = if trigger.is_some() {
            self.stage.stage.span
        } else {
            statement.span
        };
        let place = pragma::Place::of(&statement.instruction);
        let diagnostics = &mut self.builder.diagnostics;
        self.here = Here {
            span,
            text: statement.text.clone(),
            trigger,
            variables: Vec::new(),
            undefined: Vec::new(),
            pragmas: pragma::read(&statement.comments, place, diagnostics),
        };
        match &statement.instruction {
            Instruction::Arg(arg) => self.arg(arg),
            Instruction::Env(env) => self.env(env),
            Instruction::Label(label) => self.label(label),
            Instruction::Maintainer(maintainer) => self.maintainer(maintainer),
            Instruction::Expose(expose) => self.expose(expose),
            Instruction::User(user) => self.user(user),
            Instruction::Workdir(workdir) => self.workdir(workdir),
            Instruction::Volume(volume) => self.volume(volume),
            Instruction::Stopsignal(stopsignal) => self.stopsignal(stopsignal),
            Instruction::Healthcheck(healthcheck) => self.healthcheck(healthcheck),
            Instruction::Shell(shell) => self.shell(shell),
            Instruction::Cmd(cmd) => self.cmd(cmd),
            Instruction::Entrypoint(entrypoint) => self.entrypoint(entrypoint),
            Instruction::Onbuild(onbuild) => self.onbuild(onbuild),
            Instruction::Run(run) => self.run(run),
            Instruction::Copy(copy) => self.copy(copy),
            Instruction::Add(add) => self.add(add),
        }
    }

    /// Tells of something wrong; a trigger's is placed at the FROM.
    fn tell(&mut self, diagnostic: Diagnostic) {
        let diagnostic = match &self.here.trigger {
            Some(text) => in_trigger(diagnostic, text, self.here.span),
            None => diagnostic,
        };
        self.builder.diagnostics.push(diagnostic);
    }

    fn error(&mut self, code: Code, message: impl Into<String>, span: Span) {
        self.tell(Diagnostic::error(code, message, span));
    }

    fn warn(&mut self, code: Code, message: impl Into<String>, span: Span) {
        self.tell(Diagnostic::warning(code, message, span));
    }

    /// Where a part of the instruction stands.
    fn place(&self, span: Span) -> Span {
        if self.here.trigger.is_some() {
            self.here.span
        } else {
            span
        }
    }

    /// A word with the variables of the moment; an error is told.
    fn expand(&mut self, word: &Spanned<Word>) -> Option<String> {
        let expanded = word.expand(&self.state.environment);
        self.expanded(expanded, word.span)
            .map(|expanded| expanded.text)
    }

    /// Tells what there is to tell of an expansion. `None` when its result is of no use.
    fn expanded(
        &mut self,
        expansion: Result<Expanded, ExpandError>,
        span: Span,
    ) -> Option<Expanded> {
        match expansion {
            Ok(expanded) if self.is_guesswork(&expanded) => None,
            Ok(expanded) => {
                self.undefined(&expanded.unset, span);
                Some(expanded)
            }
            Err(ExpandError::Required { .. }) if self.state.guessed => None,
            Err(error) => {
                self.error(code::EXPANSION, error.to_string(), span);
                None
            }
        }
    }

    /// Whether a variable was read that the base we don't know may set.
    fn is_guesswork(&self, expanded: &Expanded) -> bool {
        self.state.guessed
            && expanded
                .used
                .iter()
                .any(|name| self.state.environment.lookup(name).is_none())
    }

    /// Warns of variables that nobody set or declared.
    fn undefined(&mut self, names: &[String], span: Span) {
        for name in names {
            let is_declared = self.state.args.iter().any(|(declared, _)| declared == name);
            if is_declared || self.here.undefined.contains(name) {
                continue;
            }
            self.here.undefined.push(name.clone());
            let known = self.state.environment.names().chain(
                self.state
                    .args
                    .iter()
                    .map(|(declared, _)| declared.as_str()),
            );
            let suggestion = suggest(name, known)
                .map(|near| format!(" (did you mean ${near}?)"))
                .unwrap_or_default();
            self.warn(
                code::UNDEFINED_VAR,
                format!("Usage of undefined variable '${name}'{suggestion}"),
                span,
            );
        }
    }

    /// The working directory; `/` when nobody chose one (R-WORKDIR-8).
    fn workdir_path(&self) -> &str {
        match self.state.config.config.working_dir.as_str() {
            "" => "/",
            path => path,
        }
    }

    /// Whether a cached result must not be used for the RUN, COPY or ADD at work (R-CACHE-22, R-CACHE-23).
    fn no_cache(&self) -> bool {
        match &self.builder.options.no_cache {
            NoCache::None => false,
            NoCache::All => true,
            NoCache::Stages(names) => self
                .stage
                .stage
                .name()
                .is_some_and(|name| names.iter().any(|other| other.to_lowercase() == name)),
        }
    }

    /// Makes the step the stage's filesystem, and notes it in the history.
    fn step(&mut self, op: Op, name: String, inputs: &[VertexId], created_by: String) {
        let asked = self.no_cache() || self.here.pragmas.no_cache;
        let no_cache = asked && !matches!(op, Op::File(crate::FileOp::Mkdir(_)));
        let platform = self.state.platform.clone();
        let variables = match op {
            Op::Exec(_) => Vec::new(),
            _ => self.variables(),
        };
        let vertex = Vertex {
            op,
            name,
            span: Some(self.here.span),
            variables,
            text: self.here.text.clone(),
            stage: Some(self.index),
            no_cache,
            policy: self.here.pragmas.policy,
            platform,
        };
        let id = self.builder.add(vertex, inputs);
        self.state.output = id;
        self.record(created_by, Some(id));
    }

    /// The variables that the instruction names, each once.
    fn variables(&mut self) -> Vec<(String, String)> {
        let mut variables = name::mentioned(&self.here.text, &self.state.environment);
        for (name, value) in self.here.variables.drain(..) {
            if variables.iter().all(|(known, _)| *known != name) {
                variables.push((name, value));
            }
        }
        variables
    }

    /// Adds an entry without a layer to the history.
    fn metadata(&mut self, created_by: String) {
        self.record(created_by, None);
    }

    fn record(&mut self, created_by: String, vertex: Option<VertexId>) {
        let entry = History {
            created_by,
            comment: HISTORY_COMMENT.to_owned(),
            empty_layer: vertex.is_none(),
            ..History::default()
        };
        self.state.history.push(HistoryStep { entry, vertex });
    }

    /// The name of the step at work.
    fn step_name(&mut self, shown: &str) -> String {
        let env = &self.state.environment;
        self.naming.next(shown, self.here.trigger.is_some(), env)
    }
}
