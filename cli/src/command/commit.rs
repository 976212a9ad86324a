//! `kiln commit`: an image of a container.

use std::io::Write;
use std::sync::Arc;

use kiln_executor::images::{self, Commit};
use kiln_image::{ImageConfig, Reference, RunConfig};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::stored;

/// Make an image of a container that ended, and print its id
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Who made it
    #[arg(short, long, default_value = "", hide_default_value = true)]
    author: String,
    /// What its history says
    #[arg(short, long, default_value = "", hide_default_value = true)]
    message: String,
    /// An instruction of a Dockerfile that changes how it is run: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL,
    /// STOPSIGNAL, USER, VOLUME, WORKDIR; may be repeated
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// Whether it is paused meanwhile, as Docker has it; one that has ended is at rest anyway
    #[arg(
        short,
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pause: Option<bool>,
    /// The same as `--pause=false`
    #[arg(long, conflicts_with = "pause")]
    no_pause: bool,
    /// Name or id of the container
    container: String,
    /// Name for the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<Reference>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let mode = config.progress(None, true)?;
    let session = Session::open_with_files(config, None)?;
    let container = stored::container(&session.services()?, &args.container)?;
    let (image, _) = session.watch(mode, |watched| {
        let services = &watched.services;
        let base = images::config_of(services, &container).map_err(Failure::from_engine)?;
        let commit = Commit {
            name: args.name.clone(),
            author: args.author.clone(),
            message: args.message.clone(),
            config: changed(&base, &args.changes)?,
            created: config.source_date_epoch()?,
        };
        watched.task("commit".to_owned(), |task| {
            images::commit(services, &container, commit, task).map_err(Failure::from_engine)
        })
    });
    writeln!(std::io::stdout(), "{}", image?.record.config)?;
    Ok(Exit::Done)
}

/// What `--change` makes of a config.
pub(super) fn changed(config: &ImageConfig, changes: &[String]) -> Result<RunConfig, Failure> {
    let source = Arc::new(images::changes_source(changes));
    images::changed(config, &source)
        .map_err(|wrong| Failure::from_diagnostics(Exit::Usage, &source, &wrong))
}
