//! `kiln build`: a Dockerfile and a context in, an image out.

mod options;
mod outputs;
mod results;

use std::path::PathBuf;

use kiln_image::{Platform, Reference};

use crate::args::{KeyValue, ProgressMode};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// Build an image from a Dockerfile
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the image; may be repeated
    #[arg(short = 't', long = "tag", value_name = "NAME[:TAG]")]
    pub(crate) tags: Vec<Reference>,
    /// The Dockerfile, `-` for stdin [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Value of an ARG; KEY alone takes it from the environment
    #[arg(long = "build-arg", value_name = "KEY[=VALUE]")]
    pub(crate) build_args: Vec<KeyValue>,
    /// Label of the image
    #[arg(long = "label", value_name = "KEY[=VALUE]")]
    pub(crate) labels: Vec<KeyValue>,
    /// Run every step again
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Ask registries for base images even if they are in the store
    #[arg(long)]
    pub(crate) pull: bool,
    /// Platform to build for [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,
    /// How to show progress [env: BUILDKIT_PROGRESS] [default: auto]
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) progress: Option<ProgressMode>,
    /// What to make: PATH, `-`, or type=oci|docker|tar|local|image|cacheonly,dest=PATH; may be repeated
    /// [default: type=image]
    #[arg(short = 'o', long = "output", value_name = "OUTPUT")]
    pub(crate) outputs: Vec<Output>,
    /// Write the image id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Show no progress, print the image id
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Folder that COPY and ADD take files from, or `-` to read only a Dockerfile from stdin
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: Args, config: &Config) -> Result<Exit, Failure> {
    let _ = (args, config);
    Ok(Exit::Done)
}
