//! Why the steps of a build were done again.
//!
//! A build is compared with earlier ones of the same Dockerfile: which of their steps a step corresponds to ([`align()`]), and in
//! what their keys' preimages differ ([`Cause`]). What differs in the root filesystem or in the files of a stage is no cause but a
//! consequence: then the step that gave them is asked, and so on, until there is something that somebody did.
//!
//! Of several earlier builds the closest speaks: one edit was undone and another made, and it is the other that cost the cache.
//! Between equals it is the latest.

mod align;
mod cause;
mod compare;
mod elsewhere;
mod folders;
mod ignored;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

pub use align::align;
pub use cause::{Cause, FileCause};
pub use elsewhere::Places;

use crate::builds::{BuildId, BuildRecord, GraphRecord, Miss, StepRecord, StepState};
use crate::miss::distance;
use crate::{CacheKey, Difference, OutputId, Preimage};
use compare::Side;

/// A cause is looked for so many steps back at most.
const DEEPEST: usize = 2_000;

/// How far away the same step for another platform is: farther than any other that is known.
const OTHER_PLATFORM: usize = usize::MAX - 1;

/// Why a step was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The causes, most of the time one; never empty.
    pub causes: Vec<Cause>,
    /// The step that they are about, by position: this one, or one that it depends on.
    pub of: usize,
    /// What reached this step from there, where it is known: the files that it reads.
    pub through: Vec<Cause>,
    /// The build that it was compared with.
    pub compared_with: Option<BuildId>,
    /// Whether it was compared with the step of another machine, whose work is in a cache that was imported.
    pub elsewhere: bool,
}

/// A build beside earlier ones.
pub struct Explainer<'a> {
    graph: &'a GraphRecord,
    earlier: Vec<Earlier<'a>>,
    preimages: &'a dyn Fn(&CacheKey) -> Option<Preimage>,
    read: RefCell<HashMap<CacheKey, Option<Rc<Preimage>>>>,
    /// By step, build, and whether it is asked for a step that follows.
    roots: RefCell<HashMap<(usize, usize, bool), Option<Root>>>,
    whys: RefCell<HashMap<usize, Option<Why>>>,
}

/// An earlier build, and to which of its steps each step corresponds.
struct Earlier<'a> {
    id: &'a BuildId,
    graph: &'a GraphRecord,
    pairs: Vec<Option<usize>>,
    /// By step of the earlier build, whether anything corresponds to it.
    is_paired: Vec<bool>,
}

/// Something that somebody did, and to which step.
#[derive(Debug, Clone)]
struct Root {
    of: usize,
    causes: Vec<Cause>,
    through: Vec<Cause>,
}

impl<'a> Explainer<'a> {
    /// Puts a build beside `earlier` ones, the latest first. `preimages` has what keys were made of.
    pub fn new(
        graph: &'a GraphRecord,
        earlier: &'a [BuildRecord],
        preimages: &'a dyn Fn(&CacheKey) -> Option<Preimage>,
    ) -> Self {
        let earlier = earlier.iter().filter_map(|build| {
            let before = build.graph.as_ref()?;
            let pairs = align(graph, before);
            let mut is_paired = vec![false; before.steps.len()];
            for pair in pairs.iter().flatten() {
                is_paired[*pair] = true;
            }
            Some(Earlier {
                id: &build.header.id,
                graph: before,
                pairs,
                is_paired,
            })
        });
        Self {
            graph,
            earlier: earlier.collect(),
            preimages,
            read: RefCell::default(),
            roots: RefCell::default(),
            whys: RefCell::default(),
        }
    }

    /// Why a step was done; `None` if it was not.
    #[must_use]
    pub fn why(&self, step: usize) -> Option<Why> {
        if let Some(known) = self.whys.borrow().get(&step) {
            return known.clone();
        }
        let found = self.find_why(step);
        self.whys.borrow_mut().insert(step, found.clone());
        found
    }

