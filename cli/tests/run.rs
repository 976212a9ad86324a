//! Steps and containers that really run: all of it needs the sandbox.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

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

#[test]
fn sandbox_an_interrupt_stops_the_build_and_leaves_a_good_store() {
    let env =
        TestEnv::with_files(&[("Dockerfile", "FROM busybox\nRUN echo started; sleep 1000\n")]);
    if !env.import_busybox() {
        return;
    }
    let mut child = env
        .command(&["build", "--progress=plain", "."])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with(" started")));
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
    let mut child = env
        .command(&["build", "--progress=plain", "."])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = silent.accept().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with(" started")));
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
