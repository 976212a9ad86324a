//! What a build would do, without doing it: the plan, and for each step whether its result is in the cache.
//!
//! The steps are walked in order with the very keys that [`mod@crate::build`] uses. After a miss nothing is known about what
//! reads its output: running the step may well give the content that was there before, and then all that follows is
//! still cached. Base images are resolved as for a build; no layer is pulled, nothing runs and nothing is recorded.

use std::sync::{Arc, OnceLock};

use kiln_cache::{CacheKey, MissReason, OutputId, Preimage};
use kiln_image::{Platform, Reference};
use kiln_planner::{BaseImage, Bases, CopyOp, ExecOp, FileOp, Op, Plan, Vertex, VertexId, inputs};

use crate::Services;
use crate::build::{self, BuildFailure, BuildRequest, Planned};
use crate::cancel::Cancel;
use crate::error::{BuildError, Cause};
use crate::event::{Event, Reporter};
use crate::op::copy::{self, Peek};
use crate::rootfs::RootFs;
use crate::solve::{Solver, Step, expired, failure};

/// A plan and how much of it is done already.
#[derive(Debug)]
pub struct Preview {
    /// What is to be built, for each image; all over one graph.
    pub plans: Vec<Plan>,
    /// What the names of images stand for, sorted by name.
    pub bases: Vec<ResolvedBase>,
    /// The state of each vertex of that graph, by index; `None` for sources, which have no key.
    pub states: Vec<Option<KeyState>>,
}

/// What the name of an image stands for.
#[derive(Debug)]
pub struct ResolvedBase {
    /// The name.
    pub reference: Reference,
    /// The platform that was asked for.
    pub platform: Platform,
    /// The image.
    pub image: BaseImage,
}

/// Whether a step's result is in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyState {
    /// It is.
    Hit {
        /// Under this key.
        key: CacheKey,
    },
    /// It is not: the step would be done.
    Miss {
        /// The key that was looked for.
        key: CacheKey,
        /// Why nothing was found.
        reason: MissReason,
    },
    /// The key is not known, because it depends on content that is not.
    Unknown {
        /// The step that would be done first, or the image whose files are not in the store.
        waits_for: VertexId,
    },
}

impl Preview {
    /// The plan of the first image.
    #[must_use]
    pub fn first(&self) -> &Plan {
        self.plans.first().expect("an image is asked for")
    }
}

/// Looks at a build.
///
/// # Errors
/// What would fail a build before anything runs: an image that is not there, a source of a COPY that is missing.
pub fn preview(
    request: &BuildRequest<'_>,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
    cancel: &Cancel,
) -> Result<Preview, BuildFailure> {
    let Planned { bases, plans } = build::resolve_bases(request, services, reporter)?;
    let plans = plans.map_err(BuildFailure::Dockerfile)?;
    let states = states(&plans[0], request, services, cancel)?;
    Ok(Preview {
        plans,
        bases: sorted(bases),
        states,
    })
}

fn sorted(bases: Bases) -> Vec<ResolvedBase> {
    let resolved = bases.into_iter().map(|(key, image)| ResolvedBase {
        reference: key.reference,
        platform: key.platform,
        image,
    });
    let mut bases: Vec<ResolvedBase> = resolved.collect();
    bases.sort_by_cached_key(|base| (base.reference.to_string(), base.platform.to_string()));
    bases
}

/// The states of a plan's vertices. What the steps would report is nobody's business.
pub(crate) fn states(
    plan: &Plan,
    request: &BuildRequest<'_>,
    services: &Services<'_>,
    cancel: &Cancel,
) -> Result<Vec<Option<KeyState>>, BuildError> {
    let contexts = build::contexts(request, services);
    let silent = |_: Event| {};
    let reporter = Reporter::new(&silent);
    let solver = Solver::new(
        plan,
        services,
        &contexts,
        build::solve_options(request),
        &reporter,
        cancel.clone(),
    );
    Walk::new(&solver).states(cancel)
}

/// A walk over a plan's vertices.
struct Walk<'s> {
    solver: &'s Solver<'s>,
    /// What a vertex whose output is not known waits for, by index.
    waits_for: Vec<OnceLock<VertexId>>,
}

