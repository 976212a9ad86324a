//! A package manager that asks a question which nobody answers.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::shell::{Command, Joint};
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-install-asks",
    severity: Severity::Warning,
    experimental: false,
    summary: "Nobody answers a package manager's questions in a build",
    page: include_str!("install-asks.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (index, stage) in subject.stages() {
        // Somebody may have configured the answer once for all.
        let configured = subject
            .text(subject.stage_span(stage))
            .to_ascii_lowercase();
        if configured.contains("assume-yes") || configured.contains("assumeyes") {
            continue;
        }
        for run in subject.scripts(index) {
            let asks = run.script.commands.iter().find_map(|command| {
                let answer = answer_of(command)?;
                Some((command, answer))
            });
            if let Some((command, answer)) = asks {
                let words = command.shown(command.subcommand().unwrap_or_default());
                let message = format!("`{words}` asks before it goes on, and nobody answers");
                let span = subject.place_of(run, command, &words);
                found.push(Found::new(span, message).help(format!("say `{answer}`")));
            }
        }
    }
    found
}

/// The option that a command lacks.
fn answer_of(command: &Command) -> Option<&'static str> {
    let is_piped = command.joint == Joint::Pipe;
    let may_be_given = command.arguments().iter().any(|word| word.starts_with('$'));
    let (answer, given): (_, &[&str]) = match (command.name(), command.subcommand()?) {
        ("apt-get" | "apt", "install") => (
            "-y",
            &["--yes", "--force-yes", "--dry-run", "--simulate", "--print-uris", "--help"],
        ),
        ("yum" | "dnf", "install") => ("-y", &["--downloadonly", "--help"]),
        ("zypper", "install" | "in") => (
            "--non-interactive",
            &["--no-confirm", "--dry-run", "--non-interactive"],
        ),
        _ => return None,
    };
    let is_given = given.iter().any(|option| command.has(option)) || has_short(command);
    (!is_piped && !may_be_given && !is_given).then_some(answer)
}

/// `-y`, `-yq`, `-qq`; zypper's `-n`; `-s`, which only simulates.
fn has_short(command: &Command) -> bool {
    command.arguments().iter().any(|word| {
        let letters = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        let is_zypper = command.name() == "zypper";
        letters.is_some_and(|letters| {
            letters.contains('y')
                || letters.contains("qq")
                || letters.contains('s')
                || (is_zypper && letters.contains('n'))
        })
    })
}
