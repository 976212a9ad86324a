//! `kiln export`: the root filesystem of a container or an image as a tar.

use std::path::PathBuf;

use kiln_executor::container;
use kiln_image::Platform;

use crate::archive_file::{check_output, write_to};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::stored::{self, Found};

/// Write the root filesystem of a container or an image as a tar
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Which platform of an image [default: this machine's, or else the first]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Name or id of a container that ended, or of an image
    #[arg(value_name = "CONTAINER|IMAGE")]
    source: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let mode = config.progress(None, args.quiet)?;
    check_output(args.output.as_deref())?;
    let session = Session::open_with_files(config, None)?;
    let services = session.services()?;
    let found = match &args.platform {
        // A container has one already.
        Some(_) => stored::find_for(&services, &args.source, args.platform.as_ref())
            .map(|image| Found::Image(Box::new(image))),
        None => stored::container_or_image(&services, &args.source),
    }?;
    let (written, _) = session.watch(mode, |watched| {
        watched.task(format!("export {}", args.source), |task| {
            // A layer that has to be fetched needs the services it was made known to.
            let services = &watched.services;
            write_to(args.output.as_deref(), |out| {
                let written = match &found {
                    Found::Container(container) => {
                        container::export(services, container, out, task)
                    }
                    Found::Image(image) => container::export_image(services, image, out, task),
                };
                written.map_err(Failure::from_engine)
            })
        })
    });
    written.map(|()| Exit::Done)
}
