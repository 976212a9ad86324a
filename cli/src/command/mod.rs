//! The commands, one file each: its arguments, what it does, its tests.

pub(crate) mod build;
pub(crate) mod builds;
pub(crate) mod cache;
pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod context;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod lock;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod plan;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod shell;
pub(crate) mod squash;
pub(crate) mod tag;
pub(crate) mod verify;

use crate::args::Command;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;

/// Runs a command to its end.
pub(crate) fn run(command: Command, config: &Config) -> Result<Exit, Failure> {
    match command {
        Command::Build(args) => build::run(*args, config),
        Command::Builds(args) => builds::run(&args, config),
        Command::Check(args) => check::run(&args, config),
        Command::Context(args) => context::run(&args, config),
        Command::Lock(args) => lock::run(&args, config),
        Command::Plan(args) => plan::run(&args, config),
        Command::Explain(args) => explain::run(&args, config),
        Command::Verify(args) => verify::run(&args, config),
        Command::Run(args) => run::run(&args, config),
        Command::Shell(args) => shell::run(&args, config),
        Command::Ps(args) => ps::run(&args, config),
        Command::Rm(args) => rm::run(&args, config),
        Command::Commit(args) => commit::run(&args, config),
        Command::Diff(args) => diff::run(&args, config),
        Command::Export(args) => export::run(&args, config),
        Command::Squash(args) => squash::run(&args, config),
        Command::Images(args) => images::run(&args, config),
        Command::History(args) => history::run(&args, config),
        Command::Inspect(args) => inspect::run(&args, config),
        Command::Tag(args) => tag::run(&args, config),
        Command::Rmi(args) => rmi::run(&args, config),
        Command::Cache(args) => cache::run(&args, config),
        Command::Prune(args) => prune::run(&args, config),
        Command::Pull(args) => pull::run(&args, config),
        Command::Push(args) => push::run(&args, config),
        Command::Save(args) => save::run(&args, config),
        Command::Load(args) => load::run(&args, config),
        Command::Login(args) => login::run(&args, config),
        Command::Logout(args) => logout::run(&args, config),
        Command::Import(args) => import::run(&args, config),
        Command::Doctor(args) => doctor::run(&args, config),
    }
}
