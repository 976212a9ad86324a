//! Keywords in mixed case, or in another case than most of the file's.

use kiln_parser::Spanned;

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "ConsistentInstructionCasing",
    severity: Severity::Warning,
    experimental: false,
    summary: "All commands within the Dockerfile should use the same casing (either upper or lower)",
    page: include_str!("consistent-instruction-casing.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let keywords = keywords(subject);
    let lower = keywords.iter().filter(|keyword| is_lower(keyword)).count();
    let upper = keywords.iter().filter(|keyword| is_upper(keyword)).count();
    let (right, case): (fn(&str) -> bool, _) = if lower > upper {
        (is_lower, "lowercase")
    } else {
        (is_upper, "uppercase")
    };
    let wrong = keywords.into_iter().filter(|keyword| !right(keyword));
    wrong
        .map(|keyword| {
            let message = format!(
                "Command '{}' should match the case of the command majority ({case})",
                keyword.value
            );
            let fixed = if case == "lowercase" {
                keyword.to_lowercase()
            } else {
                keyword.to_uppercase()
            };
            Found::new(keyword.span, message).edit(keyword.span, fixed)
        })
        .collect()
}

/// The keywords of stages; ARGs before the first FROM are not looked at.
fn keywords<'a>(subject: &Subject<'a>) -> Vec<&'a Spanned<String>> {
    let stages = subject.parsed.dockerfile.stages.iter();
    stages
        .flat_map(|stage| {
            let statements = stage.statements.iter().map(|statement| &statement.keyword);
            std::iter::once(&stage.keyword).chain(statements)
        })
        .collect()
}

fn is_lower(keyword: &str) -> bool {
    keyword.chars().all(|c| c.is_ascii_lowercase())
}

fn is_upper(keyword: &str) -> bool {
    keyword.chars().all(|c| c.is_ascii_uppercase())
}
