//! `--platform=$TARGETPLATFORM`, which is what happens without.

use kiln_parser::Span;

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "RedundantTargetPlatform",
    severity: Severity::Warning,
    experimental: false,
    summary: "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    page: include_str!("redundant-target-platform.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let stages = subject.parsed.dockerfile.stages.iter();
    stages
        .filter_map(|stage| stage.from.platform.as_ref())
        .filter(|platform| is_target_platform(platform.raw()))
        .map(|platform| {
            let message = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                platform.raw()
            );
            let found = Found::new(platform.span, message);
            match flag(subject.source.text(), platform.span) {
                Some(flag) => found.edit(flag, ""),
                None => found,
            }
        })
        .collect()
}

fn is_target_platform(raw: &str) -> bool {
    let name = raw
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .or_else(|| raw.strip_prefix('$'));
    name == Some("TARGETPLATFORM")
}

/// The whole flag and the blanks after it.
fn flag(text: &str, value: Span) -> Option<Span> {
    let start = value.start.checked_sub("--platform=".len())?;
    if text.get(start..value.start)? != "--platform=" {
        return None;
    }
    let after = text.get(value.end..)?;
    let blanks = after.len() - after.trim_start_matches([' ', '\t']).len();
    (blanks > 0).then(|| Span::new(start, value.end + blanks))
}
