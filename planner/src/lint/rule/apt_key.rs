//! `apt-key`, which Debian has removed.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::shell::Command;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-apt-key",
    severity: Severity::Warning,
    experimental: false,
    summary: "Keys of repositories belong in files of their own",
    page: include_str!("apt-key.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for run in subject.all_scripts() {
        let uses = |command: &&Command| {
            command.name() == "apt-key" && (command.has("add") || command.has("adv"))
        };
        if run.script.commands.iter().any(|command| uses(&command)) {
            let message = "`apt-key` is deprecated, and gone from Debian 13";
            let help = "put the key below `/etc/apt/keyrings` and name it with `signed-by`";
            let span = subject.place(run.statement.span, "apt-key");
            found.push(Found::new(span, message).help(help));
        }
    }
    found
}
