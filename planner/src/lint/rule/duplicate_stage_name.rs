//! Two stages of one name.

use std::collections::HashSet;

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "DuplicateStageName",
    severity: Severity::Warning,
    experimental: false,
    summary: "Stage names should be unique",
    page: include_str!("duplicate-stage-name.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut seen = HashSet::new();
    let names = subject
        .parsed
        .dockerfile
        .stages
        .iter()
        .filter_map(|stage| stage.from.name.as_ref());
    names
        .filter(|name| !seen.insert(name.value.as_str()))
        .map(|name| {
            let message = format!(
                "Duplicate stage name {:?}, stage names should be unique",
                name.value
            );
            Found::new(name.span, message)
        })
        .collect()
}
