//! Every folder of `testdata/cache` is a test: builds one after another with edits in between, and which steps each of
//! them took from the cache.
//!
//! `Dockerfile` and `context.tree` are the start. `steps` says what happens, one act a line:
//!
//! ```text
//! build ARGUMENTS…
//! touch PATH
//! chmod MODE PATH
//! write PATH "CONTENT"
//! replace PATH "OLD" "NEW"
//! remove PATH
//! rename PATH PATH
//! ```
//!
//! `expected.cache` lists the steps of each build by name. `KILN_BLESS=1` rewrites it; review the difference against
//! the clauses (R-CACHE).

#![allow(clippy::unwrap_used)]

mod cases;
mod test_env;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cases::acts::{edit, words};
use cases::context_tree;
use cases::{Case, report};
use test_env::TestEnv;

const READ: [&str; 4] = ["Dockerfile", "context.tree", "steps", "expected.cache"];

#[test]
fn folders_that_run_nothing_hit_and_miss_as_expected() {
    check_all(|case| !case.needs_sandbox);
}

#[test]
fn sandbox_every_folder_hits_and_misses_as_expected() {
    check_all(|case| case.needs_sandbox);
}

fn check_all(wanted: impl Fn(&Case) -> bool) {
    let cases: Vec<Case> = Case::all("cache").into_iter().filter(wanted).collect();
    let mut failures = Vec::new();
    for case in &cases {
        // A store of its own: what another case built would be a hit here.
        let env = TestEnv::new();
        if case.needs_sandbox && !env.import_busybox() {
            return;
        }
        failures.extend(case.unknown_files(&READ));
        failures.extend(case.expect("expected.cache", Some(&happens(&env, case))));
        if case.file("expected.cache").is_none() {
            failures.push(format!("{} expects nothing", case.name));
        }
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
        writeln!(text, "{line}").unwrap();
        match words[..] {
            ["build", ref args @ ..] => text += &build(env, &case.args, args),
            _ => edit(&context, &words),
        }
    }
    text
}

/// Builds, and tells of each step whether it ran. Steps of stages that are built at the same time come in any order, so
/// they are sorted.
fn build(env: &TestEnv, more: &[String], args: &[&str]) -> String {
    let mut line = vec!["build", "--progress=plain"];
    line.extend(more.iter().map(String::as_str));
    line.extend(args);
    line.push("context");
    let outcome = env.kiln(&line).succeeds();
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut steps: BTreeMap<&str, bool> = BTreeMap::new();
    for line in outcome.stderr.lines() {
        let Some((number, said)) = line.split_once(' ') else {
            continue;
        };
        if said.starts_with('[') && !said.starts_with("[internal]") && !said.contains("] FROM ") {
            names.insert(number, said);
        } else if let Some(name) = names.get(number) {
            match said {
                "CACHED" => drop(steps.insert(name, true)),
                _ if said.starts_with("DONE") => drop(steps.entry(name).or_insert(false)),
                _ => {}
            }
        }
    }
    steps
        .into_iter()
        .map(|(name, cached)| {
            let what = if cached { "cached" } else { "ran" };
            format!("  {what:<7}{name}\n")
        })
        .collect()
}
