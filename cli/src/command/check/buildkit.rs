//! Findings as `docker build --check` prints them. Clause R-CHK-6.
//!
//! BuildKit's own rules come first and alone are counted; what kiln's find follows, and changes no verdict.

use std::fmt::Write;

use kiln_parser::Source;
use kiln_planner::lint::Finding;

use super::{Checked, verdict};
use crate::location;

/// The whole text.
pub(super) fn buildkit(checked: &Checked) -> String {
    let (theirs, own) = checked.by_origin();
    let mut text = String::new();
    if checked.errors.is_empty() || !theirs.is_empty() {
        text.push_str(&verdict(theirs.len()));
    }
    for finding in theirs {
        let url = finding.rule.url();
        let reference = if url.is_empty() {
            url
        } else {
            format!(" - {url}")
        };
        line(
            &mut text,
            format_args!("\nWARNING: {}{reference}", finding.rule.id),
        );
        body(&mut text, &checked.source, finding);
    }
    for finding in own {
        let severity = finding.rule.severity.to_string().to_uppercase();
        let id = finding.rule.id;
        line(
            &mut text,
            format_args!("\n{severity}: {id} - kiln check --explain {id}"),
        );
        body(&mut text, &checked.source, finding);
    }
    text
}

fn body(text: &mut String, source: &Source, finding: &Finding) {
    line(text, format_args!("{}", finding.diagnostic.message));
    if let Some(span) = finding.statement {
        text.push_str(&excerpt(source, location::first_and_last(source, span)));
    }
}

/// The lines with some around them, as many as BuildKit shows.
fn excerpt(source: &Source, (first, last): (usize, usize)) -> String {
    const RULER: &str = "--------------------";
    let lines: Vec<&str> = source.text().split('\n').collect();
    let (mut from, mut to) = (first, last.min(lines.len()));
    let wanted = if first == to { 4 } else { 2 };
    let mut added = 0;
    while added < wanted {
        if from > 1 {
            from -= 1;
            added += 1;
        }
        if to < lines.len() {
            to += 1;
            added += 1;
        }
        added += 1;
    }
    let mut text = format!("{}:{first}\n{RULER}\n", source.name());
    for number in from..=to {
        let mark = if (first..=last).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        line(
            &mut text,
            format_args!(" {number:>3} | {mark} {}", lines[number - 1]),
        );
    }
    text + RULER + "\n"
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string never fails");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_around_are_shown() {
        let source = Source::new("D", "a\nb\nc\nd\ne\nf\n");
        let cases = [
            ((1, 1), ">>> a|    b|    c"),
            ((3, 3), "   a|    b|>>> c|    d|    e"),
            ((2, 4), "   a|>>> b|>>> c|>>> d|    e"),
            ((6, 6), "   d|    e|>>> f|"),
        ];
        for (lines, expected) in cases {
            let shown = excerpt(&source, lines);
            let shown: Vec<&str> = shown
                .lines()
                .filter_map(|line| line.split_once("| ").map(|(_, text)| text))
                .collect();
            let expected: Vec<&str> = expected.split('|').map(str::trim_start).collect();
            let shown: Vec<&str> = shown.into_iter().map(str::trim_start).collect();
            assert_eq!(shown, expected, "{lines:?}");
        }
    }
}