    fn find_why(&self, step: usize) -> Option<Why> {
        let record = &self.graph.steps[step];
        if !record.was_rebuilt() {
            return None;
        }
        if let Some(cause) = policy(record) {
            return Some(Why::own(step, cause));
        }
        let closest = self.closest(step);
        let distance = closest.map(|(distance, _)| distance);
        if let Some(why) = self.elsewhere(step, distance) {
            return Some(why);
        }
        let Some((_, build)) = closest else {
            return Some(Why::own(step, self.never_done(step)));
        };
        let root = self.root(step, build, 0).unwrap_or_else(|| Root {
            of: step,
            causes: vec![self.unchanged(step, build)],
            through: Vec::new(),
        });
        Some(Why {
            causes: root.causes,
            of: root.of,
            through: root.through,
            compared_with: Some(self.earlier[build].id.clone()),
            elsewhere: false,
        })
    }

    /// Why a step is not what it was on a machine whose cache was imported; `None` if it is closer to what was done here, which
    /// is as far away as `here` says.
    fn elsewhere(&self, step: usize, here: Option<usize>) -> Option<Why> {
        let record = &self.graph.steps[step];
        let there = record.elsewhere?;
        let differences = match record.key() {
            Some(key) => self.preimage(&key)?.differences(&*self.preimage(&there)?),
            None => return None, // it failed
        };
        if here.is_some_and(|here| here <= distance(&differences)) {
            return None;
        }
        let mut compared = compare::with_elsewhere(&Side::new(self.graph, record), &differences);
        let mut causes = std::mem::take(&mut compared.own);
        causes.append(&mut compared.read);
        if !causes.is_empty() {
            return Some(Why {
                causes,
                elsewhere: true,
                ..Why::own(step, Cause::OutputChanged)
            });
        }
        // Only what it stands on is another one: then that tells why.
        let root = *record.inputs.first()?;
        match self.why(root) {
            Some(why) => Some(why),
            None => Some(Why {
                elsewhere: true,
                ..Why::own(step, compare::root_elsewhere(&differences)?)
            }),
        }
    }

    /// The earlier build with which a step has most in common, of those whose key of it is known, and in how much it differs.
    fn closest(&self, step: usize) -> Option<(usize, usize)> {
        let mut best: Option<(usize, usize)> = None;
        for (build, earlier) in self.earlier.iter().enumerate() {
            let record = &self.graph.steps[step];
            let distance = match earlier.pairs[step].map(|at| &earlier.graph.steps[at]) {
                // Only where there is none for the same platform.
                Some(before) if record.platform != before.platform => OTHER_PLATFORM,
                Some(before) => match self.differences(record, before) {
                    Some(differences) => distance(&differences),
                    // It failed, or nothing was kept: the instruction is all there is to compare.
                    None if before.was_rebuilt() || before.key().is_some() => usize::MAX,
                    None => continue,
                },
                // New or moved.
                None if earlier.has_stage(self.graph, record) => 1,
                None => continue,
            };
            if best.is_none_or(|(least, _)| distance < least) {
                best = Some((distance, build));
            }
            if distance <= 1 {
                break;
            }
        }
        best
    }

    /// What to say of a step that is what it was in an earlier build, as far as anybody knows.
    fn unchanged(&self, step: usize, build: usize) -> Cause {
        let earlier = &self.earlier[build];
        let before = earlier.pairs[step].map(|at| &earlier.graph.steps[at]);
        let end = self.graph.steps[step].end.as_ref();
        match (end.map(|end| (&end.state, end.key)), before) {
            (Some((StepState::Failed { message, .. }, None)), _) => Cause::Unread {
                message: message.clone(),
            },
            (_, Some(before)) if before.output().is_none() => Cause::NotReached,
            // Its result is gone, and what told so is too.
            _ => Cause::Collected,
        }
    }

    /// What to say of a step that no earlier build has done.
    fn never_done(&self, step: usize) -> Cause {
        let record = &self.graph.steps[step];
        let Some(last) = self.earlier.first() else {
            return Cause::FirstBuild;
        };
        match last.pairs[step] {
            Some(_) => Cause::NotReached,
            None if !last.has_stage(self.graph, record) => Cause::FirstBuild,
            None => self.new_or_moved(step, last),
        }
    }

