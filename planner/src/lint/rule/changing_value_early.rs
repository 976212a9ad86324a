//! A value that changes with every build stands above a RUN that doesn't use it.

use std::collections::HashSet;

use kiln_parser::{Instruction, Span};

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-changing-value-early",
    severity: Severity::Advice,
    experimental: false,
    summary: "What changes often should come late",
    page: include_str!("changing-value-early.md"),
    check,
};

/// Names of values that are new in every build.
const CHANGING: [&str; 14] = [
    "BUILD_DATE",
    "BUILD_ID",
    "BUILD_NUMBER",
    "BUILD_TIME",
    "BUILD_TIMESTAMP",
    "CI_COMMIT_SHA",
    "COMMIT",
    "COMMIT_SHA",
    "GITHUB_SHA",
    "GIT_COMMIT",
    "GIT_HASH",
    "GIT_REVISION",
    "GIT_SHA",
    "VCS_REF",
];

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (_, stage) in subject.stages() {
        let mut seen = HashSet::new();
        for (at, statement) in stage.statements.iter().enumerate() {
            let Some((name, span)) = declared(&statement.instruction) else {
                continue;
            };
            if !seen.insert(name) {
                continue;
            }
            let runs = stage.statements[at + 1..]
                .iter()
                .filter(|later| matches!(later.instruction, Instruction::Run(_)));
            let mut runs = runs.peekable();
            let redone = runs.peek().is_some();
            if redone && !runs.any(|run| subject.text(run.span).contains(name)) {
                let message = format!("every new `{name}` does the RUNs below again");
                let help = "declare it after the last RUN that does not need it";
                found.push(Found::new(span, message).help(help));
            }
        }
    }
    found
}

fn declared(instruction: &Instruction) -> Option<(&str, Span)> {
    let mut names: Box<dyn Iterator<Item = (&str, Span)>> = match instruction {
        Instruction::Arg(arg) => Box::new(
            arg.pairs
                .iter()
                .map(|pair| (pair.name.value.as_str(), pair.name.span)),
        ),
        Instruction::Env(env) => Box::new(env.pairs.iter().map(|(key, _)| (key.raw(), key.span))),
        _ => return None,
    };
    names.find(|(name, _)| CHANGING.contains(name))
}
