//! A service that is started as the last thing a RUN does.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::shell::Command;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-service-without-effect",
    severity: Severity::Warning,
    experimental: false,
    summary: "What a RUN starts ends with it",
    page: include_str!("service-without-effect.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for run in subject.all_scripts() {
        let last = run.script.commands.last();
        if let Some(start) = last.filter(|command| starts_service(command)) {
            let words = start.words.join(" ");
            let message = format!("what `{words}` starts ends with its RUN");
            let help = "start it with CMD or ENTRYPOINT, in the foreground";
            let span = subject.place_of(run, start, &words);
            found.push(Found::new(span, message).help(help));
        }
    }
    found
}

fn starts_service(command: &Command) -> bool {
    let starts = |word: Option<&String>| {
        word.is_some_and(|word| matches!(word.as_str(), "start" | "restart"))
    };
    let words = &command.words;
    match command.name() {
        "service" => starts(words.get(2)),
        "systemctl" => starts(words.get(1)),
        _ => words[0].starts_with("/etc/init.d/") && starts(words.get(1)),
    }
}
