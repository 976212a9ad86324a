//! COPY or ADD of what `.dockerignore` leaves out.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "CopyIgnoredFile",
    severity: Severity::Warning,
    experimental: false,
    summary: "Attempting to copy file that is excluded by .dockerignore",
    page: include_str!("copy-ignored-file.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let Some(context) = subject.context else {
        return Vec::new();
    };
    // What an exception lets back in is not easily known.
    if context.ignore.has_exceptions() {
        return Vec::new();
    }
    let reads = subject.survey.context_reads.iter();
    reads
        .filter(|read| context.ignore.ignores(&read.path))
        .map(|read| {
            let act = if read.add { "Add" } else { "Copy" };
            let message = format!(
                "Attempting to {act} file {:?} that is excluded by .dockerignore",
                read.path
            );
            Found::new(read.span, message)
        })
        .collect()
}
