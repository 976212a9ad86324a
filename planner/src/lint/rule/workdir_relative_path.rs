//! A relative WORKDIR before any absolute one; the evaluation tells it.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "WorkdirRelativePath",
    severity: Severity::Warning,
    experimental: false,
    summary: "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    page: include_str!("workdir-relative-path.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    subject.all_told("WorkdirRelativePath")
}
