//! Steps and containers that really run: all of it needs the sandbox.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use test_env::{TestEnv, is_running, number_of_its_own};

#[test]
fn sandbox_a_run_step_is_built_cached_and_run() {
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "FROM busybox\nRUN echo made > /made\nUSER builder\nWORKDIR /w\nCMD [\"cat\", \"/made\"]\n",
    )]);
    if !env.import_busybox() {
        return;
    }
    env.kiln(&["build", "-t", "x", "."]).succeeds();
    let again = env.kiln(&["build", "-t", "x", "."]).succeeds();
    assert!(again.stderr.contains("CACHED"), "{}", again.stderr);
    assert_eq!(env.kiln(&["run", "x"]).succeeds().stdout, "made\n");
    assert_eq!(
        env.kiln(&["run", "--rm", "x", "pwd"]).succeeds().stdout,
        "/w\n"
    );
    assert_eq!(
        env.kiln(&[
            "run",
            "-u",
            "root",
            "-w",
            "/tmp",
            "x",
            "sh",
            "-c",
            "id -u; pwd"
        ])
        .succeeds()
        .stdout,
        "0\n/tmp\n"
    );
    assert_eq!(
        env.kiln(&["run", "x", "id", "-u"]).succeeds().stdout,
        "1000\n"
    );
}

#[test]
fn sandbox_run_passes_status_stdin_environment_and_volumes() {
    let env = TestEnv::with_files(&[("shared/file", "from the host")]);
    if !env.import_busybox() {
        return;
    }
    assert_eq!(
        env.kiln(&["run", "busybox", "sh", "-c", "exit 42"]).code,
        42
    );
    assert_eq!(
        env.kiln_with_stdin(&["run", "-i", "busybox", "cat"], b"typed")
            .succeeds()
            .stdout,
        "typed"
    );
    assert_eq!(
        env.kiln_with_stdin(&["run", "busybox", "cat"], b"typed")
            .succeeds()
            .stdout,
        ""
    );
    assert_eq!(
        env.kiln(&["run", "-e", "A=b", "busybox", "sh", "-c", "echo $A"])
            .succeeds()
            .stdout,
        "b\n"
    );
    assert_eq!(
        env.kiln(&["run", "-v", "./shared:/s:ro", "busybox", "cat", "/s/file"])
            .succeeds()
            .stdout,
        "from the host"
    );
    assert_ne!(
        env.kiln(&["run", "-v", "./shared:/s:ro", "busybox", "touch", "/s/new"])
            .code,
        0
    );
    assert_eq!(
        env.kiln(&["run", "--entrypoint", "echo", "busybox", "a", "b"])
            .succeeds()
            .stdout,
        "a b\n"
    );
    assert_eq!(
        env.kiln(&["run", "busybox"]).code,
        125,
        "no CMD and no command"
    );
    let missing = env.kiln(&["run", "busybox", "no-such-program"]);
    assert_eq!(missing.code, 127, "{}", missing.stderr);
}

/// A build whose step has said that it started, and what it says from then on.
fn started(env: &TestEnv) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = env
        .command(&["build", "--progress=plain", "."])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with(" started")));
    (child, lines)
}

#[test]
fn sandbox_an_interrupt_stops_the_build_and_leaves_a_good_store() {
    let env =
        TestEnv::with_files(&[("Dockerfile", "FROM busybox\nRUN echo started; sleep 1000\n")]);
    if !env.import_busybox() {
        return;
    }
    let (mut child, lines) = started(&env);
    Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    let rest: Vec<_> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    env.write("Dockerfile", "FROM busybox\nRUN true\n");
    env.kiln(&["build", "."]).succeeds();
}

/// What the first asks for may take its time, as a server that says nothing does. The second ends kiln, and its steps with it.
#[test]
fn sandbox_a_second_interrupt_ends_kiln_and_leaves_a_good_store() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file", silent.local_addr().unwrap());
    let step = number_of_its_own();
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        &format!(
            "FROM busybox AS a\nRUN echo started; sleep {step}\nFROM busybox\nADD {url} /\nCOPY --from=a /x /\n"
        ),
    )]);
    if !env.import_busybox() {
        return;
    }
    let (mut child, lines) = started(&env);
    let asked = silent.accept().unwrap();
    for _ in 0..2 {
        let kill = ["-INT", &child.id().to_string()].map(str::to_owned);
        Command::new("kill").args(kill).status().unwrap();
    }
    let rest: Vec<_> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    drop(asked);
    // The sandbox hears of kiln's end by itself.
    while is_running(&step) {
        std::thread::yield_now();
    }
    env.write("Dockerfile", "FROM busybox\nRUN true\n");
    env.kiln(&["build", "."]).succeeds();
}

