//! `kiln verify`: what a build gives when it is done again, and what is said where that is something else.

#![allow(clippy::unwrap_used)]

mod test_env;

use test_env::TestEnv;

const EPOCH: [&str; 2] = ["--build-arg", "SOURCE_DATE_EPOCH=7"];

/// An image of files alone.
fn built() -> TestEnv {
    let env = TestEnv::with_files(&[
        (
            "Dockerfile",
            "FROM scratch\nARG TOKEN\nARG TO=/\nCOPY src ${TO}\n",
        ),
        ("src/a", "a"),
    ]);
    let line = [
        &["build", "-t", "x"],
        &EPOCH[..],
        &["--build-arg=TO=/to/", "."],
    ]
    .concat();
    env.kiln(&line).succeeds();
    env
}

#[test]
fn the_same_inputs_are_verified() {
    let env = built();
    for which in ["x", "^0"] {
        let told = env.kiln(&["verify", which]).succeeds().stdout;
        assert!(told.ends_with("gave the same image\n"), "{told}");
    }
    // The Dockerfile is that of then, from wherever it is asked.
    env.write("Dockerfile", "FROM scratch\nCOPY src/a /b\n");
    env.kiln(&["verify", "x"]).succeeds();
    // It is no build of the history.
    assert_eq!(env.kiln(&["builds"]).succeeds().stdout.lines().count(), 2);
}

#[test]
fn a_context_that_changed_is_told_by_its_file() {
    let env = built();
    env.write("src/a", "b");
    let failed = env.kiln(&["verify", "x"]);
    assert_eq!(failed.code, 1);
    assert!(
        failed.stderr.contains("content of `src/a` changed"),
        "{}",
        failed.stderr
    );
    assert_eq!(env.kiln(&["verify", "nothing"]).code, 1);
}

#[test]
fn dates_alone_may_be_ignored() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    env.kiln(&["build", "-t", "x", "."]).succeeds();
    let told = env.kiln(&["verify", "x"]);
    assert_eq!(told.code, 5, "{}", told.stderr);
    assert!(
        told.stdout.contains("dates in the config"),
        "{}",
        told.stdout
    );
    env.kiln(&["verify", "--ignore-times", "x"]).succeeds();
}

#[test]
fn a_secret_argument_is_asked_for() {
    let env = built();
    let line = [
        &["build", "-t", "y"],
        &EPOCH[..],
        &["--build-arg", "TOKEN=hunter2", "."],
    ]
    .concat();
    env.kiln(&line).succeeds();
    let failed = env.kiln(&["verify", "y"]);
    assert_eq!(failed.code, 2);
    assert!(
        failed.stderr.contains("`--build-arg TOKEN`"),
        "{}",
        failed.stderr
    );
    env.kiln(&["verify", "--build-arg", "TOKEN=hunter2", "y"])
        .succeeds();
}

#[test]
fn sandbox_a_step_that_gives_something_else_is_named_with_its_files() {
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "FROM busybox\nRUN echo same > /same\nRUN head -c 16 /dev/urandom > /random\n",
    )]);
    if !env.import_busybox() {
        return;
    }
    env.kiln(&["build", "-t", "x", "."]).succeeds();
    let told = env.kiln(&["verify", "x"]);
    assert_eq!(told.code, 5, "{}", told.stderr);
    assert!(told.stdout.contains("3: [3/3] RUN head"), "{}", told.stdout);
    assert!(
        told.stdout.contains("`/random`: content"),
        "{}",
        told.stdout
    );
    assert!(!told.stdout.contains("`/same`"), "{}", told.stdout);
}
