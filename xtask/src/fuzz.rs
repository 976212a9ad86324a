//! Fuzzing of the parser on the stable compiler: libFuzzer, and the coverage that LLVM can write for it.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::process::run as shown_run;
use crate::workspace::{Workspace, cargo, host_triple};

/// What libFuzzer needs to see which way an input took.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Ccodegen-units=1 --cfg fuzzing";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which: `dockerfile`, `word`, `ignore` or `exec_form`
    name: String,
    /// For how long
    #[arg(default_value_t = 60)]
    seconds: u32,
}

/// Builds a target and runs it, the cases of `testdata` as seeds. What it learns and finds stays in `parser/fuzz`, outside git.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = Workspace::find()?.root;
    let folder = root.join("parser/fuzz");
    // Named although it is the usual one: without it the flags would apply to build scripts too.
    let triple = host_triple()?;
    let mut build = cargo();
    build
        .args(["build", "--release", "--target", &triple])
        .args(["--bin", &args.name, "--target-dir", "target"])
        .env("RUSTFLAGS", COVERAGE)
        .current_dir(&folder);
    shown_run(&mut build)?;
    let seeds = match args.name.as_str() {
        "word" => "testdata/words",
        "ignore" => "testdata/ignore",
        _ => "testdata/parse",
    };
    let corpus = folder.join("corpus").join(&args.name);
    std::fs::create_dir_all(&corpus)?;
    let fuzzer = folder.join("target").join(triple).join("release");
    let mut fuzz = Command::new(fuzzer.join(&args.name));
    fuzz.arg(format!("-max_total_time={}", args.seconds))
        .args(["-max_len=4096", "-timeout=5"])
        .arg(&corpus)
        .arg(root.join(seeds))
        .current_dir(&folder);
    shown_run(&mut fuzz)?;
    Ok(ExitCode::SUCCESS)
}
