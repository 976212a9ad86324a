//! Solves a plan: each vertex is looked up by its key and, on a miss, done and recorded.
//!
//! ```text
//! inputs' outputs ─▶ key over their ids ─hit──────────────────────────────▶ result
//!                        └─miss─▶ key over the content read ─hit─▶ alias ─▶ result
//!                                     └─miss─▶ do it ─▶ layer ─▶ record ─▶ result
//! ```
//!
//! What a step is keyed on is the *content* its inputs have, not how they came to be (`kiln_cache::key`), so a step
//! that was done again with the same outcome does not disturb the ones after it.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kiln_cache::builds::{Miss, StepState};
use kiln_cache::{
    ActionResult, CacheKey, Closest, Found, InputId, KeyLock, MissReason, OutputId, Preimage, key,
};
use kiln_image::{Changeset, DiffId};
use kiln_planner::{
    ContextName, ExecOp, FileOp, MkdirOp, Op, Plan, SourceOp, Vertex, VertexId, inputs,
};

use crate::Services;
use crate::cancel::Cancel;
use crate::container::Failed;
use crate::emulation;
use crate::error::{BuildError, Cause};
use crate::event::{Reporter, Task};
use crate::journal::{self, Journal};
use crate::op::boundary::Boundary;
use crate::op::copy::Peek;
use crate::op::exec::{self, Conduct, Ended, Place};
use crate::op::limits::Limiter;
use crate::op::mounts::{self, Source};
use crate::op::retry::{self, Attempt, Outcome};
use crate::op::{cache_mount, copy, mkdir};
use crate::remote_cache;
use crate::rootfs::RootFs;
use crate::sandbox::ExitStatus;
use crate::schedule;
use crate::snapshot::Snapshot;
use crate::source::context::{Context, Contexts};
use crate::source::remote::{Fetched, Fetcher};
use crate::source::{git, http};
use crate::step_options::StepOptions;
use crate::unwritten::Unwritten;
use crate::usage::Shortage;

/// What a vertex gave.
#[derive(Clone)]
pub(crate) enum Output {
    /// A root filesystem.
    Root(Arc<RootFs>),
    /// The files of a context, read as needed; `None` for the build context.
    Context(Option<ContextName>),
}

impl Output {
    /// What names a root filesystem.
    fn id(&self) -> Option<OutputId> {
        match self {
            Self::Root(root) => Some(root.id),
            Self::Context(_) => None,
        }
    }
}

/// A solved plan.
pub(crate) struct Solved {
    outputs: Vec<OnceLock<Output>>,
    results: Vec<OnceLock<ActionResult>>,
    /// Keys under which results were found or recorded.
    keys: Mutex<BTreeSet<CacheKey>>,
}

/// One plan being solved.
pub(crate) struct Solver<'a> {
    pub plan: &'a Plan,
    pub services: &'a Services<'a>,
    pub contexts: &'a Contexts,
    pub reporter: &'a Reporter<'a>,
    pub solved: Solved,
    /// Names the Dockerfile, so that a miss can be compared with the same step's last key.
    pub build_name: String,
    pub steps: StepOptions,
    pub limiter: Limiter,
    boundary: Boundary,
    pub journal: Option<&'a Journal>,
    unwritten: Unwritten,
    /// Containers of steps that failed.
    kept: Mutex<HashMap<VertexId, String>>,
    /// How many vertices are worked on.
    working: AtomicUsize,
    halt: Cancel,
}

/// How a plan is solved.
pub(crate) struct SolveOptions<'a> {
    /// Names the Dockerfile, see [`Solver::build_name`].
    pub build_name: String,
    /// How many vertices run at a time at most.
    pub jobs: usize,
    /// What steps are given.
    pub steps: StepOptions,
    /// Where to note what is done.
    pub journal: Option<&'a Journal>,
}

