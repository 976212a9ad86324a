//! What happens between this machine and registries, as steps of their own: hosts that let wait, and warnings. A build says nothing of them by
//! itself, as it can't while it waits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kiln_executor::event::{Event, EventKind, Numbers, Stream, VertexId};
use kiln_registry::{Client, Waiting};

/// A host may think as long before anybody is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at a client from time to time.
pub(super) struct News<'a> {
    registries: &'a Client,
    numbers: Numbers,
    /// Hosts that are known to let wait, and since when.
    waited_for: BTreeMap<String, (VertexId, Instant)>,
}

impl<'a> News<'a> {
    pub(super) fn new(registries: &'a Client, numbers: Numbers) -> Self {
        Self {
            registries,
            numbers,
            waited_for: BTreeMap::new(),
        }
    }

    /// Tells what is new.
    pub(super) fn look(&mut self, mut tell: impl FnMut(Event)) {
        let waits = self.registries.waits_for(PATIENCE);
        self.waited_for.retain(|host, (vertex, since)| {
            let still = waits.iter().any(|wait| wait.host == *host);
            if !still {
                tell(ended(*vertex, *since));
            }
            still
        });
        self.warn(&mut tell);
        for wait in waits {
            if self.waited_for.contains_key(&wait.host) {
                continue;
            }
            let vertex = self.numbers.next();
            let name = format!("waiting for {}", wait.host);
            tell(now(EventKind::VertexStarted { vertex, name }));
            tell(now(EventKind::Log {
                vertex,
                stream: Stream::Stderr,
                data: reason(&wait).into_bytes(),
            }));
            self.waited_for.insert(wait.host, (vertex, Instant::now()));
        }
    }

    fn warn(&self, tell: &mut impl FnMut(Event)) {
        for text in self.registries.take_warnings() {
            let vertex = self.numbers.next();
            let name = format!("WARNING: {text}");
            tell(now(EventKind::VertexStarted { vertex, name }));
            tell(ended(vertex, Instant::now()));
        }
    }

    /// Nobody is waited for any longer.
    pub(super) fn end(self, mut tell: impl FnMut(Event)) {
        self.warn(&mut tell);
        for (vertex, since) in self.waited_for.into_values() {
            tell(ended(vertex, since));
        }
    }
}

fn reason(wait: &Waiting) -> String {
    match wait.pause {
        None => format!("nothing has come for {}s\n", wait.since.as_secs()),
        Some(pause) => format!(
            "it is asked again in {}s\n",
            pause.saturating_sub(wait.since).as_secs()
        ),
    }
}

fn ended(vertex: VertexId, since: Instant) -> Event {
    now(EventKind::VertexDone {
        vertex,
        elapsed: since.elapsed(),
    })
}

fn now(kind: EventKind) -> Event {
    Event {
        at: Timestamp::now(),
        kind,
    }
}
