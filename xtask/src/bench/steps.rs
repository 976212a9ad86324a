//! What kiln adds to a step: forty that do nothing, beside the least that the kernel takes for as many.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::builder::{Builder, Cost, Task};
use super::served::Served;
use super::table::improve;
use super::{Bench, Row};
use crate::workspace::cargo;

const STEPS: usize = 40;

/// So many rounds for one of longer cases.
const ROUNDS: usize = 4;

/// kiln's other ways of running a step, where they can be had here.
const SANDBOXES: [&str; 3] = ["userns-range", "userns-single", "chroot"];

/// The bare loop, a process that does one step for each line it reads.
struct Bare {
    process: Child,
    ask: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    number: usize,
}

pub(super) fn measure(bench: &Bench<'_>, served: &Served) -> Result<Vec<Row>> {
    let context = dockerfile(&bench.folder.join("steps"), &served.base())?;
    let mut bare = Bare::start(&served.rootfs, &bench.folder.join("steps-bare"))?;
    let again = Task {
        again: true,
        ..Task::of(&context)
    };
    let mut row = Row::new(format!("{STEPS} x RUN true"), bench.builders.len());
    let ready = |builder: &Builder| match builder.empty().and_then(|()| builder.build(&again)) {
        Ok(_) => true,
        Err(error) => {
            println!("{} is left out: {error:#}", builder.name());
            false
        }
    };
    let ready: Vec<bool> = bench.builders.iter().map(ready).collect();
    for number in 1..=bench.runs * ROUNDS {
        println!("round {number} of {}: steps", bench.runs * ROUNDS);
        improve(&mut row.bare, Cost::of(bare.steps()?));
        for (at, builder) in bench.builders.iter().enumerate() {
            // Others take seconds, and don't get better by being asked often.
            if ready[at] && (at == 0 || number <= bench.runs) {
                improve(&mut row.builders[at], builder.build(&again)?);
            }
        }
    }
    let kiln = &bench.builders[0];
    let mut rows = vec![row];
    for sandbox in SANDBOXES {
        let task = Task {
            sandbox: Some(sandbox),
            ..again
        };
        rows.extend(elsewhere(bench, kiln, &task, sandbox, &mut bare)?);
    }
    kiln.empty()?;
    Ok(rows)
}

/// The same with kiln alone in another sandbox; nothing where it can't be had.
fn elsewhere(
    bench: &Bench<'_>,
    kiln: &Builder,
    task: &Task<'_>,
    sandbox: &str,
    bare: &mut Bare,
) -> Result<Option<Row>> {
    kiln.empty()?;
    if let Err(error) = kiln.build(task) {
        println!("{sandbox} is left out: {error:#}");
        return Ok(None);
    }
    let case = format!("{STEPS} x RUN true, {sandbox}");
    let mut row = Row::new(case, bench.builders.len());
    for _ in 0..bench.runs * ROUNDS {
        improve(&mut row.bare, Cost::of(bare.steps()?));
        improve(&mut row.builders[0], kiln.build(task)?);
    }
    Ok(Some(row))
}

fn dockerfile(context: &Path, base: &str) -> Result<PathBuf> {
    fs::create_dir_all(context)?;
    let text = format!("FROM {base}\n{}", "RUN true\n".repeat(STEPS));
    fs::write(context.join("Dockerfile"), text)?;
    Ok(context.to_owned())
}

impl Bare {
    /// Starts it on a root filesystem, with `folder` for what the steps write.
    fn start(rootfs: &Path, folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let mut command = cargo();
        command.args([
            "bench",
            "-q",
            "-p",
            "kiln-executor",
            "--bench",
            "sandbox",
            "--",
            "bare",
        ]);
        command.args([rootfs, folder]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("could not start the bare loop")?;
        let streams = process.stdin.take().zip(process.stdout.take());
        let (ask, answers) = streams.context("the bare loop has no streams")?;
        Ok(Bare {
            process,
            ask,
            answers: BufReader::new(answers).lines(),
            number: 0,
        })
    }

    /// What all steps take together.
    fn steps(&mut self) -> Result<Duration> {
        (0..STEPS).map(|_| self.step()).sum()
    }

    fn step(&mut self) -> Result<Duration> {
        self.number += 1;
        writeln!(self.ask, "{}", self.number)?;
        let answer = self.answers.next().context("the bare loop has ended")??;
        Ok(Duration::from_nanos(answer.parse()?))
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
