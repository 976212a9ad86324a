//! Handing what was built to where it is wanted: a sink for each `--output` type (R-EXPORT).

mod annotations;
mod attested;
mod form;
mod images;
mod rootfs;
mod stated;

pub(crate) use rootfs::{changes_over, write_root};

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_image::compress::LayerFormat;
use kiln_image::image_index::IndexedManifest;
use kiln_image::media_type::MediaTypes;
use kiln_image::{DiffId, Digest, Reference};

use self::rootfs::Naming;
use crate::Services;
use crate::build::Built;
use crate::error::{BuildError, Cause};
use crate::event::{Reporter, Task};
use crate::product::Product;

pub use annotations::{Annotation, Annotations, Level};

/// A sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// The store and registries, under the image's names.
    Image(ImageSink),
    /// An OCI image layout.
    Oci(Destination),
    /// A layout that `docker load` takes, always a tar.
    Docker(Destination),
    /// The root filesystem as a tar.
    Tar(Destination),
    /// The root filesystem as files below a directory. Whether each platform has a directory of its own there; `None` where
    /// there are several.
    Local(PathBuf, Option<bool>),
}

/// Who gets an image that is not written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSink {
    /// The store.
    pub store: bool,
    /// Whether its layers are unpacked there at once.
    pub unpack: bool,
    /// The registries that its names say.
    pub push: Option<Push>,
}

/// How registries get an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// Under its names with their tags.
    ByName,
    /// Under its digest, in the repositories of its names.
    ByDigest,
}

impl Default for ImageSink {
    fn default() -> Self {
        Self {
            store: true,
            unpack: false,
            push: None,
        }
    }
}

/// Where the bytes of a sink go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file, which appears when it is whole.
    File(PathBuf),
    /// A directory.
    Directory(PathBuf),
    /// Standard output.
    Stdout,
    /// What is open already, such as the input of a program.
    Open(OpenFile),
}

/// A file that is open; equal to itself alone.
#[derive(Debug, Clone)]
pub struct OpenFile(pub Arc<File>);

impl PartialEq for OpenFile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for OpenFile {}

/// How an image is written.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// Its names.
    pub names: Vec<Reference>,
    /// How layers are compressed.
    pub format: LayerFormat,
    /// Which media types manifests name.
    pub media_types: MediaTypes,
    /// Whether layers made by this build have no file newer than the build's date (R-SDE-3).
    pub rewrite_timestamp: bool,
    /// Whether somebody wants to know the manifest's digest, though nothing else needs it.
    pub wants_manifest: bool,
    /// Layers of images that who gets an archive of [`Sink::Docker`] has already: their blobs are left out.
    pub known_layers: Vec<Vec<DiffId>>,
    /// What manifests and indexes say besides.
    pub annotations: Annotations,
    /// What becomes of what is said about images.
    pub attestations: AttestationOptions,
}

/// What becomes of statements about an image (R-ATT-2, R-ATT-6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationOptions {
    /// Whether their manifest is an artifact with the image as its subject, and not an image of no platform.
    pub artifact: bool,
    /// Whether those that are for images alone ([`crate::attest::Provenance::inline_only`]) are wanted.
    pub inline: bool,
    /// What the names of files with statements begin with, where the output is files.
    pub prefix: String,
}

impl Default for AttestationOptions {
    fn default() -> Self {
        Self {
            artifact: true,
            inline: true,
            prefix: String::new(),
        }
    }
}

/// What an export made.
#[derive(Debug, Clone, Default)]
pub struct Exported {
    /// The manifest or index, where one was made, as `index.json` describes it.
    pub manifest: Option<IndexedManifest>,
    /// The digests of the images' configs, in the product's order, for outputs that are images: an output may have other layers
    /// than were built, and so other configs.
    pub ids: Vec<Digest>,
}

/// The ids of the images that an output with these options makes of those that were built, in the same order.
///
/// # Errors
/// If its layers can't be read.
pub fn image_ids(
    product: &Product,
    options: &ExportOptions,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
) -> Result<Vec<Digest>, BuildError> {
    if !options.rewrite_timestamp {
        return Ok(product.images.iter().map(|built| built.id).collect());
    }
    let task = reporter.start("giving layers their times");
    let id = |built| {
        let image = form::image_of(built, options, services, &task)?;
        Ok(image.record.config)
    };
    let ids: Result<Vec<_>, Cause> = product.images.iter().map(id).collect();
    task.end_with(ids).map_err(BuildError::new)
}

