//! Files that get into images, in rounds of cold, untouched and one changed.

use anyhow::Result;

use super::builder::{Cost, Task};
use super::loops;
use super::material::{Material, large, small};
use super::table::improve;
use super::{Bench, Row};

/// Which steps of a build are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Cold,
    Untouched,
    OneChanged,
}

/// The cases of many small files, in the order they are done in.
const SMALL: &[(Case, &str)] = &[
    (Case::Cold, "50,000 files, cold"),
    (Case::Untouched, "50,000 files, untouched"),
    (Case::OneChanged, "50,000 files, one changed"),
];

/// The cases of one large file.
const LARGE: &[(Case, &str)] = &[
    (Case::Cold, "large file, cold"),
    (Case::Untouched, "large file, untouched"),
];

/// All of it, with a large file of `size` bytes.
pub(super) fn measure(bench: &Bench<'_>, size: u64) -> Result<Vec<Row>> {
    println!("making the files in `{}`", bench.folder.display());
    let many = small(&bench.folder.join("small"))?;
    let one = large(&bench.folder.join("large"), size)?;
    let mut rows = rounds(&many, SMALL, bench)?;
    rows.extend(rounds(&one, LARGE, bench)?);
    Ok(rows)
}

fn rounds(material: &Material, cases: &[(Case, &str)], bench: &Bench<'_>) -> Result<Vec<Row>> {
    let row = |(_, case): &(Case, &str)| Row::new(*case, bench.builders.len());
    let mut rows: Vec<Row> = cases.iter().map(row).collect();
    for number in 1..=bench.runs {
        let runs = bench.runs;
        println!("round {number} of {runs}: {}", material.context.display());
        for (row, (case, _)) in rows.iter_mut().zip(cases) {
            let bare = match case {
                Case::Untouched => loops::walk(&material.files)?,
                Case::Cold | Case::OneChanged => loops::tar(&material.files)?,
            };
            improve(&mut row.bare, Cost::of(bare));
        }
        for (at, builder) in bench.builders.iter().enumerate() {
            for (row, (case, _)) in rows.iter_mut().zip(cases) {
                match case {
                    Case::Cold => builder.empty()?,
                    Case::Untouched => {}
                    Case::OneChanged => material.change_one()?,
                }
                let cost = builder.build(&Task::of(&material.context))?;
                improve(&mut row.builders[at], cost);
            }
        }
    }
    Ok(rows)
}
