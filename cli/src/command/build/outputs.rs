//! The `-o` flags of one build, checked together: what is asked for must make sense before any work is done.

use std::io::IsTerminal;
use std::path::PathBuf;

use kiln_executor::attest::Attest;
use kiln_executor::export::{self, Annotations, ExportOptions, Push, Sink};
use kiln_image::{Platform, Reference};
use kiln_planner::PlanOptions;

use super::Args;
use super::receiver::Receiver;
use crate::failure::Failure;
use crate::output::{Destination, Output, OutputKind};

/// What is made of one target.
#[derive(Debug, Clone)]
pub(super) struct TargetOutputs {
    /// The outputs.
    pub(super) outputs: Vec<Output>,
    /// The names that `-t` gives.
    pub(super) tags: Vec<Reference>,
}

/// The outputs of each target: an image in the store where none was asked for. All images are of the same platforms.
pub(super) fn outputs(
    args: &Args,
    images: &[PlanOptions],
    attest: &Attest,
) -> Result<Vec<TargetOutputs>, Failure> {
    let mut targets: Vec<Option<&str>> = Vec::new();
    for image in images {
        if !targets.contains(&image.target.as_deref()) {
            targets.push(image.target.as_deref());
        }
    }
    let several = targets.len() > 1;
    check_targets(args, &targets)?;
    let mut all = Vec::new();
    for target in targets {
        let mine = |named: &Option<String>| match (named, target) {
            (Some(named), Some(target)) => named.eq_ignore_ascii_case(target),
            (named, _) => named.is_none(),
        };
        let mut outputs = args.outputs.clone();
        outputs.retain(|output| mine(&output.target));
        if args.push {
            push(&mut outputs);
        }
        if args.load.is_some() && !outputs.iter().any(is_loaded) {
            outputs.push(Output::new(OutputKind::Docker, None).loaded());
        }
        if outputs.is_empty() {
            outputs.push(Output::new(OutputKind::Image, None));
        }
        let tags = args.tags.iter().filter(|tag| mine(&tag.target));
        let tags = tags.map(|tag| tag.name.clone()).collect();
        all.push(TargetOutputs { outputs, tags });
    }
    let outputs: Vec<Output> = flat(&all).cloned().collect();
    check_places(&outputs)?;
    check_stdout(&outputs, args.quiet, std::io::stdout().is_terminal())?;
    check_id(args, &outputs, several)?;
    check_tags(args)?;
    check_push(&all)?;
    check_loaded(&outputs)?;
    check_index(&outputs, images[0].multi_platform)?;
    check_attest(&outputs, attest)?;
    let index = images[0].multi_platform || attest.is_asked();
    check_annotations(args, &all, images, index)?;
    Ok(all)
}

impl TargetOutputs {
    fn each(&self) -> impl Iterator<Item = (&Self, &Output)> {
        self.outputs.iter().map(move |output| (self, output))
    }
}

/// All outputs of all targets.
pub(super) fn flat(all: &[TargetOutputs]) -> impl Iterator<Item = &Output> {
    all.iter().flat_map(|target| &target.outputs)
}

/// With several targets it must be clear what is of which.
fn check_targets(args: &Args, targets: &[Option<&str>]) -> Result<(), Failure> {
    let of_outputs = args.outputs.iter().map(|output| &output.target);
    let named = of_outputs.chain(args.tags.iter().map(|tag| &tag.target));
    for named in named.flatten() {
        let is_it = |target: &&str| named.eq_ignore_ascii_case(target);
        if !targets.iter().flatten().any(is_it) {
            let failure = Failure::usage(format!("no `--target` is `{named}`"));
            return Err(
                match kiln_parser::suggest(named, targets.iter().flatten().copied()) {
                    Some(near) => failure.help(format!("did you mean `{near}`?")),
                    None => failure,
                },
            );
        }
    }
    let [Some(first), _, ..] = targets else {
        return Ok(());
    };
    if let Some(tag) = args.tags.iter().find(|tag| tag.target.is_none()) {
        let name = tag.name.familiar();
        let failure = Failure::usage(format!("`-t {name}` does not say which target it names"));
        return Err(failure.help(format!("write it as `-t {first}={name}`")));
    }
    let is_one = |output: &&Output| {
        output.target.is_none() && (output.dest.is_some() || !output.names.is_empty())
    };
    match args.outputs.iter().find(is_one) {
        Some(output) => Err(Failure::usage(format!(
            "`-o type={}` does not say which target it is of",
            output.kind.name()
        ))
        .help(format!("add `target={first}` to its fields"))),
        None => Ok(()),
    }
}

/// What an output's manifests say besides: its own outrank those of all.
fn annotations(args: &Args, output: &Output) -> Annotations {
    let of_all = args.annotations.iter().flat_map(|flag| &flag.0);
    let of_all = of_all.filter(|_| is_written(output));
    Annotations(of_all.chain(&output.annotations).cloned().collect())
}

