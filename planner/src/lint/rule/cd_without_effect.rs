//! `cd` as the last command of a RUN.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-cd-without-effect",
    severity: Severity::Warning,
    experimental: false,
    summary: "WORKDIR changes the folder for what follows, `cd` does not",
    page: include_str!("cd-without-effect.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for run in subject.all_scripts() {
        let last = run.script.commands.last();
        if let Some(cd) = last.filter(|command| command.name() == "cd") {
            let words = cd.words.join(" ");
            let message = format!("`{words}` ends with its RUN");
            let help = "write `WORKDIR`; each RUN starts in the folder that WORKDIR names";
            let span = subject.place_of(run, cd, &words);
            found.push(Found::new(span, message).help(help));
        }
    }
    found
}
