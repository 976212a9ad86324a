//! `kiln plan`: what a build would do, before it, after it and after an edit. Nothing runs in a sandbox except in
//! `sandbox_*`.

#![allow(clippy::unwrap_used)]

mod test_env;

use serde_json::Value;
use test_env::{TestEnv, files_below};

const DOCKERFILE: &str = "\
# VERSION what to ship
ARG VERSION=1
# files gathers what is needed
FROM scratch AS files
ARG VERSION
ARG TARGETARCH=none
WORKDIR /data
COPY a a-$VERSION
FROM scratch AS unused
COPY missing /
# app is what is shipped
FROM scratch AS app
ENV GREETING=hello
ARG GREETING EXTRA
COPY --from=files /data /data
COPY --link b \"/b\"
";

fn context() -> TestEnv {
    TestEnv::with_files(&[("Dockerfile", DOCKERFILE), ("a", "a"), ("b", "b")])
}

/// The plan as JSON.
fn json(env: &TestEnv, args: &[&str]) -> Value {
    let line = [&["plan", "--format", "json"], args, &["."]].concat();
    serde_json::from_str(&env.kiln(&line).succeeds().stdout).unwrap()
}

/// Each step with a key: the instruction, and what is known of it.
fn states(env: &TestEnv, args: &[&str]) -> Vec<String> {
    let plan = json(env, args);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let steps = plan["steps"].as_array().unwrap().iter();
    steps
        .filter_map(|step| {
            let name = text(&step["name"])?;
            let instruction = name.split_once("] ")?.1.split(' ').next()?.to_owned();
            let about = match (text(&step["reason"]), step["waitsFor"].as_u64()) {
                (Some(reason), _) => format!(": {reason}"),
                (None, Some(other)) => format!(" until {other}"),
                (None, None) => String::new(),
            };
            Some(format!("{instruction} {}{about}", text(&step["state"])?))
        })
        .collect()
}

/// Digests are another test's matter.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("sha256:") {
        masked.push_str(&rest[..at]);
        masked.push_str("[DIGEST]");
        rest = rest[at + "sha256:".len()..].trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    masked + rest
}

#[test]
fn people_read_tables_and_steps() {
    // R-STG-2, R-ARG-3, R-ARG-8, R-ARG-13
    let outcome = context()
        .kiln(&[
            "plan",
            "--platform",
            "linux/amd64",
            "--build-arg",
            "VERSION=2",
            "--build-arg",
            "NOBODY=1",
            ".",
        ])
        .succeeds();
    assert_eq!(outcome.stderr, "");
    let expected = "\
app of Dockerfile for linux/amd64
no ARG declares build argument NOBODY

STAGE     FROM      NEEDED BY
files     scratch   app (COPY --from, line 15)
unused    scratch   nothing: left out
app       scratch   it is the target

ARG          VALUE     FROM                     SCOPE
VERSION      2         --build-arg              global, line 2
VERSION      2         --build-arg              files, line 5
TARGETARCH   none      default                  files, line 6
GREETING     hello     ENV, ARG or base above   app, line 14
EXTRA        -         nowhere                  app, line 14

STEPS
1  source   scratch
2  miss     [files 1/2] WORKDIR /data
            mkdir over 1; not built before
3  source   [internal] load build context
4  unknown  [files 2/2] COPY a a-2
            copy over 2, 3; waits for 2
5  unknown  [app 1/2] COPY --from=files /data /data
            copy over 1, 4; waits for 2
6  miss     [app 2/2] COPY --link b \"/b\"
            copy over 5, 3; not built before

0 cached, 2 to do, 2 not known yet
";
    assert_eq!(outcome.stdout, expected);
}

