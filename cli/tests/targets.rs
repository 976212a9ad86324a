//! `--also-target` and `--jobs`: more than one end of the graph in one run.

#![allow(clippy::unwrap_used)]

mod test_env;

use test_env::TestEnv;

const DOCKERFILE: &str = "FROM scratch AS base\nCOPY a /\nFROM base AS test\nCOPY b /\nFROM base AS lint\nCOPY c /\nFROM base AS app\nCOPY d /\n";

fn env() -> TestEnv {
    let files = ["a", "b", "c", "d"].map(|name| (name, name));
    let env = TestEnv::with_files(&files);
    env.write("Dockerfile", DOCKERFILE);
    env
}

#[test]
fn a_test_stage_is_built_and_leaves_no_image() {
    let env = env();
    let args = [
        "build",
        "--progress=plain",
        "--also-target",
        "TEST",
        "-o",
        "out",
        ".",
    ];
    let outcome = env.kiln(&args).succeeds();
    assert!(outcome.stderr.contains("COPY b /"), "{}", outcome.stderr);
    assert!(
        !outcome.stderr.contains("COPY c /"),
        "R-STG-2: {}",
        outcome.stderr
    );
    let out = env.work().join("out");
    assert!(out.join("d").exists() && !out.join("b").exists());
    // What both need is done once (R-CACHE-20).
    assert_eq!(
        outcome.stderr.matches("COPY a /\n").count(),
        1,
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_stage_that_is_not_there_or_fails_is_told() {
    let env = env();
    let outcome = env.kiln(&["build", "--also-target", "tset", "."]).fails(2);
    assert!(outcome.stderr.contains("test"), "{}", outcome.stderr);
    std::fs::remove_file(env.work().join("b")).unwrap();
    env.kiln(&["build", "."]).succeeds();
    env.kiln(&[
        "build",
        "--also-target",
        "test",
        "--also-target",
        "lint",
        ".",
    ])
    .fails(1);
}

#[test]
fn one_job_does_it_all_in_turn() {
    let env = env();
    let args = [
        "build",
        "-j1",
        "--also-target=test",
        "--also-target=lint",
        ".",
    ];
    env.kiln(&args).succeeds();
    env.kiln(&["build", "--jobs", "0", "."]).fails(2);
}