/// Whether a manifest is made for it.
fn is_written(output: &Output) -> bool {
    output.is_image() && output.kind != OutputKind::CacheOnly
}

/// R-MAN-8
fn check_annotations(
    args: &Args,
    all: &[TargetOutputs],
    images: &[PlanOptions],
    index: bool,
) -> Result<(), Failure> {
    let written = flat(all).filter(|output| is_written(output));
    let written: Vec<_> = written.collect();
    if !args.annotations.is_empty() && written.is_empty() {
        let message = "`--annotation` needs an output that is an image";
        return Err(Failure::usage(message));
    }
    let platforms: Vec<Platform> = images
        .iter()
        .map(|image| image.target_platform.clone())
        .collect();
    for output in written {
        let checked = annotations(args, output).check(&platforms, index);
        checked.map_err(Failure::usage)?;
    }
    Ok(())
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
    if is_loaded(output) {
        return Some(loader.expect("it is started where one is").sink());
    }
    let to = || match output.dest.clone() {
        Some(Destination::Path(path)) if output.as_directory => {
            export::Destination::Directory(path)
        }
        Some(Destination::Path(path)) => export::Destination::File(path),
        _ => export::Destination::Stdout,
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
    target: &TargetOutputs,
    output: &Output,
    loader: Option<&Receiver>,
) -> ExportOptions {
    let known = loader.filter(|_| is_loaded(output)).map(Receiver::known);
    ExportOptions {
        names: names(&target.tags, output),
        annotations: annotations(args, output),
        format: output.image.format,
        media_types: output.image.media_types,
        rewrite_timestamp: output.image.rewrite_timestamp || args.recipe.reproducible,
        wants_manifest: args.metadata_file.is_some(),
        attestations: output.image.attestations.clone(),
        known_layers: known.unwrap_or_default().to_vec(),
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
    let tags: Vec<Reference> = args.tags.iter().map(|tag| tag.name.clone()).collect();
    let names = insecure.flat_map(|output| names(&tags, output));
    names.map(|name| name.registry().to_owned()).collect()
}

/// The names an output gives the image: those of `-t`, and its own.
fn names(tags: &[Reference], output: &Output) -> Vec<Reference> {
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
fn check_id(args: &Args, outputs: &[Output], several: bool) -> Result<(), Failure> {
    if args.iidfile.is_some() && several {
        let message = "`--iidfile` holds one id, and each target has its own";
        return Err(Failure::usage(message).help("`--metadata-file` has all of them"));
    }
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
fn check_push(all: &[TargetOutputs]) -> Result<(), Failure> {
    for (target, output) in all.iter().flat_map(TargetOutputs::each) {
        let Some(push) = output.image.sink.push else {
            continue;
        };
        let names = names(&target.tags, output);
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

/// What is said has to go somewhere.
fn check_attest(outputs: &[Output], attest: &Attest) -> Result<(), Failure> {
    if !attest.is_asked() {
        return Ok(());
    }
    match outputs
        .iter()
        .all(|output| output.kind == OutputKind::CacheOnly)
    {
        true => Err(Failure::usage("attestations need an output to go to")
            .help("`-o type=image` or `-o type=oci,dest=FILE` besides")),
        false => Ok(()),
    }
}

/// One place takes one output: two would write over each other.
fn check_places(outputs: &[Output]) -> Result<(), Failure> {
    let place = |output: &Output| match &output.dest {
        Some(Destination::Path(path)) => Some(path.components().collect::<PathBuf>()),
        _ => None,
    };
    let mut taken = Vec::new();
    for path in outputs.iter().filter_map(place) {
        // A device takes anything, one after the other.
        let is_device = path
            .metadata()
            .is_ok_and(|there| !there.is_file() && !there.is_dir());
        if taken.contains(&path) && !is_device {
            let shown = path.display();
            return Err(
                Failure::usage(format!("two outputs are to be written to `{shown}`"))
                    .help("give each a `dest` of its own"),
            );
        }
        taken.push(path);
    }
    Ok(())
}

/// R-EXPORT-4
fn check_index(outputs: &[Output], index: bool) -> Result<(), Failure> {
    let docker = |output: &Output| output.kind == OutputKind::Docker && !is_loaded(output);
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
    match args
        .tags
        .iter()
        .map(|tag| &tag.name)
        .find(|tag| tag.digest().is_some())
    {
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
    fn a_place_takes_one_output() {
        let to = |place: &str| Output::new(OutputKind::Oci, Some(Destination::from(place)));
        assert!(check_places(&[to("a"), to("b"), to("-"), to("-")]).is_ok());
        assert!(check_places(&[to("a/b"), to("a//b/.")]).is_err());
        assert!(check_places(&[to("/dev/null"), to("/dev/null")]).is_ok());
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
