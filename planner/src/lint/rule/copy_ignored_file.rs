//! COPY or ADD of what `.dockerignore` leaves out.

use kiln_parser::IgnoreFile;

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "CopyIgnoredFile",
    severity: Severity::Warning,
    experimental: false,
    summary: "Attempting to Copy file that is excluded by .dockerignore",
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
        .filter(|read| match read.path.as_str() {
            // The root is ignored only with all that is in it.
            "." => hides_all(context.ignore),
            path => context.ignore.ignores(path),
        })
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

fn hides_all(ignore: &IgnoreFile) -> bool {
    ignore.rules().iter().any(|rule| {
        let pattern = rule.pattern.trim_start_matches("./");
        let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
        matches!(pattern, "*" | "**" | "**/*")
    })
}
