//! Progress as plain text, for logs and pipes (R-PROG-1): a heading `#N name` for each step, its lines `#N 0.123 text`
//! under it, its end `#N DONE 1.2s`; a blank line where another step takes over.
//!
//! Steps run at the same time, and lines that change step all the time cannot be read. So one step has the floor: lines
//! of others wait until it ends, or has said nothing for a second.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use jiff::Timestamp;
use kiln_executor::Usage;
use kiln_executor::event::{Event, EventKind, VertexId};

use super::lines::Lines;
use super::{Renderer, SAME_OUTPUT, put};
use crate::human;
use crate::render::shown;

/// A step this long silent loses the floor to one that has something to say.
const SILENCE: Duration = Duration::from_secs(1);

/// The renderer of `--progress=plain`.
pub(super) struct Plain<W> {
    out: W,
    /// Steps not yet ended, in order of appearance.
    steps: BTreeMap<VertexId, Step>,
    /// The step whose heading was printed last, even if it has ended.
    floor: Option<VertexId>,
    /// When the step with the floor last said something.
    spoke: Timestamp,
}

struct Step {
    name: String,
    started: Timestamp,
    lines: Lines,
    /// Whole lines, without `#N`, that wait for the floor.
    waiting: Vec<String>,
}

impl<W: Write> Plain<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            steps: BTreeMap::new(),
            floor: None,
            spoke: Timestamp::UNIX_EPOCH,
        }
    }

    fn start(&mut self, vertex: VertexId, name: &str, at: Timestamp) {
        let step = Step {
            name: shown(name),
            started: at,
            lines: Lines::default(),
            waiting: Vec::new(),
        };
        self.steps.insert(vertex, step);
        if self.floor_is_free() {
            self.give_floor(vertex, at);
        }
    }

    /// Keeps lines of a step, and prints them if it has or can get the floor.
    fn say(&mut self, vertex: VertexId, lines: impl IntoIterator<Item = String>, at: Timestamp) {
        let Some(step) = self.steps.get_mut(&vertex) else {
            return;
        };
        step.waiting.extend(lines);
        if step.waiting.is_empty() {
            return;
        }
        if self.floor == Some(vertex) || self.floor_is_free() || since(self.spoke, at) >= SILENCE {
            self.give_floor(vertex, at);
            self.print_waiting(vertex);
        }
    }

    fn end(&mut self, vertex: VertexId, last: &str, at: Timestamp) {
        let Some(step) = self.steps.get_mut(&vertex) else {
            return;
        };
        let rest = step
            .lines
            .finish()
            .map(|line| stamped(step.started, at, &line));
        step.waiting.extend(rest);
        self.give_floor(vertex, at);
        self.print_waiting(vertex);
        put(&mut self.out, format_args!("#{} {last}\n", vertex.0));
        self.steps.remove(&vertex);
        self.pass_on(at);
    }

    /// Lets the first step with something to say speak.
    fn pass_on(&mut self, at: Timestamp) {
        let waiting = self.steps.iter().find(|(_, step)| !step.waiting.is_empty());
        if let Some((&vertex, _)) = waiting {
            self.give_floor(vertex, at);
            self.print_waiting(vertex);
        }
    }

    fn give_floor(&mut self, vertex: VertexId, at: Timestamp) {
        self.spoke = at;
        if self.floor == Some(vertex) {
            return;
        }
        if let Some(before) = self.floor {
            if self.steps.contains_key(&before) {
                put(&mut self.out, format_args!("#{} ...\n", before.0));
            }
            put(&mut self.out, format_args!("\n"));
        }
        if let Some(step) = self.steps.get(&vertex) {
            put(&mut self.out, format_args!("#{} {}\n", vertex.0, step.name));
        }
        self.floor = Some(vertex);
    }

    fn print_waiting(&mut self, vertex: VertexId) {
        let Some(step) = self.steps.get_mut(&vertex) else {
            return;
        };
        for line in step.waiting.drain(..) {
            put(&mut self.out, format_args!("#{} {line}\n", vertex.0));
        }
    }

    fn floor_is_free(&self) -> bool {
        self.floor
            .is_none_or(|vertex| !self.steps.contains_key(&vertex))
    }
}

