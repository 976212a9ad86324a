//! The project's chores, one word each, the same by hand and in CI. `cargo xtask` lists them.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod base;
mod bench;
mod check;
mod demo;
mod fleet;
mod fuzz;
mod inside;
mod package;
mod process;
mod registry;
mod stranger;
mod tally;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// The project's chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Chore {
    /// Build kiln and watch it build, list and run an image; a second time, everything is cached
    Demo,
    /// Install what the tests need and run every tier: plain, sandbox (as root and not), network
    Test(test::Args),
    /// Formatting, and lints with warnings denied
    Check,
    /// Rewrite the expectations of snapshot tests; review the diff afterwards
    Bless,
    /// Fuzz the parser: a target of `parser/fuzz`, for so many seconds
    Fuzz(fuzz::Args),
    /// Time steps, pulls, cached builds and copies, beside plain loops and the other builders that are installed
    Bench(bench::Args),
    /// Build commits on fleets of several sizes that share a cache in a registry: hit rates, bytes moved, times
    Fleet(fleet::Args),
    /// A command in other surroundings, as tests are started
    #[command(hide = true)]
    Inside(inside::Args),
}

fn main() -> ExitCode {
    let outcome = match Chore::parse() {
        Chore::Demo => demo::run(),
        Chore::Test(args) => test::run(&args),
        Chore::Check => check::run(),
        Chore::Bless => check::bless(),
        Chore::Fuzz(args) => fuzz::run(&args),
        Chore::Bench(args) => bench::run(&args),
        Chore::Fleet(args) => fleet::run(&args),
        Chore::Inside(args) => inside::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