impl<'s> Walk<'s> {
    fn new(solver: &'s Solver<'s>) -> Self {
        let vertices = solver.plan.graph.node_count();
        Walk {
            solver,
            waits_for: (0..vertices).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The states of all vertices. A vertex is added to a plan after all that it reads, so the order of indices will do.
    fn states(&self, cancel: &Cancel) -> Result<Vec<Option<KeyState>>, BuildError> {
        let graph = &self.solver.plan.graph;
        let state = |id| {
            let vertex = &graph[id];
            let state = match cancel.requested() {
                true => Err(Cause::Canceled),
                false => self.state(id, vertex),
            };
            state.map_err(|cause| failure(vertex, cause))
        };
        graph.node_indices().map(state).collect()
    }

    fn state(&self, id: VertexId, vertex: &Vertex) -> Result<Option<KeyState>, Cause> {
        let state = match &vertex.op {
            Op::Source(source) => {
                match self.solver.known_source(vertex, source)? {
                    Some(output) => self.solver.keep(id, output),
                    None => {
                        let _ = self.waits_for[id.index()].set(id);
                    }
                }
                return Ok(None);
            }
            Op::File(FileOp::Copy(op)) => self.copy(id, vertex, op)?,
            Op::File(FileOp::Mkdir(op)) => {
                self.keyed(id, vertex, |root| self.solver.mkdir_key(vertex, op, root))
            }
            Op::Exec(op) => self.exec(id, vertex, op)?,
        };
        let waits_for = match &state {
            KeyState::Hit { .. } => self.unknown_input(id, 0),
            KeyState::Miss { .. } => Some(id),
            KeyState::Unknown { waits_for } => Some(*waits_for),
        };
        if let Some(other) = waits_for {
            let _ = self.waits_for[id.index()].set(other);
        }
        Ok(Some(state))
    }

    /// A step whose key needs all of its inputs.
    fn keyed(
        &self,
        id: VertexId,
        vertex: &Vertex,
        preimage: impl FnOnce(&RootFs) -> Preimage,
    ) -> KeyState {
        if let Some(waits_for) = self.unknown_input(id, 0) {
            return KeyState::Unknown { waits_for };
        }
        let root = self.solver.root_of(id);
        let preimage = preimage(&root);
        let key = preimage.key();
        match self.solver.look_up(vertex, &key) {
            Some(step) => self.hit(id, key, &root, &step),
            None => self.miss(vertex, &preimage),
        }
    }

    fn exec(&self, id: VertexId, vertex: &Vertex, op: &ExecOp) -> Result<KeyState, Cause> {
        if let Some(waits_for) = self.unknown_input(id, 0) {
            return Ok(KeyState::Unknown { waits_for });
        }
        let task = self.solver.reporter.start(&vertex.name);
        let root = self.solver.root_of(id);
        Ok(match self.solver.peek_exec(id, vertex, op, &root, &task)? {
            Peek::Hit(key, step) => self.hit(id, key, &root, &step),
            Peek::Miss(preimage) => self.miss(vertex, &preimage),
            Peek::NotHere(input) => KeyState::Unknown {
                waits_for: inputs(&self.solver.plan.graph, id)[input],
            },
        })
    }

    /// A linked copy needs its sources alone to be found, and its root for what comes out.
    fn copy(&self, id: VertexId, vertex: &Vertex, op: &CopyOp) -> Result<KeyState, Cause> {
        if let Some(waits_for) = self.unknown_input(id, usize::from(op.link)) {
            return Ok(KeyState::Unknown { waits_for });
        }
        let task = self.solver.reporter.start(&vertex.name);
        let root = self.known_root(id);
        let root_id = root.as_ref().map_or_else(OutputId::scratch, |root| root.id);
        let keyed_root = copy::keyed_root(op, root_id);
        Ok(
            match copy::peek(self.solver, id, vertex, op, keyed_root, &task)? {
                Peek::Hit(key, step) => match &root {
                    Some(root) => {
                        let step = copy::on_root(self.solver, op, root, step, &task)?;
                        self.hit(id, key, root, &step)
                    }
                    None => KeyState::Hit { key },
                },
                Peek::Miss(preimage) => self.miss(vertex, &preimage),
                Peek::NotHere(input) => KeyState::Unknown {
                    waits_for: inputs(&self.solver.plan.graph, id)[input],
                },
            },
        )
    }

    fn known_root(&self, id: VertexId) -> Option<Arc<RootFs>> {
        let root = inputs(&self.solver.plan.graph, id)[0];
        self.solver.solved.root(root).cloned()
    }

    /// Notes what a step gave, for those after it.
    fn hit(&self, id: VertexId, key: CacheKey, root: &Arc<RootFs>, step: &Step) -> KeyState {
        self.solver.keep(id, step.output_on(root));
        KeyState::Hit { key }
    }

    fn miss(&self, vertex: &Vertex, preimage: &Preimage) -> KeyState {
        let reason = match vertex.no_cache {
            true => MissReason::Disabled,
            false => self.explain(vertex, preimage),
        };
        KeyState::Miss {
            key: preimage.key(),
            reason,
        }
    }

    fn explain(&self, vertex: &Vertex, preimage: &Preimage) -> MissReason {
        let actions = self.solver.services.store.actions();
        let found = actions.get(&preimage.key());
        match found.and_then(|result| expired(vertex, &result)) {
            Some((age, ttl)) => MissReason::Expired { age, ttl },
            None => self.solver.explain(preimage),
        }
    }

    /// What the first input with no known output waits for; inputs before number `from` don't count.
    fn unknown_input(&self, id: VertexId, from: usize) -> Option<VertexId> {
        let inputs = inputs(&self.solver.plan.graph, id);
        let mut waiting = inputs.iter().skip(from);
        waiting.find_map(|input| self.waits_for[input.index()].get().copied())
    }
}