    fn new_or_moved(&self, step: usize, earlier: &Earlier<'_>) -> Cause {
        let record = &self.graph.steps[step];
        let text = record.instruction().to_owned();
        let before = earlier.graph.steps.iter().zip(&earlier.is_paired);
        match before
            .filter(|(_, is_paired)| !**is_paired)
            .any(|(other, _)| is_same(record, other))
        {
            true => Cause::Moved { text },
            false => Cause::New { text },
        }
    }

    /// What made a step another one than in an earlier build; `None` if it is the same.
    fn root(&self, step: usize, build: usize, depth: usize) -> Option<Root> {
        let place = (step, build, depth > 0);
        if let Some(known) = self.roots.borrow().get(&place) {
            return known.clone();
        }
        let found = match depth < DEEPEST {
            true => self.find_root(step, build, depth),
            false => None,
        };
        self.roots.borrow_mut().insert(place, found.clone());
        found
    }

    fn find_root(&self, step: usize, build: usize, depth: usize) -> Option<Root> {
        let record = &self.graph.steps[step];
        let earlier = &self.earlier[build];
        let own = |causes: Vec<Cause>| Root {
            of: step,
            causes,
            through: Vec::new(),
        };
        let Some(at) = earlier.pairs[step] else {
            return Some(own(vec![self.new_or_moved(step, earlier)]));
        };
        let before = &earlier.graph.steps[at];
        let sides = (
            Side::new(self.graph, record),
            Side::new(earlier.graph, before),
        );
        if record.key().is_none() && before.key().is_none() && record.inputs.is_empty() {
            let causes = compare::sources(&sides.0, &sides.1);
            return (!causes.is_empty()).then(|| own(causes));
        }
        let differences = self.differences(record, before);
        let mut compared = compare::steps(&sides.0, &sides.1, differences.as_deref());
        compared.own.append(&mut compared.edited);
        // The key of a linked copy has no root; what comes out has.
        let is_other = differs(record.output(), before.output());
        compared.root_differs |= is_other && compared.own.is_empty() && compared.read.is_empty();
        let brought = self.brought(step, build, depth, &compared);
        match brought {
            // What follows from several edits is told by the first.
            Some(root) if depth > 0 && compared.root_differs => Some(root),
            _ if depth > 0 && policy(record).is_some() => {
                policy(record).map(|cause| own(vec![cause]))
            }
            // What somebody did to this step is told of it, whatever else it follows from.
            _ if !compared.own.is_empty() => Some(own(compared.own)),
            // What a stage gave is known by the step that made it what it is.
            Some(root) if root.of != step => Some(Root {
                through: compared.read,
                ..root
            }),
            Some(root) => Some(root),
            None if !compared.read.is_empty() => Some(own(compared.read)),
            None => (is_other || differences.is_some_and(|some| !some.is_empty()))
                .then(|| own(vec![Cause::OutputChanged])),
        }
    }

    /// What changed the first of a step's inputs that changed and counts.
    fn brought(
        &self,
        step: usize,
        build: usize,
        depth: usize,
        compared: &compare::Compared,
    ) -> Option<Root> {
        let inputs = self.graph.steps[step].inputs.len();
        let counts = |input: &usize| match input {
            0 => compared.root_differs,
            _ => !compared.read.is_empty(),
        };
        let mut inputs = (0..inputs).filter(counts);
        inputs.find_map(|input| self.through_input(step, build, depth, input))
    }

