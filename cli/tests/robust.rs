//! kiln in the hands of the unlucky and the hostile: damage in the store, odd files, steps that misbehave.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use test_env::{TestEnv, files_below};

/// The stored file of this name that belongs to an unpacked layer.
fn unpacked(env: &TestEnv, name: &str) -> Option<PathBuf> {
    files_below(&env.root().join("layers"))
        .into_iter()
        .find(|path| path.ends_with(format!("fs/{name}")))
}

#[test]
fn sandbox_a_damaged_layer_is_told_and_made_anew() {
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "FROM busybox AS made\nRUN echo whole > /made\nFROM scratch\nCOPY --from=made /made /copied\n",
    )]);
    if !env.import_busybox() {
        return;
    }
    for damage in ["", "torn!\n"] {
        env.kiln(&["build", "--target", "made", "."]).succeeds();
        let file = unpacked(&env, "made").unwrap();
        std::fs::write(&file, damage).unwrap();
        let to_tar = [
            "build",
            "--target",
            "made",
            "-o",
            "type=tar,dest=out.tar",
            ".",
        ];
        let failed = env.kiln(&to_tar);
        assert_eq!(failed.code, 3, "{}", failed.stderr);
        assert!(
            failed.error().contains("damaged: `/made`"),
            "{}",
            failed.stderr
        );
        assert!(failed.error().contains("help: "), "{}", failed.stderr);
        let again = env.kiln(&to_tar).succeeds();
        assert!(!again.stderr.contains("CACHED"), "{}", again.stderr);
        assert_eq!(
            std::fs::read_to_string(unpacked(&env, "made").unwrap()).unwrap(),
            "whole\n"
        );
    }
}

#[test]
fn sandbox_a_damaged_source_of_a_copy_is_told_and_made_anew() {
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "FROM busybox AS made\nRUN echo whole > /made\nFROM scratch\nCOPY --from=made /made /copied\n",
    )]);
    if !env.import_busybox() {
        return;
    }
    env.kiln(&["build", "--target", "made", "."]).succeeds();
    std::fs::remove_file(unpacked(&env, "made").unwrap()).unwrap();
    let failed = env.kiln(&["build", "."]);
    assert_eq!(failed.code, 3, "{}", failed.stderr);
    assert!(
        failed.error().contains("damaged: `/made`"),
        "{}",
        failed.stderr
    );
    env.kiln(&["build", "."]).succeeds();
}

/// Makes a named pipe in the context.
fn pipe(env: &TestEnv, name: &str) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let path = env.work().join(name);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn pipes_that_nobody_writes_to_are_not_waited_for() {
    let env = TestEnv::new();
    pipe(&env, "Dockerfile");
    let failed = env.kiln(&["build", "."]);
    failed.fails_with(
        3,
        "error: could not read `./Dockerfile`: not a regular file",
    );

    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY . /\n")]);
    pipe(&env, ".dockerignore");
    let failed = env.kiln(&["build", "."]);
    failed.fails_with(
        3,
        "error: could not read `./.dockerignore`: not a regular file",
    );

    // R-COPY-19: one that is copied is copied as a pipe.
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY . /\n")]);
    pipe(&env, "pipe");
    env.kiln(&["build", "."]).succeeds();
}

#[test]
fn sandbox_a_flood_of_output_is_clipped_and_its_end_shown() {
    // R-RT-19
    let flood = "FROM busybox\nRUN busybox yes | head -n 3000000; echo why it failed; exit 3\n";
    let env = TestEnv::with_files(&[("Dockerfile", flood)]);
    if !env.import_busybox() {
        return;
    }
    let failed = env.kiln(&["build", "--progress=plain", "."]);
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.len() < 4 << 20, "{}", failed.stderr.len());
    for shown in ["[output clipped, log limit ", " why it failed\n"] {
        assert!(failed.stderr.contains(shown), "{shown}");
    }
}

/// Starts a build and returns when a line of its progress has `text`.
fn started(env: &TestEnv, text: &str) -> Child {
    let mut command = env.command(&["build", "--progress=plain", "."]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(text)));
    std::thread::spawn(move || lines.count());
    child
}

#[test]
fn sandbox_who_waits_for_anothers_step_can_be_stopped() {
    let step = "FROM busybox\nRUN echo begun; sleep 1000\n";
    let env = TestEnv::with_files(&[("Dockerfile", step)]);
    if !env.import_busybox() {
        return;
    }
    let mut working = started(&env, " begun");
    let mut waiting = started(&env, "RUN echo begun");
    let asked = Instant::now();
    for (child, code) in [(&mut waiting, 130), (&mut working, 143)] {
        let signal = if code == 130 { "-INT" } else { "-TERM" };
        let mut kill = Command::new("kill");
        assert!(
            kill.args([signal, &child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
    assert!(asked.elapsed().as_secs() < 500, "{:?}", asked.elapsed());
    assert_eq!(
        std::fs::read_dir(env.root().join("tmp")).unwrap().count(),
        0
    );
}

#[test]
fn sandbox_more_layers_than_the_kernel_stacks_are_refused_in_words() {
    let copies: String = (0..501)
        .map(|number| format!("COPY f /f{number}\n"))
        .collect();
    let env = TestEnv::with_files(&[
        ("Dockerfile", &format!("FROM busybox\n{copies}RUN true\n")),
        ("f", "x"),
    ]);
    if !env.import_busybox() {
        return;
    }
    env.kiln(&["build", "."]).fails_with(
        1,
        "error[too-many-layers]: 502 layers are too many for a RUN to stand on: the kernel stacks 500",
    );
}

#[test]
fn sandbox_a_store_may_have_a_path_of_odd_characters() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM busybox\nRUN echo x > /x\n")]);
    if !env.import_busybox() {
        return;
    }
    let root = env.work().join("a:b,c d%e");
    std::fs::rename(env.root(), &root).unwrap();
    let mut build = env.command(&["build", "."]);
    env.outcome(build.env("KILN_ROOT", &root)).succeeds();
}

#[test]
fn exported_files_are_no_newer_than_the_fixed_date() {
    // R-SDE-2
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY . /\n"), ("old", "")]);
    let old = std::fs::File::options()
        .write(true)
        .open(env.work().join("old"))
        .unwrap();
    old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(7))
        .unwrap();
    let mut build = env.command(&["build", "-o", "type=tar,dest=/dev/stdout", "."]);
    let output = build.env("SOURCE_DATE_EPOCH", "1000").output().unwrap();
    let mut tar = tar::Archive::new(&output.stdout[..]);
    let times: Vec<_> = tar
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            (path, entry.header().mtime().unwrap())
        })
        .collect();
    assert_eq!(
        times,
        [("Dockerfile".to_owned(), 1000), ("old".to_owned(), 7)]
    );
}
