//! The `-o` flags of one build, checked together: what is asked for must make sense before any work is done.

use std::io::IsTerminal;

use kiln_executor::attest::Attest;
use kiln_executor::export::{self, ExportOptions, OpenFile, Push, Sink};
use kiln_image::Reference;

use super::Args;
use super::receiver::Receiver;
use crate::failure::Failure;
use crate::output::{Destination, Output, OutputKind};

/// All outputs to make; an image in the store if none was asked for. With `index`, images are of several platforms; with something
/// that is to be said about them, there is an index too.
pub(super) fn outputs(args: &Args, index: bool, attest: &Attest) -> Result<Vec<Output>, Failure> {
    let mut outputs = args.outputs.clone();
    if args.push {
        push(&mut outputs);
    }
    if args.load.is_some() && !outputs.iter().any(is_loaded) {
        outputs.push(Output::new(OutputKind::Docker, None).loaded());
    }
    if outputs.is_empty() {
        outputs.push(Output::new(OutputKind::Image, None));
    }
    check_stdout(&outputs, args.quiet, std::io::stdout().is_terminal())?;
    check_id(args, &outputs)?;
    check_tags(args)?;
    check_push(args, &outputs)?;
    check_loaded(&outputs)?;
    check_index(&outputs, index)?;
    check_attest(&outputs, attest)?;
    Ok(outputs)
}

/// `--push`: images that are made are pushed too, or one that is made for that.
fn push(outputs: &mut Vec<Output>) {
    let is_image = |output: &&mut Output| output.kind == OutputKind::Image;
    let mut images = outputs.iter_mut().filter(is_image).peekable();
    if images.peek().is_none() {
        drop(images);
        outputs.push(Output::new(OutputKind::Image, None));
    }
    for output in outputs.iter_mut().filter(is_image) {
        output.image.sink.push.get_or_insert(Push::ByName);
    }
}

/// Whether Docker or podman gets it.
pub(super) fn is_loaded(output: &Output) -> bool {
    output.dest == Some(Destination::Engine)
}

/// Where the engine hands the image for this output; `None` when the build itself is all. `loader` takes what is to be loaded.
pub(super) fn sink(output: &Output, loader: Option<&Receiver>) -> Option<Sink> {
    let to = || match output.dest.clone() {
        Some(Destination::Engine) => {
            let loader = loader.expect("it is started when an output is for it");
            export::Destination::Open(OpenFile(loader.stdin()))
        }
        Some(Destination::Path(path)) if output.as_directory => {
            export::Destination::Directory(path)
        }
        Some(Destination::Path(path)) => export::Destination::File(path),
        Some(Destination::Stdout) | None => export::Destination::Stdout,
    };
    Some(match (output.kind, &output.dest) {
        (OutputKind::CacheOnly, _) => return None,
        (OutputKind::Image, _) => Sink::Image(output.image.sink),
        (OutputKind::Oci, _) => Sink::Oci(to()),
        (OutputKind::Docker, _) => Sink::Docker(to()),
        (OutputKind::Local, Some(Destination::Path(path))) => {
            Sink::Local(path.clone(), output.platform_split)
        }
        (OutputKind::Tar | OutputKind::Local, _) => Sink::Tar(to()),
    })
}

/// How it is to be handed over.
pub(super) fn export_options(
    args: &Args,
    output: &Output,
    loader: Option<&Receiver>,
) -> ExportOptions {
    let known = loader.filter(|_| is_loaded(output)).map(Receiver::known);
    ExportOptions {
        names: names(&args.tags, output),
        format: output.image.format,
        media_types: output.image.media_types,
        rewrite_timestamp: output.image.rewrite_timestamp || args.recipe.reproducible,
        wants_manifest: args.metadata_file.is_some(),
        known_layers: known.unwrap_or_default().to_vec(),
        ..ExportOptions::default()
    }
}

/// How the first output that is an image writes it, as far as that makes it another image.
pub(crate) fn form(args: &Args) -> ExportOptions {
    let first = args.outputs.iter().find(|output| output.is_image());
    let rewrites = first.is_some_and(|output| output.image.rewrite_timestamp);
    ExportOptions {
        rewrite_timestamp: rewrites || args.recipe.reproducible,
        ..ExportOptions::default()
    }
}

/// The registries that outputs may speak to without TLS.
pub(super) fn insecure_registries(args: &Args) -> Vec<String> {
    let insecure = args.outputs.iter().filter(|output| output.image.insecure);
    let names = insecure.flat_map(|output| names(&args.tags, output));
    names.map(|name| name.registry().to_owned()).collect()
}

