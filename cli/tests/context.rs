//! `kiln context ls`, and `--context-modes`: what of a folder is sent, and as what.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use test_env::TestEnv;

const IGNORE: &str = "# comment\n*.md\nlogs\n!logs/keep\n";

fn context() -> TestEnv {
    TestEnv::with_files(&[
        (".dockerignore", IGNORE),
        ("Dockerfile", "FROM scratch\nCOPY d /d\n"),
        ("a.md", "left out"),
        ("d/small", "1"),
        ("d/large", "12345"),
        ("logs/keep", "123"),
        ("logs/old", "12"),
    ])
}

fn lines(env: &TestEnv, args: &[&str]) -> Vec<String> {
    let args = [&["context", "ls"], args].concat();
    let out = env.kiln(&args).succeeds().stdout;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    out.lines().map(words).collect()
}

#[test]
fn what_is_sent_is_listed_with_its_size() {
    let expected = [
        "SIZE FILES PATH",
        "31B .dockerignore",
        "23B Dockerfile",
        "6B 2 d/",
        "5B d/large",
        "1B d/small",
        "3B 1 logs/",
        "3B logs/keep",
        "",
        "5 files, 63B; 2 paths left out by `.dockerignore`",
    ];
    assert_eq!(lines(&context(), &[]), expected);
}

#[test]
fn each_path_has_the_line_that_decided() {
    // R-IGN-1, R-IGN-6, R-IGN-7
    let env = context();
    let all = lines(&env, &["--why", "."]);
    for expected in [
        "8B a.md left out by line 2: *.md",
        "6B 2 d/ no line is about it",
        "3B 1 logs/ kept for what is in it, in spite of line 3: logs",
        "3B logs/keep kept by line 4: !logs/keep",
        "2B logs/old left out by line 3: logs",
    ] {
        assert!(all.contains(&expected.to_owned()), "{expected}: {all:#?}");
    }
    env.write("Other.dockerignore", "d\n");
    let other = lines(&env, &["--why", "-f", "Other"]);
    assert!(other.contains(&"- d/ left out by line 1: d".to_owned()));
}

#[test]
fn the_largest_are_told() {
    let env = context();
    let top = lines(&env, &["--top", "1"]);
    let expected = [
        "SIZE FILES FOLDER",
        "6B 2 d/",
        "",
        "SIZE FILES FILE",
        "31B .dockerignore",
    ];
    assert_eq!(top[..5], expected);
    let args = ["context", "ls", "--top=1", "--why", "--format=json"];
    let out = env.kiln(&args).succeeds().stdout;
    let rows: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (&rows[0]["path"], &rows[0]["files"]),
        (&"d/".into(), &2.into())
    );
    assert_eq!(rows[1]["sent"], true);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    context()
        .kiln(&["context", "ls", "nope"])
        .fails_with(2, "error: the context `nope` does not exist");
}

#[test]
fn canonical_modes_are_those_of_any_umask() {
    let env = context();
    let set = |mode| {
        for name in ["d/small", "d/large"] {
            let permissions = Permissions::from_mode(mode);
            fs::set_permissions(env.work().join(name), permissions).unwrap();
        }
    };
    let build = |flag| {
        let out = env
            .kiln(&["build", "--progress=plain", flag, "."])
            .succeeds();
        out.stderr
    };
    set(0o644);
    build("--context-modes=kept");
    build("--context-modes=canonical");
    set(0o664);
    assert!(build("--context-modes=canonical").contains("CACHED"));
    let plan = env.kiln(&["plan", "."]).succeeds().stdout;
    let reason = "only mode bits changed: `d/large` from 0644 to 0664 (and one more)";
    assert!(plan.contains(reason), "{plan}");
    let kept = build("--context-modes=kept");
    assert!(kept.contains(&format!("not cached: {reason}")), "{kept}");
}
