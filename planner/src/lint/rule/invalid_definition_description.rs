//! A comment above a stage or an argument that does not describe it.

use kiln_parser::{Arg, Instruction, Span, Spanned};

use super::{Rule, Severity};
use crate::lint::config;
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "InvalidDefinitionDescription",
    severity: Severity::Warning,
    experimental: true,
    summary: "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    page: include_str!("invalid-definition-description.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let dockerfile = &subject.parsed.dockerfile;
    let mut found = Vec::new();
    for arg in &dockerfile.global_args {
        found.extend(tell_arg(&arg.instruction, arg.span, &arg.comments));
    }
    for stage in &dockerfile.stages {
        if let Some(name) = stage.name() {
            found.extend(tell("build stage", &[name], stage.span, &stage.comments));
        }
        for statement in &stage.statements {
            if let Instruction::Arg(arg) = &statement.instruction {
                found.extend(tell_arg(arg, statement.span, &statement.comments));
            }
        }
    }
    found
}

fn tell_arg(arg: &Arg, span: Span, comments: &[Spanned<String>]) -> Option<Found> {
    let names: Vec<&str> = arg
        .pairs
        .iter()
        .map(|pair| pair.name.value.as_str())
        .collect();
    tell("ARG", &names, span, comments)
}

/// Only the last comment counts.
fn tell(what: &str, names: &[&str], span: Span, comments: &[Spanned<String>]) -> Option<Found> {
    let comment = comments
        .iter()
        .rfind(|comment| !config::is_directive(comment))?;
    let first = comment.split(' ').next()?;
    if names.contains(&first) {
        return None;
    }
    let name = match names {
        [only] => only,
        _ => "<arg_key>",
    };
    let message = format!("Comment for {what} should follow the format: `# {name} <description>`");
    Some(Found::new(span, message))
}
