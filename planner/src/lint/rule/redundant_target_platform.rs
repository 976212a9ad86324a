//! `--platform=$TARGETPLATFORM`, which is what happens without.

use kiln_parser::{Span, Word};

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
        .filter(|platform| is_target_platform(platform))
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

/// Whether it gives just that variable's value, and reads no other; the variable is always set, so a default changes nothing.
fn is_target_platform(platform: &Word) -> bool {
    let (name, value) = ("TARGETPLATFORM", "os/arch");
    let variables = vec![(name.to_owned(), value.to_owned())];
    let expanded = platform.expand(&variables);
    expanded.is_ok_and(|it| it.used == [name] && it.text == value)
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
