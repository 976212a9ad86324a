//! ENTRYPOINT in shell form beside a CMD.

use kiln_parser::{CommandLine, Instruction};

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-shell-entrypoint-drops-cmd",
    severity: Severity::Warning,
    experimental: false,
    summary: "An ENTRYPOINT in shell form ignores CMD",
    page: include_str!("shell-entrypoint-drops-cmd.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (_, stage) in subject.stages() {
        let statements = &stage.statements;
        let has_cmd = statements
            .iter()
            .any(|statement| matches!(statement.instruction, Instruction::Cmd(_)));
        let entrypoint = statements
            .iter()
            .rfind(|statement| matches!(statement.instruction, Instruction::Entrypoint(_)));
        if let Some(statement) = entrypoint
            && let Instruction::Entrypoint(entrypoint) = &statement.instruction
            && let CommandLine::Shell(text) = &entrypoint.command
            && has_cmd
            && !text.contains('$')
        {
            let message = "the CMD of this stage is never used: ENTRYPOINT is in shell form";
            let help = "write the ENTRYPOINT as a JSON array";
            found.push(Found::new(statement.span, message).help(help));
        }
    }
    found
}
