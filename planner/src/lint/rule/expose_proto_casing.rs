//! A protocol of EXPOSE in capital letters; the evaluation tells it.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "ExposeProtoCasing",
    severity: Severity::Warning,
    experimental: false,
    summary: "Protocol in EXPOSE instruction should be lowercase",
    page: include_str!("expose-proto-casing.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let told = subject.told(RULE.id);
    told.map(|(found, span)| {
        // A port in a variable, or one that a trigger exposes, is not written here.
        match subject.text(span).split_once('/') {
            Some((port, protocol)) if !port.contains(['$', ' ']) && !protocol.contains('$') => {
                found.edit(span, format!("{port}/{}", protocol.to_lowercase()))
            }
            _ => found,
        }
    })
    .collect()
}
