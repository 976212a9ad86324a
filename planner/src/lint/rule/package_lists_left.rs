//! APT's package lists stay in a layer of the final image.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::shell::Command;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-package-lists-left",
    severity: Severity::Warning,
    experimental: false,
    summary: "Package lists should not stay in the image",
    page: include_str!("package-lists-left.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (stage, _) in subject.shipped() {
        for run in subject.scripts(stage) {
            let commands = &run.script.commands;
            let updates = commands
                .iter()
                .any(|command| command.apt() == Some("update"));
            let install = commands
                .iter()
                .find(|command| command.apt() == Some("install"));
            if let Some(install) = install
                && updates
                && !commands.iter().any(removes_lists)
                && !run.mounts_over("/var/lib/apt/lists")
            {
                let words = format!("{} install", install.name());
                let message = "the package lists of APT stay in the layer";
                let help = "end the RUN with `rm -rf /var/lib/apt/lists/*`, or mount a cache over `/var/lib/apt`";
                let span = subject.place_of(run, install, &words);
                found.push(Found::new(span, message).help(help));
            }
        }
    }
    found
}

/// Also by `find … -delete`, by `apt-get dist-clean`, or by a name that only the shell knows.
fn removes_lists(command: &Command) -> bool {
    matches!(command.apt(), Some("dist-clean" | "distclean"))
        || command.words.iter().any(|word| {
            word.contains("/var/lib/apt") || (command.name() == "rm" && word.contains("/var/lib/*"))
        })
        || (command.name() == "rm" && command.words.iter().any(|word| word.contains('$')))
}
