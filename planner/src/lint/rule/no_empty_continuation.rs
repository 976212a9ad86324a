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
        let instruction = subject.instruction_before(last_line.start);
        let lines = instruction.map(|span| Span::new(span.start, end_of_line(subject, last_line)));
        lines
            .into_iter()
            .flat_map(|lines| blank_lines(subject, lines))
            .fold(found, |found, line| found.edit(line, ""))
    })
    .collect()
}

/// Just after the line end; a file may end with blank lines.
fn end_of_line(subject: &Subject<'_>, line: Span) -> usize {
    let text = subject.source.text();
    let rest = text.get(line.start..).unwrap_or_default();
    rest.find('\n')
        .map_or(text.len(), |at| line.start + at + 1)
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
