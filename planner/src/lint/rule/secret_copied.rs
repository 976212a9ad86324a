//! A file that holds a secret by its name is copied into the image.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::secret_files;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-secret-copied",
    severity: Severity::Warning,
    experimental: false,
    summary: "Keys and credentials don't belong in an image",
    page: include_str!("secret-copied.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let reads = subject.survey.context_reads.iter();
    reads
        .filter(|read| secret_files::is_secret(&read.path))
        .map(|read| {
            let message = format!("`{}` is in the image for everybody to read", read.path);
            let help = "hand it to the step that needs it with `RUN --mount=type=secret`";
            Found::new(read.span, message).help(help)
        })
        .collect()
}
