//! A base image that is not there yet: downloaded from loopback, unpacked, and a step run in it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::builder::Task;
use super::material::rootfs;
use super::served::Served;
use super::table::improve;
use super::{Bench, Row};

/// Directories that the image's files are in; an image has one layer for each, or one for all.
const PARTS: usize = 4;

pub(super) fn measure(bench: &Bench<'_>, served: &Served) -> Result<Vec<Row>> {
    let context = bench.folder.join("pull");
    rootfs(&context.join("files"), PARTS)?;
    let mut rows = Vec::new();
    for (name, case, text) in [
        (
            "one",
            "pull 120 MB in 1 layer, RUN true",
            "COPY files /usr\n".to_owned(),
        ),
        ("four", "pull 120 MB in 4 layers, RUN true", layers()),
    ] {
        let base = format!("FROM {}\n{text}", served.base());
        fs::write(context.join("Dockerfile"), base)?;
        let image = served.serve(name, &context)?;
        let step = step(&bench.folder.join(format!("pull-{name}")), &image)?;
        rows.push(pulled(bench, case, &step)?);
    }
    Ok(rows)
}

fn layers() -> String {
    (0..PARTS).fold(String::new(), |mut text, part| {
        let _ = writeln!(text, "COPY files/{part} /usr/{part}");
        text
    })
}

fn step(context: &Path, image: &str) -> Result<PathBuf> {
    fs::create_dir_all(context)?;
    fs::write(
        context.join("Dockerfile"),
        format!("FROM {image}\nRUN true\n"),
    )?;
    Ok(context.to_owned())
}

fn pulled(bench: &Bench<'_>, case: &str, context: &Path) -> Result<Row> {
    let mut row = Row::new(case, bench.builders.len());
    for number in 1..=bench.runs {
        println!("round {number} of {}: {case}", bench.runs);
        for (at, builder) in bench.builders.iter().enumerate() {
            builder.empty()?;
            match builder.build(&Task::of(context)) {
                Ok(cost) => improve(&mut row.builders[at], cost),
                Err(error) => println!("{} is left out: {error:#}", builder.name()),
            }
        }
    }
    Ok(row)
}
