//! CMD or ENTRYPOINT in shell form without a SHELL; the evaluation tells it.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "JSONArgsRecommended",
    severity: Severity::Warning,
    experimental: false,
    summary: "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    page: include_str!("json-args-recommended.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    subject.all_told("JSONArgsRecommended")
}
