//! What a build takes of which nothing has to be done, and whether independent stages wait for each other.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::builder::{Builder, Task};
use super::served::Served;
use super::table::improve;
use super::{Bench, Row};

/// So many rounds of short builds for one of longer ones.
const ROUNDS: usize = 10;

/// Stages of the long Dockerfiles have as many instructions.
const STAGE: usize = 10;

pub(super) fn measure(bench: &Bench<'_>, served: &Served) -> Result<Vec<Row>> {
    let base = served.base();
    let context = |name: &str, text: String| context(&bench.folder.join("cached"), name, &text);
    let kiln = &bench.builders[..1];
    for builder in bench.builders {
        builder.empty()?;
    }
    Ok(vec![
        untouched(
            bench,
            bench.builders,
            "cached: 20 instructions, 4 stages",
            &context("20", four_stages(&base))?,
        )?,
        untouched(
            bench,
            kiln,
            "cached: 500 instructions",
            &context("500", long(&base, 500))?,
        )?,
        untouched(
            bench,
            kiln,
            "cached: 1,000 instructions",
            &context("1000", long(&base, 1_000))?,
        )?,
        sleeping(bench, &context("sleeping", four_sleeping(&base))?)?,
    ])
}

/// A Dockerfile with a context of its own.
fn context(folder: &Path, name: &str, dockerfile: &str) -> Result<PathBuf> {
    let context = folder.join(name);
    fs::create_dir_all(context.join("files"))?;
    for file in ["a", "b", "c"] {
        fs::write(context.join("files").join(file), file)?;
    }
    fs::write(context.join("Dockerfile"), dockerfile)?;
    Ok(context)
}

fn untouched(bench: &Bench<'_>, builders: &[Builder], case: &str, context: &Path) -> Result<Row> {
    let mut row = Row::new(case, bench.builders.len());
    let task = Task::of(context);
    for (at, builder) in builders.iter().enumerate() {
        println!("{case}: {}", builder.name());
        if let Err(error) = builder.build(&task) {
            println!("{} is left out: {error:#}", builder.name());
            continue;
        }
        for _ in 0..bench.runs * ROUNDS {
            improve(&mut row.builders[at], builder.build(&task)?);
        }
    }
    Ok(row)
}

fn sleeping(bench: &Bench<'_>, context: &Path) -> Result<Row> {
    let case = "4 stages that sleep 2 s";
    let mut row = Row::new(case, bench.builders.len());
    let task = Task {
        again: true,
        ..Task::of(context)
    };
    for (at, builder) in bench.builders.iter().enumerate() {
        println!("{case}: {}", builder.name());
        for _ in 0..bench.runs {
            match builder.build(&task) {
                Ok(cost) => improve(&mut row.builders[at], cost),
                Err(error) => println!("{} is left out: {error:#}", builder.name()),
            }
        }
    }
    Ok(row)
}

/// Three stages whose results the fourth takes together.
fn four_stages(base: &str) -> String {
    let mut text = String::new();
    for name in ["a", "b", "c"] {
        let _ = write!(
            text,
            "FROM {base} AS {name}\nWORKDIR /{name}\nCOPY files/{name} {name}\nRUN echo {name} > made\nENV NAME={name}\n"
        );
    }
    let _ = write!(text, "FROM {base}\nWORKDIR /all\n");
    for name in ["a", "b", "c"] {
        let _ = writeln!(text, "COPY --from={name} /{name} {name}");
    }
    text
}

/// `instructions` in stages, all of which the last one needs.
fn long(base: &str, instructions: usize) -> String {
    // For each stage there is a COPY in the last one.
    let stages = (instructions - 1) / (STAGE + 1);
    let mut text = String::new();
    for stage in 0..stages {
        let _ = writeln!(text, "FROM {base} AS s{stage}");
        for number in 1..STAGE {
            let _ = match number % 2 {
                0 => writeln!(text, "RUN echo {stage} > /made{number}"),
                _ => writeln!(text, "COPY files/a /copied{stage}-{number}"),
            };
        }
    }
    let _ = writeln!(text, "FROM {base}");
    for stage in 0..stages {
        let _ = writeln!(text, "COPY --from=s{stage} /made2 /from{stage}");
    }
    text
}

fn four_sleeping(base: &str) -> String {
    let mut text = String::new();
    for stage in 0..4 {
        let _ = writeln!(
            text,
            "FROM {base} AS s{stage}\nRUN sleep 2 && echo {stage} > /made"
        );
    }
    let _ = writeln!(text, "FROM {base}");
    for stage in 0..4 {
        let _ = writeln!(text, "COPY --from=s{stage} /made /made{stage}");
    }
    text
}
