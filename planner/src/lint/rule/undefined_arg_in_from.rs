//! FROM with a variable that nobody declares; the evaluation tells it.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "UndefinedArgInFrom",
    severity: Severity::Warning,
    experimental: false,
    summary: "FROM command must use declared ARGs",
    page: include_str!("undefined-arg-in-from.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    subject.all_told("UndefinedArgInFrom")
}
