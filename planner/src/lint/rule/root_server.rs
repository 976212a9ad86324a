//! A server on an unprivileged port that runs as root.

use kiln_parser::Instruction;

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-root-server",
    severity: Severity::Advice,
    experimental: false,
    summary: "Servers should not run as root",
    page: include_str!("root-server.md"),
    check,
};

/// Words of start scripts that change the user themselves.
const CHANGES_USER: [&str; 12] = [
    "gosu",
    "su-exec",
    "setpriv",
    "runuser",
    "entrypoint",
    "adduser",
    "useradd",
    "chpst",
    "s6-",
    "supervisord",
    "\"/init\"",
    "start-stop-daemon",
];

/// Words in names of images that have a user.
const HAS_USER: [&str; 6] = [
    "nonroot",
    "distroless",
    "chainguard",
    "unprivileged",
    "rootless",
    "bitnami",
];

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let shipped = subject.shipped();
    let Some((target, _)) = shipped.first() else {
        return Vec::new();
    };
    let user = subject
        .survey
        .stages
        .get(*target)
        .and_then(|stage| stage.user.as_deref());
    // An image that is not known may well have a user.
    if user.is_none_or(|user| !user.is_empty()) {
        return Vec::new();
    }
    let statements = || shipped.iter().flat_map(|(_, stage)| &stage.statements);
    let has = |keyword| statements().any(|it| it.instruction.keyword() == keyword);
    let text = |words: &[&str]| {
        shipped.iter().any(|(_, stage)| {
            let text = subject.text(subject.stage_span(stage));
            words.iter().any(|word| text.contains(word))
        })
    };
    if has("USER") || !(has("CMD") || has("ENTRYPOINT")) || text(&CHANGES_USER) || text(&HAS_USER) {
        return Vec::new();
    }
    let port = statements().find_map(|statement| match &statement.instruction {
        Instruction::Expose(expose) => expose.ports.iter().find(|port| is_unprivileged(port.raw())),
        _ => None,
    });
    let found = port.map(|port| {
        let message = format!("the server on port {} runs as root", port.raw());
        Found::new(port.span, message).help("say `USER` with another name before CMD")
    });
    found.into_iter().collect()
}

/// A port that needs no privilege to listen on.
fn is_unprivileged(port: &str) -> bool {
    let number = port.split(['/', '-']).next().unwrap_or(port);
    number.parse::<u16>().is_ok_and(|number| number >= 1024)
}