impl<W: Write + Send> Renderer for Plain<W> {
    fn event(&mut self, event: &Event) {
        let at = event.at;
        match &event.kind {
            EventKind::VertexStarted { vertex, name } => self.start(*vertex, name, at),
            EventKind::Log { vertex, data, .. } => {
                let Some(step) = self.steps.get_mut(vertex) else {
                    return;
                };
                let started = step.started;
                let lines = step
                    .lines
                    .push(data)
                    .into_iter()
                    .map(|line| stamped(started, at, &line))
                    .collect::<Vec<_>>();
                self.say(*vertex, lines, at);
            }
            EventKind::Progress {
                vertex,
                part,
                current,
                total,
            } if Some(*current) == *total => {
                self.say(
                    *vertex,
                    [format!("{part} {} done", human::size(*current))],
                    at,
                );
            }
            EventKind::Progress { .. } => {}
            EventKind::Used { vertex, usage } => self.say(*vertex, worth_telling(usage), at),
            EventKind::Printed { .. } => {} // more than is to be shown
            EventKind::Kept { .. } => {}    // told with the failure
            EventKind::SameOutput { vertex } => {
                self.say(*vertex, [SAME_OUTPUT.to_owned()], at);
            }
            EventKind::VertexCached { vertex } => self.end(*vertex, "CACHED", at),
            EventKind::VertexDone { vertex, elapsed } => {
                self.end(*vertex, &format!("DONE {}", seconds(*elapsed)), at);
            }
            EventKind::VertexFailed {
                vertex,
                message,
                elapsed,
            } => {
                self.end(
                    *vertex,
                    &format!("ERROR: {} ({})", shown(message), seconds(*elapsed)),
                    at,
                );
            }
            EventKind::VertexCanceled { vertex } => self.end(*vertex, "CANCELED", at),
        }
        let _ = self.out.flush(); // once an event: a step may print thousands of lines at once
    }

    fn tick(&mut self) {
        let now = Timestamp::now();
        if since(self.spoke, now) >= SILENCE {
            self.pass_on(now);
        }
        let _ = self.out.flush();
    }
}

/// What a step used, if that was much.
fn worth_telling(usage: &Usage) -> Option<String> {
    const MUCH_TIME: Duration = Duration::from_secs(1);
    const MUCH_MEMORY: u64 = 256 << 20; // bytes
    let is_much = usage.cpu() >= MUCH_TIME || usage.peak_memory >= MUCH_MEMORY;
    let whose = match usage.whole_step {
        true => "at most",
        false => "its largest process",
    };
    is_much.then(|| {
        format!(
            "used {} of CPU; memory: {whose} {}; disk: {} read, {} written",
            seconds(usage.cpu()),
            human::size(usage.peak_memory),
            human::size(usage.read),
            human::size(usage.written)
        )
    })
}

/// A log line with the seconds since its step started.
fn stamped(started: Timestamp, at: Timestamp, line: &str) -> String {
    format!("{:.3} {line}", since(started, at).as_secs_f64())
}

fn seconds(elapsed: Duration) -> String {
    format!("{:.1}s", elapsed.as_secs_f64())
}

