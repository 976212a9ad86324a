//! What a step costs, beside what the kernel alone takes for it: forty times `true` in a busybox root, each way in turn, in one run.
//!
//! *bare* is namespaces, overlay, pivot_root and exec, with nothing else: no `/proc`, no `/dev`, no capabilities, no filter, no
//! report. *step* is `Launcher::spawn` and `Step::wait` with everything, `/etc/hosts` and `/etc/resolv.conf` included. The aim is a
//! ratio of 1.5 to 2. Run it with `cargo bench -p kiln-executor --bench sandbox`, as root.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use kiln_executor::sandbox::{
    Footing, Launcher, MountSpec, RootSpec, SandboxSpec, Stdio, bare, init_main_if_asked,
};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as ProcessStdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TIMES: usize = 40;

fn main() {
    init_main_if_asked();
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|arg| arg == "bare") {
        let mut path = || PathBuf::from(args.next().unwrap());
        return serve_bare(&path(), &path());
    }
    let place = env!("CARGO_TARGET_TMPDIR");
    match Footing::as_started().rung(Path::new(place)) {
        Ok(_) => measure(&root(place)),
        Err(reason) => println!("skipped: {reason}"),
    }
}

fn root(place: &str) -> TempDir {
    let dir = tempfile::tempdir_in(place).unwrap();
    let lower = dir.path().join("lower");
    for name in ["bin", "etc", "proc", "sys", "dev"] {
        fs::create_dir_all(lower.join(name)).unwrap();
    }
    for name in ["etc/hosts", "etc/resolv.conf"] {
        File::create(lower.join(name)).unwrap();
    }
    fs::copy("/bin/busybox", lower.join("bin/true")).unwrap();
    dir
}

/// A fresh upper and work directory.
fn changes(dir: &Path, number: &str) -> (PathBuf, PathBuf) {
    let (upper, work) = (
        dir.join(format!("upper-{number}")),
        dir.join(format!("work-{number}")),
    );
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    (upper, work)
}

fn measure(dir: &TempDir) {
    let dir = dir.path();
    let mut bare = Command::new(std::env::current_exe().unwrap());
    let bare = bare
        .arg("bare")
        .args([&dir.join("lower"), dir])
        .stdin(ProcessStdio::piped())
        .stdout(ProcessStdio::piped());
    let mut bare = bare.spawn().unwrap();
    let (mut ask, mut answers) = (
        bare.stdin.take().unwrap(),
        BufReader::new(bare.stdout.take().unwrap()).lines(),
    );
    let launcher = Launcher::new();
    let first = Instant::now();
    step(&launcher, dir, "first");
    let first = first.elapsed();
    let (mut bares, mut steps) = (Vec::new(), Vec::new());
    for number in 0..TIMES {
        writeln!(ask, "{number}").unwrap();
        bares.push(Duration::from_nanos(
            answers.next().unwrap().unwrap().parse().unwrap(),
        ));
        steps.push(step(&launcher, dir, &format!("s{number}")));
    }
    drop(ask);
    bare.wait().unwrap();
    println!("first step, with the launcher's start: {first:?}");
    report("bare", &mut bares);
    report("step", &mut steps);
    let ratio = |index: usize| steps[index].as_secs_f64() / bares[index].as_secs_f64();
    println!(
        "ratio: {:.2} of the minima, {:.2} of the medians",
        ratio(0),
        ratio(TIMES / 2)
    );
}

fn report(name: &str, times: &mut [Duration]) {
    times.sort();
    let total: Duration = times.iter().sum();
    println!(
        "{name}: minimum {:?}, median {:?}, {TIMES} in {total:?}",
        times[0],
        times[TIMES / 2]
    );
}

fn step(launcher: &Launcher, dir: &Path, number: &str) -> Duration {
    let (upper, work) = changes(dir, number);
    let mut spec = SandboxSpec::new(
        RootSpec::Overlay {
            lowers: vec![dir.join("lower")],
            upper,
            work,
        },
        ["/bin/true"],
    );
    spec.mounts.push(MountSpec::file(
        "/etc/hosts",
        "127.0.0.1\tlocalhost buildkitsandbox\n",
    ));
    spec.mounts.push(MountSpec::file(
        "/etc/resolv.conf",
        "nameserver 192.0.2.1\n",
    ));
    let null = || File::create("/dev/null").unwrap().into();
    let started = Instant::now();
    let status = launcher
        .spawn(&spec, Stdio::output(null(), null()).unwrap())
        .unwrap()
        .wait()
        .unwrap();
    let elapsed = started.elapsed();
    assert!(status.success(), "{status:?}");
    elapsed
}

/// The bare way, in a process of its own with one thread, one step for each line of input. `dir` is where steps write.
fn serve_bare(lower: &Path, dir: &Path) {
    for number in std::io::stdin().lines().map(Result::unwrap) {
        let (upper, work) = changes(dir, &format!("b{number}"));
        let started = Instant::now();
        bare::run_true(lower, &upper, &work).unwrap();
        println!("{}", started.elapsed().as_nanos());
    }
}
