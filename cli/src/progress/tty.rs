//! Progress on a terminal: one line for each running step with its clock and the last lines of its output below it;
//! steps that ended move up and stay. A line at the bottom counts.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use kiln_executor::event::{Event, EventKind, VertexId};

use super::lines::Lines;
use super::{Account, Renderer, SAME_OUTPUT, put};
use crate::human;
use crate::render::shown;

/// Lines of output kept visible below a running step.
const TAIL: usize = 5;

/// The renderer of `--progress=tty`.
pub(super) struct Tty {
    screen: MultiProgress,
    paint: Paint,
    running: HashMap<VertexId, Step>,
    footer: ProgressBar,
    started: Instant,
    ended: usize,
}

/// A running step's part of the screen.
struct Step {
    name: String,
    started: Instant,
    line: ProgressBar,
    /// The bars of the tail, in order; each shows one line.
    tail_bars: Vec<ProgressBar>,
    tail: VecDeque<String>,
    lines: Lines,
    parts: HashMap<String, (u64, Option<u64>)>,
    /// Whether it was done again for nothing.
    same_output: bool,
}

/// The colours, or none.
#[derive(Debug, Clone, Copy)]
struct Paint {
    color: bool,
}

impl Tty {
    pub(super) fn new(color: bool) -> Self {
        let screen = MultiProgress::new();
        let paint = Paint { color };
        let footer =
            screen.add(ProgressBar::new_spinner().with_style(paint.style(false, "{wide_msg}")));
        Self {
            screen,
            paint,
            running: HashMap::new(),
            footer,
            started: Instant::now(),
            ended: 0,
        }
    }

    fn start(&mut self, vertex: VertexId, name: &str) {
        let bar = ProgressBar::new_spinner()
            .with_style(self.paint.style(true, " {spinner} {wide_msg} {prefix}"));
        let line = self.screen.insert_before(&self.footer, bar);
        line.set_message(one_line(name));
        line.tick();
        let step = Step {
            name: one_line(name),
            started: Instant::now(),
            line,
            tail_bars: Vec::new(),
            tail: VecDeque::new(),
            lines: Lines::default(),
            parts: HashMap::new(),
            same_output: false,
        };
        self.running.insert(vertex, step);
    }

    fn log(&mut self, vertex: VertexId, data: &[u8]) {
        let Some(step) = self.running.get_mut(&vertex) else {
            return;
        };
        let lines = step.lines.push(data);
        step.tail
            .extend(lines.into_iter().filter(|line| !line.is_empty()));
        let surplus = step.tail.len().saturating_sub(TAIL);
        step.tail.drain(..surplus);
        while step.tail_bars.len() < step.tail.len() {
            let above = step.tail_bars.last().unwrap_or(&step.line);
            let bar =
                ProgressBar::new_spinner().with_style(self.paint.style(false, "   {wide_msg}"));
            step.tail_bars.push(self.screen.insert_after(above, bar));
        }
        for (bar, line) in step.tail_bars.iter().zip(&step.tail) {
            bar.set_message(self.paint.dim(line));
        }
    }

    fn progress(&mut self, vertex: VertexId, part: &str, current: u64, total: Option<u64>) {
        let Some(step) = self.running.get_mut(&vertex) else {
            return;
        };
        step.parts.insert(part.to_owned(), (current, total));
        step.line
            .set_message(format!("{}  {}", step.name, step.transferred()));
    }

    /// Moves a step up among the ended ones.
    fn end(&mut self, vertex: VertexId, mark: &str, last: &str) {
        let Some(step) = self.running.remove(&vertex) else {
            return;
        };
        self.ended += 1;
        for bar in step.tail_bars.iter().chain([&step.line]) {
            bar.finish_and_clear();
            self.screen.remove(bar);
        }
        // A terminal that went away is noticed elsewhere.
        let _ = self
            .screen
            .println(format!(" {mark} {}  {}", step.name, self.paint.dim(last)));
    }
}

