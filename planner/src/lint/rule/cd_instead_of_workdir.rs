//! A RUN that begins with `cd`.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::shell::Joint;
use crate::lint::subject::{RunScript, Subject};

pub(super) static RULE: Rule = Rule {
    id: "K-cd-instead-of-workdir",
    severity: Severity::Advice,
    experimental: false,
    summary: "WORKDIR says once where the following steps work",
    page: include_str!("cd-instead-of-workdir.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (index, _) in subject.stages() {
        let mut before: Option<&str> = None;
        for run in subject.scripts(index) {
            let Some(folder) = first_folder(run) else {
                continue;
            };
            let words = format!("cd {folder}");
            let message = if before == Some(folder) {
                Some(format!("`{words}` begins one RUN after another"))
            } else if is_all_about(run, folder) {
                Some(format!("`{words}` in a RUN, where WORKDIR would do"))
            } else {
                None
            };
            if let Some(message) = message {
                let span = subject.place_of(run, &run.script.commands[0], &words);
                found.push(Found::new(span, message).help(format!("say `WORKDIR {folder}` once")));
            }
            before = Some(folder);
        }
    }
    found
}

/// Where a RUN goes first of all, to do something there.
fn first_folder<'r>(run: &'r RunScript<'_>) -> Option<&'r str> {
    let [cd, next, ..] = run.script.commands.as_slice() else {
        return None;
    };
    let [folder] = cd.arguments() else {
        return None;
    };
    let goes_on = matches!(next.joint, Joint::And | Joint::Then);
    (cd.name() == "cd" && goes_on).then_some(folder.as_str())
}

/// Whether the RUN does one thing in that folder and nothing else; longer scripts go where they please, and so do those with a
/// folder of their own below `/tmp`.
fn is_all_about(run: &RunScript<'_>, folder: &str) -> bool {
    let is_plain = folder.starts_with('/') && !folder.contains('$') && !folder.starts_with("/tmp");
    is_plain && matches!(run.script.commands.as_slice(), [_, only] if only.joint == Joint::And)
}
