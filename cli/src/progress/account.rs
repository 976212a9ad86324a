//! What a build's events add up to: counts for the summary, and the last lines of a step that failed.

use std::collections::{HashMap, VecDeque};

use kiln_executor::event::{Event, EventKind, VertexId};

use super::lines::Lines;

/// As many of a failed step's lines are shown again.
const TAIL: usize = 20;

/// Sums over all events of one build.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Steps that ended well, cached ones included.
    pub(crate) done: usize,
    /// Steps whose result was there.
    pub(crate) cached: usize,
    /// The first step that failed.
    pub(crate) failed: Option<FailedStep>,
    running: HashMap<VertexId, Running>,
}

/// A step that failed and the end of its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedStep {
    /// As in the progress: `[build 2/4] RUN make`.
    pub(crate) name: String,
    /// At most the last twenty lines.
    pub(crate) tail: Vec<String>,
}

#[derive(Debug, Default)]
struct Running {
    name: String,
    lines: Lines,
    tail: VecDeque<String>,
}

impl Account {
    pub(super) fn event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::VertexStarted { vertex, name } => {
                self.running.insert(
                    *vertex,
                    Running {
                        name: name.clone(),
                        ..Running::default()
                    },
                );
            }
            EventKind::Log { vertex, data, .. } => {
                if let Some(step) = self.running.get_mut(vertex) {
                    step.log(data);
                }
            }
            EventKind::VertexCached { vertex } => {
                self.cached += 1;
                self.end(*vertex);
            }
            EventKind::VertexDone { vertex, .. } => self.end(*vertex),
            EventKind::VertexFailed { vertex, .. } => {
                let step = self.running.remove(vertex).map(Running::into_failed);
                self.failed = self.failed.take().or(step);
            }
            EventKind::VertexCanceled { vertex } => {
                self.running.remove(vertex);
            }
            EventKind::Printed { .. }
            | EventKind::Progress { .. }
            | EventKind::Used { .. }
            | EventKind::SameOutput { .. }
            | EventKind::Kept { .. } => {}
        }
    }

    fn end(&mut self, vertex: VertexId) {
        self.done += 1;
        self.running.remove(&vertex);
    }
}

impl Running {
    fn log(&mut self, data: &[u8]) {
        let lines = self.lines.push(data);
        self.tail.extend(lines);
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
    }

    fn into_failed(mut self) -> FailedStep {
        self.tail.extend(self.lines.finish());
        let surplus = self.tail.len().saturating_sub(TAIL);
        FailedStep {
            name: self.name,
            tail: self.tail.into_iter().skip(surplus).collect(),
        }
    }
}
