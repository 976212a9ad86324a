//! Writes a build into the history: what happens while it happens, and all of it at its end.
//!
//! Nothing is written before a step prints or the build has taken a while, so a build of which everything is cached costs one small
//! file. A history that can't be written stops no build.

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;
use kiln_cache::builds::{
    BuildHeader, BuildLog, BuildOutcome, BuildRecord, GraphRecord, Invocation, LogEntry, StepState,
    WorkRecord,
};
use kiln_cache::{Builds, RecipeId, Store, StoreError};
use kiln_executor::event::{Event, EventKind, Stream, VertexId};
use kiln_executor::{Journal, Redactor};

use crate::progress::Witness;
use crate::render;

/// Work that takes so many milliseconds is told even if kiln is killed.
const WORTH_A_LOG: u64 = 500;

/// A line without end is written in parts of this size.
const LONGEST_LINE: usize = 64 << 10;

/// The history of one build, being written.
pub(crate) struct Recorder<'s> {
    store: &'s Store,
    header: BuildHeader,
    redact: Box<dyn Fn() -> Redactor + Send + Sync + 's>,
    redactor: Option<Redactor>,
    /// What happened before the log was begun.
    waiting: Vec<LogEntry>,
    invocation: Option<Invocation>,
    log: Option<BuildLog>,
    running: HashMap<VertexId, Work>,
    done: Vec<WorkRecord>,
    error: Option<StoreError>,
}

struct Work {
    name: String,
    started: Timestamp,
    /// What was printed of lines that have not ended, by stream.
    rest: [Vec<u8>; 2],
    /// Whether what is shown of the stream is not all of it.
    is_clipped: [bool; 2],
}

/// What is built, as far as it is known before.
pub(crate) fn header(
    context: &Path,
    dockerfile: &Path,
    target: Option<&str>,
    tags: Vec<String>,
) -> BuildHeader {
    let context = called(context);
    let dockerfile = called(dockerfile);
    BuildHeader {
        id: Builds::new_id(),
        recipe: RecipeId::of(&context, &dockerfile),
        kiln: env!("CARGO_PKG_VERSION").to_owned(),
        started: Timestamp::now(),
        context,
        dockerfile,
        target: target.map(str::to_owned),
        tags,
    }
}

/// A file or folder by its real path, an address without a login.
pub(crate) fn called(path: &Path) -> String {
    if let Ok(real) = std::fs::canonicalize(path) {
        return real.to_string_lossy().into_owned();
    }
    let text = path.to_string_lossy();
    if let Some((scheme, rest)) = text.split_once("://") {
        let end = rest.find('/').unwrap_or(rest.len());
        if let Some(at) = rest[..end].rfind('@') {
            return format!("{scheme}://{}", &rest[at + 1..]);
        }
    }
    text.into_owned()
}

impl<'s> Recorder<'s> {
    /// For a build that begins. What `redact` gives is asked for when something is to be written.
    pub(crate) fn new(
        store: &'s Store,
        header: BuildHeader,
        redact: impl Fn() -> Redactor + Send + Sync + 's,
    ) -> Self {
        Self {
            store,
            header,
            redact: Box::new(redact),
            redactor: None,
            waiting: Vec::new(),
            invocation: None,
            log: None,
            running: HashMap::new(),
            done: Vec::new(),
            error: None,
        }
    }

    /// How the build was asked for.
    pub(crate) fn asked(&mut self, invocation: Invocation) {
        self.invocation = Some(invocation);
    }

    /// An empty journal of the same build.
    pub(crate) fn journal(&self) -> Journal {
        Journal::new(&self.header)
    }

    /// The last builds before it of the same Dockerfile, the latest first.
    pub(crate) fn earlier(&self, most: usize) -> Vec<BuildRecord> {
        self.store.builds().last(&self.header.recipe, most)
    }

