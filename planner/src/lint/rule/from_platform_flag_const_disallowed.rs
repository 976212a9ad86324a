//! `--platform` without a variable.

use kiln_image::Platform;

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "FromPlatformFlagConstDisallowed",
    severity: Severity::Warning,
    experimental: false,
    summary: "FROM --platform flag should not use a constant value",
    page: include_str!("from-platform-flag-const-disallowed.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for stage in &subject.parsed.dockerfile.stages {
        let Some(flag) = stage.from.platform.as_ref() else {
            continue;
        };
        let Ok(platform) = flag.raw().parse::<Platform>() else {
            continue;
        };
        // A stage that is named after its platform is meant to have it.
        let name = stage.name().unwrap_or_default();
        if name.contains(&platform.os) || name.contains(&platform.architecture) {
            continue;
        }
        let message = format!(
            "FROM --platform flag should not use constant value {:?}",
            flag.raw()
        );
        found.push(Found::new(flag.span, message));
    }
    found
}