#[test]
fn sandbox_run_has_files_of_variables_mounts_in_memory_and_a_host_name() {
    let env = TestEnv::with_files(&[
        ("env", "# no\nA=from the file\nB=x\n"),
        ("shared/file", "shared"),
    ]);
    if !env.import_busybox() {
        return;
    }
    let run = |flags: &[&str], script: &str| {
        let args: Vec<&str> = ["run", "--rm"]
            .into_iter()
            .chain(flags.iter().copied())
            .chain(["busybox", "sh", "-c", script])
            .collect();
        env.kiln(&args)
    };
    let told = run(&["--env-file", "env", "-e", "B=y"], "echo $A, $B");
    assert_eq!(told.succeeds().stdout, "from the file, y\n");
    let mount = "type=bind,source=shared,target=/s,readonly";
    let told = run(&["--mount", mount], "cat /s/file; touch /s/new");
    assert_eq!((told.stdout.as_str(), told.code), ("shared", 1));
    assert_eq!(
        run(&["-h", "web"], "echo $HOSTNAME").succeeds().stdout,
        "web\n"
    );
    run(&["--mount", "type=volume,target=/x"], "true").fails(125);
    run(&["--env-file", "none"], "true").fails(125);
    if env.rung_name() == "chroot" {
        run(&["--read-only"], "true").fails(125);
        return;
    }
    let script = "touch /tmp/x /run/y && echo made; touch /etc/z || echo kept";
    let told = run(
        &["--read-only", "--tmpfs", "/tmp:size=1m", "--tmpfs", "/run"],
        script,
    );
    assert_eq!(told.succeeds().stdout, "made\nkept\n");
}

#[test]
fn sandbox_signals_do_what_they_do_outside() {
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let handles = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let ignores = "trap '' HUP; trap 'exit 8' USR1; echo ready; while :; do sleep 0.1; done";
    let cases: [(&str, &[&str], i32); 4] = [
        (handles, &["-TERM"], 7),
        (handles, &["-INT"], 130),
        ("echo ready; exec sleep 1000", &["-TERM"], 143),
        (ignores, &["-HUP", "-USR1"], 8),
    ];
    let flags = [&["--rm"][..], &["--rm", "--init"]];
    for (flags, (script, signals, expected)) in flags
        .into_iter()
        .flat_map(|flags| cases.map(|case| (flags, case)))
    {
        let words = [&["run"], flags, &["busybox", "sh", "-c", script]].concat();
        let mut command = env.command(&words);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        for signal in signals {
            let id = child.id().to_string();
            Command::new("kill").args([*signal, &id]).status().unwrap();
        }
        assert_eq!(
            child.wait().unwrap().code(),
            Some(expected),
            "{flags:?} {script} {signals:?}"
        );
    }
}

#[test]
fn sandbox_with_init_orphans_are_reaped_and_the_program_is_like_any_other() {
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let run = |words: &[&str]| env.kiln(&[&["run", "--rm", "--init"], words].concat());
    // The orphan's end is told to who is its parent by then; it is gone when nothing of its number is left.
    let orphan =
        "id=$(sh -c 'true & echo $!'); while [ -e /proc/${id:?} ]; do usleep 1000; done; echo gone";
    assert_eq!(
        run(&["busybox", "sh", "-c", orphan]).succeeds().stdout,
        "gone\n"
    );
    for (script, expected) in [
        ("exit 9", 9),
        ("kill -TERM $$; exit 1", 143),
        ("kill -KILL $$; exit 1", 137),
        ("sleep 1000 & exit 3", 3),
    ] {
        assert_eq!(
            run(&["busybox", "sh", "-c", script]).code,
            expected,
            "{script}"
        );
    }
    assert_eq!(run(&["busybox", "nonesuch"]).code, 127);
    let groups = run(&[
        "-u",
        "1000:5",
        "--group-add=77",
        "--group-add=root",
        "busybox",
        "id",
        "-G",
    ]);
    assert_eq!(groups.succeeds().stdout, "5 0 77\n");
}

#[test]
fn sandbox_a_container_has_a_terminal_only_if_that_is_asked_for() {
    let env = TestEnv::new();
    if !env.import_busybox() || !std::path::Path::new("/usr/bin/script").exists() {
        return;
    }
    let script = "for n in 0 1 2; do test -t $n && echo -n tty. || echo -n none.; done";
    let kiln = env!("CARGO_BIN_EXE_kiln");
    for (flags, expected) in [
        ("", "none.none.none."),
        ("-i", "none.none.none."),
        ("-it", "tty.tty.tty."),
    ] {
        let line = format!("{kiln} run --rm {flags} busybox sh -c '{script}'");
        // `script` gives it a terminal of its own.
        let mut shown = env.command(&[]);
        let mut outer = Command::new("script");
        outer
            .args(["-qec", &line, "/dev/null"])
            .env_clear()
            .current_dir(env.work());
        for (name, value) in shown.stdin(Stdio::null()).get_envs() {
            outer.envs(value.map(|value| (name, value)));
        }
        let shown = env.outcome(outer.stdin(Stdio::null()));
        // The end of its own input is a character to `script`, which may be echoed anywhere.
        let told = shown.stdout.replace("^@", "");
        assert!(told.contains(expected), "{flags}: {shown:?}");
    }
}

