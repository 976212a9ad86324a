//! The cache of apk, dnf, yum or pip stays in a layer of the final image.

use super::{Rule, Severity};
use crate::lint::finding::Found;
use crate::lint::shell::Command;
use crate::lint::subject::Subject;

pub(super) static RULE: Rule = Rule {
    id: "K-package-cache-left",
    severity: Severity::Warning,
    experimental: false,
    summary: "Caches of package managers should not stay in the image",
    page: include_str!("package-cache-left.md"),
    check,
};

fn check(subject: &Subject<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    let mut quiet_pip = false;
    for (stage, syntax) in subject.shipped().into_iter().rev() {
        quiet_pip |= subject
                .text(subject.stage_span(syntax))
                .contains("PIP_NO_CACHE");
        for run in subject.scripts(stage) {
            for command in &run.script.commands {
                let Some(left) = left_by(command).filter(|left| !left.is_pip || !quiet_pip) else {
                    continue;
                };
                let cleaned = run.script.commands.iter().any(|other| cleans(other, &left));
                let mounted = left.folders.iter().any(|folder| run.mounts_over(folder))
                    || (left.is_pip && run.mounts_over_named("pip"));
                if !cleaned && !mounted {
                    let words = command.words[..2].join(" ");
                    let message = format!("the cache of `{}` stays in the layer", command.name());
                    let span = subject.place_of(run, command, &words);
                    found.push(Found::new(span, message).help(left.help));
                    break;
                }
            }
        }
    }
    found
}

/// What a command leaves behind.
struct Left {
    folders: &'static [&'static str],
    help: &'static str,
    is_pip: bool,
}

fn left_by(command: &Command) -> Option<Left> {
    let is_no = |options: &[&str]| options.iter().any(|option| command.has(option));
    match (command.name(), command.subcommand()) {
        ("apk", Some("add"))
            if !is_no(&["--no-cache", "--cache-dir", "--no-network"]) && fetches(command) =>
        {
            Some(Left {
            folders: &["/var/cache/apk", "/etc/apk/cache"],
            help: "use `apk add --no-cache`",
            is_pip: false,
        })},
        ("dnf" | "yum" | "microdnf", Some("install")) => Some(Left {
            folders: &["/var/cache/dnf", "/var/cache/yum", "/var/cache/libdnf5"],
            help: "end the RUN with `clean all`, or mount a cache",
            is_pip: false,
        }),
        ("pip" | "pip3", Some("install")) if !is_no(&["--no-cache-dir", "--no-cache"]) => Some(Left {
            folders: &["/root/.cache/pip", "/root/.cache"],
            help: "use `pip install --no-cache-dir`, or mount a cache over `/root/.cache/pip`",
            is_pip: true,
        }),
        _ => None,
    }
}

/// Whether `apk add` asks a repository; files of packages are named as such.
fn fetches(command: &Command) -> bool {
    let mut packages = command.operands().skip(1);
    packages.any(|package| !package.ends_with(".apk"))
}

fn cleans(command: &Command, left: &Left) -> bool {
    let removes = matches!(command.name(), "rm" | "find")
        && command.words.iter().any(|word| {
            let word = word.trim_end_matches(['*', '/']);
            word.contains('$')
                || word.contains(".cache")
                || left
                    .folders
                    .iter()
                    .any(|folder| folder.starts_with(word) && word.len() > 1)
        });
    let cleaning = command.has("clean") || (command.has("cache") && command.has("purge"));
    removes || cleaning
}
