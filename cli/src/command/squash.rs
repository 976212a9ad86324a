//! `kiln squash`: an image with one layer.

use std::io::Write;

use kiln_executor::images;
use kiln_image::Reference;

use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::stored;

/// Make an image with one layer of another image, and print its id. What later layers hide or delete is gone; the history stays
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep the layers of this image, which must be the lowest of the other's: one layer over them
    #[arg(long, value_name = "IMAGE")]
    base: Option<String>,
    /// Name for the new image [default: none]
    #[arg(short, long, value_name = "NAME[:TAG]")]
    tag: Option<Reference>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Name or id of an image
    image: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let mode = config.progress(None, args.quiet)?;
    let session = Session::open_with_files(config, None)?;
    let (made, _) = session.watch(mode, |watched| {
        let services = &watched.services;
        let image = stored::find(services, &args.image)?;
        let kept = match &args.base {
            None => 0,
            Some(text) => {
                let base = stored::find(services, text)?;
                let (lower, all) = (base.config.diff_ids(), image.config.diff_ids());
                if !all.starts_with(lower) {
                    return Err(Failure::usage(format!(
                        "`{}` is not made of `{text}`",
                        args.image
                    ))
                    .note("the layers of the one are not the lowest of the other"));
                }
                lower.len()
            }
        };
        watched.task(format!("squash {}", args.image), |task| {
            images::squash(services, &image, kept, args.tag.clone(), task)
                .map_err(Failure::from_engine)
        })
    });
    writeln!(std::io::stdout(), "{}", made?.record.config)?;
    Ok(Exit::Done)
}
