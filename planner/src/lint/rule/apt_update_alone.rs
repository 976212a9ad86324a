//! `apt-get update` in a RUN that installs nothing.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::shell::Command;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-apt-update-alone",
    severity: Severity::Warning,
    experimental: false,
    summary: "`apt-get update` belongs in the RUN that installs",
    page: include_str!("apt-update-alone.md"),
    check,
};

/// Commands that surely don't install anything.
const HARMLESS: [&str; 6] = ["rm", "echo", "set", "true", "mkdir", ":"];

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for run in subject.all_scripts() {
        let commands = &run.script.commands;
        let updates = commands
            .iter()
            .find(|command| command.apt() == Some("update"));
        let is_harmless = |command: &Command| {
            matches!(command.apt(), Some("update" | "clean" | "autoclean"))
                || HARMLESS.contains(&command.name())
        };
        if let Some(update) = updates
            && commands.iter().all(is_harmless)
            && !run.mounts_over("/var/lib/apt/lists")
        {
            let words = format!("{} update", update.name());
            let message = format!("`{words}` in a RUN of its own");
            let help = "the layer with the lists is cached: a later install takes old versions, or fails; update and install in one RUN";
            let span = subject.place_of(run, update, &words);
            found.push(Found::new(span, message).help(help));
        }
    }
    found
}