    fn through_input(&self, step: usize, build: usize, depth: usize, input: usize) -> Option<Root> {
        let earlier = &self.earlier[build];
        let record = &self.graph.steps[step];
        let before = &earlier.graph.steps[earlier.pairs[step]?];
        let now = *record.inputs.get(input)?;
        let then = before.inputs.get(input).copied();
        let is_same = then.is_some_and(|then| {
            let outputs = (
                self.graph.steps[now].output(),
                earlier.graph.steps[then].output(),
            );
            outputs.0.is_some() && outputs.0 == outputs.1
        });
        // A context has no output: what was read of it is told as files.
        if is_same || self.graph.steps[now].kind == "context" {
            return None;
        }
        if matches!(self.graph.steps[now].kind.as_str(), "http" | "git") {
            let sides = (
                Side::new(self.graph, &self.graph.steps[now]),
                Side::new(earlier.graph, &earlier.graph.steps[then?]),
            );
            let text = compare::text_causes(
                &Side::new(self.graph, record),
                &Side::new(earlier.graph, before),
            );
            return Some(Root {
                of: step,
                causes: match text.is_empty() {
                    true => compare::sources(&sides.0, &sides.1),
                    false => text, // it names another
                },
                through: Vec::new(),
            })
            .filter(|root| !root.causes.is_empty());
        }
        if input == 0
            && self.graph.steps[now].stage != record.stage
            && let Some(cause) = compare::base(
                &Side::new(self.graph, record),
                &Side::new(earlier.graph, before),
            )
        {
            return Some(Root {
                of: step,
                causes: vec![cause],
                through: Vec::new(),
            });
        }
        match (earlier.pairs[now], then) {
            (Some(pair), Some(then)) if pair != then && !earlier.is_paired[then] => {
                let gone = &earlier.graph.steps[then];
                let text = gone.instruction().to_owned();
                let moved = self.graph.steps.iter().zip(&earlier.pairs);
                let is_moved = moved
                    .filter(|(_, pair)| pair.is_none())
                    .any(|(other, _)| is_same_instruction(other, gone));
                Some(Root {
                    of: step,
                    causes: vec![match is_moved {
                        true => Cause::Moved { text },
                        false => Cause::Removed { text },
                    }],
                    through: Vec::new(),
                })
            }
            _ => self.root(now, build, depth + 1),
        }
    }

    /// In what the key of a step differs from an earlier one; `None` if that is not known.
    fn differences(&self, now: &StepRecord, before: &StepRecord) -> Option<Vec<Difference>> {
        let (now, before) = (now.key()?, before.key()?);
        if now == before {
            return Some(Vec::new());
        }
        let (now, before) = (self.preimage(&now)?, self.preimage(&before)?);
        Some(now.differences(&before))
    }

    fn preimage(&self, key: &CacheKey) -> Option<Rc<Preimage>> {
        if let Some(known) = self.read.borrow().get(key) {
            return known.clone();
        }
        let found = (self.preimages)(key).map(Rc::new);
        self.read.borrow_mut().insert(*key, found.clone());
        found
    }
}

impl Earlier<'_> {
    /// Whether the stage of a step of another build was built here, for the same platform.
    fn has_stage(&self, graph: &GraphRecord, step: &StepRecord) -> bool {
        let name = graph.stage_of(step).map(|stage| &stage.name);
        let is_of_it = |other: &StepRecord| {
            let platforms = other.platform.as_ref().zip(step.platform.as_ref());
            self.graph.stage_of(other).map(|stage| &stage.name) == name
                && platforms.is_none_or(|(one, other)| one == other)
        };
        self.graph.steps.iter().any(is_of_it)
    }
}

impl Why {
    fn own(step: usize, cause: Cause) -> Self {
        Self {
            causes: vec![cause],
            of: step,
            through: Vec::new(),
            compared_with: None,
            elsewhere: false,
        }
    }
}

/// Why a step was done that might have been in the cache.
fn policy(step: &StepRecord) -> Option<Cause> {
    let miss = match &step.end.as_ref()?.state {
        StepState::Rebuilt { miss, .. } => miss,
        StepState::Failed { miss, .. } => miss.as_ref()?,
        _ => return None,
    };
    Some(match miss {
        Miss::Absent => return None,
        Miss::Collected => Cause::Collected,
        Miss::Disabled { by } => Cause::Disabled { by: by.clone() },
        Miss::Expired { age, ttl } => Cause::Expired {
            age: *age,
            ttl: *ttl,
        },
        Miss::Damaged { what } => Cause::Damaged { what: what.clone() },
    })
}

fn differs(now: Option<OutputId>, before: Option<OutputId>) -> bool {
    now.is_some() && before.is_some() && now != before
}

fn is_same(one: &StepRecord, other: &StepRecord) -> bool {
    one.kind == other.kind && one.text == other.text && is_same_instruction(one, other)
}

fn is_same_instruction(one: &StepRecord, other: &StepRecord) -> bool {
    one.kind == other.kind && one.instruction() == other.instruction()
}

#[cfg(test)]
mod tests;