#[test]
fn json_has_all_there_is_to_know() {
    let env = context();
    env.kiln(&["build", "-q", "."]).succeeds();
    env.write("a", "another");
    let outcome = env
        .kiln(&["plan", "--target", "files", "--format", "json", "."])
        .succeeds();
    let plan: Value = serde_json::from_str(&masked(&outcome.stdout)).unwrap();
    assert_eq!(plan["target"], "files");
    assert_eq!(plan["dockerfile"], "Dockerfile");
    let stages = serde_json::json!([
        { "index": 0, "name": "files", "base": "scratch", "line": 4, "kept": true,
          "neededBy": [{ "reason": "target" }] },
        { "index": 1, "name": "unused", "base": "scratch", "line": 9, "kept": false, "neededBy": [] },
        { "index": 2, "name": "app", "base": "scratch", "line": 12, "kept": false, "neededBy": [] },
    ]);
    assert_eq!(plan["stages"], stages);
    let arguments = serde_json::json!([
        { "name": "VERSION", "value": "1", "origin": "default", "stage": null, "line": 2 },
        { "name": "VERSION", "value": "1", "origin": "global", "stage": "files", "line": 5 },
        { "name": "TARGETARCH", "value": "none", "origin": "default", "stage": "files", "line": 6 },
    ]);
    assert_eq!(plan["arguments"], arguments);
    let steps = serde_json::json!([
        { "id": 1, "name": "scratch", "kind": "scratch", "inputs": [] },
        { "id": 2, "name": "[files 1/2] WORKDIR /data", "kind": "mkdir", "stage": "files", "line": 7,
          "inputs": [1], "state": "hit", "key": "[DIGEST]" },
        { "id": 3, "name": "[internal] load build context", "kind": "context", "inputs": [] },
        { "id": 4, "name": "[files 2/2] COPY a a-1", "kind": "copy", "stage": "files", "line": 8,
          "inputs": [2, 3], "state": "miss", "key": "[DIGEST]", "reason": "`a` changed" },
    ]);
    assert_eq!(plan["steps"], steps);
    assert_eq!(plan["images"], serde_json::json!([]));
    assert_eq!(plan["unusedBuildArgs"], serde_json::json!([]));
}

#[test]
fn states_follow_builds_and_edits() {
    // R-CACHE-1, R-CACHE-2, R-CACHE-3, R-CACHE-8, R-CACHE-22
    let env = context();
    let fresh = [
        "WORKDIR miss: not built before",
        "COPY unknown until 2",
        "COPY unknown until 2",
        "COPY miss: not built before",
    ];
    assert_eq!(states(&env, &[]), fresh);
    env.kiln(&["build", "-q", "."]).succeeds();
    let built = ["WORKDIR hit", "COPY hit", "COPY hit", "COPY hit"];
    assert_eq!(states(&env, &[]), built);
    env.write("a", "another");
    // What comes out of step 4 is not known; a linked copy needs only what it copies.
    let edited = [
        "WORKDIR hit",
        "COPY miss: `a` changed",
        "COPY unknown until 4",
        "COPY hit",
    ];
    assert_eq!(states(&env, &[]), edited);
    env.write("a", "a");
    assert_eq!(states(&env, &[]), built);
    let off = "COPY miss: the cache is switched off for this step";
    let no_cache = ["WORKDIR hit", off, "COPY unknown until 4", off];
    assert_eq!(states(&env, &["--no-cache"]), no_cache);
    // R-CACHE-23: a stage's name in any letter case; what reads its output may still be found.
    let filtered = ["WORKDIR hit", off, "COPY unknown until 4", "COPY hit"];
    assert_eq!(states(&env, &["--no-cache-filter", "x,FILES"]), filtered);
    let moved = states(&env, &["--build-arg", "VERSION=2"]);
    assert!(
        moved[1].starts_with("COPY miss: destination changed from "),
        "{moved:?}"
    );
}

#[test]
fn a_stage_without_cache_is_built_again_and_no_other() {
    // R-CLI-4, R-CACHE-23
    let env = context();
    let cached = |args: &[&str]| {
        let line = [&["build", "--progress", "plain"], args, &["."]].concat();
        let outcome = env.kiln(&line).succeeds();
        outcome.stderr.matches(" CACHED\n").count()
    };
    assert_eq!(cached(&[]), 0);
    assert_eq!(cached(&[]), 4);
    assert_eq!(cached(&["--no-cache-filter", "files"]), 3);
    assert_eq!(cached(&["--no-cache-filter", "files,app"]), 1);
    assert_eq!(cached(&["--no-cache-filter", "other"]), 4);
}