/// Runs everything the plan's target needs.
pub(crate) fn solve(
    plan: &Plan,
    services: &Services<'_>,
    contexts: &Contexts,
    options: SolveOptions<'_>,
    reporter: &Reporter<'_>,
    cancel: &Cancel,
) -> Result<Solved, BuildError> {
    let halt = Cancel::default();
    let _follow = cancel.on_request({
        let halt = halt.clone();
        move || halt.request()
    });
    let jobs = options.jobs;
    let solver = Solver::new(plan, services, contexts, options, reporter, halt);
    solver.empty_caches().map_err(BuildError::new)?;
    solver.prepare_sure_steps();
    let first_failure = Mutex::new(None);
    let ended = schedule::run(&plan.graph, jobs, |id| {
        solver.vertex(id).map_err(|cause| {
            let kept = solver.kept_of(id);
            first_failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(BuildError {
                    kept,
                    ..failure(&plan.graph[id], cause)
                });
            solver.halt.request();
        })
    });
    let written = solver.unwritten.finish(services.store);
    match first_failure
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        Some(failure) => Err(failure),
        None => {
            ended.expect("every failure has been noted");
            written.map_err(BuildError::new)?;
            Ok(solver.solved)
        }
    }
}

/// A cause with the step it belongs to.
pub(crate) fn failure(vertex: &Vertex, cause: Cause) -> BuildError {
    BuildError {
        span: vertex.span,
        place: place(&vertex.name),
        cause: Box::new(cause),
        kept: None,
    }
}

/// `[linux/arm64 build 3/5] RUN x` in words: ``stage `build` for linux/arm64, step 3 of 5``.
fn place(name: &str) -> Option<String> {
    let inside = name.strip_prefix('[')?.split_once(']')?.0;
    let (before, step) = inside.rsplit_once(' ').unwrap_or(("", inside));
    let (number, of) = step.split_once('/')?;
    let step = format!("step {number} of {of}");
    // No stage has a slash in its name.
    let mut words = before.split_whitespace();
    let platform = words.clone().find(|word| word.contains('/'));
    let stage = words.find(|word| !word.contains('/'));
    let platform = platform.map_or_else(String::new, |platform| format!(" for {platform}"));
    Some(match stage {
        None => format!("{step}{platform}"),
        Some(stage) => format!("stage `{stage}`{platform}, {step}"),
    })
}

impl Solved {
    fn waiting_for(vertices: usize) -> Self {
        Solved {
            outputs: (0..vertices).map(|_| OnceLock::new()).collect(),
            results: (0..vertices).map(|_| OnceLock::new()).collect(),
            keys: Mutex::default(),
        }
    }

    /// The root filesystem a vertex gave; `None` for the build context.
    pub(crate) fn root(&self, vertex: VertexId) -> Option<&Arc<RootFs>> {
        match self.outputs[vertex.index()].get() {
            Some(Output::Root(root)) => Some(root),
            _ => None,
        }
    }

    /// The keys of all steps, sorted.
    pub(crate) fn keys(&self) -> Vec<CacheKey> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().copied().collect()
    }

    fn note_key(&self, key: CacheKey) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key);
    }

    /// The record of a vertex that makes a layer.
    pub(crate) fn result(&self, vertex: VertexId) -> Option<&ActionResult> {
        self.results[vertex.index()].get()
    }
}

impl<'a> Solver<'a> {
    /// With nothing solved yet. `halt` stops what runs.
    pub(crate) fn new(
        plan: &'a Plan,
        services: &'a Services<'a>,
        contexts: &'a Contexts,
        options: SolveOptions<'a>,
        reporter: &'a Reporter<'a>,
        halt: Cancel,
    ) -> Self {
        Solver {
            plan,
            services,
            contexts,
            reporter,
            solved: Solved::waiting_for(plan.graph.node_count()),
            build_name: options.build_name,
            steps: options.steps,
            limiter: Limiter::default(),
            boundary: Boundary::default(),
            journal: options.journal,
            unwritten: Unwritten::default(),
            kept: Mutex::default(),
            working: AtomicUsize::new(0),
            halt,
        }
    }
}

