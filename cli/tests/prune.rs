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

#[test]
fn images_are_pruned_by_label_and_date() {
    let env = TestEnv::new();
    let build = |label: &str| {
        env.write("Dockerfile", &format!("FROM scratch\nLABEL {label}\n"));
        let id = env.kiln(&["build", "-q", "."]).succeeds().stdout;
        id.trim().to_owned()
    };
    let (old, new, other) = (build("age=old"), build("age=new"), build("plain=1"));
    let left = || {
        let ids = env.kiln(&["images", "-a", "-q", "--no-trunc"]).succeeds();
        let mut ids: Vec<String> = ids.stdout.lines().map(str::to_owned).collect();
        ids.sort_unstable();
        ids
    };
    let expected = |ids: &[&String]| {
        let mut ids: Vec<String> = ids.iter().map(|id| (*id).clone()).collect();
        ids.sort_unstable();
        ids
    };
    let prune = |filter: &str| env.kiln(&["prune", "-f", "--filter", filter]).succeeds();
    prune("label=nobody");
    prune("until=2001-01-01");
    prune("until=24h");
    assert_eq!(left(), expected(&[&old, &new, &other]));
    prune("label=age=old");
    assert_eq!(left(), expected(&[&new, &other]));
    prune("label!=age");
    assert_eq!(left(), expected(&[&new]));
    prune("until=2999-01-01T00:00:00");
    assert_eq!(left(), expected(&[]));
    assert_eq!(env.kiln(&["prune", "--filter", "until=soon"]).code, 2);
}