#[test]
fn keys_are_those_that_a_build_uses() {
    let env = context();
    let key = |plan: &Value, step: usize| plan["steps"][step]["key"].as_str().map(str::to_owned);
    let before = json(&env, &[]);
    env.kiln(&["build", "-q", "."]).succeeds();
    let after = json(&env, &[]);
    let known = key(&before, 5).unwrap();
    assert_eq!(key(&after, 5), Some(known.clone()));
    let hex = known.strip_prefix("sha256:").unwrap().to_owned();
    let records = files_below(&env.root().join("actions"));
    let is_it = |path: &std::path::PathBuf| path.to_string_lossy().replace('/', "").contains(&hex);
    assert!(records.iter().any(is_it), "{hex} {records:?}");
}

#[test]
fn looking_leaves_nothing_behind() {
    let env = context();
    env.kiln(&["images"]).succeeds();
    let is_kept = |path: &std::path::PathBuf| !path.starts_with(env.root().join("locks"));
    let files = || -> Vec<_> {
        let mut files = files_below(&env.root());
        files.retain(is_kept);
        files.sort();
        files
    };
    let before = files();
    states(&env, &[]);
    assert_eq!(files(), before);
}

#[test]
fn images_are_resolved_and_not_pulled() {
    let env = TestEnv::with_files(&[
        ("base/Dockerfile", "FROM scratch\nCOPY f /f\n"),
        ("base/f", "f"),
        ("Dockerfile", "FROM base\nCOPY --from=base /f /g\n"),
    ]);
    env.kiln(&["build", "-q", "-t", "base", "base"]).succeeds();
    let plan = json(&env, &["--platform", "linux/amd64"]);
    let images = serde_json::json!([{
        "name": "docker.io/library/base:latest", "platform": "linux/amd64", "digest": null, "layers": 1,
    }]);
    assert_eq!(plan["images"], images);
    assert_eq!(plan["steps"][0]["kind"], "image");
    assert_eq!(states(&env, &[]), ["COPY miss: not built before"]);
    env.kiln(&["build", "-q", "."]).succeeds();
    assert_eq!(states(&env, &[]), ["COPY hit"]);
}

#[test]
fn files_of_an_image_that_are_not_here_are_not_known() {
    // R-STG-2: looking pulls nothing.
    let env = TestEnv::with_files(&[
        ("base/Dockerfile", "FROM scratch\nCOPY f /f\n"),
        ("base/f", "f"),
        ("Dockerfile", "FROM scratch\nCOPY --from=base /f /g\n"),
    ]);
    env.kiln(&["build", "-q", "-t", "base", "base"]).succeeds();
    std::fs::remove_dir_all(env.root().join("layers")).unwrap();
    let steps = json(&env, &[])["steps"].clone();
    let image = steps[0]["id"]
        .as_u64()
        .filter(|_| steps[0]["kind"] == "image");
    let image = image.or_else(|| steps[1]["id"].as_u64()).unwrap();
    assert_eq!(states(&env, &[]), [format!("COPY unknown until {image}")]);
}

#[test]
fn graphs_show_states_and_inputs() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY a \"/b\"\n"), ("a", "a")]);
    let dot = env.kiln(&["plan", "--format", "dot", "."]).succeeds();
    let expected = r##"digraph plan {
  rankdir=LR;
  node [shape=box, style=filled];
  v1 [label="scratch", fillcolor="#eeeeee"];
  v2 [label="[internal] load build context", fillcolor="#eeeeee"];
  subgraph cluster_0 {
    label="stage-0";
    v3 [label="[1/1] COPY a \"/b\"\nmiss", fillcolor="#ffcdd2"];
  }
  v1 -> v3;
  v2 -> v3 [style=dashed];
}
"##;
    assert_eq!(dot.stdout, expected);
    let mermaid = env.kiln(&["plan", "--format", "mermaid", "."]).succeeds();
    let expected = r#"flowchart LR
  v1["scratch"]:::source
  v2["[internal] load build context"]:::source
  v3["[1/1] COPY a #34;/b#34;<br/>miss"]:::miss
  v1 --> v3
  v2 -.-> v3
  classDef hit "#;
    assert!(mermaid.stdout.starts_with(expected), "{}", mermaid.stdout);
}

