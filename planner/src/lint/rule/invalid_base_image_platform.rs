//! A base image for another machine; the evaluation tells it.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "InvalidBaseImagePlatform",
    severity: Severity::Warning,
    experimental: false,
    summary: "Base image platform does not match expected target platform",
    page: include_str!("invalid-base-image-platform.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    subject.all_told("InvalidBaseImagePlatform")
}
