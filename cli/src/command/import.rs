//! `kiln import`: an image of one layer from a tar of a root filesystem.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use kiln_executor::images::{self, Import};
use kiln_image::{ImageConfig, Platform, Reference};

use crate::command::commit;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Make an image from a tar of a root filesystem, and print its id
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An instruction of a Dockerfile that changes how it is run, as for `kiln commit`; may be repeated
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// What its history says [default: where it was imported from]
    #[arg(short, long)]
    message: Option<String>,
    /// What it runs on [default: this machine's platform]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// The tar, plain or compressed, or its address; `-` is stdin
    #[arg(value_name = "FILE|URL|-")]
    file: PathBuf,
    /// Name for the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<Reference>,
}

/// Runs the command.
pub(crate) fn run(args: &Args, config: &Config) -> Result<Exit, Failure> {
    let mode = config.progress(None, args.quiet)?;
    // Where the tar lay is nobody's business: the same tar gives the same history anywhere.
    let name = args.file.file_name().unwrap_or(args.file.as_os_str());
    let source = name.to_string_lossy().into_owned();
    let typed = args.file.to_string_lossy();
    let is_address = typed.starts_with("http://") || typed.starts_with("https://");
    let source = match is_address {
        true => without_query(&typed)?.to_owned(),
        false => source,
    };
    let reader: Option<Box<dyn Read>> = match args.file == Path::new("-") {
        _ if is_address => None,
        true => Some(Box::new(std::io::stdin().lock())),
        false => Some(Box::new(
            File::open(&args.file).map_err(|error| Failure::unreadable(&args.file, &error))?,
        )),
    };
    let platform = args.platform.clone().unwrap_or_else(Platform::host);
    let import = Import {
        name: args.name.clone(),
        message: args
            .message
            .clone()
            .unwrap_or_else(|| format!("Imported from {source}")),
        config: commit::changed(&ImageConfig::for_platform(&platform), &args.changes)?,
        created: config.source_date_epoch()?,
        platform,
    };
    let session = Session::open_with_files(config, None)?;
    let (image, _) = session.watch(mode, |watched| {
        watched.task(format!("import {source}"), |task| {
            let services = &watched.services;
            let made = match reader {
                Some(reader) => images::import(services, reader, import, task),
                None => images::import_from(services, &typed, import, task),
            };
            made.map_err(Failure::from_engine)
        })
    });
    writeln!(std::io::stdout(), "{}", image?.record.config)?;
    Ok(Exit::Done)
}

/// What the history says of an address: there may be a token in its query.
fn without_query(address: &str) -> Result<&str, Failure> {
    let end = address.find(['?', '#']).unwrap_or(address.len());
    let host = address.split("://").nth(1).unwrap_or_default();
    let host = host.split('/').next().unwrap_or_default();
    if host.contains('@') {
        let message = "the address has a login, which `kiln import` doesn't take";
        return Err(
            Failure::usage(message).help("`curl` takes one: `curl -fsSL ADDRESS | kiln import -`")
        );
    }
    Ok(&address[..end])
}