#[test]
fn what_fails_a_build_before_it_runs_fails_its_plan() {
    // R-STG-1, R-STG-3
    let env = context();
    env.kiln(&["plan", "--target", "nope", "."]).fails_with(
        2,
        "error[unknown-target]: target stage \"nope\" could not be found",
    );
    let plan = env.kiln(&["plan", "--target", "unused", "."]);
    let build = env.kiln(&["build", "--progress", "none", "--target", "unused", "."]);
    assert_eq!((plan.error(), plan.code), (build.error(), build.code));
    assert_eq!(plan.code, 1);
    assert_eq!(plan.stdout, "");
}

#[test]
fn outlines_and_targets_are_printed_as_buildx_does() {
    // R-CLI-7, R-LEX-15
    let env = context();
    let outline = "\
TARGET:      app
DESCRIPTION: is what is shipped

BUILD ARG    VALUE   DESCRIPTION
VERSION      2       \n\
TARGETARCH   none    \n\
GREETING             \n\
EXTRA                \n\n";
    let targets = "\
TARGET        DESCRIPTION
files         gathers what is needed
unused        \n\
app (default) is what is shipped
";
    for command in ["plan", "build"] {
        let line = [
            command,
            "--call",
            "outline",
            "--build-arg",
            "VERSION=2",
            ".",
        ];
        assert_eq!(env.kiln(&line).succeeds().stdout, outline);
        let line = [command, "--call=targets", "."];
        assert_eq!(env.kiln(&line).succeeds().stdout, targets);
    }
    let line = ["build", "--call=targets,format=json", "."];
    let json: Value = serde_json::from_str(&env.kiln(&line).succeeds().stdout).unwrap();
    let target = serde_json::json!({
        "name": "app",
        "default": true,
        "description": "is what is shipped",
        "base": "scratch",
        "location": { "ranges": [{ "start": { "line": 12 }, "end": { "line": 12 } }] },
    });
    assert_eq!(json["targets"][2], target);
    let line = [
        "build",
        "--call=outline,format=json",
        "--build-arg=VERSION=2",
        ".",
    ];
    let json: Value = serde_json::from_str(&env.kiln(&line).succeeds().stdout).unwrap();
    assert_eq!(json["name"], "app");
    let argument = serde_json::json!({
        "name": "VERSION",
        "value": "2",
        "location": { "ranges": [{ "start": { "line": 5 }, "end": { "line": 5 } }] },
    });
    assert_eq!(json["args"][0], argument);
    assert_eq!(json["secrets"], Value::Null);
    assert!(json["sources"][0].is_string());
    assert!(!env.root().exists(), "no store is needed");
}

#[test]
fn an_outline_needs_no_image() {
    // R-CLI-7
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "FROM registry.invalid/x\nRUN --mount=type=secret,id=token,required \\\n  --mount=type=ssh true\n",
    )]);
    let outline = "\
SECRET   REQUIRED
token    true

SSH       REQUIRED
default   \n\n";
    let outcome = env.kiln(&["build", "--call", "outline", "."]).succeeds();
    assert_eq!(outcome.stdout, outline);
}

#[test]
fn sandbox_what_follows_a_run_is_known_when_it_has_run() {
    // R-CACHE-3
    let env = TestEnv::with_files(&[
        (
            "Dockerfile",
            "FROM busybox\nARG WHO=a\nRUN echo \"$WHO\" >/dev/null; echo same >/f\nRUN cat /f\nCOPY x /x\n",
        ),
        ("x", "x"),
    ]);
    if !env.import_busybox() {
        return;
    }
    let fresh = [
        "RUN miss: not built before",
        "RUN unknown until 2",
        "COPY unknown until 2",
    ];
    assert_eq!(states(&env, &[]), fresh);
    env.kiln(&["build", "-q", "."]).succeeds();
    assert_eq!(states(&env, &[]), ["RUN hit", "RUN hit", "COPY hit"]);
    let other = states(&env, &["--build-arg", "WHO=b"]);
    let expected = [
        "RUN miss: env WHO changed from \"a\" to \"b\"",
        "RUN unknown until 2",
        "COPY unknown until 2",
    ];
    assert_eq!(other, expected);
    env.kiln(&["build", "-q", "--build-arg", "WHO=b", "."])
        .succeeds();
    assert_eq!(
        states(&env, &["--build-arg", "WHO=b"]),
        ["RUN hit", "RUN hit", "COPY hit"]
    );
}
