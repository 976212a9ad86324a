//! An address or a host port in EXPOSE; the evaluation tells it.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "ExposeInvalidFormat",
    severity: Severity::Warning,
    experimental: false,
    summary: "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
    page: include_str!("expose-invalid-format.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    subject.all_told("ExposeInvalidFormat")
}
