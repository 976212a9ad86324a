//! `kiln builds`: what is kept of builds, and what never is.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::fs;

use serde_json::Value;
use test_env::{TestEnv, files_below};

#[test]
fn builds_are_listed_inspected_and_removed() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "a")]);
    env.kiln(&["build", "--progress=quiet", "-t", "app", "."])
        .succeeds();
    env.write("Dockerfile", "FROM scratch\nCOPY missing /\n");
    env.kiln(&["build", "--progress=quiet", "."]).fails(1);
    let list = env.kiln(&["builds", "--format", "json"]).succeeds().stdout;
    let rows: Vec<Value> = list
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |name: &str| -> Vec<&Value> { rows.iter().map(|row| &row[name]).collect() };
    assert_eq!(of("Status"), ["Error", "Completed"]);
    assert_eq!(rows[1]["Name"], "app:latest");
    let told = env.kiln(&["builds", "inspect", "^1"]).succeeds().stdout;
    assert!(
        told.contains("[2/2] COPY a /") || told.contains("[1/1] COPY a /"),
        "{told}"
    );
    assert!(told.contains("not built before"), "{told}");
    let id = rows[0]["ID"].as_str().unwrap();
    env.kiln(&["builds", "rm", &id[..6]]).succeeds();
    let left = env.kiln(&["builds", "ls", "-q"]).succeeds().stdout;
    assert_eq!(
        left.lines().collect::<Vec<_>>(),
        [rows[1]["ID"].as_str().unwrap()]
    );
    env.kiln(&["builds", "rm", "--all"]).succeeds();
    assert_eq!(env.kiln(&["builds", "-q"]).succeeds().stdout, "");
}

#[test]
fn sandbox_secrets_are_not_in_the_history() {
    let dockerfile = "FROM busybox\nARG API_TOKEN\n\
        RUN --mount=type=secret,id=s cat /run/secrets/s; echo \"token $API_TOKEN\"\n";
    let env = TestEnv::with_files(&[
        ("Dockerfile", dockerfile),
        ("value", "swordfish\nsecond line"),
    ]);
    if !env.import_busybox() {
        return;
    }
    let line = [
        "build",
        "--progress=quiet",
        "--output=type=cacheonly",
        "--secret=id=s,src=value",
        "--build-arg=API_TOKEN=opensesame",
        ".",
    ];
    env.kiln(&line).succeeds();
    let logs = env.kiln(&["builds", "logs"]).succeeds().stdout;
    assert!(logs.contains("token ***"), "{logs}");
    for name in ["builds", "preimages", "steps"] {
        for file in files_below(&env.root().join(name)) {
            let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
            for secret in ["swordfish", "second line", "opensesame"] {
                assert!(!text.contains(secret), "{secret} is in {}", file.display());
            }
        }
    }
}

#[test]
fn sandbox_the_history_has_all_that_a_step_prints() {
    // R-RT-19 is about what is shown.
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let shell = "RUN i=0; while [ $i -lt 300 ]; do printf '%010000d\\n' $i; i=$((i+1)); done; echo the $((1))st end\n";
    env.write("Dockerfile", &format!("FROM busybox\n{shell}"));
    let shown = env.kiln(&["build", "--progress=plain", "."]).succeeds();
    assert!(
        shown.stderr.contains("[output clipped, log limit"),
        "not clipped"
    );
    assert!(shown.stderr.contains("the 1st end"));
    let logs = env.kiln(&["builds", "logs"]).succeeds();
    let printed = format!("{}{}", logs.stdout, logs.stderr);
    for line in [0, 20, 150, 299] {
        assert_eq!(
            printed.matches(&format!("{line:010000}")).count(),
            1,
            "{line}"
        );
    }
    assert_eq!(printed.matches("the 1st end\n").count(), 1);
    assert!(!printed.contains("[output clipped"));
}