    /// The store it is written to.
    pub(crate) fn store(&self) -> &'s Store {
        self.store
    }

    /// Writes what came of it, and hands it back.
    pub(crate) fn finish(
        mut self,
        journal: Journal,
        outcome: BuildOutcome,
    ) -> (BuildRecord, Result<(), StoreError>) {
        let redactor = self.redactor.take().unwrap_or_else(&self.redact);
        let graph = journal.into_graph().map(|graph| redacted(graph, &redactor));
        let steps = graph.iter().flat_map(|graph| &graph.steps);
        let of_steps: Vec<u32> = steps.filter_map(|step| step.end.as_ref()?.vertex).collect();
        self.done.retain(|work| !of_steps.contains(&work.vertex));
        for work in &mut self.done {
            work.name = redactor.redact(&work.name);
        }
        let record = BuildRecord {
            header: self.header.clone(),
            invocation: self.invocation.take().map(|mut asked| {
                for word in &mut asked.words {
                    *word = render::without_passwords(&redactor.redact(word)).into_owned();
                }
                let hides_nothing = |text: &String| {
                    redactor.redact(text) == *text && render::without_passwords(text) == *text
                };
                asked.dockerfile = asked.dockerfile.filter(hides_nothing);
                asked
            }),
            ended: Timestamp::now(),
            outcome: match outcome {
                BuildOutcome::Failed { message } => BuildOutcome::Failed {
                    message: redactor.redact(&message),
                },
                outcome => outcome,
            },
            graph,
            others: std::mem::take(&mut self.done),
        };
        if let Some(log) = &mut self.log
            && let Err(error) = log.flush()
        {
            self.error.get_or_insert(error);
        }
        let written = match self.error {
            Some(error) => Err(error),
            None => self.store.builds().put(&record, self.log.as_ref()),
        };
        (record, written)
    }

    fn add(&mut self, entry: LogEntry) {
        match &mut self.log {
            Some(log) => {
                let redactor = self.redactor.get_or_insert_with(&self.redact);
                let added = log.add(&hidden(entry, redactor));
                self.error = self.error.take().or(added.err());
            }
            None => self.waiting.push(entry),
        }
    }

    /// Begins the log with what happened so far.
    fn begin(&mut self) {
        if self.log.is_some() || self.error.is_some() {
            return;
        }
        match self.store.builds().begin(&self.header) {
            Ok(log) => self.log = Some(log),
            Err(error) => self.error = Some(error),
        }
        for entry in std::mem::take(&mut self.waiting) {
            self.add(entry);
        }
    }

    /// Whether all that is printed there comes as [`EventKind::Printed`].
    fn is_clipped(&self, vertex: VertexId, stream: Stream) -> bool {
        let work = self.running.get(&vertex);
        work.is_some_and(|work| work.is_clipped[number(stream) - 1])
    }

    fn printed(&mut self, at: Timestamp, vertex: VertexId, stream: Stream, data: &[u8]) {
        let number = number(stream);
        let Some(work) = self.running.get_mut(&vertex) else {
            return;
        };
        let rest = &mut work.rest[number - 1];
        let mut lines = Vec::new();
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") || rest.len() > LONGEST_LINE {
                lines.push(std::mem::take(rest));
            }
        }
        for line in lines {
            self.add(line_entry(at, vertex, number, &line));
        }
    }

    fn ended(&mut self, at: Timestamp, vertex: VertexId, error: Option<&str>) {
        let Some(work) = self.running.remove(&vertex) else {
            return;
        };
        for (stream, rest) in work.rest.iter().enumerate() {
            if !rest.is_empty() {
                self.add(line_entry(at, vertex, stream + 1, rest));
            }
        }
        self.add(LogEntry::Ended {
            at,
            vertex: vertex.0,
            error: error.map(str::to_owned),
        });
        self.done.push(WorkRecord {
            vertex: vertex.0,
            name: work.name,
            at_ms: milliseconds(self.header.started, at),
            took_ms: milliseconds(work.started, at),
            error: error.map(str::to_owned),
        });
    }
}

