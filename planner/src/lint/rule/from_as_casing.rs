//! FROM and AS in different letter case; the parser tells it.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "FromAsCasing",
    severity: Severity::Warning,
    experimental: false,
    summary: "The 'as' keyword should match the case of the 'from' keyword",
    page: include_str!("from-as-casing.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let told = subject.told(RULE.id);
    told.map(|(found, span)| {
        let keyword = subject.text(span);
        let stages = &subject.parsed.dockerfile.stages;
        let after = stages.partition_point(|stage| stage.span.start <= span.start);
        let stage = after.checked_sub(1).map(|index| &stages[index]);
        match stage {
            Some(stage) if is_lower(&stage.keyword) => found.edit(span, keyword.to_lowercase()),
            Some(_) => found.edit(span, keyword.to_uppercase()),
            None => found,
        }
    })
    .collect()
}

fn is_lower(keyword: &str) -> bool {
    keyword.chars().all(char::is_lowercase)
}
