//! Going to where a step failed, and into a stage: `kiln shell`, `kiln run --step`, `kiln run --target`.

#![allow(clippy::unwrap_used)]

mod test_env;

use test_env::{Outcome, TestEnv};

/// A step that writes, and fails as a user in a directory with variables.
const FAILS: &str = "FROM busybox AS base\nRUN echo base > /base\n\
                     FROM base AS app\nARG FLAVOUR=plain\nARG API_TOKEN=hidden\nENV COLOUR=red\nUSER builder\nWORKDIR /w\n\
                     RUN --mount=type=cache,target=/cache echo half > /w/half; exit 7\n";

fn with_failure() -> Option<(TestEnv, Outcome)> {
    let env = TestEnv::with_files(&[("Dockerfile", FAILS)]);
    if !env.import_busybox() {
        return None;
    }
    let build = ["build", "--build-arg", "API_TOKEN=s3cret-value", "."];
    let failed = env.kiln(&build).fails(1);
    Some((env, failed))
}

/// The container that the failure's last line names.
fn name_in(failed: &Outcome) -> &str {
    let command = failed.stderr.rsplit("= help: `kiln shell ").next().unwrap();
    let (name, rest) = command.split_once('`').unwrap();
    assert_eq!(rest.trim(), "opens a shell where it failed");
    name
}

#[test]
fn sandbox_a_failed_step_is_entered_as_it_was() {
    let Some((env, failed)) = with_failure() else {
        return;
    };
    let name = name_in(&failed);
    let look = "id -u; pwd; cat /w/half /base; echo $FLAVOUR $COLOUR ${API_TOKEN-none}";
    let entered = env.kiln(&["run", "--rm", "--step", name, "sh", "-c", look]);
    let expected = "1000\n/w\nhalf\nbase\nplain red none\n";
    assert_eq!(entered.stdout, expected, "{}", entered.stderr);
    for lacking in [
        "the cache at `/cache` (`-v SOURCE:/cache` puts something there)",
        "the variable `API_TOKEN` (`-e API_TOKEN=…` gives it back)",
    ] {
        assert!(entered.stderr.contains(lacking), "{}", entered.stderr);
    }
    assert!(!entered.stderr.contains("s3cret-value"));
    // One that is gone isn't taken for an image.
    env.kiln(&["shell", "failed-00000000"]).fails_with(
        125,
        "error[container]: there is no container `failed-00000000`",
    );
    // The latest, with a shell of its own.
    let typed = env.kiln_with_stdin(&["shell"], b"cat /w/half\n");
    assert_eq!(typed.succeeds().stdout, "half\n");
    // Its own command again.
    env.kiln(&["run", "--rm", "--step", name]).fails(7);
    // It is a container like others.
    let listed = env.kiln(&[
        "ps",
        "--format",
        "{{.Names}} {{.Image}} {{slice .Status 0 10}}",
    ]);
    assert_eq!(
        listed.succeeds().stdout,
        format!("{name} app 2/2 Exited (7)\n")
    );
    let changed = env.kiln(&["diff", name]).succeeds().stdout;
    assert_eq!(changed, "C /w\nA /w/half\n");
}

#[test]
fn sandbox_a_failed_step_is_kept_until_its_dockerfile_can_be_built() {
    let Some((env, failed)) = with_failure() else {
        return;
    };
    let names = || {
        env.kiln(&["ps", "--format", "{{.Names}}"])
            .succeeds()
            .stdout
    };
    assert_eq!(names(), format!("{}\n", name_in(&failed)));
    let again = env.kiln(&["build", "."]).fails(1);
    assert_eq!(names(), format!("{}\n", name_in(&again)));
    // That of another Dockerfile is not touched.
    env.write("other/Dockerfile", "FROM busybox\nRUN false\n");
    let other = env.kiln(&["build", "other"]).fails(1);
    env.write("Dockerfile", &FAILS.replace("exit 7", "exit 0"));
    env.kiln(&["build", "."]).succeeds();
    assert_eq!(names(), format!("{}\n", name_in(&other)));
    env.kiln(&["rm", name_in(&other)]).succeeds();
    let none = env
        .kiln(&["build", "--keep-failed=false", "other"])
        .fails(1);
    assert!(!none.stderr.contains("kiln shell"), "{}", none.stderr);
    assert_eq!(names(), "");
    env.kiln(&["shell"])
        .fails_with(125, "error[container]: no failed step is kept");
}

#[test]
fn sandbox_the_events_of_a_build_name_what_is_kept() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM busybox\nRUN [\"no-such-program\"]\n")]);
    if !env.import_busybox() {
        return;
    }
    // R-PROG-5, and a field of ours
    let failed = env.kiln(&["build", "--progress=rawjson", "."]).fails(1);
    let events = failed.stderr.lines();
    let events = events.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let named: Vec<String> = events
        .filter_map(|event| Some(event["vertexes"][0]["container"].as_str()?.to_owned()))
        .collect();
    assert_eq!(named, [name_in(&failed)]);
    let entered = env.kiln(&["run", "--rm", "--step", &named[0], "echo", "here"]);
    assert_eq!(entered.succeeds().stdout, "here\n");
}

#[test]
fn sandbox_a_stage_is_built_and_run() {
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "FROM busybox AS one\nARG NAME=one\nRUN echo $NAME > /one\nFROM one AS two\nRUN echo two > /two\nCMD [\"cat\", \"/one\", \"/two\"]\n",
    )]);
    if !env.import_busybox() {
        return;
    }
    let one = [
        "run", "--rm", "--target", "one", ".", "--", "ls", "/one", "/two",
    ];
    let ran = env.kiln(&one).fails(1);
    assert_eq!(ran.stdout, "/one\n", "{}", ran.stderr);
    assert!(!ran.stderr.contains("echo two"), "{}", ran.stderr);
    let last = ["run", "--rm", "-f", "Dockerfile", "--build-arg=NAME=x", "."];
    assert_eq!(env.kiln(&last).succeeds().stdout, "x\ntwo\n");
    // Nothing of it has become an image.
    let images = env.kiln(&["images", "-aq"]).succeeds().stdout;
    assert_eq!(images.lines().count(), 1, "{images}");
    env.kiln(&["run", "--build-arg=NAME=x", "busybox", "true"])
        .fails_with(
            125,
            "error: `--build-arg` is about building a stage, and none is asked for",
        );
}

#[test]
fn keys_are_not_read_from_what_is_no_terminal() {
    let env = TestEnv::new();
    env.kiln(&["run", "-it", "busybox"])
        .fails_with(1, "error: the input device is not a TTY");
}