/// Time between two moments; none if the clock went back.
fn since(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kiln_executor::event::Stream;

    /// Renders events given as (milliseconds, kind).
    fn render(events: Vec<(i64, EventKind)>) -> String {
        let mut out = Vec::new();
        let mut plain = Plain::new(&mut out);
        for (milliseconds, kind) in events {
            let at = Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap();
            plain.event(&Event { at, kind });
        }
        String::from_utf8(out).unwrap()
    }

    fn start(n: u32, name: &str) -> EventKind {
        EventKind::VertexStarted {
            vertex: VertexId(n),
            name: name.to_owned(),
        }
    }

    fn log(n: u32, text: &str) -> EventKind {
        EventKind::Log {
            vertex: VertexId(n),
            stream: Stream::Stdout,
            data: text.into(),
        }
    }

    fn done(n: u32, milliseconds: u64) -> EventKind {
        EventKind::VertexDone {
            vertex: VertexId(n),
            elapsed: Duration::from_millis(milliseconds),
        }
    }

    #[test]
    fn one_step_after_another() {
        // R-PROG-1
        let text = render(vec![
            (
                0,
                start(1, "[internal] load build definition from Dockerfile"),
            ),
            (10, done(1, 10)),
            (20, start(2, "[1/3] FROM docker.io/library/alpine:3")),
            (
                30,
                EventKind::VertexCached {
                    vertex: VertexId(2),
                },
            ),
            (40, start(3, "[2/3] RUN make check")),
            (163, log(3, "compiling\ntest_pa")),
            (2450, log(3, "rse ... FAILED")),
            (
                2640,
                EventKind::VertexFailed {
                    vertex: VertexId(3),
                    message: "exit status 2".to_owned(),
                    elapsed: Duration::from_millis(2600),
                },
            ),
        ]);
        let expected = "\
#1 [internal] load build definition from Dockerfile
#1 DONE 0.0s

#2 [1/3] FROM docker.io/library/alpine:3
#2 CACHED

#3 [2/3] RUN make check
#3 0.123 compiling
#3 2.600 test_parse ... FAILED
#3 ERROR: exit status 2 (2.6s)
";
        assert_eq!(text, expected);
    }

    #[test]
    fn steps_at_the_same_time_take_turns() {
        let text = render(vec![
            (0, start(1, "[a 1/1] RUN a")),
            (0, start(2, "[b 1/1] RUN b")),
            (100, log(1, "a1\n")),
            (200, log(2, "b1\n")),
            (300, log(1, "a2\n")),
            (1500, log(2, "b2\n")),
            (
                1600,
                EventKind::VertexCanceled {
                    vertex: VertexId(2),
                },
            ),
            (1700, done(1, 1700)),
        ]);
        let expected = "\
#1 [a 1/1] RUN a
#1 0.100 a1
#1 0.300 a2
#1 ...

#2 [b 1/1] RUN b
#2 0.200 b1
#2 1.500 b2
#2 CANCELED

#1 [a 1/1] RUN a
#1 DONE 1.7s
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_a_step_used_is_told_when_it_was_much() {
        let used = |user| EventKind::Used {
            vertex: VertexId(1),
            usage: Usage {
                user: Duration::from_millis(user),
                peak_memory: 300_000_000,
                whole_step: user > 1000,
                read: 1_200_000,
                ..Usage::default()
            },
        };
        let text = render(vec![
            (0, start(1, "[1/1] RUN make")),
            (1, used(2500)),
            (2, done(1, 2)),
        ]);
        let line = "used 2.5s of CPU; memory: at most 300MB; disk: 1.2MB read, 0B written";
        assert_eq!(
            text,
            format!("#1 [1/1] RUN make\n#1 {line}\n#1 DONE 0.0s\n")
        );
        assert_eq!(worth_telling(&Usage::default()), None);
    }

    #[test]
    fn a_layer_is_told_when_it_is_whole() {
        let part = |current| EventKind::Progress {
            vertex: VertexId(1),
            part: "sha256:abc".to_owned(),
            current,
            total: Some(3_370_000),
        };
        let text = render(vec![
            (0, start(1, "pull")),
            (1, part(10)),
            (2, part(3_370_000)),
            (3, done(1, 3)),
        ]);
        assert_eq!(text, "#1 pull\n#1 sha256:abc 3.37MB done\n#1 DONE 0.0s\n");
    }
}
