//! `apt-get install` with the packages that are only recommended.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-install-recommends",
    severity: Severity::Advice,
    experimental: false,
    summary: "`--no-install-recommends` keeps images small",
    page: include_str!("install-recommends.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (stage, syntax) in subject.shipped() {
        // Somebody may have configured it once for all.
        if subject
            .text(subject.stage_span(syntax))
            .contains("nstall-Recommends")
        {
            continue;
        }
        for run in subject.scripts(stage) {
            let installs = run
                .script
                .commands
                .iter()
                .filter(|command| command.apt() == Some("install"));
            for install in installs.filter(|install| !install.has("--no-install-recommends")) {
                // The options may be in a variable.
                if install.words.iter().any(|word| may_be_options(word)) {
                    continue;
                }
                let words = format!("{} install", install.name());
                let message = format!("`{words}` without `--no-install-recommends`");
                let span = subject.place_of(run, install, &words);
                found.push(Found::new(span, message));
                break;
            }
        }
    }
    found
}

fn may_be_options(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    word.starts_with('$') && ["apt", "arg", "flag", "opt"].iter().any(|part| lower.contains(part))
}
