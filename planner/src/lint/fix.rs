//! Mechanical fixes.

use kiln_parser::{Source, parse};

use super::{CheckConfig, ContextView, Edit, Finding, Subject, check};
use crate::{Bases, PlanOptions, survey};

/// The text with the edits of all findings made, every other byte as it was. Where the edits of two findings touch the same bytes the
/// first finding's are made, and the other's wait for the next run.
#[must_use]
pub fn fix(text: &str, findings: &[Finding]) -> String {
    let mut chosen: Vec<&Edit> = Vec::new();
    for finding in findings {
        let free = finding
            .edits
            .iter()
            .all(|edit| fits(text, edit) && !chosen.iter().any(|other| overlap(edit, other)));
        if free {
            chosen.extend(&finding.edits);
        }
    }
    chosen.sort_by_key(|edit| edit.span);
    let mut fixed = String::with_capacity(text.len());
    let mut at = 0;
    for edit in chosen {
        fixed.push_str(&text[at..edit.span.start]);
        fixed.push_str(&edit.text);
        at = edit.span.end;
    }
    fixed.push_str(&text[at..]);
    fixed
}

fn fits(text: &str, edit: &Edit) -> bool {
    text.get(edit.span.range()).is_some()
}

fn overlap(a: &Edit, b: &Edit) -> bool {
    a.span.start < b.span.end && b.span.start < a.span.end || a.span == b.span
}

/// How often fixes are looked for again: one may uncover another.
const MOST_ROUNDS: usize = 8;

/// A Dockerfile with all that is mechanical mended. Mending what it gives changes nothing.
#[must_use]
pub fn fix_all(
    source: &Source,
    options: &PlanOptions,
    bases: &Bases,
    context: Option<ContextView<'_>>,
    config: &CheckConfig,
) -> String {
    let mut source = source.clone();
    for _ in 0..MOST_ROUNDS {
        let parsed = parse(&source);
        let survey = survey(&parsed, options, bases);
        let findings = check(&Subject::new(&source, &parsed, &survey, context), config);
        let fixed = fix(source.text(), &findings);
        if fixed == source.text() {
            break;
        }
        source = Source::new(source.name(), fixed);
    }
    source.text().to_owned()
}
