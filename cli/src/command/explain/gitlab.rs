//! Reasons as GitLab's code quality report, which it shows beside the lines of a merge request.

use kiln_image::Digest;
use serde::Serialize;

use super::Picture;

/// One issue, with GitLab's names for its parts.
#[derive(Debug, Serialize)]
pub(super) struct Issue {
    description: String,
    check_name: &'static str,
    fingerprint: String,
    severity: &'static str,
    location: Location,
}

#[derive(Debug, Serialize)]
struct Location {
    path: String,
    lines: Lines,
}

#[derive(Debug, Serialize)]
struct Lines {
    begin: usize,
}

/// One for each step that was done.
pub(super) fn of(picture: &Picture) -> Vec<Issue> {
    let issue = |step: &super::picture::Step| {
        let description = format!("{}: {}", step.name, step.message);
        let identity = format!("{}\0{}\0{description}", picture.file(), step.step);
        Issue {
            fingerprint: Digest::of(identity.as_bytes()).hex()[..32].to_owned(),
            description,
            check_name: "kiln-rebuilt",
            severity: "info",
            location: Location {
                path: picture.file().to_owned(),
                lines: Lines {
                    begin: step.line.unwrap_or(1),
                },
            },
        }
    };
    picture.rebuilt().map(issue).collect()
}
