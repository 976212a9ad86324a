//! The crates' borders: who may know whom. The arrows are those of `ARCHITECTURE.md`; a new one is the rarest kind of change.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Each package, and all of ours that it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("kiln-parser", &[]),
    ("kiln-image", &[]),
    ("kiln-planner", &["kiln-parser", "kiln-image"]),
    ("kiln-cache", &["kiln-planner", "kiln-parser", "kiln-image"]),
    ("kiln-registry", &["kiln-image"]),
    (
        "kiln-executor",
        &[
            "kiln-cache",
            "kiln-planner",
            "kiln-parser",
            "kiln-image",
            "kiln-registry",
        ],
    ),
    (
        "kiln",
        &[
            "kiln-executor",
            "kiln-cache",
            "kiln-planner",
            "kiln-parser",
            "kiln-image",
            "kiln-registry",
        ],
    ),
    // Chores look at kiln from outside.
    ("xtask", &[]),
];

/// Crates that do what a pure crate must not: files, clocks, the network, processes.
const IMPURE: &[&str] = &[
    "nix",
    "rustix",
    "rayon",
    "walkdir",
    "ureq",
    "tempfile",
    "jiff",
    "signal-hook",
];

/// The workspace's packages, each with what it depends on; what only its tests need is left out.
fn packages() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or("").to_owned();
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let depends = |package: &Value| {
        let dependencies = list(package, "dependencies").into_iter();
        dependencies
            .filter(|entry| entry["kind"] != "dev")
            .map(|entry| text(&entry, "name"))
            .collect()
    };
    list(&metadata, "packages")
        .iter()
        .map(|package| (text(package, "name"), depends(package)))
        .collect()
}

#[test]
fn arrows_between_our_crates_point_the_right_way() {
    let packages = packages();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let known: BTreeSet<&str> = packages.keys().map(String::as_str).collect();
    assert_eq!(
        known,
        allowed.keys().copied().collect(),
        "a crate came or went: say here what it may know"
    );
    for (package, dependencies) in &packages {
        for dependency in dependencies
            .iter()
            .filter(|name| known.contains(name.as_str()))
        {
            let fine = allowed[package.as_str()].contains(&dependency.as_str());
            assert!(
                fine,
                "`{package}` may not depend on `{dependency}`: see ARCHITECTURE.md"
            );
        }
    }
}

#[test]
fn parser_and_planner_stay_pure() {
    let packages = packages();
    for package in ["kiln-parser", "kiln-planner"] {
        let impure: Vec<&str> = IMPURE
            .iter()
            .copied()
            .filter(|name| packages[package].contains(*name))
            .collect();
        assert!(
            impure.is_empty(),
            "`{package}` is pure and may not depend on {impure:?}"
        );
    }
}

#[test]
fn only_the_registry_speaks_http_and_only_the_command_line_paints() {
    for (package, dependencies) in &packages() {
        for (owner, libraries) in [
            ("kiln-registry", &["ureq"][..]),
            ("kiln", &["indicatif", "annotate-snippets", "clap"]),
        ] {
            let foreign: Vec<&&str> = libraries
                .iter()
                .filter(|name| {
                    package != owner && package != "xtask" && dependencies.contains(**name)
                })
                .collect();
            assert!(
                foreign.is_empty(),
                "`{package}` may not depend on {foreign:?}: that is `{owner}`'s business"
            );
        }
    }
}
