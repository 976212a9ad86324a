//! A stage name with capital letters; the parser tells it.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "StageNameCasing",
    severity: Severity::Warning,
    experimental: false,
    summary: "Stage names should be lowercase",
    page: include_str!("stage-name-casing.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let told = subject.told(RULE.id);
    told.map(|(found, span)| found.edit(span, subject.text(span).to_lowercase()))
        .collect()
}
