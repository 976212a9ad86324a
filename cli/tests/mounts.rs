//! `RUN --mount` across builds and processes: all of it needs the sandbox.

#![allow(clippy::unwrap_used)]

mod test_env;

use test_env::{TestEnv, files_below};

/// A step that can tell whether somebody else is in the same cache at the same time: it makes a directory and takes it away.
const ALONE: &str =
    "for i in $(seq 200); do mkdir /c/busy || exit 1; rmdir /c/busy || exit 1; done; touch /c/$WHO";

#[test]
fn sandbox_processes_take_turns_with_a_locked_cache() {
    // R-MNT-10
    let dockerfile =
        format!("FROM busybox\nARG WHO\nRUN --mount=type=cache,target=/c,sharing=locked {ALONE}\n");
    let env = TestEnv::with_files(&[("Dockerfile", &dockerfile)]);
    if !env.import_busybox() {
        return;
    }
    let build = |who: &str| {
        let mut command = env.command(&["build", "--build-arg", &format!("WHO={who}"), "."]);
        command.stderr(std::process::Stdio::null());
        command.spawn().unwrap()
    };
    let (mut one, mut two) = (build("one"), build("two"));
    assert!(one.wait().unwrap().success());
    assert!(two.wait().unwrap().success());
    env.write(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,target=/c ls /c/one /c/two\n",
    );
    env.kiln(&["build", "."]).succeeds();
}

#[test]
fn sandbox_steps_that_share_a_cache_run_at_the_same_time() {
    // R-MNT-10: each step waits for what the other one writes.
    if caches_have_one_user() {
        return;
    }
    let meet = |own: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,target=/c echo > /c/{own}; while ! test -e /c/{other}; do :; done\n"
        )
    };
    let dockerfile = format!(
        "FROM busybox AS a\n{}FROM busybox AS b\n{}FROM busybox\nCOPY --from=a /tmp /a\nCOPY --from=b /tmp /b\n",
        meet("a", "b"),
        meet("b", "a")
    );
    let env = TestEnv::with_files(&[("Dockerfile", &dockerfile)]);
    if env.import_busybox() {
        env.kiln(&["build", "."]).succeeds();
    }
}

#[test]
fn sandbox_private_caches_are_apart_while_in_use() {
    // R-MNT-10: with one directory, the second `mkdir` would fail.
    if caches_have_one_user() {
        return;
    }
    let step = |own: &str, other: &str| {
        format!(
            "RUN --mount=type=cache,target=/meet --mount=type=cache,id=p,target=/c,sharing=private \
             mkdir /c/busy && touch /meet/{own} && while ! test -e /meet/{other}; do :; done\n"
        )
    };
    let dockerfile = format!(
        "FROM busybox AS a\n{}FROM busybox AS b\n{}FROM busybox\nCOPY --from=a /tmp /a\nCOPY --from=b /tmp /b\n",
        step("a", "b"),
        step("b", "a")
    );
    let env = TestEnv::with_files(&[("Dockerfile", &dockerfile)]);
    if env.import_busybox() {
        env.kiln(&["build", "."]).succeeds();
    }
}

/// In the sandbox `chroot` a cache is moved into the step's root, and steps wait for each other.
fn caches_have_one_user() -> bool {
    TestEnv::new().rung_name() == "chroot"
}

#[test]
fn sandbox_a_mount_on_something_of_another_kind_is_refused() {
    let cases = [
        (
            "source=dir,target=/etc/passwd",
            "/etc/passwd",
            "a directory can't be mounted on a file",
        ),
        (
            "source=file,target=/etc",
            "/etc",
            "a file can't be mounted on a directory",
        ),
        (
            "type=tmpfs,target=/etc/passwd",
            "/etc/passwd",
            "a directory can't be mounted on a file",
        ),
        (
            "type=secret,id=s,target=/etc",
            "/etc",
            "a file can't be mounted on a directory",
        ),
    ];
    let env = TestEnv::with_files(&[("dir/inner", "x"), ("file", "x")]);
    if !env.import_busybox() {
        return;
    }
    for (mount, target, reason) in cases {
        env.write(
            "Dockerfile",
            &format!("FROM busybox\nRUN --mount={mount} true\n"),
        );
        let outcome = env.kiln(&["build", "--secret=id=s,src=file", "."]);
        let expected = format!("error[run-failed]: mount at `{target}`: {reason}");
        outcome.fails_with(1, &expected);
        assert!(outcome.stderr.contains("--> Dockerfile:2:1"), "{outcome:?}");
    }
}

/// Bytes that must be nowhere but in the step.
const VALUE: &str = "hunter2-tOpSecret";

#[test]
fn sandbox_a_secret_is_in_the_step_and_nowhere_else() {
    // R-MNT-13..15, R-CACHE-6
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=secret,id=f test $(wc -c < /run/secrets/f) = 17 && stat -c '%a %u:%g' /run/secrets/f && ! echo mine > /run/secrets/f\n\
        RUN --mount=type=secret,id=e,env=TOKEN,target=/t,mode=0444,uid=7 test ${#TOKEN} = 17 && stat -c '%a %u:%g' /t\n\
        RUN --mount=type=secret,id=gone,env=NONE --mount=type=secret,id=gone test -n \"${NONE+set}\" && \
        ! test -e /run/secrets/gone\n\
        RUN --mount=type=secret,id=f test $(wc -c < /run/secrets/f) = 17\n";
    let env = TestEnv::with_files(&[("Dockerfile", dockerfile), (".dockerignore", "*\n")]);
    env.write("value", VALUE);
    if !env.import_busybox() {
        return;
    }
    let build = |value: &str| {
        let mut command = env.command(&[
            "build",
            "--progress=rawjson",
            "--secret=id=f,src=value",
            "--secret=id=e,env=TOKEN",
            "-o=type=oci,dest=out.tar",
            ".",
        ]);
        env.outcome(command.env("TOKEN", value)).succeeds()
    };
    let outcome = build(VALUE);
    let source = std::fs::read_to_string(env.work().join("value"));
    assert_eq!(source.unwrap(), VALUE);
    env.write("value", "another");
    let again = build("another");
    assert!(again.stderr.contains("cached"), "{}", again.stderr);
    let printed = outcome.stdout + &outcome.stderr + &again.stderr;
    assert!(!printed.contains(VALUE));
    let left = [env.work(), env.root()];
    for path in left.iter().flat_map(|dir| files_below(dir)) {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let found = bytes
            .windows(VALUE.len())
            .any(|bytes| bytes == VALUE.as_bytes());
        assert!(!found, "{}", path.display());
    }
}

#[test]
fn sandbox_a_secret_that_is_needed_must_be_given() {
    // R-MNT-15
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=nope,required true\n";
    let env = TestEnv::with_files(&[("Dockerfile", dockerfile)]);
    if env.import_busybox() {
        let outcome = env.kiln(&["build", "."]);
        outcome.fails_with(1, "error[secret]: secret nope: not found");
    }
}
