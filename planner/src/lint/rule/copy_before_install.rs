//! The whole context is copied before dependencies are installed.

use kiln_parser::{CopySource, Instruction, Span, Spanned};

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::shell::Command;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-copy-before-install",
    severity: Severity::Advice,
    experimental: false,
    summary: "What dependencies are made from should be copied first",
    page: include_str!("copy-before-install.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (index, stage) in subject.stages() {
        let mut runs = subject.scripts(index).iter().peekable();
        let mut copied: Option<Span> = None;
        for statement in &stage.statements {
            let is_whole = match &statement.instruction {
                Instruction::Copy(copy) => copy.from.is_none() && is_whole(&copy.sources, &copy.exclude),
                Instruction::Add(add) => is_whole(&add.sources, &add.exclude),
                _ => false,
            };
            if is_whole {
                copied = copied.or(Some(statement.span));
            }
            let Some(run) = runs.next_if(|run| run.statement.span == statement.span) else {
                continue;
            };
            let install = run.script.commands.iter().find_map(installs);
            let is_cached = run.run.mounts.iter().any(|mount| {
                mount
                    .value("type")
                    .is_some_and(|kind| kind.raw() == "cache")
            });
            // Whoever installed before has done it right, or in another way.
            match (install, copied) {
                (Some(install), Some(copy)) if !is_cached => {
                    let message = format!(
                        "the whole context is copied before `{install}`, which runs again after every change"
                    );
                    let help = "copy the files that name the dependencies, install them, then copy the rest";
                    found.push(Found::new(copy, message).help(help));
                    break;
                }
                (Some(_), _) => break,
                _ => {}
            }
        }
    }
    found
}

fn is_whole(sources: &[Spanned<CopySource>], exclude: &[Spanned<String>]) -> bool {
    let is_root = |source: &Spanned<CopySource>| matches!(&source.value, CopySource::Path(path) if matches!(path.raw(), "." | "./"));
    exclude.is_empty() && sources.iter().any(is_root)
}

/// Whether a command fetches what a file of the project lists.
fn installs(command: &Command) -> Option<String> {
    let mut operands = command.operands();
    let first = operands.next();
    let alone = operands.next().is_none();
    let lists = match (command.name(), first) {
        ("npm", Some("ci")) => true,
        ("npm" | "pnpm" | "yarn", Some("install")) => alone && !command.has("-g"),
        ("pip" | "pip3", Some("install")) => command.has("-r") || command.has("--requirement"),
        ("bundle" | "composer" | "poetry", Some("install")) => alone,
        ("go", Some("mod")) => command.has("download"),
        ("cargo", Some("fetch")) | ("dotnet", Some("restore")) | ("uv", Some("sync")) => true,
        _ => false,
    };
    lists.then(|| command.words[..2].join(" "))
}
