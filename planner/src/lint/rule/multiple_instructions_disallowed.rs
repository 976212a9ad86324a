//! Several CMD, ENTRYPOINT or HEALTHCHECK in a stage, of which only the last counts.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "MultipleInstructionsDisallowed",
    severity: Severity::Warning,
    experimental: false,
    summary: "Multiple instructions of the same type should not be used in the same stage",
    page: include_str!("multiple-instructions-disallowed.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (_, stage) in subject.stages() {
        for keyword in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
            let all: Vec<_> = stage
                .statements
                .iter()
                .filter(|statement| statement.instruction.keyword() == keyword)
                .collect();
            let earlier = all.split_last().map_or(&[][..], |(_, earlier)| earlier);
            // BuildKit names the keyword as the next of them writes it.
            found.extend(earlier.iter().zip(all.iter().skip(1)).map(|(statement, next)| {
                let message = format!(
                    "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                    next.keyword.value
                );
                Found::new(statement.span, message)
            }));
        }
    }
    found
}
