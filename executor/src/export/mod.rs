//! Handing an image to where it is wanted: a sink for each `--output` type (R-EXPORT).

mod rootfs;

pub(crate) use rootfs::write_root;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use kiln_image::compress::Compression;
use kiln_image::media_type::MediaTypes;
use kiln_image::{Digest, Reference};

use crate::Services;
use crate::build::Built;
use crate::error::{BuildError, Cause};
use crate::event::{Reporter, Task};
use crate::images::{self, ArchiveOutput, StoredImage, write_archive};

/// A sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// The store, under the image's names.
    Store,
    /// An OCI image layout.
    Oci(Destination),
    /// A layout that `docker load` takes, always a tar.
    Docker(Destination),
    /// The root filesystem as a tar.
    Tar(Destination),
    /// The root filesystem as files below a directory.
    Local(PathBuf),
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
}

/// How an image is written.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// Its names.
    pub names: Vec<Reference>,
    /// How layers that have no compressed form yet are compressed.
    pub compression: Compression,
}

/// What an export made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exported {
    /// Digest, size and media type of the manifest, where one was made.
    pub manifest: Option<(Digest, u64, String)>,
}

/// Hands the image to a sink.
pub fn export(
    built: &Built,
    sink: &Sink,
    options: &ExportOptions,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
) -> Result<Exported, BuildError> {
    let task = reporter.start(name_of(sink));
    let written = write(built, sink, options, services, &task);
    task.end_with(written).map_err(BuildError::new)
}

/// What progress calls it (R-PROG-3).
fn name_of(sink: &Sink) -> &'static str {
    match sink {
        Sink::Store => "exporting to image",
        Sink::Oci(_) => "exporting to oci image format",
        Sink::Docker(_) => "exporting to docker image format",
        Sink::Tar(_) => "sending tarball",
        Sink::Local(_) => "exporting to client directory",
    }
}

fn write(
    built: &Built,
    sink: &Sink,
    options: &ExportOptions,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<Exported, Cause> {
    let is_image = matches!(sink, Sink::Store | Sink::Oci(_) | Sink::Docker(_));
    if is_image && built.config.architecture.is_empty() {
        // R-CTX-5
        return Err(Cause::NoConfig);
    }
    match sink {
        Sink::Store => store(built, options, services, task),
        Sink::Oci(to) => archive(built, to, false, options, services, task),
        Sink::Docker(to) => archive(built, to, true, options, services, task),
        Sink::Tar(to) => {
            to.write(|out| rootfs::write_tar(built, services, out, task))?;
            Ok(Exported::default())
        }
        Sink::Local(directory) => {
            rootfs::write_files(built, services, directory, task)?;
            Ok(Exported::default())
        }
    }
}

fn store(
    built: &Built,
    options: &ExportOptions,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<Exported, Cause> {
    services.layers.fetch_all(built.config.diff_ids(), task)?;
    services.store.sync()?;
    let image = stored(built, services)?;
    services.store.refs().set_untagged(&image.record)?;
    for name in &options.names {
        services.store.refs().set(name, &image.record)?;
    }
    Ok(Exported::default())
}

fn archive(
    built: &Built,
    to: &Destination,
    docker: bool,
    options: &ExportOptions,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<Exported, Cause> {
    let image = stored(built, services)?;
    let manifest =
        images::manifest_of(services, &image, options.compression, MediaTypes::Oci, task)?;
    let exported = Exported {
        manifest: Some((
            Digest::of(&manifest.bytes),
            manifest.bytes.len() as u64,
            manifest.media_type.clone(),
        )),
    };
    let epoch = built.source_date_epoch.unwrap_or(0);
    let images = [(&image, options.names.clone(), manifest)];
    match to {
        Destination::Directory(path) => {
            write_archive(
                services,
                &images,
                docker,
                epoch,
                ArchiveOutput::Directory(path),
            )?;
        }
        file_or_stdout => file_or_stdout.write(|out| {
            write_archive(
                services,
                &images,
                docker,
                epoch,
                ArchiveOutput::Stream(Box::new(out)),
            )
        })?,
    }
    Ok(exported)
}

/// The image as the store has it, its config put there.
fn stored(built: &Built, services: &Services<'_>) -> Result<StoredImage, Cause> {
    let id = services.store.cas().put(&built.config_bytes)?;
    Ok(StoredImage {
        reference: None,
        record: images::record(id, &built.config),
        config: built.config.clone(),
        config_bytes: built.config_bytes.clone(),
    })
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
            Destination::File(path) => write_file(path, work),
            Destination::Directory(path) => write_file(path, work),
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
