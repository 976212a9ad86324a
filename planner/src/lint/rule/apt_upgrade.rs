//! `apt-get upgrade` in a RUN.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-apt-upgrade",
    severity: Severity::Advice,
    experimental: false,
    summary: "A newer base image is better than an upgrade in a layer",
    page: include_str!("apt-upgrade.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for run in subject.all_scripts() {
        for command in &run.script.commands {
            if let Some(upgrade @ ("upgrade" | "dist-upgrade" | "full-upgrade")) = command.apt() {
                let message = format!(
                    "`{} {upgrade}` makes every build another image",
                    command.name()
                );
                let help = "build on a newer base image instead";
                // With names it mends those packages, which the base image may lag behind with.
                if command.operands().any(|operand| operand != upgrade) {
                    continue;
                }
                let span = subject.place_of(run, command, &command.shown(upgrade));
                found.push(Found::new(span, message).help(help));
                break;
            }
        }
    }
    found
}