impl Solver<'_> {
    /// Has the first step made ready for that is done whatever is cached.
    fn prepare_sure_steps(&self) {
        let mut vertices = self.plan.graph.node_weights();
        let sure = vertices.find_map(|vertex| match &vertex.op {
            Op::Exec(op) if vertex.no_cache => Some(op),
            _ => None,
        });
        if let Some(op) = sure {
            self.services.launcher.start_early();
            self.expect_step(op);
        }
    }

    /// Has this step made ready for, where there is a way to run it: who runs it is told if there is none.
    fn expect_step(&self, op: &ExecOp) {
        if let Ok(way) = self.services.way() {
            let Services { launcher, .. } = self.services;
            exec::expect(op, way.rung, &self.steps.resources, launcher);
        }
    }

    /// Empties the cache mounts of steps that must run again, before any of them does (R-CACHE-24).
    fn empty_caches(&self) -> Result<(), Cause> {
        for vertex in self.plan.graph.node_weights() {
            if let (true, Op::Exec(op)) = (vertex.no_cache, &vertex.op) {
                cache_mount::empty_all(self.services.store, op)?;
                self.services.mounts.note_emptied(op);
            }
        }
        Ok(())
    }

    fn vertex(&self, id: VertexId) -> Result<(), Cause> {
        self.working.fetch_add(1, Ordering::SeqCst);
        let done = self.work_on(id);
        self.working.fetch_sub(1, Ordering::SeqCst);
        done
    }

    fn work_on(&self, id: VertexId) -> Result<(), Cause> {
        if self.halt.requested() {
            return Err(Cause::Canceled);
        }
        let vertex = &self.plan.graph[id];
        if !matches!(vertex.op, Op::Exec(_)) {
            self.unwritten.write(self.services.store)?; // it may take long
        }
        let output = match &vertex.op {
            Op::Source(source) => self.source(vertex, source).inspect(|output| {
                if let Some(journal) = self.journal {
                    journal.ended(id, journal::Ended::read(output.id()));
                }
            }),
            Op::Exec(op) => self.layer(id, vertex, |root, task| {
                self.exec(id, vertex, op, root, task)
            }),
            Op::File(FileOp::Copy(op)) => self.layer(id, vertex, |root, task| {
                copy::solve(self, id, vertex, op, root, task)
            }),
            Op::File(FileOp::Mkdir(op)) => self.layer(id, vertex, |root, task| {
                self.mkdir(id, vertex, op, root, task)
            }),
        }?;
        self.keep(id, output);
        Ok(())
    }

    /// Notes what a vertex gave.
    pub(crate) fn keep(&self, id: VertexId, output: Output) {
        let _ = self.solved.outputs[id.index()].set(output);
    }

    pub(crate) fn source(&self, vertex: &Vertex, source: &SourceOp) -> Result<Output, Cause> {
        Ok(match source {
            SourceOp::Scratch => {
                Output::Root(Arc::new(RootFs::base(OutputId::scratch(), Vec::new())))
            }
            SourceOp::Image { diff_ids, .. } => {
                self.reporter.start(&vertex.name).done();
                Output::Root(Arc::new(RootFs::base(
                    OutputId::image(diff_ids),
                    diff_ids.clone(),
                )))
            }
            SourceOp::Http(source) => {
                self.fetch(vertex, |fetcher, task| http::fetch(source, fetcher, task))?
            }
            SourceOp::Git(source) => {
                self.fetch(vertex, |fetcher, task| git::fetch(source, fetcher, task))?
            }
            SourceOp::Local { name } => {
                let task = self.reporter.start(&vertex.name);
                match task.end_with(self.contexts.open(name.as_ref()))? {
                    Some(root) => Output::Root(root),
                    None => Output::Context(name.clone()),
                }
            }
        })
    }

    /// As [`Solver::source`], but nothing is downloaded; `None` if it would have to be.
    pub(crate) fn known_source(
        &self,
        vertex: &Vertex,
        source: &SourceOp,
    ) -> Result<Option<Output>, Cause> {
        let found = match source {
            SourceOp::Http(source) => http::find(source, &self.fetcher())?,
            SourceOp::Git(source) => git::find(source, &self.fetcher())?,
            _ => return self.source(vertex, source).map(Some),
        };
        Ok(found.map(|found| Output::Root(found.root())))
    }

    fn fetcher(&self) -> Fetcher<'_> {
        Fetcher {
            services: self.services,
            secrets: &self.steps.secrets,
            halt: &self.halt,
        }
    }

    /// A source from elsewhere.
    fn fetch(
        &self,
        vertex: &Vertex,
        fetch: impl FnOnce(&Fetcher<'_>, &Task<'_>) -> Result<Fetched, Cause>,
    ) -> Result<Output, Cause> {
        let task = self.reporter.start(&vertex.name);
        match fetch(&self.fetcher(), &task) {
            Ok(fetched) => {
                if fetched.cached {
                    task.cached();
                } else {
                    task.done();
                }
                Ok(Output::Root(fetched.root()))
            }
            Err(Cause::Canceled) => Err(Cause::Canceled), // the task says so when dropped
            Err(cause) => {
                task.fail(cause.in_progress());
                Err(cause)
            }
        }
    }

    /// A vertex that puts one layer on its root.
    fn layer(
        &self,
        id: VertexId,
        vertex: &Vertex,
        work: impl FnOnce(&Arc<RootFs>, &Task<'_>) -> Result<Step, Cause>,
    ) -> Result<Output, Cause> {
        let root = self.root_of(id);
        let task = self.reporter.start(&vertex.name);
        let step = match work(&root, &task) {
            Ok(step) => step,
            Err(Cause::Canceled) => {
                self.note(id, &task, None, StepState::Canceled);
                return Err(Cause::Canceled); // the task says so when dropped
            }
            // It is looked up again, without that cache.
            Err(cause) if self.services.tell_miss(&cause, &task) => return Err(cause),
            Err(cause) => {
                let message = cause.in_progress();
                let miss = self.journal.and_then(|journal| journal.miss(id));
                let state = StepState::Failed {
                    miss,
                    message: message.to_string(),
                };
                self.note(id, &task, None, state);
                if let Some(container) = self.kept().get(&id) {
                    task.kept(container);
                }
                task.fail(message);
                return Err(cause);
            }
        };
        let output = step.output_on(&root);
        self.note_end(id, &task, &step);
        if step.cached {
            task.cached();
        } else {
            task.done();
        }
        if let Some(layer) = step.result.layer {
            self.services.uploads.offer(id, layer);
        }
        let _ = self.solved.results[id.index()].set(step.result);
        Ok(output)
    }

    /// Notes how a step ended well, and tells if it gave what it gave before.
    fn note_end(&self, id: VertexId, task: &Task<'_>, step: &Step) {
        let Some(journal) = self.journal else {
            return;
        };
        let result = &step.result;
        let state = match step.cached {
            true => StepState::Hit {
                created: result.created,
            },
            false => {
                let same_output = journal.gave_before(self.services.store, id, result.output);
                if same_output {
                    task.same_output();
                }
                StepState::Rebuilt {
                    miss: journal.miss(id).unwrap_or(Miss::Absent),
                    same_output,
                }
            }
        };
        self.note(id, task, Some(step), state);
    }

    fn note(&self, id: VertexId, task: &Task<'_>, step: Option<&Step>, state: StepState) {
        if let Some(journal) = self.journal {
            let ended = journal::Ended {
                vertex: Some(task.vertex().0),
                took_ms: milliseconds(task.elapsed()),
                state,
                key: step.map(|step| step.key).or_else(|| journal.key(id)),
                output: step.map(|step| step.result.output),
                layer: step.and_then(|step| step.result.layer),
            };
            journal.ended(id, ended);
        }
    }

    /// Notes why a step has to be done.
    fn note_miss(&self, id: VertexId, vertex: &Vertex, preimage: &Preimage) -> Result<(), Cause> {
        let Some(journal) = self.journal else {
            return Ok(());
        };
        let key = &preimage.key();
        let actions = self.services.store.actions();
        let miss = match vertex.no_cache {
            true => Miss::Disabled {
                by: journal.disabled_by(vertex),
            },
            false => match actions.find(key) {
                Found::Hit(result) => {
                    expired(vertex, &result).map_or(Miss::Absent, |(age, ttl)| Miss::Expired {
                        age: age.as_secs(),
                        ttl: ttl.as_secs(),
                    })
                }
                Found::Damaged { what } => Miss::Damaged { what },
                Found::Absent if actions.was_done(key) => Miss::Collected,
                Found::Absent => Miss::Absent,
            },
        };
        if miss == Miss::Absent
            && let Some((there, of)) = self.closest_elsewhere(preimage)
        {
            if actions.preimage(&there.key).is_none() {
                actions.put_undone(&there.key, &of)?;
            }
            journal.is_unlike(id, there.key);
        }
        journal.missed(id, *key, miss);
        Ok(())
    }

    /// The root filesystem a vertex modifies: its input 0.
    pub(crate) fn root_of(&self, id: VertexId) -> Arc<RootFs> {
        let root = inputs(&self.plan.graph, id)[0];
        self.solved
            .root(root)
            .expect("an input comes before, and input 0 is a root filesystem")
            .clone()
    }

    /// The output of an input other than the root.
    pub(crate) fn input(&self, id: VertexId, input: usize) -> &Output {
        let vertex = inputs(&self.plan.graph, id)[input];
        self.solved.outputs[vertex.index()]
            .get()
            .expect("an input comes before")
    }

    /// A context that a vertex gave.
    pub(crate) fn context(&self, name: Option<&ContextName>) -> &Context {
        let context = self.contexts.find(name);
        context.expect("a context that a vertex gave is there")
    }

    /// A key's preimage that knows which step it belongs to.
    pub(crate) fn of_step(&self, vertex: &Vertex, preimage: Preimage) -> Preimage {
        let build = self.journal.map(Journal::id);
        preimage.of_step(self.step(vertex)).by_build(build)
    }

    /// Why nothing was found under the preimage's key, beside what this store has of the step, or a cache elsewhere where that is
    /// closer.
    pub(crate) fn explain(&self, preimage: &Preimage) -> MissReason {
        let reason = self.services.store.actions().explain(preimage);
        let MissReason::NoRecord { closest } = reason else {
            return reason;
        };
        let there = self.closest_elsewhere(preimage).map(|(there, _)| there);
        let is_closer = |there: &Closest| match &closest {
            Some(here) => there.distance() < here.distance(),
            None => true,
        };
        MissReason::NoRecord {
            closest: there.filter(is_closer).or(closest),
        }
    }

    /// The same step in a cache elsewhere, and what its key was made of.
    fn closest_elsewhere(&self, preimage: &Preimage) -> Option<(Closest, Preimage)> {
        let imports = &self.services.imports;
        let (key, earlier) = imports.closest(preimage, self.reporter, &self.halt)?;
        let differences = preimage.clone().concealed().differences(&earlier);
        Some((Closest { key, differences }, earlier))
    }

    /// What a cache elsewhere has for a cache mount that isn't here, unpacked below `directory`.
    pub(crate) fn saved_mount(&self, id: &str, name: &str, directory: &Path) -> Option<PathBuf> {
        remote_cache::bring_mount(
            id,
            name,
            directory,
            self.services,
            self.reporter,
            &self.halt,
        )
    }

    /// Whether there is no use in looking for an earlier result: this step was never done, or must be done again.
    pub(crate) fn is_new(&self, vertex: &Vertex) -> bool {
        let actions = self.services.store.actions();
        let known = || actions.knows_step(&self.step(vertex)) || self.services.imports.are_there();
        vertex.no_cache || !known()
    }

    /// What a step is called that is the same from build to build.
    fn step(&self, vertex: &Vertex) -> String {
        let number = vertex
            .name
            .split_once(']')
            .map_or(vertex.name.as_str(), |(number, _)| number);
        format!("{} {number}", self.build_name)
    }

    pub(crate) fn mkdir_key(&self, vertex: &Vertex, op: &MkdirOp, root: &RootFs) -> Preimage {
        self.of_step(vertex, key::mkdir(op, root.id))
    }

    /// The key's preimage of a RUN with mounts that are known by `inputs`.
    fn exec_key(
        &self,
        vertex: &Vertex,
        op: &ExecOp,
        root: &RootFs,
        inputs: &[Option<InputId>],
    ) -> Preimage {
        self.of_step(vertex, key::exec(op, &vertex.platform, root.id, inputs))
    }

    /// The key of a RUN over the outputs that its mounts read from, where there are any and all have one.
    fn exec_key_by_output(
        &self,
        id: VertexId,
        vertex: &Vertex,
        op: &ExecOp,
        root: &RootFs,
    ) -> Option<CacheKey> {
        let inputs = mounts::by_output(self, id, op)?;
        Some(self.exec_key(vertex, op, root, &inputs).key())
    }

    /// Looks a RUN up without pulling anything.
    pub(crate) fn peek_exec(
        &self,
        id: VertexId,
        vertex: &Vertex,
        op: &ExecOp,
        root: &RootFs,
        task: &Task<'_>,
    ) -> Result<Peek, Cause> {
        let by_output = self.exec_key_by_output(id, vertex, op, root);
        if let Some(key) = by_output
            && let Some(step) = self.look_up(vertex, &key)
        {
            return Ok(Peek::Hit(key, step));
        }
        if let Some(input) = mounts::not_here(self, id, op) {
            return Ok(Peek::NotHere(input));
        }
        let sources = mounts::sources(self, id, vertex, op, task)?;
        let preimage = self.exec_key(vertex, op, root, &mounts::by_content(&sources));
        let key = preimage.key();
        Ok(match self.look_up(vertex, &key) {
            Some(step) => Peek::Hit(key, step),
            None => Peek::Miss(preimage.with_files(mounts::files(op, &sources))),
        })
    }

    /// The recorded result, unless the vertex must not use one.
    pub(crate) fn look_up(&self, vertex: &Vertex, key: &CacheKey) -> Option<Step> {
        if vertex.no_cache {
            return None;
        }
        let usable =
            |result: &ActionResult| result.layer.is_some() && expired(vertex, result).is_none();
        let Services { store, imports, .. } = self.services;
        let written = self.unwritten.write_for(key, store);
        written.ok()?; // told at the end
        let here = store.actions().get_with_key(key);
        let here = here.filter(|(_, result)| usable(result));
        let elsewhere = || imports.find(key, &self.services.layers, self.reporter, &self.halt);
        let elsewhere = || elsewhere().filter(|(_, result)| usable(result));
        let found = here.or_else(elsewhere)?;
        self.solved.note_key(*key);
        let (key, result) = found;
        Some(Step {
            key,
            result,
            cached: true,
        })
    }

    /// Looks a key up and, on a miss, does the work and records its layer. Whoever else wants the same waits.
    pub(crate) fn once(
        &self,
        id: VertexId,
        vertex: &Vertex,
        root: &RootFs,
        preimage: &Preimage,
        task: &Task<'_>,
        work: impl FnOnce() -> Result<(DiffId, Arc<Changeset>), Cause>,
    ) -> Result<Step, Cause> {
        let key = preimage.key();
        if let Some(step) = self.look_up(vertex, &key) {
            return Ok(step);
        }
        let alone = self.hold(&key)?;
        if let Some(step) = self.look_up(vertex, &key) {
            return Ok(step);
        }
        self.note_miss(id, vertex, preimage)?;
        let (layer, changeset) = work().inspect_err(|_| {
            // Only to explain with, so it may as well be lost.
            let _ = self.services.store.actions().put_undone(&key, preimage);
        })?;
        let result = ActionResult {
            output: root.id.above(&changeset),
            layer: Some(layer),
            created: Timestamp::now(),
            duration_ms: milliseconds(task.elapsed()),
        };
        if matches!(vertex.op, Op::Exec(_)) && self.has_other_steps() {
            let preimage = preimage.clone();
            self.unwritten.add(key, result.clone(), preimage, alone);
            // Whoever else is at work may be past writing it, and take long.
            if self.working.load(Ordering::SeqCst) > 1 {
                self.unwritten.write(self.services.store)?;
            }
        } else {
            self.services.store.actions().put(&key, &result, preimage)?;
        }
        self.solved.note_key(key);
        Ok(Step {
            key,
            result,
            cached: false,
        })
    }

    /// Holds a key, which another process may be working on.
    fn hold(&self, key: &CacheKey) -> Result<KeyLock, Cause> {
        self.until(|| match self.unwritten.hand_over(key) {
            Some(held) => Ok(Some(held)),
            None => Ok(self.services.store.try_lock_key(key)?),
        })
    }

    /// Waits until what another process holds can be had, or for the build to be stopped. The other may be waiting for a key
    /// that is held for a record, so those are written first.
    pub(crate) fn until<T>(&self, ask: impl Fn() -> Result<Option<T>, Cause>) -> Result<T, Cause> {
        self.halt.until(|| {
            let held = ask()?;
            if held.is_none() {
                self.unwritten.write(self.services.store)?;
            }
            Ok(held)
        })
    }

    fn mkdir(
        &self,
        id: VertexId,
        vertex: &Vertex,
        op: &MkdirOp,
        root: &Arc<RootFs>,
        task: &Task<'_>,
    ) -> Result<Step, Cause> {
        let preimage = self.mkdir_key(vertex, op, root);
        self.once(id, vertex, root, &preimage, task, || {
            mkdir::make(op, root, copy::creation_time(op.date), self.services, task)
        })
    }

    fn exec(
        &self,
        id: VertexId,
        vertex: &Vertex,
        op: &ExecOp,
        root: &Arc<RootFs>,
        task: &Task<'_>,
    ) -> Result<Step, Cause> {
        let by_output = self.exec_key_by_output(id, vertex, op, root);
        if let Some(step) = by_output.and_then(|key| self.look_up(vertex, &key)) {
            return Ok(step);
        }
        if !op.mounts.is_empty() {
            self.unwritten.write(self.services.store)?; // they may have to be read first
        }
        let sources = mounts::sources(self, id, vertex, op, task)?;
        let preimage = self.exec_key(vertex, op, root, &mounts::by_content(&sources));
        let step = match self.look_up(vertex, &preimage.key()) {
            Some(step) => step,
            None => {
                let preimage = preimage.clone().with_files(mounts::files(op, &sources));
                self.once(id, vertex, root, &preimage, task, || {
                    let attempt = |attempt| self.run(id, op, root, &sources, attempt, task);
                    retry::run(vertex.policy.retries, task, attempt)
                })?
            }
        };
        if let Some(key) = by_output {
            self.alias(key, &preimage.key())?;
        }
        Ok(step)
    }

    /// Makes what is recorded under `target` be found under `key` too.
    pub(crate) fn alias(&self, key: CacheKey, target: &CacheKey) -> Result<(), Cause> {
        self.services.store.actions().alias(&key, target)?;
        self.solved.note_key(key);
        Ok(())
    }

    /// Whether more than one RUN has no result yet.
    fn has_other_steps(&self) -> bool {
        let graph = &self.plan.graph;
        let steps = graph.node_indices().filter(|id| {
            let is_step = matches!(graph[*id].op, Op::Exec(_));
            is_step && self.solved.outputs[id.index()].get().is_none()
        });
        steps.take(2).count() > 1
    }

    fn run(
        &self,
        id: VertexId,
        op: &ExecOp,
        root: &RootFs,
        sources: &[Option<Source<'_>>],
        attempt: Attempt,
        task: &Task<'_>,
    ) -> Result<Outcome<(DiffId, Arc<Changeset>)>, Cause> {
        let vertex = &self.plan.graph[id];
        self.services.launcher.start_early();
        let way = self.services.way()?;
        self.expect_step(op);
        self.boundary.tell(way.rung, task);
        emulation::check_root(vertex, || root.tree(&self.services.layers, task))?;
        let mut snapshot = Snapshot::prepare(way, root, self.services, task)?;
        let mounts = mounts::make(self, op, sources, task)?;
        let cgroup = self.limiter.cgroup(op, &self.steps.resources, task)?;
        let place = Place {
            rung: way.rung,
            root: snapshot.root_spec(),
            mounted: snapshot.take_mounted(),
            mounts: &mounts,
            cgroup: &cgroup,
            meanwhile: &|| {
                self.unwritten.write_meanwhile(self.services.store);
                if self.has_other_steps() {
                    self.services.places.make_one(self.services.store);
                }
                self.services.launcher.take_down_mounts();
                if let Some(journal) = self.journal {
                    journal.look_back(self.services.store);
                }
            },
        };
        let conduct = Conduct {
            log_limit: self.steps.log_limit,
            timeout: vertex.policy.timeout.or(self.steps.timeout),
            is_followed: self.has_other_steps(),
            needs_set_id: attempt.needs_set_id,
        };
        let started = Timestamp::now();
        let ended = exec::run(op, root, place, self.services, conduct, task, &self.halt);
        let mut ended = ended.inspect_err(|cause| {
            if let Some(status) = cause.not_started() {
                self.keep_failed(id, (op, root), (started, status), || Ok(None));
            }
        })?;
        if let Some(program) = ended.needed.take() {
            // Where that fails it is made anew.
            let _ = snapshot.rewind(root, self.services, task);
            return Ok(Outcome::Needs(program));
        }
        let mounted = ended.root.take();
        let changes = || {
            let tree = root.tree(&self.services.layers, task)?;
            snapshot.commit(
                &ended.owners,
                mounted,
                self.services,
                &vertex.name,
                &tree,
                &self.halt,
            )
        };
        if ended.status == ExitStatus::Code(0) {
            let made = changes()?;
            let is_looked_at = !(op.mounts.is_empty() && made.1.is_empty());
            let left = ended.mounts.take();
            let left = left.filter(|left| !is_looked_at || left.are_apart());
            self.services.launcher.leave_mounts(left);
            return Ok(Outcome::Done(made));
        }
        let limits = &self.steps.resources;
        let shortage = self.limiter.shortage(&cgroup, limits, ended.status);
        let status = ended.status.shell_code();
        let cause = failed(vertex, op, &ended, conduct, shortage);
        if !attempt.is_last {
            return Err(cause);
        }
        // To read what it changed may take seconds, and nobody is to wait for that to learn of the failure.
        task.failing(cause.in_progress());
        self.keep_failed(id, (op, root), (started, status), || {
            let (layer, changeset) = changes()?;
            Ok((!changeset.is_empty()).then_some(layer))
        });
        Err(cause)
    }

    /// Keeps what a failed step left, for people to look into. Where that can't be done, the failure alone is told.
    fn keep_failed(
        &self,
        id: VertexId,
        (op, root): (&ExecOp, &RootFs),
        (started, status): (Timestamp, i32),
        changes: impl FnOnce() -> Result<Option<DiffId>, Cause>,
    ) {
        if !self.steps.keep_failed || self.halt.requested() {
            return;
        }
        let vertex = &self.plan.graph[id];
        let kept = changes().and_then(|changes| {
            if self.halt.requested() {
                return Err(Cause::Canceled); // bringing gigabytes to the disk takes as long again
            }
            let failed = Failed {
                recipe: &self.build_name,
                step: self.step(vertex),
                vertex,
                op,
                root,
                changes,
                started,
                status,
            };
            failed.keep(self.services)
        });
        if let Ok(name) = kept {
            self.kept().insert(id, name);
        }
    }

    /// What a step that failed is kept as.
    fn kept_of(&self, id: VertexId) -> Option<String> {
        self.kept().remove(&id)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<VertexId, String>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A vertex's result and where it came from.
pub(crate) struct Step {
    /// The key that the result is under.
    pub key: CacheKey,
    pub result: ActionResult,
    pub cached: bool,
}

impl Step {
    /// `root` with what the step put on it.
    pub(crate) fn output_on(&self, root: &Arc<RootFs>) -> Output {
        let layer = self.result.layer.expect("a recorded step has a layer");
        Output::Root(Arc::new(RootFs::with_layer(
            root,
            self.result.output,
            layer,
        )))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How old a result is, and how old it may be, if it is older.
pub(crate) fn expired(vertex: &Vertex, result: &ActionResult) -> Option<(Duration, Duration)> {
    let ttl = vertex.policy.max_age?;
    let age = Timestamp::now().duration_since(result.created);
    let age = Duration::try_from(age).unwrap_or_default(); // the clock went back
    (age > ttl).then_some((age, ttl))
}

fn failed(
    vertex: &Vertex,
    op: &ExecOp,
    ended: &Ended,
    conduct: Conduct,
    shortage: Option<Shortage>,
) -> Cause {
    let text = vertex
        .name
        .split_once("] ")
        .map_or(vertex.name.as_str(), |(_, text)| text);
    let user = if op.user.is_empty() { "root" } else { &op.user };
    let program = match &op.argv[..] {
        [shell, flags @ .., _] if flags.first().is_some_and(|flag| flag.starts_with('-')) => {
            format!("`{shell} {}`", flags.join(" "))
        }
        argv => format!("`{}`", argv[0]),
    };
    let text = text.to_owned();
    let how = format!(
        "ran as {program}, user `{user}`, in `{}`; its last lines are above",
        op.cwd
    );
    match conduct.timeout.filter(|_| ended.timed_out) {
        Some(limit) => Cause::TimedOut { text, limit, how },
        None => Cause::Run {
            text,
            status: ended.status,
            how,
            shortage,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_place_in_words() {
        assert_eq!(
            place("[build 3/5] RUN x").as_deref(),
            Some("stage `build`, step 3 of 5")
        );
        assert_eq!(place("[1/2] COPY a b").as_deref(), Some("step 1 of 2"));
        assert_eq!(place("[internal] load build context"), None);
    }
}
