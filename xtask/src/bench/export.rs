//! A layer of mixed content that leaves the machine, compressed: how long that takes, and how large it is then.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::builder::{Builder, Task};
use super::material::mixed;
use super::table::improve;
use super::{Bench, Row};

/// What is asked for as `compression=`.
const FORMATS: [&str; 2] = ["gzip", "zstd"];

/// An image with a layer of `size` bytes is built before each export, so that nobody has it compressed already.
pub(super) fn measure(bench: &Bench<'_>, size: u64) -> Result<Vec<Row>> {
    let folder = bench.folder.join("mixed");
    println!("making the files in `{}`", folder.display());
    let material = mixed(&folder, size)?;
    let mut rows = Vec::new();
    for format in FORMATS {
        let case = format!("export {} MiB, {format}", size >> 20);
        let mut row = Row::new(&case, bench.builders.len());
        let mut sizes = vec![None; bench.builders.len()];
        for number in 1..=bench.runs {
            println!("round {number} of {}: {case}", bench.runs);
            for (at, builder) in bench.builders.iter().enumerate() {
                if !builder.can_export() {
                    continue;
                }
                builder.empty()?;
                builder.build(&Task::of(&material.context))?;
                let file = bench.folder.join(format!("exported-{}", builder.name()));
                improve(
                    &mut row.builders[at],
                    builder.export(&material.context, format, &file)?,
                );
                sizes[at] = Some(taken(&file)?);
                builder.empty()?;
            }
        }
        print_sizes(&case, bench.builders, &sizes);
        rows.push(row);
    }
    Ok(rows)
}

/// The size of the file, which then goes.
fn taken(file: &Path) -> Result<u64> {
    let size = fs::metadata(file).with_context(|| format!("there is no `{}`", file.display()))?;
    fs::remove_file(file)?;
    Ok(size.len())
}

fn print_sizes(case: &str, builders: &[Builder], sizes: &[Option<u64>]) {
    let kiln = sizes.first().copied().flatten().unwrap_or_default();
    for (builder, size) in builders.iter().zip(sizes) {
        if let Some(size) = size {
            let more = (kiln as f64 / *size as f64 - 1.0) * 100.0;
            println!(
                "{case}: {} writes {size} bytes; kiln {more:+.1} %",
                builder.name()
            );
        }
    }
}