/// Hands what was built to a sink.
///
/// # Errors
/// What can't be written, and what the sink can't take.
pub fn export(
    product: &Product,
    sink: &Sink,
    options: &ExportOptions,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
) -> Result<Exported, BuildError> {
    let task = reporter.start(name_of(sink));
    let written = write(product, sink, options, services, &task);
    task.end_with(written).map_err(BuildError::new)
}

/// What progress calls it (R-PROG-3).
fn name_of(sink: &Sink) -> &'static str {
    match sink {
        Sink::Image(_) => "exporting to image",
        Sink::Oci(_) => "exporting to oci image format",
        Sink::Docker(_) => "exporting to docker image format",
        Sink::Tar(_) => "sending tarball",
        Sink::Local(..) => "exporting to client directory",
    }
}

fn write(
    product: &Product,
    sink: &Sink,
    options: &ExportOptions,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<Exported, Cause> {
    if matches!(sink, Sink::Image(_) | Sink::Oci(_) | Sink::Docker(_)) {
        check_images(product, sink, options)?;
    }
    match sink {
        Sink::Image(sink) => images::hand_over(product, *sink, options, services, task),
        Sink::Oci(to) => images::archive(product, to, false, options, services, task),
        Sink::Docker(to) => images::archive(product, to, true, options, services, task),
        Sink::Tar(to) => {
            let naming = naming(options, product.multi_platform);
            to.write(|out| rootfs::write_tar(product, naming, services, out, task))?;
            Ok(Exported::default())
        }
        Sink::Local(directory, split) => {
            let naming = naming(options, split.unwrap_or(product.multi_platform));
            rootfs::write_files(product, naming, services, directory, task)?;
            Ok(Exported::default())
        }
    }
}

fn naming(options: &ExportOptions, split: bool) -> Naming<'_> {
    Naming {
        split,
        attestation_prefix: &options.attestations.prefix,
    }
}

fn check_images(product: &Product, sink: &Sink, options: &ExportOptions) -> Result<(), Cause> {
    let no_config = |built: &Built| built.config.architecture.is_empty();
    if product.images.iter().any(no_config) {
        return Err(Cause::NoConfig); // R-CTX-5
    }
    if product.multi_platform && matches!(sink, Sink::Docker(_)) {
        // R-EXPORT-4
        let refusal = "docker exporter does not currently support exporting manifest lists";
        return Err(Cause::Export(refusal.to_owned()));
    }
    let platforms = product.images.iter().map(|built| built.platform.clone());
    let platforms: Vec<_> = platforms.collect();
    options
        .annotations
        .check(&platforms, product.is_index(options.attestations.inline))
        .map_err(Cause::Export)
}

impl Destination {
    /// Hands `work` a writer; a file gets its name only when all is written.
    fn write(&self, work: impl FnOnce(&mut dyn Write) -> Result<(), Cause>) -> Result<(), Cause> {
        match self {
            Destination::Stdout => {
                let mut out = BufWriter::new(std::io::stdout().lock());
                work(&mut out)?;
                out.flush()
                    .map_err(Cause::file("write to", "standard output"))
            }
            Destination::Open(OpenFile(file)) => {
                let mut out = BufWriter::with_capacity(1 << 20, &**file);
                work(&mut out)?;
                out.flush()
                    .map_err(Cause::file("write to", "the program that takes the image"))
            }
            Destination::File(path) | Destination::Directory(path) => write_file(path, work),
        }
    }
}

fn write_file(
    path: &Path,
    work: impl FnOnce(&mut dyn Write) -> Result<(), Cause>,
) -> Result<(), Cause> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // A device or pipe has no name to be given at the end.
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let mut file = File::options()
            .write(true)
            .open(path)
            .map_err(Cause::file("open", path))?;
        return work(&mut file);
    }
    let mut builder = tempfile::Builder::new();
    let file = builder
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .prefix(".kiln-")
        .tempfile_in(directory)
        .map_err(Cause::file("create a file in", directory))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    work(&mut out)?;
    let file = out
        .into_inner()
        .map_err(|error| Cause::file("write", path)(error.into_error()))?;
    file.persist(path)
        .map_err(|error| Cause::file("create", path)(error.error))?;
    Ok(())
}