#[test]
fn sandbox_the_id_of_a_container_is_written_to_a_file() {
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let file = env.work().join("id");
    env.kiln(&["run", "--cidfile", "id", "busybox", "true"])
        .succeeds();
    let id = fs::read_to_string(&file).unwrap();
    let listed = env.kiln(&["ps", "-q", "--no-trunc"]).succeeds().stdout;
    assert_eq!(listed.trim_end(), id);
    // As Docker has it.
    env.kiln(&["run", "--cidfile", "id", "busybox", "true"])
        .fails_with(125, "error[container]: there is a file `id` already");
    fs::remove_file(&file).unwrap();
    let kept = env.kiln(&["run", "--rm", "--cidfile", "id", "busybox", "false"]);
    kept.fails(1);
    assert_eq!(fs::read_to_string(&file).unwrap().len(), 64);
    fs::remove_file(&file).unwrap();
    env.kiln(&["run", "--cidfile", "id", "busybox", "/none"])
        .fails(127);
    assert!(!file.exists());
}

#[test]
fn sandbox_a_container_has_its_name_in_a_file() {
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let ran = [
        "run",
        "--name=work",
        "-h=web",
        "busybox",
        "cat",
        "/etc/hostname",
    ];
    assert_eq!(env.kiln(&ran).succeeds().stdout, "web\n");
    assert_eq!(env.kiln(&["diff", "work"]).succeeds().stdout, "");
}

#[test]
fn sandbox_a_container_is_the_first_to_go_when_memory_is_short() {
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let run = |score: &str| {
        let file = "/proc/self/oom_score_adj";
        env.kiln(&[
            "run",
            "--rm",
            "--oom-score-adj",
            score,
            "busybox",
            "cat",
            file,
        ])
    };
    assert_eq!(run("789").succeeds().stdout, "789\n");
    run("1001").fails(125);
    // Root of the machine may have anything.
    let least = run("-1000");
    if least.code != 0 {
        let told = "could not set the score for lack of memory to -1000: less than kiln's own";
        assert!(least.stderr.contains(told), "{}", least.stderr);
        let help = "help: `--oom-score-adj ";
        assert!(least.stderr.contains(help), "{}", least.stderr);
    }
}

#[test]
fn sandbox_what_is_in_memory_may_be_somebodys() {
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let script = "stat -c '%u:%g %a' /t; touch /t/x && echo written";
    let ran = env.kiln(&[
        "run",
        "--rm",
        "-u",
        "1000",
        "--tmpfs",
        "/t:uid=1000,gid=7,mode=700",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(ran.succeeds().stdout, "1000:7 700\nwritten\n");
}

#[test]
fn sandbox_a_container_has_the_rights_that_flags_say() {
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let look = |flags: &[&str], what: &str| {
        let script = format!("grep {what}: /proc/self/status");
        let words = [&["run", "--rm"], flags, &["busybox", "sh", "-c", &script]].concat();
        let told = env.kiln(&words).succeeds().stdout;
        told.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(look(&["--cap-drop=ALL"], "CapBnd"), "0000000000000000");
    let some = ["--cap-drop", "all", "--cap-add", "chown,CAP_FOWNER"];
    assert_eq!(look(&some, "CapBnd"), "0000000000000009");
    assert_eq!(
        look(&["--security-opt=no-new-privileges"], "NoNewPrivs"),
        "1"
    );
}

#[test]
fn sandbox_what_is_in_memory_may_be_kept_from_being_executed() {
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let run = |options: &str| {
        let script = "cp /bin/busybox /t/true && /t/true";
        env.kiln(&[
            "run", "--rm", "--tmpfs", options, "busybox", "sh", "-c", script,
        ])
    };
    run("/t").succeeds();
    let kept = run("/t:rw,noexec,nosuid,size=65536k");
    match &*env.rung_name() {
        "chroot" => kept.fails(125),
        _ => kept.fails(126),
    };
}

#[test]
fn run_says_what_it_does_not_have() {
    let env = TestEnv::new();
    env.kiln(&["run", "-d", "busybox"])
        .fails_with(125, "error: `kiln run` does not support `-d`");
    env.kiln(&["run", "--cpus", "many", "busybox"]).fails(125);
    env.kiln(&["run", "-w", "here", "busybox"]).fails(125);
    env.kiln(&["run", "-v", "/:/", "busybox"]).fails(125);
    env.kiln(&["run", "--pull", "never", "busybox"]).fails_with(
        125,
        "error[image]: there is no image `busybox` in the store",
    );
}
