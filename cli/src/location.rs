//! Where something stands, as BuildKit's JSON tells it: whole lines, one range each.

use kiln_parser::{Source, Span};
use serde_json::{Value, json};

/// `{"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]}`
pub(crate) fn lines(source: &Source, span: Span) -> Value {
    ranges(source, span, |line| json!({ "line": line }))
}

/// As [`lines`], with the members that are zero.
pub(crate) fn lines_in_full(source: &Source, span: Span) -> Value {
    let mut location = ranges(source, span, |line| json!({ "line": line, "character": 0 }));
    location["sourceIndex"] = 0.into();
    location
}

fn ranges(source: &Source, span: Span, position: impl Fn(usize) -> Value) -> Value {
    let (first, last) = first_and_last(source, span);
    let ranges: Vec<Value> = (first..=last)
        .map(|line| json!({ "start": position(line), "end": position(line) }))
        .collect();
    json!({ "ranges": ranges })
}

/// The lines, from 1, that a span touches.
pub(crate) fn first_and_last(source: &Source, span: Span) -> (usize, usize) {
    let last = span.end.saturating_sub(1).max(span.start);
    (source.line_of(span), source.line_col(last).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_all_of_its_lines() {
        let source = Source::new("Dockerfile", "a\nb \\\n c\nd\n");
        let cases = [((0, 1), (1, 1)), ((2, 9), (2, 3)), ((4, 4), (2, 2))];
        for ((start, end), expected) in cases {
            let lines = first_and_last(&source, Span::new(start, end));
            assert_eq!(lines, expected, "{start}..{end}");
        }
        let line = json!({ "line": 4 });
        assert_eq!(
            lines(&source, Span::new(9, 10)),
            json!({ "ranges": [{ "start": line, "end": line }] })
        );
    }
}
