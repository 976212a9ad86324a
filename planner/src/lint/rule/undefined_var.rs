//! A variable that nobody sets or declares; the evaluation tells it.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "UndefinedVar",
    severity: Severity::Warning,
    experimental: false,
    summary: "Variables should be defined before their use",
    page: include_str!("undefined-var.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    subject.all_told("UndefinedVar")
}
