//! A stage with a name that means something else.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "ReservedStageName",
    severity: Severity::Warning,
    experimental: false,
    summary: "Reserved words should not be used as stage names",
    page: include_str!("reserved-stage-name.md"),
    check,
};

/// The names that FROM and named contexts give a meaning of their own.
const RESERVED: [&str; 2] = ["scratch", "context"];

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let stages = subject.parsed.dockerfile.stages.iter();
    stages
        .filter_map(|stage| stage.from.name.as_ref())
        .filter(|name| RESERVED.contains(&name.value.as_str()))
        .map(|name| {
            let message = format!(
                "Stage name should not use the same name as reserved stage {:?}",
                name.value
            );
            Found::new(name.span, message)
        })
        .collect()
}
