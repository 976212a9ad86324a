//! `ENV key value` and `LABEL key value`; the parser tells it (R-ENV-1).

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "LegacyKeyValueFormat",
    severity: Severity::Warning,
    experimental: false,
    summary: "Legacy key/value format with whitespace separator should not be used",
    page: include_str!("legacy-key-value-format.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let told = subject.told(RULE.id);
    told.map(|(found, span)| match with_equals(subject.text(span)) {
        Some(text) => found.edit(span, text),
        None => found,
    })
    .collect()
}

/// `key=value`, where that surely means the same.
fn with_equals(text: &str) -> Option<String> {
    let (key, value) = text.trim().split_once([' ', '\t'])?;
    let value = value.trim();
    let special = |c: char| matches!(c, '"' | '\'' | '\\' | '`' | '\n');
    if value.is_empty() || key.contains(special) || value.contains(special) {
        return None;
    }
    Some(if value.contains(char::is_whitespace) {
        format!("{key}=\"{value}\"")
    } else {
        format!("{key}={value}")
    })
}
