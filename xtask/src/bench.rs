//! How fast files get into images, beside plain loops over the same files and beside other builders, in one run.
//!
//! A machine is never as quiet as one would like, so everything is done in turn, several times, and the fastest of each
//! counts. What is told are ratios: of kiln to the loop that does the least the case needs, and of the fastest other
//! builder to kiln.

mod builder;
mod loops;
mod material;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use self::builder::{Builder, Cost, builders};
use self::material::{Material, large, small};
use crate::process::run as shown_run;
use crate::workspace::{Workspace, cargo};

/// What `cargo xtask bench` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often each case is done; the fastest counts
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// A kiln that is built already, instead of a release build of this checkout
    #[arg(long, value_name = "PROGRAM")]
    kiln: Option<PathBuf>,
    /// Leave other builders out
    #[arg(long)]
    alone: bool,
    /// Size of the large file in MiB
    #[arg(long, default_value_t = 2048, value_name = "MIB")]
    large: u64,
}

/// A row of the table: one thing to do, and what it took everybody.
struct Row {
    case: &'static str,
    /// The loop that does the least there is to do.
    bare: Cost,
    builders: Vec<Cost>,
}

/// Which steps of a build are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Cold,
    Untouched,
    OneChanged,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    let folder = workspace.target.join("bench");
    let kiln = match &args.kiln {
        Some(kiln) => kiln.clone(),
        None => {
            shown_run(cargo().args(["build", "--release", "--package", "kiln"]))?;
            workspace.target.join("release/kiln")
        }
    };
    let mut builders = builders(&kiln, &folder);
    if args.alone {
        builders.truncate(1);
    }
    let names: Vec<&str> = builders.iter().map(Builder::name).collect();
    println!("making the files in `{}`", folder.display());
    let many = small(&folder.join("small"))?;
    let one = large(&folder.join("large"), args.large << 20)?;
    let mut rows = measure(&many, SMALL, &builders, args.runs)?;
    rows.extend(measure(&one, LARGE, &builders, args.runs)?);
    print_table(&names, &rows);
    Ok(ExitCode::SUCCESS)
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

fn measure(
    material: &Material,
    cases: &[(Case, &'static str)],
    builders: &[Builder],
    runs: usize,
) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = cases
        .iter()
        .map(|(_, case)| Row {
            case,
            bare: Cost::MOST,
            builders: vec![Cost::MOST; builders.len()],
        })
        .collect();
    for number in 1..=runs {
        println!("round {number} of {runs}: {}", material.context.display());
        for (row, (case, _)) in rows.iter_mut().zip(cases) {
            let bare = match case {
                Case::Untouched => loops::walk(&material.files)?,
                Case::Cold | Case::OneChanged => loops::tar(&material.files)?,
            };
            row.bare.improve(Cost::of(bare));
        }
        for (at, builder) in builders.iter().enumerate() {
            for (row, (case, _)) in rows.iter_mut().zip(cases) {
                match case {
                    Case::Cold => builder.empty()?,
                    Case::Untouched => {}
                    Case::OneChanged => material.change_one()?,
                }
                row.builders[at].improve(builder.build(&material.context)?);
            }
        }
    }
    Ok(rows)
}

fn print_table(names: &[&str], rows: &[Row]) {
    print!("\n{:27} {:>10}", "milliseconds", "bare");
    names.iter().for_each(|name| print!(" {name:>10}"));
    println!(" {:>10} {:>10} {:>9}", "kiln/bare", "peer/kiln", "kiln MB");
    for row in rows {
        print!("{:27} {:>10}", row.case, row.bare.time.as_millis());
        for cost in &row.builders {
            print!(" {:>10}", cost.time.as_millis());
        }
        let (kiln, peers) = row.builders.split_first().expect("kiln is always there");
        let fastest = peers.iter().map(|peer| peer.time).min();
        println!(
            " {:>10.2} {:>10} {:>9}",
            ratio(kiln.time, row.bare.time),
            fastest.map_or_else(
                || "-".to_owned(),
                |peer| format!("{:.1}", ratio(peer, kiln.time))
            ),
            kiln.memory >> 20,
        );
    }
    println!(
        "\nbare: for untouched files a walk with lstat, else a tar of them with a sha256 over it"
    );
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64().max(f64::MIN_POSITIVE)
}
