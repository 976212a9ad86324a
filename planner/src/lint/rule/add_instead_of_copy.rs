//! ADD of plain files from the context.

use kiln_parser::{Add, CopySource, Instruction};

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-add-instead-of-copy",
    severity: Severity::Advice,
    experimental: false,
    summary: "COPY is for files, ADD for archives and downloads",
    page: include_str!("add-instead-of-copy.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (_, stage) in subject.stages() {
        for statement in &stage.statements {
            if let Instruction::Add(add) = &statement.instruction
                && is_plain(add)
            {
                let keyword = &statement.keyword;
                let message = "ADD of plain files does what COPY does";
                let fixed = if keyword.chars().all(char::is_lowercase) {
                    "copy"
                } else {
                    "COPY"
                };
                let told = Found::new(keyword.span, message);
                found.push(match is_certain(add) {
                    true => told.edit(keyword.span, fixed),
                    false => told,
                });
            }
        }
    }
    found
}

fn is_plain(add: &Add) -> bool {
    add.keep_git_dir.is_none()
        && add.checksum.is_none()
        && add.unpack.is_none()
        && add.sources.iter().all(|source| match &source.value {
            CopySource::Path(path) => is_plain_path(path.raw()),
            CopySource::Heredoc(_) => true,
        })
}

/// Whether COPY surely does the same: ADD unpacks an archive whatever it is called, but none that is in a folder.
fn is_certain(add: &Add) -> bool {
    add.sources.iter().all(|source| match &source.value {
        CopySource::Path(path) => is_folder(path.raw()),
        CopySource::Heredoc(_) => true,
    })
}

fn is_folder(path: &str) -> bool {
    path == "." || path.ends_with('/')
}

/// A folder, or a file with an extension that no archive has. A file without one may be anything.
fn is_plain_path(path: &str) -> bool {
    const PLAIN: [&str; 22] = [
        "c", "cfg", "conf", "css", "go", "h", "html", "ini", "java", "js", "json", "lock", "md",
        "mod", "py", "rb", "rs", "sh", "toml", "txt", "xml", "yml",
    ];
    if path.contains(['$', ':', '@', '*', '?', '[', '"', '\'']) {
        return false;
    }
    if is_folder(path) {
        return true;
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.')
        .is_some_and(|(_, extension)| PLAIN.contains(&extension))
}