/// The names an output gives the image: those of `-t`, and its own.
pub(super) fn names(tags: &[Reference], output: &Output) -> Vec<Reference> {
    let mut names = Vec::new();
    for name in tags.iter().chain(&output.names) {
        if output.is_image() && !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// At most one thing goes to stdout, and nothing binary to a terminal (R-EXPORT-7).
fn check_stdout(outputs: &[Output], quiet: bool, terminal: bool) -> Result<(), Failure> {
    let count = outputs
        .iter()
        .filter(|output| output.dest == Some(Destination::Stdout))
        .count();
    match count {
        0 => Ok(()),
        1 if quiet => Err(Failure::usage(
            "stdout cannot take both an archive and the image id of `--quiet`",
        )
        .help("write the id with `--iidfile`")),
        1 if terminal => Err(Failure::usage(
            "stdout is a terminal, and an archive would garble it",
        )
        .help("redirect stdout, or name a file with `dest=`")),
        1 => Ok(()),
        _ => Err(Failure::usage("stdout can take only one output")),
    }
}

/// Bare files have no image id to write down (R-EXPORT-10).
fn check_id(args: &Args, outputs: &[Output]) -> Result<(), Failure> {
    match args.iidfile.is_some() && !outputs.iter().any(Output::is_image) {
        true => Err(Failure::usage(
            "`--iidfile` needs an output that is an image, and `tar` and `local` are not",
        )),
        false => Ok(()),
    }
}

fn check_loaded(outputs: &[Output]) -> Result<(), Failure> {
    match outputs.iter().filter(|output| is_loaded(output)).count() {
        0 | 1 => Ok(()),
        _ => Err(Failure::usage("an image can be loaded once only")),
    }
}

/// What is pushed has a name, which says where to. By digest it can't have a tag.
fn check_push(args: &Args, outputs: &[Output]) -> Result<(), Failure> {
    for output in outputs {
        let Some(push) = output.image.sink.push else {
            continue;
        };
        let names = names(&args.tags, output);
        if names.is_empty() {
            return Err(Failure::usage("an image without a name can't be pushed")
                .help("name it with `-t REGISTRY/NAME:TAG`, or `name=` of the output"));
        }
        let tagged = |name: &&Reference| name.tag().is_some_and(|tag| tag != "latest");
        if let (Push::ByDigest, Some(name)) = (push, names.iter().find(tagged)) {
            return Err(Failure::usage(format!(
                "can't push tagged ref {} by digest",
                name.familiar()
            )));
        }
    }
    Ok(())
}

/// What is said about an image stands beside it in an index, which not every output can be.
fn check_attest(outputs: &[Output], attest: &Attest) -> Result<(), Failure> {
    if !attest.is_asked() {
        return Ok(());
    }
    let can = |output: &Output| matches!(output.kind, OutputKind::Image | OutputKind::Oci);
    if outputs
        .iter()
        .any(|output| output.kind == OutputKind::Docker)
    {
        let message = "an archive of `type=docker` can't have attestations";
        return Err(Failure::usage(message).help("`type=oci` can"));
    }
    match outputs.iter().any(can) {
        true => Ok(()),
        false => Err(
            Failure::usage("attestations need an output that is an image")
                .help("`-o type=image` or `-o type=oci,dest=FILE` besides"),
        ),
    }
}

/// R-EXPORT-4
fn check_index(outputs: &[Output], index: bool) -> Result<(), Failure> {
    let docker = |output: &Output| output.kind == OutputKind::Docker;
    match index && outputs.iter().any(docker) {
        true => Err(Failure::usage(
            "docker exporter does not currently support exporting manifest lists",
        )
        .note("several platforms make an index, and Docker's archives can't have one")
        .help(
            "use `-o type=oci,dest=FILE`, which Docker loads too where it has the containerd store",
        )),
        false => Ok(()),
    }
}

fn check_tags(args: &Args) -> Result<(), Failure> {
    match args.tags.iter().find(|tag| tag.digest().is_some()) {
        Some(tag) => Err(Failure::usage(format!(
            "`{}` has a digest, and what is built cannot be named by one",
            tag.familiar()
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stdout(kind: OutputKind) -> Output {
        Output::new(kind, Some(Destination::Stdout))
    }

    #[test]
    fn stdout_takes_one_archive_and_is_no_terminal() {
        // R-EXPORT-7
        let tar = [stdout(OutputKind::Tar)];
        let two = [stdout(OutputKind::Tar), stdout(OutputKind::Oci)];
        assert!(check_stdout(&tar, false, false).is_ok());
        assert!(check_stdout(&tar, false, true).is_err());
        assert!(check_stdout(&tar, true, false).is_err());
        assert!(check_stdout(&two, false, false).is_err());
        assert!(check_stdout(&[Output::new(OutputKind::Image, None)], true, true).is_ok());
    }
}
