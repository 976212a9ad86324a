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

const PLATFORMS: &str = "--platform=linux/amd64,linux/arm64";

#[test]
fn each_platform_is_compared() {
    let files = [
        (
            "Dockerfile",
            "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /x\n",
        ),
        ("amd64", "a"),
        ("arm64", "b"),
    ];
    let env = TestEnv::with_files(&files);
    let line = [&["build", "-t", "x", PLATFORMS], &EPOCH[..], &["."]].concat();
    env.kiln(&line).succeeds();
    for which in ["x", "^0"] {
        let told = env.kiln(&["verify", which]).succeeds().stdout;
        assert!(told.ends_with("gave the same image\n"), "{told}");
    }
    let told = env.kiln(&["builds", "inspect", "^0"]).succeeds().stdout;
    assert_eq!(told.matches("Image: ").count(), 2, "{told}");
    env.write("arm64", "c");
    let failed = env.kiln(&["verify", "^0"]);
    assert!(
        failed.stderr.contains("`arm64` changed"),
        "{}",
        failed.stderr
    );
}

#[test]
fn the_platform_of_another_config_is_named() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    env.kiln(&["build", "-t", "x", PLATFORMS, "."]).succeeds();
    let told = env.kiln(&["verify", "x"]);
    assert_eq!(told.code, 5, "{}", told.stderr);
    let first = "another image of linux/amd64: dates in the config";
    assert!(told.stdout.contains(first), "{}", told.stdout);
    env.kiln(&["verify", "--ignore-times", "x"]).succeeds();
}

#[test]
fn sandbox_a_step_of_a_later_platform_is_named_with_its_files() {
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "FROM --platform=$BUILDPLATFORM busybox AS made\nARG TARGETARCH\n\
         RUN [ $TARGETARCH = amd64 ] || head -c 16 /dev/urandom > /random; echo x > /x\n\
         FROM scratch\nCOPY --from=made /x /random* /\n",
    )]);
    if !env.import_busybox() {
        return;
    }
    let line = [&["build", "-t", "x", PLATFORMS], &EPOCH[..], &["."]].concat();
    env.kiln(&line).succeeds();
    let told = env.kiln(&["verify", "--ignore-times", "x"]);
    assert_eq!(told.code, 5, "{}", told.stderr);
    assert!(told.stdout.contains("amd64->arm64"), "{}", told.stdout);
    assert!(
        told.stdout.contains("`/random`: content"),
        "{}",
        told.stdout
    );
}
