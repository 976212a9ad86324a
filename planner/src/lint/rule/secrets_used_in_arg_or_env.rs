//! ARG or ENV with a name that tells of a secret.

use kiln_parser::{Instruction, Span};

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "SecretsUsedInArgOrEnv",
    severity: Severity::Warning,
    experimental: false,
    summary: "Sensitive data should not be used in the ARG or ENV commands",
    page: include_str!("secrets-used-in-arg-or-env.md"),
    check,
};

/// Parts of names that tell of a secret.
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// Parts of names that take it back.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// Whether the name of a variable tells of a secret.
#[must_use]
pub fn names_a_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(&SECRET) && !has(&HARMLESS)
}

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for statement in subject.stages().flat_map(|(_, stage)| &stage.statements) {
        match &statement.instruction {
            Instruction::Arg(arg) => found.extend(
                arg.pairs
                    .iter()
                    .filter_map(|pair| tell("ARG", &pair.name, pair.name.span)),
            ),
            Instruction::Env(env) => found.extend(
                env.pairs
                    .iter()
                    .filter_map(|(key, _)| tell("ENV", key.raw(), key.span)),
            ),
            _ => {}
        }
    }
    found
}

fn tell(keyword: &str, name: &str, span: Span) -> Option<Found> {
    let name = name.trim_matches('"');
    if !names_a_secret(name) {
        return None;
    }
    let message =
        format!("Do not use ARG or ENV instructions for sensitive data ({keyword} {name:?})");
    let help = "hand it to the step that needs it with `RUN --mount=type=secret`";
    Some(Found::new(span, message).help(help))
}
