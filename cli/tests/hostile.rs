//! Contexts that lead out of themselves, hold what is no file, or change while they are read.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use test_env::TestEnv;

const SECRET: &str = "of somebody else";

/// How long each race is run.
const RACE: Duration = Duration::from_secs(2);

/// A context in `ctx`, and beside it `outside` with a file of each name that the context's `d` has.
fn context(dockerfile: &str) -> TestEnv {
    let env = TestEnv::new();
    for directory in ["ctx/d", "outside"] {
        fs::create_dir_all(env.work().join(directory)).unwrap();
    }
    env.write("ctx/Dockerfile", dockerfile);
    for number in 0..100 {
        env.write(&format!("ctx/d/{number}"), "inside");
        env.write(&format!("outside/{number}"), SECRET);
    }
    env
}

/// Builds, and whether the outcome has anything from outside. A build may fail, but for no other reason than a changing context.
fn leaks(env: &TestEnv) -> bool {
    let args = [
        "build",
        "--no-cache",
        "--progress=plain",
        "-o",
        "type=tar,dest=out.tar",
        "ctx",
    ];
    let outcome = env.kiln(&args);
    if outcome.code == 0 {
        let bytes = fs::read(env.work().join("out.tar")).unwrap();
        let needle = SECRET.as_bytes();
        return bytes.windows(needle.len()).any(|window| window == needle);
    }
    let stderr = &outcome.stderr;
    assert!(stderr.contains("changed while"), "{stderr}");
    false
}

/// Ends a race, also when a build fails the test.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Exchanges two paths for as long as builds are made of them, and counts the builds.
fn race(env: &TestEnv, inside: &Path, other: &Path) -> usize {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, inside, CWD, other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _finish = Finish(&done);
        let started = Instant::now();
        let mut builds = 0;
        while started.elapsed() < RACE {
            assert!(!leaks(env), "a build read what is outside");
            builds += 1;
        }
        builds
    })
}

#[test]
fn a_directory_that_becomes_a_link_while_it_is_read_leads_nowhere() {
    // R-COPY-14
    let env = context("FROM scratch\nCOPY . /c/\n");
    let link = env.work().join("link");
    symlink(env.work().join("outside"), &link).unwrap();
    assert!(race(&env, &env.work().join("ctx/d"), &link) > 0);
}

#[test]
fn a_file_that_becomes_a_link_while_it_is_read_leads_nowhere() {
    // R-COPY-14
    let env = context("FROM scratch\nCOPY d /d/\n");
    let link = env.work().join("link");
    symlink(env.work().join("outside/50"), &link).unwrap();
    assert!(race(&env, &env.work().join("ctx/d/50"), &link) > 0);
}

#[test]
fn a_file_that_becomes_a_pipe_while_it_is_read_is_not_waited_for() {
    // R-COPY-19
    let env = context("FROM scratch\nCOPY d /d/\nADD d/50 /\n");
    let pipe = env.work().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(race(&env, &env.work().join("ctx/d/50"), &pipe) > 0);
}

#[test]
fn no_name_and_no_link_leads_out_of_a_context() {
    // R-COPY-6, R-COPY-14: such a path is one below the context, where nothing is.
    let env = context("");
    let at = |name: &str| env.work().join("ctx").join(name);
    symlink(env.work().join("outside/1"), at("absolute")).unwrap();
    symlink("../outside/1", at("up")).unwrap();
    symlink("../outside", at("up-directory")).unwrap();
    symlink("up-directory", at("twice")).unwrap();
    for instruction in [
        "COPY ../outside/1 /",
        "COPY d/../../outside/1 /",
        "COPY absolute /",
        "COPY up /",
        "COPY up* /",
        "COPY up-directory/1 /",
        "COPY twice /",
        "COPY twice/* /",
        "COPY --parents ../outside/1 /",
        "COPY --parents up-directory/1 /",
        "ADD up /",
        "ADD ../outside/1 /",
    ] {
        env.write("ctx/Dockerfile", &format!("FROM scratch\n{instruction}\n"));
        let outcome = env.kiln(&["build", "--progress=plain", "ctx"]);
        assert_eq!(outcome.code, 1, "{instruction}: {}", outcome.stderr);
        let expected = "error[copy-source-not-found]";
        assert!(
            outcome.error().contains(expected),
            "{instruction}: {}",
            outcome.stderr
        );
    }
    // As part of a directory links are only links.
    env.write("ctx/Dockerfile", "FROM scratch\nCOPY . /\n");
    assert!(!leaks(&env));
}

/// The files of a build.
fn built(env: &TestEnv) -> PathBuf {
    env.kiln(&["build", "--progress=plain", "-o", "out", "ctx"])
        .succeeds();
    env.work().join("out")
}

#[test]
fn what_is_no_file_is_never_opened() {
    // R-COPY-19: BuildKit sends a socket as an empty file.
    let env =
        context("FROM scratch\nCOPY . /all/\nCOPY socket pipe /named/\nADD pipe socket /added/\n");
    mknodat(
        CWD,
        env.work().join("ctx/pipe"),
        FileType::Fifo,
        Mode::RUSR,
        0,
    )
    .unwrap();
    // The name of a socket is short: it is bound where the test runs, and moved.
    let short = PathBuf::from(format!("/tmp/kiln-test-{}.socket", std::process::id()));
    let _listener = UnixListener::bind(&short).unwrap();
    if fs::rename(&short, env.work().join("ctx/socket")).is_err() {
        fs::remove_file(&short).unwrap();
        UnixListener::bind(env.work().join("ctx/socket")).unwrap();
    }
    let out = built(&env);
    for directory in ["all", "named", "added"] {
        let kind = |name| fs::symlink_metadata(out.join(directory).join(name)).unwrap();
        assert!(kind("pipe").file_type().is_fifo(), "{directory}");
        assert!(
            kind("socket").is_file() && kind("socket").len() == 0,
            "{directory}"
        );
    }
}
