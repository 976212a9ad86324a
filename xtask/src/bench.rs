//! How fast kiln is, beside plain loops that do the least there is to do, and beside other builders, in one run.
//!
//! A machine is never as quiet as one would like, so everything is done in turn, several times, and the fastest of each
//! counts. What is told are ratios: of kiln to the loop, and of the fastest other builder to kiln.

mod builder;
mod cached;
mod copy;
mod export;
mod loops;
mod material;
mod pull;
mod served;
mod steps;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use self::builder::{Builder, builders};
use self::served::Served;
use self::table::{Row, print_table};
use crate::process::run as shown_run;
use crate::workspace::{Workspace, cargo};

/// What `cargo xtask bench` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure; without any, everything
    subjects: Vec<Subject>,
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
    /// Size of the layer that is exported in MiB
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    layer: u64,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Subject {
    /// 40 steps that do nothing, beside the same namespaces, overlay mount and exec in a bare loop
    Steps,
    /// A base image of 120 MB from a registry on loopback: downloaded, unpacked, a step run in it
    Pull,
    /// Builds of which all is cached, and stages that run at the same time
    Cached,
    /// 50,000 files and one of 2 GiB copied into images: cold, untouched, with one file changed
    Copy,
    /// A layer of 1 GiB of programs, text and what can't be compressed, written as gzip and zstd
    Export,
}

/// What all subjects share.
struct Bench<'a> {
    folder: &'a Path,
    builders: &'a [Builder],
    runs: usize,
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
    let bench = Bench {
        folder: &folder,
        builders: &builders,
        runs: args.runs,
    };
    let asked = |subject| args.subjects.is_empty() || args.subjects.contains(&subject);
    let mut rows = Vec::new();
    if [Subject::Steps, Subject::Pull, Subject::Cached]
        .into_iter()
        .any(asked)
    {
        let served = Served::start(&folder, &kiln)?;
        if asked(Subject::Steps) {
            rows.extend(steps::measure(&bench, &served)?);
        }
        if asked(Subject::Cached) {
            rows.extend(cached::measure(&bench, &served)?);
        }
        if asked(Subject::Pull) {
            rows.extend(pull::measure(&bench, &served)?);
        }
    }
    if asked(Subject::Copy) {
        rows.extend(copy::measure(&bench, args.large << 20)?);
    }
    if asked(Subject::Export) {
        rows.extend(export::measure(&bench, args.layer << 20)?);
    }
    let names: Vec<&str> = builders.iter().map(Builder::name).collect();
    print_table(&names, &rows);
    Ok(ExitCode::SUCCESS)
}
