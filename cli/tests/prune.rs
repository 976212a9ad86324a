//! `kiln prune`: what may go and what stays.

#![allow(clippy::unwrap_used)]

mod test_env;

use test_env::TestEnv;

#[test]
fn layers_go_with_the_last_thing_that_needs_them() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "content")]);
    env.kiln(&["build", "-t", "x", "."]).succeeds();
    let kept = env.kiln(&["prune", "--all"]).succeeds();
    assert!(
        kept.stdout.contains(" 0 layers"),
        "an image keeps its layers: {}",
        kept.stdout
    );
    env.kiln(&["save", "-o", "x.tar", "x"]).succeeds();

    env.kiln(&["build", "-t", "x", "."]).succeeds();
    env.kiln(&["rmi", "x"]).succeeds();
    let kept = env.kiln(&["prune"]).succeeds();
    assert!(
        kept.stdout.contains(" 0 layers"),
        "the build cache keeps its layers: {}",
        kept.stdout
    );
    let cached = env.kiln(&["build", "."]).succeeds();
    assert!(cached.stderr.contains(" CACHED\n"), "{}", cached.stderr);

    let gone = env.kiln(&["prune", "--all"]).succeeds();
    assert!(
        gone.stdout
            .starts_with("Removed 1 images, 1 cache records, 1 layers,"),
        "{}",
        gone.stdout
    );
    let again = env.kiln(&["build", "."]).succeeds();
    assert!(!again.stderr.contains(" CACHED\n"), "{}", again.stderr);
}