impl Renderer for Tty {
    fn event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::VertexStarted { vertex, name } => self.start(*vertex, name),
            EventKind::Log { vertex, data, .. } => self.log(*vertex, data),
            EventKind::Progress {
                vertex,
                part,
                current,
                total,
            } => self.progress(*vertex, part, *current, *total),
            EventKind::Used { .. } => {}
            EventKind::Printed { .. } => {} // more than is to be shown
            EventKind::Kept { .. } => {}    // told with the failure
            EventKind::SameOutput { vertex } => {
                if let Some(step) = self.running.get_mut(vertex) {
                    step.same_output = true;
                }
            }
            EventKind::VertexCached { vertex } => self.end(*vertex, &self.paint.good(), "CACHED"),
            EventKind::VertexDone { vertex, elapsed } => {
                let step = self.running.get(vertex);
                let last = match step.is_some_and(|step| step.same_output) {
                    true => format!("{}, {SAME_OUTPUT}", human::elapsed(*elapsed)),
                    false => human::elapsed(*elapsed),
                };
                self.end(*vertex, &self.paint.good(), &last);
            }
            EventKind::VertexFailed {
                vertex,
                message,
                elapsed,
            } => {
                let last = format!("{} ({})", one_line(message), human::elapsed(*elapsed));
                self.end(*vertex, &self.paint.bad(), &last);
            }
            EventKind::VertexCanceled { vertex } => self.end(*vertex, "-", "CANCELED"),
        }
    }

    fn tick(&mut self) {
        for step in self.running.values() {
            step.line.set_prefix(human::elapsed(step.started.elapsed()));
            step.line.tick();
        }
        let clock = human::elapsed(self.started.elapsed());
        self.footer.set_message(self.paint.dim(&format!(
            "building {clock}, {} running, {} done",
            self.running.len(),
            self.ended
        )));
    }

    fn finish(&mut self, account: &Account) {
        for step in self.running.values() {
            step.line.finish_and_clear();
        }
        self.footer.finish_and_clear();
        let _ = self.screen.clear();
        put(
            &mut std::io::stderr(),
            format_args!("{}\n", summary(account, self.started.elapsed())),
        );
    }
}

impl Step {
    /// The sum over all parts: `3.2MB / 10MB`, without a total where one part has none.
    fn transferred(&self) -> String {
        let current = self.parts.values().map(|(current, _)| current).sum();
        let total = self
            .parts
            .values()
            .map(|(_, total)| *total)
            .sum::<Option<u64>>();
        match total {
            Some(total) => format!("{} / {}", human::size(current), human::size(total)),
            None => human::size(current),
        }
    }
}

impl Paint {
    fn style(self, spinner: bool, template: &str) -> ProgressStyle {
        let template = match spinner && self.color {
            true => template.replace("{spinner}", "{spinner:.cyan}"),
            false => template.to_owned(),
        };
        ProgressStyle::with_template(&template).expect("the templates of this file are well formed")
    }

    fn good(self) -> String {
        self.wrap("32", "✔")
    }

    fn bad(self) -> String {
        self.wrap("31", "✘")
    }

    fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self.color {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }
}

/// The last line: `8 steps, 5 cached, 3.2s`.
fn summary(account: &Account, elapsed: Duration) -> String {
    format!(
        "{} steps, {} cached, {}",
        account.done,
        account.cached,
        human::elapsed(elapsed)
    )
}

/// A step's name without line ends.
fn one_line(name: &str) -> String {
    let name = shown(name);
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts() {
        let mut account = Account::default();
        account.done = 8;
        account.cached = 5;
        assert_eq!(
            summary(&account, Duration::from_millis(3210)),
            "8 steps, 5 cached, 3.2s"
        );
    }

    #[test]
    fn names_take_one_line() {
        assert_eq!(one_line("RUN a  &&\n   b"), "RUN a && b");
    }
}
