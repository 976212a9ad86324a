//! All the outside ever sees of a running build.
//!
//! Every piece of work a person may care about (a step, a pull, an export) is a *vertex*. It starts once, may
//! log and report progress, and ends exactly once: done, cached, failed or canceled. A [`Task`] holds that
//! promise: one that is dropped without an ending was canceled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::error::Cause;
use crate::usage::Usage;

/// Names a vertex within one run, in order of appearance from 1 (R-PROG-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VertexId(pub u32);

/// Which of a process's two outputs some bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Wall-clock time of the event.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
}

/// What happened to a vertex, or to the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// Work on a vertex begins.
    VertexStarted {
        /// The vertex.
        vertex: VertexId,
        /// What people call it: `[build 2/4] RUN make` (R-PROG-2).
        name: String,
    },
    /// The vertex ended without work: its result was there.
    VertexCached {
        /// The vertex.
        vertex: VertexId,
    },
    /// Bytes a step printed, as they came: not cut at line ends. Of an output that is too long, what is to be shown.
    Log {
        /// The vertex.
        vertex: VertexId,
        /// The output they were printed on.
        stream: Stream,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Bytes a step printed, for who keeps all of them. From the first that were too many to be shown on, each comes here, and
    /// what is shown of that output is said again, as [`EventKind::Log`]. None at all: it has ended.
    Printed {
        /// The vertex.
        vertex: VertexId,
        /// The output they were printed on.
        stream: Stream,
        /// The bytes.
        data: Vec<u8>,
    },
    /// How far some part of the vertex has come.
    Progress {
        /// The vertex.
        vertex: VertexId,
        /// The part: a layer's digest, a file.
        part: String,
        /// Bytes done.
        current: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// A step's program has ended, well or not.
    Used {
        /// The vertex.
        vertex: VertexId,
        /// What it used of the machine.
        usage: Usage,
    },
    /// The vertex was done again and gave what it gave before, so that what follows may still be in the cache. It ends
    /// well right after this.
    SameOutput {
        /// The vertex.
        vertex: VertexId,
    },
    /// What a failed step left is kept. It ends right after this.
    Kept {
        /// The vertex.
        vertex: VertexId,
        /// The container that has it.
        container: String,
    },
    /// The vertex ended well.
    VertexDone {
        /// The vertex.
        vertex: VertexId,
        /// Time since it started.
        elapsed: Duration,
    },
    /// The vertex failed; the build's error follows as its result.
    VertexFailed {
        /// The vertex.
        vertex: VertexId,
        /// One line: what went wrong.
        message: String,
        /// Time since it started.
        elapsed: Duration,
    },
    /// The vertex was stopped because the build was.
    VertexCanceled {
        /// The vertex.
        vertex: VertexId,
    },
}

/// Where events go. Called from many threads.
pub type Sink<'a> = &'a (dyn Fn(Event) + Sync);

/// Numbers for vertices, each given once. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Numbers(Arc<AtomicU32>);

impl Numbers {
    /// The next one.
    pub fn next(&self) -> VertexId {
        VertexId(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Numbers vertices and hands their events to a [`Sink`].
pub struct Reporter<'a> {
    sink: Sink<'a>,
    numbers: Numbers,
}

impl<'a> Reporter<'a> {
    /// A reporter whose first vertex is number 1.
    pub fn new(sink: Sink<'a>) -> Self {
        Self::numbered(sink, Numbers::default())
    }

    /// A reporter that shares its numbers with somebody else.
    pub fn numbered(sink: Sink<'a>, numbers: Numbers) -> Self {
        Reporter { sink, numbers }
    }

    /// Starts a vertex.
    pub fn start(&self, name: impl Into<String>) -> Task<'_> {
        let vertex = self.numbers.next();
        let task = Task {
            sink: self.sink,
            vertex,
            started: Instant::now(),
            ended: AtomicBool::new(false),
        };
        task.emit(EventKind::VertexStarted {
            vertex,
            name: name.into(),
        });
        task
    }
}

/// A vertex being worked on.
pub struct Task<'a> {
    sink: Sink<'a>,
    vertex: VertexId,
    started: Instant,
    ended: AtomicBool,
}

impl Task<'_> {
    /// Passes on bytes the step printed.
    pub fn log(&self, stream: Stream, data: &[u8]) {
        self.emit(EventKind::Log {
            vertex: self.vertex,
            stream,
            data: data.to_vec(),
        });
    }

    /// Passes on bytes of an output that is too long to be shown whole: see [`EventKind::Printed`].
    pub(crate) fn printed(&self, stream: Stream, data: &[u8]) {
        self.emit(EventKind::Printed {
            vertex: self.vertex,
            stream,
            data: data.to_vec(),
        });
    }

    /// Tells how far a part has come, in bytes.
    pub fn progress(&self, part: &str, current: u64, total: Option<u64>) {
        self.emit(EventKind::Progress {
            vertex: self.vertex,
            part: part.to_owned(),
            current,
            total,
        });
    }

    /// Tells what the step's program used.
    pub fn used(&self, usage: Usage) {
        self.emit(EventKind::Used {
            vertex: self.vertex,
            usage,
        });
    }

    /// Tells that the vertex gave what it gave before.
    pub fn same_output(&self) {
        self.emit(EventKind::SameOutput {
            vertex: self.vertex,
        });
    }

    /// Tells what the failed step's state is kept as.
    pub(crate) fn kept(&self, container: &str) {
        self.emit(EventKind::Kept {
            vertex: self.vertex,
            container: container.to_owned(),
        });
    }

    /// The vertex.
    pub fn vertex(&self) -> VertexId {
        self.vertex
    }

    /// Ends the vertex: it was in the cache.
    pub fn cached(self) {
        self.end(EventKind::VertexCached {
            vertex: self.vertex,
        });
    }

    /// Ends the vertex well.
    pub fn done(self) {
        self.end(EventKind::VertexDone {
            vertex: self.vertex,
            elapsed: self.started.elapsed(),
        });
    }

    /// Ends the vertex with a failure.
    pub fn fail(self, message: impl Into<String>) {
        self.failing(message);
    }

    /// Tells that the vertex has failed, while there is still something to do about it; it is told once.
    pub(crate) fn failing(&self, message: impl Into<String>) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        self.end(EventKind::VertexFailed {
            vertex: self.vertex,
            message: message.into(),
            elapsed: self.started.elapsed(),
        });
    }

    /// Ends the vertex as `result` says, and hands the result on.
    pub fn end_with<T>(self, result: Result<T, Cause>) -> Result<T, Cause> {
        match &result {
            Ok(_) => self.done(),
            Err(Cause::Canceled) => {} // said when this is dropped
            Err(error) => self.fail(error.to_string()),
        }
        result
    }

    /// Time since the vertex started.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn end(&self, kind: EventKind) {
        self.ended.store(true, Ordering::Relaxed);
        self.emit(kind);
    }

    fn emit(&self, kind: EventKind) {
        (self.sink)(Event {
            at: Timestamp::now(),
            kind,
        });
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        if !*self.ended.get_mut() {
            self.emit(EventKind::VertexCanceled {
                vertex: self.vertex,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_registry::{FetchError, TransportError};
    use std::sync::Mutex;

    #[test]
    fn a_vertex_ends_exactly_once() {
        let seen = Mutex::new(Vec::new());
        let sink = |event: Event| seen.lock().expect("no panic holds it").push(event.kind);
        let reporter = Reporter::new(&sink);
        reporter.start("a").cached();
        drop(reporter.start("b"));
        let stopped = FetchError::Unreachable {
            address: "http://a/".to_owned(),
            host: "a".to_owned(),
            source: TransportError::Stopped,
        };
        let ended = reporter.start("c").end_with::<()>(Err(stopped.into()));
        assert!(matches!(ended, Err(Cause::Canceled)), "{ended:?}");
        let kinds = seen.into_inner().expect("no panic held it");
        assert_eq!(kinds.len(), 6);
        assert!(matches!(
            kinds[1],
            EventKind::VertexCached {
                vertex: VertexId(1)
            }
        ));
        assert!(matches!(
            kinds[3],
            EventKind::VertexCanceled {
                vertex: VertexId(2)
            }
        ));
        assert!(matches!(
            kinds[5],
            EventKind::VertexCanceled {
                vertex: VertexId(3)
            }
        ));
    }
}
