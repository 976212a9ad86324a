//! The whole context is copied, with files that don't belong in an image.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::secret_files;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-context-clutter",
    severity: Severity::Warning,
    experimental: false,
    summary: "`.dockerignore` should hide what the image does not need",
    page: include_str!("context-clutter.md"),
    check,
};

/// Folders that every build makes anew, or should not know.
const CLUTTER: [&str; 6] = [
    ".git",
    ".hg",
    ".svn",
    ".venv",
    "__pycache__",
    "node_modules",
];

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let Some(context) = subject.context else {
        return Vec::new();
    };
    let is_clutter =
        |name: &&String| CLUTTER.contains(&name.as_str()) || secret_files::is_secret(name);
    let names: Vec<String> = context
        .visible
        .iter()
        .filter(is_clutter)
        .map(|name| format!("`{name}`"))
        .collect();
    if names.is_empty() {
        return Vec::new();
    }
    let reads = subject.survey.context_reads.iter();
    reads
        .filter(|read| read.path == "." && !read.partial)
        .map(|read| {
            let message = format!("the whole context is copied, with {}", names.join(", "));
            Found::new(read.span, message).help("name them in `.dockerignore`")
        })
        .collect()
}
