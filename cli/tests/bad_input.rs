//! What bad input gets: a message with place, cause and remedy, the documented exit code, and a store that is still good.

#![allow(clippy::unwrap_used)]

mod test_env;

use test_env::{TestEnv, empty_registry, files_below, nobody};

#[test]
fn slips_in_a_dockerfile_are_all_shown() {
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "FROM scratch\nCOPY --form=build /a /b\nWORKDR /srv\n",
    )]);
    let outcome = env.kiln(&["build", "."]);
    let expected = "\
error[unknown-flag]: unknown flag `--form` for COPY
  --> Dockerfile:2:6
   |
 2 | COPY --form=build /a /b
   |      ^^^^^^
   = help: did you mean `--from`?
error[unknown-instruction]: unknown instruction `WORKDR`
  --> Dockerfile:3:1
   |
 3 | WORKDR /srv
   | ^^^^^^
   = help: did you mean `WORKDIR`?";
    assert_eq!(outcome.error(), expected);
    assert_eq!(outcome.code, 2);
}

#[test]
fn an_empty_dockerfile_is_refused() {
    // R-LEX-1
    let env = TestEnv::with_files(&[("Dockerfile", "")]);
    assert_eq!(env.kiln(&["build", "."]).code, 2);
}

#[test]
fn a_missing_dockerfile_is_named() {
    let env = TestEnv::with_files(&[("Containerfile", "FROM scratch\n")]);
    let outcome = env.kiln(&["build", "."]);
    outcome.fails_with(2, "error[dockerfile-not-found]: there is no `Dockerfile`");
    assert!(
        outcome.stderr.contains("`Containerfile` is there"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_missing_copy_source_is_shown_with_its_line() {
    // R-COPY-8
    let env = TestEnv::with_files(&[
        ("Dockerfile", "FROM scratch\nCOPY confg/app.toml /\n"),
        ("config/app.toml", ""),
    ]);
    let outcome = env.kiln(&["build", "."]);
    outcome.fails_with(
        1,
        "error[copy-source-not-found]: `confg/app.toml` is not in the build context",
    );
    assert!(
        outcome.stderr.contains("--> Dockerfile:2:"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn an_unknown_target_is_a_mistake_in_the_command() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch AS build\nLABEL a=1\n")]);
    let outcome = env.kiln(&["build", "--target", "biuld", "."]);
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    assert!(outcome.error().contains("biuld"), "{}", outcome.stderr);
}

#[test]
fn a_base_image_that_does_not_exist() {
    let registry = empty_registry();
    let env = TestEnv::with_files(&[("Dockerfile", &format!("FROM {registry}/none:1\n"))]);
    let outcome = env.kiln(&["build", "."]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    assert!(outcome.error().contains("not found"), "{}", outcome.stderr);
    assert!(
        outcome.error().contains("--> Dockerfile:1:"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_registry_that_does_not_answer() {
    let registry = nobody();
    let env = TestEnv::with_files(&[("Dockerfile", &format!("FROM {registry}/none:1\n"))]);
    let outcome = env.kiln(&["build", "."]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    assert!(
        outcome.error().contains("connection refused"),
        "{}",
        outcome.stderr
    );
    let outcome = env.kiln(&["pull", &format!("{registry}/none:1")]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    assert!(
        outcome.error().contains("connection refused"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_root_that_cannot_be_written() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nLABEL a=1\n"), ("file", "")]);
    let outcome = env.kiln(&["build", "--root", "file/below", "."]);
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    assert!(outcome.error().contains("file/below"), "{}", outcome.stderr);
}

#[test]
fn a_store_of_another_version_is_refused() {
    let env = TestEnv::with_files(&[("root/version", "999\n")]);
    let outcome = env.kiln(&["images", "--root", "root"]);
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    assert!(outcome.error().contains("999"), "{}", outcome.stderr);
}

#[test]
fn damaged_blobs_are_made_again_by_the_next_build() {
    let env = TestEnv::with_files(&[
        ("Dockerfile", "FROM scratch\nCOPY a /a\n"),
        ("a", "content"),
    ]);
    let build = ["build", "-q", "-t", "x", "."];
    let before = env.kiln(&build).succeeds();
    for blob in files_below(&env.root().join("blobs")) {
        std::fs::remove_file(&blob).unwrap();
        std::fs::write(&blob, "damaged").unwrap();
    }
    let damaged = env.kiln(&["save", "x", "-o", "x.tar"]);
    assert_ne!(damaged.code, 0, "{}", damaged.stderr);
    assert_ne!(damaged.code, 70, "{}", damaged.stderr);
    let after = env.kiln(&build).succeeds();
    assert_eq!(before.stdout, after.stdout);
    env.kiln(&["save", "x", "-o", "x.tar"]).succeeds();
}

#[test]
fn a_check_that_is_an_error_fails_the_build() {
    // R-CHK-1
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "# check=error=true\nFROM scratch AS Upper\nLABEL a=1\n",
    )]);
    let outcome = env.kiln(&["build", "."]);
    assert_eq!(outcome.code, 5, "{}", outcome.stderr);
    let verdict = "error[check-failed]: lint violation found for rules: StageNameCasing";
    assert!(outcome.stderr.contains(verdict), "{}", outcome.stderr);
}

#[test]
fn usage_errors_are_exit_two() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\n")]);
    let lines: [&[&str]; 5] = [
        &["build"],
        &["build", "--fail-if-waste=much", "."],
        &["build", "missing"],
        &["build", "-f", "-", "-"],
        &["build", "-o", "type=local,dest=x", "--iidfile", "id", "."],
    ];
    for line in lines {
        assert_eq!(env.kiln(line).code, 2, "{line:?}");
    }
}

#[test]
fn an_image_that_is_not_there() {
    let env = TestEnv::new();
    for command in [
        &["history", "none"][..],
        &["inspect", "none"],
        &["tag", "none", "b"],
        &["rmi", "none"],
        &["save", "none"],
    ] {
        env.kiln(command)
            .fails_with(1, "error[image]: there is no image `none` in the store");
    }
}

#[test]
fn sandbox_a_run_that_fails_shows_its_end_and_its_line() {
    // R-ERR-2, R-ERR-4: what the clauses tell, in words of our own.
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "FROM busybox\nRUN echo one; echo two; exit 3\n",
    )]);
    if !env.import_busybox() {
        return;
    }
    let outcome = env.kiln(&["build", "--progress=quiet", "."]);
    outcome.fails_with(
        1,
        "error[run-failed]: `RUN echo one; echo two; exit 3` exited with status 3",
    );
    assert!(outcome.stderr.contains("one\ntwo\n"), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("--> Dockerfile:2:1"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn sandbox_a_run_that_is_killed_says_by_what() {
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "FROM busybox\nRUN sh -c 'kill -9 $$'; exec sh -c 'ulimit -t 1; while :; do :; done'\n",
    )]);
    if !env.import_busybox() {
        return;
    }
    let outcome = env.kiln(&["build", "."]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(
        outcome.error().contains("SIGXCPU") || outcome.error().contains("SIGKILL"),
        "{}",
        outcome.stderr
    );
}
