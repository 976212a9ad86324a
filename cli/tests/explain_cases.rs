//! Every folder of `testdata/explain` is a test: builds one after another with edits in between, and the reasons that are given
//! for what was done again.
//!
//! `Dockerfile` and `context.tree` are the start. `steps` says what happens, one act a line: those of `cases/acts.rs`, and
//!
//! ```text
//! build ARGUMENTS…
//! fail ARGUMENTS…          a build that ends with status 1
//! explain ARGUMENTS…
//! kiln ARGUMENTS…
//! ```
//!
//! `expected.explain` has what `explain` prints after each. `KILN_BLESS=1` rewrites it; review the difference: each cause must be
//! the edit that was made.

#![allow(clippy::unwrap_used)]

mod cases;
mod test_env;

use std::fmt::Write as _;

use cases::acts::{edit, words};
use cases::context_tree;
use cases::{Case, report};
use test_env::TestEnv;

const READ: [&str; 4] = ["Dockerfile", "context.tree", "steps", "expected.explain"];

#[test]
fn folders_that_run_nothing_are_explained_as_expected() {
    check_all(|case| !case.needs_sandbox);
}

#[test]
fn sandbox_every_folder_is_explained_as_expected() {
    check_all(|case| case.needs_sandbox);
}

fn check_all(wanted: impl Fn(&Case) -> bool) {
    let cases: Vec<Case> = Case::all("explain").into_iter().filter(wanted).collect();
    let mut failures = Vec::new();
    for case in &cases {
        let env = TestEnv::new();
        if case.needs_sandbox && !env.import_busybox() {
            return;
        }
        failures.extend(case.unknown_files(&READ));
        failures.extend(case.expect("expected.explain", Some(&happens(&env, case))));
    }
    report(cases.len(), &failures);
}

/// What the acts of a case lead to.
fn happens(env: &TestEnv, case: &Case) -> String {
    let context = env.work().join("context");
    let tree = case.file("context.tree").unwrap_or_default();
    context_tree::make(&context, &tree, &case.file("Dockerfile").unwrap());
    let mut text = String::new();
    for line in case.file("steps").unwrap().lines() {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        writeln!(text, "> {line}").unwrap();
        match words[..] {
            [how @ ("build" | "fail"), ref args @ ..] => {
                let line = [&["build", "--progress=quiet"], args, &["context"]].concat();
                let built = env.kiln(&line);
                match how {
                    "build" => built.succeeds(),
                    _ => built.fails(1),
                };
            }
            ["kiln", ref args @ ..] => drop(env.kiln(args).succeeds()),
            ["explain", ref args @ ..] => {
                let line = [&["explain", "--context", "context"], args].concat();
                text += &masked(&env.kiln(&line).succeeds().stdout);
            }
            _ => edit(&context, &words),
        }
    }
    text
}

/// Without what differs from run to run: names of builds, paths, dates and keys.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    for line in text.lines() {
        let line = match line.split_once(": ") {
            Some((head, rest)) if head.starts_with("Build ") => format!("Build: {rest}"),
            _ => line.to_owned(),
        };
        let words = line.split(' ').map(|word| {
            let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '/');
            let bare = bare.strip_prefix("sha256:").unwrap_or(bare);
            let is_hex = bare.len() >= 12 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
            let is_date = bare.starts_with("20") && bare.ends_with('Z');
            let is_path = bare.starts_with("/tmp") || bare.ends_with("/context/Dockerfile");
            match (
                is_hex && (bare.len() == 64 || !word.contains("sha256:")),
                is_date,
                is_path,
            ) {
                (true, ..) => word.replace(bare, "[ID]"),
                (_, true, _) => word.replace(bare, "[DATE]"),
                (_, _, true) => word.replace(bare, "[PATH]"),
                _ => word.to_owned(),
            }
        });
        masked += &words.collect::<Vec<_>>().join(" ");
        masked.push('\n');
    }
    masked
}
