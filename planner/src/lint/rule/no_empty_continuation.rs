//! A blank line inside a continuation; the parser tells it (R-LEX-7).

use kiln_parser::Span;

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "NoEmptyContinuation",
    severity: Severity::Warning,
    experimental: false,
    summary: "Empty continuation lines will become errors in a future release",
    page: include_str!("no-empty-continuation.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let told = subject.told(RULE.id);
    told.map(|(found, last_line)| {
        let instruction = subject.instruction_at(last_line.start);
        let start = instruction.map(|(span, _)| span.start);
        start
            .into_iter()
            .flat_map(|start| blank_lines(subject, Span::new(start, last_line.start)))
            .fold(found, |found, line| found.edit(line, ""))
    })
    .collect()
}

/// The blank lines that begin in a span, with their line ends.
fn blank_lines(subject: &Subject<'_>, span: Span) -> Vec<Span> {
    let mut at = span.start;
    let mut blank = Vec::new();
    for line in subject.text(span).split_inclusive('\n') {
        if line.trim().is_empty() && line.ends_with('\n') {
            blank.push(Span::new(at, at + line.len()));
        }
        at += line.len();
    }
    blank
}
