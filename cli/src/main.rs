//! kiln builds container images from Dockerfiles.
//!
//! This crate is the command line around the other crates: arguments in ([`args`], [`config`]), one file for each command
//! ([`command`]), progress and diagnostics out ([`progress`], [`render`]), and the exit code ([`exit`]). It holds no build
//! logic. Progress and messages go to stderr; only results go to stdout.

mod address;
mod annotation;
mod archive_file;
mod args;
mod attest_flags;
mod bucket_flag;
mod build_context;
mod cache_flags;
mod command;
mod config;
mod crash;
mod exit;
mod failure;
mod format;
mod gc_budget;
mod human;
mod input;
mod label;
mod location;
mod lock_file;
mod output;
mod progress;
mod prompt;
mod quantity;
mod recipe;
mod recorder;
mod render;
mod resources;
mod session;
mod signal;
mod step_flags;
mod stored;
mod table;
mod tag;
mod template;
mod ulimit;
mod unsupported;
mod waste_report;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use args::Cli;
use config::{Config, Environment};
use exit::Exit;
use failure::Failure;

fn main() -> ExitCode {
    // A copy of this program is the single-threaded launcher of RUN steps; it never returns from here.
    kiln_executor::sandbox::init_main_if_asked();
    crash::install_hook();
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return wrong_line(error),
    };
    let outcome = crash::guard(|| {
        let config = Config::resolve(cli.root, Environment::current())?;
        let config = config.with_registry_flags(cli.registry);
        command::run(cli.command, &config)
    });
    end(outcome).into()
}

/// The command line can't be read, or asks for help.
fn wrong_line(error: clap::Error) -> ExitCode {
    if !error.use_stderr() {
        error.exit(); // help or the version is what was asked for
    }
    let is_of_run = unsupported::is_of_run(std::env::args());
    match unsupported::explain(&error, is_of_run) {
        Some(failure) if is_of_run => end(command::run::exit_as_docker(Err(failure))).into(),
        Some(failure) => end(Err(failure)).into(),
        None if is_of_run => {
            let _ = error.print(); // nobody is left to tell
            command::run::KILN_FAILED.into()
        }
        None => cache_flags::without_secrets(error).exit(),
    }
}

/// Shows what went wrong, once, and says how to exit.
fn end(outcome: Result<Exit, Failure>) -> Exit {
    match outcome {
        Ok(exit) => exit,
        Err(Failure { exit, reports }) => {
            let color = std::io::stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            say(&render::reports(&reports, color));
            exit
        }
    }
}

/// Text for the user. A stderr that is gone leaves nobody to tell.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