impl Witness for Recorder<'_> {
    fn event(&mut self, event: &Event) {
        let at = event.at;
        match &event.kind {
            EventKind::VertexStarted { vertex, name } => {
                self.add(LogEntry::Started {
                    at,
                    vertex: vertex.0,
                    name: name.clone(),
                });
                let work = Work {
                    name: name.clone(),
                    started: at,
                    rest: [Vec::new(), Vec::new()],
                    is_clipped: [false; 2],
                };
                self.running.insert(*vertex, work);
            }
            EventKind::Log {
                vertex,
                stream,
                data,
            } => {
                self.begin();
                if !self.is_clipped(*vertex, *stream) {
                    self.printed(at, *vertex, *stream, data);
                }
            }
            EventKind::Printed {
                vertex,
                stream,
                data,
            } => {
                self.begin();
                if let Some(work) = self.running.get_mut(vertex) {
                    work.is_clipped[number(*stream) - 1] = !data.is_empty();
                }
                self.printed(at, *vertex, *stream, data);
            }
            EventKind::VertexCached { vertex } | EventKind::VertexDone { vertex, .. } => {
                self.ended(at, *vertex, None);
            }
            EventKind::VertexFailed {
                vertex, message, ..
            } => self.ended(at, *vertex, Some(message)),
            EventKind::VertexCanceled { vertex } => self.ended(at, *vertex, Some("canceled")),
            EventKind::Progress { .. }
            | EventKind::Used { .. }
            | EventKind::SameOutput { .. }
            | EventKind::Kept { .. } => {}
        }
    }

    fn tick(&mut self) {
        let now = Timestamp::now();
        let mut running = self.running.values();
        if running.any(|work| milliseconds(work.started, now) >= WORTH_A_LOG) {
            self.begin();
        }
        if let Some(log) = &mut self.log {
            let flushed = log.flush();
            self.error = self.error.take().or(flushed.err());
        }
    }
}

/// Which output it is, as programs count them.
fn number(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    }
}

fn line_entry(at: Timestamp, vertex: VertexId, stream: usize, line: &[u8]) -> LogEntry {
    LogEntry::Line {
        at,
        vertex: vertex.0,
        stream: if stream == 2 { 2 } else { 1 },
        text: String::from_utf8_lossy(line).into_owned(),
    }
}

fn milliseconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0)
}

/// An entry without what nobody may read.
fn hidden(entry: LogEntry, redactor: &Redactor) -> LogEntry {
    match entry {
        LogEntry::Started { at, vertex, name } => LogEntry::Started {
            at,
            vertex,
            name: redactor.redact(&name),
        },
        LogEntry::Line {
            at,
            vertex,
            stream,
            text,
        } => LogEntry::Line {
            at,
            vertex,
            stream,
            text: redactor.redact(&text),
        },
        LogEntry::Ended { at, vertex, error } => LogEntry::Ended {
            at,
            vertex,
            error: error.map(|error| redactor.redact(&error)),
        },
        entry @ (LogEntry::Begun(_) | LogEntry::Cut) => entry,
    }
}

/// A graph whose texts show no secret and no password in an address. Values of variables that are secret are digests already.
fn redacted(mut graph: GraphRecord, redactor: &Redactor) -> GraphRecord {
    let hide = |text: &mut String| {
        *text = render::without_passwords(&redactor.redact(text)).into_owned();
    };
    graph
        .stages
        .iter_mut()
        .for_each(|stage| hide(&mut stage.text));
    for step in &mut graph.steps {
        hide(&mut step.name);
        hide(&mut step.text);
        if let Some(end) = &mut step.end
            && let StepState::Failed { message, .. } = &mut end.state
        {
            hide(message);
        }
    }
    graph
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_no_login() {
        let cases = [
            ("https://u:p@host/r.git#main", "https://host/r.git#main"),
            ("https://host/a@b", "https://host/a@b"),
            ("-", "-"),
        ];
        for (typed, expected) in cases {
            assert_eq!(called(Path::new(typed)), expected);
        }
    }
}
