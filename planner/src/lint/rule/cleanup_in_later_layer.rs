//! Package lists are removed in another RUN than the one that made them.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::shell::Command;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-cleanup-in-later-layer",
    severity: Severity::Warning,
    experimental: false,
    summary: "Files that an earlier layer holds are not removed by a later one",
    page: include_str!("cleanup-in-later-layer.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (stage, _) in subject.shipped() {
        let mut left = false;
        for run in subject.scripts(stage) {
            let commands = &run.script.commands;
            let updates = commands
                .iter()
                .any(|command| command.apt() == Some("update"));
            let cleaning = commands.iter().find(|command| removes_lists(command));
            if let Some(command) = cleaning
                && left
                && !updates
            {
                let span = subject.place_of(run, command, &command.words.join(" "));
                let message =
                    "the package lists are removed in a later layer than the one that holds them";
                let help = "the image stays as large as it was; remove them in the RUN with `apt-get update`";
                found.push(Found::new(span, message).help(help));
            }
            if !run.mounts_over("/var/lib/apt/lists") {
                left = match cleaning {
                    Some(_) => false,
                    None => left || updates,
                };
            }
        }
    }
    found
}

fn removes_lists(command: &Command) -> bool {
    command.name() == "rm"
        && command
            .words
            .iter()
            .any(|word| word.starts_with("/var/lib/apt/lists"))
}
