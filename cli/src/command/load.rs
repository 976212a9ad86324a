//! `kiln load`: images from an archive into the store.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use kiln_executor::images::{self, LoadSource};
use kiln_executor::{BuildError, Cause};

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Load images from an archive made by `save`, `docker save` or `build -o type=oci|docker`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The archive, plain or compressed, or a folder with the same in it [default: stdin]
    #[arg(short, long, value_name = "FILE|FOLDER")]
    input: Option<PathBuf>,
    /// Show no progress and no names
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let mode = config.progress(None, args.quiet)?;
    let from = args
        .input
        .as_ref()
        .map_or_else(|| "stdin".to_owned(), |path| path.display().to_string());
    let source = match &args.input {
        Some(path) if path.is_dir() => LoadSource::Folder(path),
        Some(path) => LoadSource::Stream(Box::new(
            File::open(path).map_err(|error| Failure::unreadable(path, &error))?,
        )),
        None => LoadSource::Stream(Box::new(std::io::stdin().lock())),
    };
    let session = Session::open_with_files(config, None)?;
    let (loaded, _) = session.watch(mode, |watched| {
        watched.task(format!("load {from}"), |task| {
            images::load(&watched.services, source, task).map_err(unusable)
        })
    });
    let loaded = loaded?;
    if !args.quiet {
        let mut out = std::io::stdout().lock();
        for image in loaded {
            match &image.reference {
                Some(name) => writeln!(out, "Loaded image: {}", name.familiar())?,
                None => writeln!(out, "Loaded image ID: {}", image.record.config)?,
            }
        }
    }
    Ok(Exit::Done)
}

/// No registry has to do with an archive that is wrong.
fn unusable(error: BuildError) -> Failure {
    let is_about_the_archive = matches!(&*error.cause, Cause::Image(_));
    let failure = Failure::from_engine(error);
    match is_about_the_archive {
        true => Failure {
            exit: Exit::Failed,
            ..failure
        },
        false => failure,
    }
}
