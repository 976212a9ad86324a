//! `kiln lock` and `kiln build --locked`: names stand for what they stood for, and nobody is asked what they stand for now.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::sync::{Arc, Mutex};

use kiln_registry::testing::{Asked, Reply, TestRegistry, TestServer};
use test_env::{Outcome, TestEnv};

/// An image with one file in a registry.
fn push(registry: &TestRegistry, content: &str) {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY f /\n"), ("f", content)]);
    let name = format!("{}/base:1", registry.host());
    env.kiln(&["build", "-t", &name, "."]).succeeds();
    env.kiln(&["push", &name]).succeeds();
}

/// A server whose one file can be exchanged.
fn server(content: &Arc<Mutex<String>>) -> TestServer {
    let content = content.clone();
    TestServer::start(move |_: Asked<'_>| Reply::ok(content.lock().unwrap().as_bytes()))
}

/// The id of what a build of a new store gives.
fn id(files: &[(&str, &str)], flags: &[&str]) -> Outcome {
    let env = TestEnv::with_files(files);
    let args = [&["build", "-q"], flags, &["."]].concat();
    env.kiln(&args)
}

#[test]
fn a_locked_build_takes_what_was_locked() {
    let registry = TestRegistry::start();
    push(&registry, "one");
    let content = Arc::new(Mutex::new("one".to_owned()));
    let server = server(&content);
    let dockerfile = format!(
        "FROM {host}/base:1 AS other\nFROM scratch\nCOPY --from={host}/base:1 /f /a\nADD {at}/f /b\nCOPY --from=other /f /c\n",
        host = registry.host(),
        at = server.origin(),
    );
    let env = TestEnv::with_files(&[("Dockerfile", &dockerfile)]);
    let told = env.kiln(&["lock", "."]).succeeds().stdout;
    assert_eq!(told.lines().count(), 2, "{told}");
    env.kiln(&["lock", "--check", "."]).succeeds();
    let lock = std::fs::read_to_string(env.work().join("Dockerfile.lock")).unwrap();
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=0"];
    let files = [("Dockerfile", &*dockerfile), ("Dockerfile.lock", &lock)];
    let before = id(&files, &epoch).succeeds().stdout;

    push(&registry, "two");
    let tags = || {
        let received = registry.received().into_iter();
        let of_tag = received.filter(|asked| asked.line.ends_with("/manifests/1"));
        of_tag
            .filter(|asked| asked.line.starts_with("GET ") || asked.line.starts_with("HEAD "))
            .count()
    };
    let asked = tags();
    let locked = [&["--locked"], &epoch[..]].concat();
    assert_eq!(id(&files, &locked).succeeds().stdout, before);
    assert_eq!(tags(), asked, "nobody asks for the tag");
    assert_ne!(id(&files, &epoch).succeeds().stdout, before);

    // A download has no other address.
    *content.lock().unwrap() = "two".to_owned();
    let failed = id(&files, &locked);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(failed.stderr.contains("digest"), "{}", failed.stderr);
    assert!(failed.stderr.contains("Dockerfile:4"), "{}", failed.stderr);

    // What is locked stays, unless it is to be found out anew.
    let again = env.kiln(&["lock", "."]).succeeds().stdout;
    assert_eq!(again, "");
    let image = format!("{}/base:1", registry.host());
    let update = format!("--update={image}");
    let told = env.kiln(&["lock", &update, "."]).succeeds().stdout;
    assert!(told.starts_with(&format!("~ {image} sha256:")), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    let told = env.kiln(&["lock", "--update", "."]).succeeds().stdout;
    assert!(
        told.starts_with(&format!("~ {}/f sha256:", server.origin())),
        "{told}"
    );
    let nothing = env.kiln(&["lock", "--update=nothing", "."]);
    assert_eq!(nothing.code, 2, "{}", nothing.stderr);
}

#[test]
fn what_is_not_locked_is_named_with_its_line() {
    let registry = TestRegistry::start();
    push(&registry, "one");
    let dockerfile = format!("FROM {}/base:1\n", registry.host());
    let env = TestEnv::with_files(&[("Dockerfile", &dockerfile)]);
    let none = env.kiln(&["build", "--locked", "."]);
    assert_eq!(none.code, 2);
    assert!(
        none.stderr.contains("`kiln lock` makes it"),
        "{}",
        none.stderr
    );
    assert_eq!(env.kiln(&["lock", "--check", "."]).code, 2);
    env.kiln(&["lock", "."]).succeeds();
    let lock = std::fs::read_to_string(env.work().join("Dockerfile.lock")).unwrap();

    let more = format!(
        "{dockerfile}\nCOPY --from={}/base:2 /f /\n",
        registry.host()
    );
    env.write("Dockerfile", &more);
    let failed = env.kiln(&["build", "--locked", "."]);
    assert_eq!(failed.code, 1);
    assert!(
        failed.stderr.contains("base:2` is not in the lock file"),
        "{}",
        failed.stderr
    );
    assert!(failed.stderr.contains("Dockerfile:3"), "{}", failed.stderr);

    let name = format!("{}/base:1", registry.host());
    env.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let outdated = env.kiln(&["lock", "--check", "."]);
    assert_eq!(outdated.code, 5, "{}", outdated.stderr);
    assert!(
        outdated.stderr.contains("is locked and not used"),
        "{}",
        outdated.stderr
    );
    assert_eq!(
        std::fs::read_to_string(env.work().join("Dockerfile.lock")).unwrap(),
        lock
    );
    let told = env.kiln(&["lock", "."]).succeeds().stdout;
    assert_eq!(told, format!("- {name}\n"));
}

#[test]
fn an_image_made_here_is_locked_by_its_id() {
    let env = TestEnv::with_files(&[
        ("a/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n"),
        ("b/Dockerfile", "FROM made\nLABEL a=b\n"),
    ]);
    env.kiln(&["build", "-t", "made", "a"]).succeeds();
    env.kiln(&["lock", "b"]).succeeds();
    env.kiln(&["build", "--locked", "b"]).succeeds();
    env.write("a/Dockerfile", "FROM scratch\nCOPY Dockerfile /x\n");
    env.kiln(&["build", "-t", "made", "a"]).succeeds();
    let failed = env.kiln(&["build", "--locked", "b"]);
    assert_eq!(failed.code, 1);
    assert!(
        failed.stderr.contains("is not what the lock file says"),
        "{}",
        failed.stderr
    );
}
