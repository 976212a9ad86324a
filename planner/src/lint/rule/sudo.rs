//! `sudo` in a RUN.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-sudo",
    severity: Severity::Warning,
    experimental: false,
    summary: "USER says who runs a step, not sudo",
    page: include_str!("sudo.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for run in subject.all_scripts() {
        for command in &run.script.commands {
            if command.name() == "sudo" {
                let message = "`sudo` in a RUN";
                let help =
                    "say `USER root` before the step and `USER` with the other name after it";
                let span = subject.place_of(run, command, "sudo");
                found.push(Found::new(span, message).help(help));
                break;
            }
        }
    }
    found
}
