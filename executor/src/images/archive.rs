//! Images from and to files: `load`, `save` and `import`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use kiln_cache::CompressedBlob;
use kiln_image::archive::{Archive, DockerArchive, DockerEntry, docker_manifest_json, spool};
use kiln_image::compress::{self, Compression};
use kiln_image::layout::{
    Blob, IndexEntry, Layout, LayoutContent, LayoutError, index_json, write_tar,
};
use kiln_image::media_type::MediaTypes;
use kiln_image::tar::{Limits, Nothing, read_layer};
use kiln_image::{
    Descriptor, DiffId, Digest, History, ImageConfig, ImageManifest, Manifest, Platform, Reference,
    RunConfig,
};

use super::commit::keep_with;
use super::found::{self, ReadyManifest, StoredImage};
use crate::Services;
use crate::error::{BuildError, Cause};
use crate::event::Task;
use crate::layers::digest_of;

/// Loads every image of an archive or layout, read from `reader`. Gives them as they are named in it.
pub fn load(
    services: &Services<'_>,
    reader: impl Read,
    task: &Task<'_>,
) -> Result<Vec<StoredImage>, BuildError> {
    let load = || -> Result<Vec<StoredImage>, Cause> {
        let scratch = services.store.scratch_dir()?;
        let path = scratch.path().join("archive");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Cause::file("create", &path))?;
        spool(reader, &file).map_err(Cause::file("write", &path))?;
        let images = match Archive::from_file(file).map_err(bad_archive)? {
            Archive::Layout(layout) => load_layout(services, &layout, task)?,
            Archive::Docker(archive) => load_docker(services, &archive, task)?,
        };
        services.store.sync()?;
        Ok(images)
    };
    load().map_err(BuildError::new)
}

fn bad_archive(error: LayoutError) -> Cause {
    Cause::Image(format!("can't use the archive: {}", chain(&error)))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn load_layout(
    services: &Services<'_>,
    layout: &Layout,
    task: &Task<'_>,
) -> Result<Vec<StoredImage>, Cause> {
    let mut images = Vec::new();
    for (descriptor, name) in layout.images() {
        let manifest = image_manifest(layout, &descriptor)?;
        let config_bytes = layout.read_blob(manifest.config()).map_err(bad_archive)?;
        let config = read_config(&config_bytes)?;
        if config.diff_ids().len() != manifest.layers().len() {
            return Err(Cause::Image(
                "an image of the archive has more layers than diff ids, or fewer".to_owned(),
            ));
        }
        for (layer, blob) in config.diff_ids().iter().zip(manifest.layers()) {
            if !services.store.layers().has_content(layer) {
                let reader = layout.open_blob(blob).map_err(bad_archive)?;
                keep_blob(services, *layer, blob, reader, task)?;
            }
        }
        images.push(keep_image(
            services,
            &config_bytes,
            config,
            name.into_iter().collect(),
        )?);
    }
    Ok(images)
}

/// The manifest of an image for this machine, if need be from an index.
fn image_manifest(layout: &Layout, descriptor: &Descriptor) -> Result<ImageManifest, Cause> {
    match layout.manifest(descriptor).map_err(bad_archive)?.1 {
        Manifest::Image(manifest) => Ok(*manifest),
        Manifest::Index(index) => {
            let host = Platform::host();
            let suits = |manifest: &&Descriptor| {
                manifest
                    .platform()
                    .as_ref()
                    .is_some_and(|platform| host.matches(&Platform::from(platform)))
            };
            let chosen = index.manifests().iter().find(suits);
            let chosen = chosen
                .ok_or_else(|| Cause::Image(format!("the archive has no image for {host}")))?;
            image_manifest(layout, chosen)
        }
    }
}

/// Keeps a layer as the blob it is, once its content is known to be what the config says.
fn keep_blob(
    services: &Services<'_>,
    layer: DiffId,
    descriptor: &Descriptor,
    mut reader: impl Read,
    task: &Task<'_>,
) -> Result<(), Cause> {
    let digest = digest_of(descriptor)?;
    task.progress(&digest.to_string(), 0, Some(descriptor.size()));
    let mut writer = services.store.cas().writer()?;
    io::copy(&mut reader, &mut writer).map_err(Cause::layer("read", layer))?;
    writer.commit(Some(digest))?;
    let mut content = compress::decoder(services.store.cas().open(&digest)?)
        .map_err(Cause::layer("read", layer))?;
    let (changeset, summary) = read_layer(&mut content, &Limits::default(), &mut Nothing)
        .map_err(Cause::layer("read", layer))?;
    expect(layer, summary.diff_id)?;
    let blob = CompressedBlob {
        digest,
        size: descriptor.size(),
        media_type: descriptor.media_type().to_string(),
        encoder: None,
    };
    services
        .store
        .layers()
        .put_changeset(&layer, &changeset, summary.size)?;
    services.store.layers().add_blob(&layer, &blob)?;
    services.layers.remember(layer, changeset);
    task.progress(
        &digest.to_string(),
        descriptor.size(),
        Some(descriptor.size()),
    );
    Ok(())
}

fn load_docker(
    services: &Services<'_>,
    archive: &DockerArchive,
    task: &Task<'_>,
) -> Result<Vec<StoredImage>, Cause> {
    let mut images = Vec::new();
    for image in archive.images() {
        let config_bytes = archive.config(image).map_err(bad_archive)?;
        let config = read_config(&config_bytes)?;
        if config.diff_ids().len() != image.layer_count() {
            return Err(Cause::Image(
                "an image of the archive has more layers than diff ids, or fewer".to_owned(),
            ));
        }
        for (index, layer) in config.diff_ids().iter().enumerate() {
            if !services.store.layers().has_content(layer) {
                let reader = archive.layer(image, index).map_err(bad_archive)?;
                let found = keep_tar(services, reader, task)?;
                expect(*layer, found)?;
            }
        }
        images.push(keep_image(services, &config_bytes, config, image.names())?);
    }
    Ok(images)
}

/// Keeps a tar, compressed or not, as a layer, and gives its diff id.
fn keep_tar(services: &Services<'_>, reader: impl Read, task: &Task<'_>) -> Result<DiffId, Cause> {
    let staging = services.store.layers().stage()?;
    let mut file = staging.create_tar()?;
    let mut copied = 0;
    let mut tee = Tee {
        reader: compress::decoder(reader).map_err(Cause::layer("read", "of the archive"))?,
        copy: |bytes: &[u8]| {
            copied += bytes.len() as u64;
            file.write_all(bytes)
        },
    };
    let (changeset, summary) = read_layer(&mut tee, &Limits::default(), &mut Nothing)
        .map_err(Cause::layer("read", "of the archive"))?;
    task.progress(&summary.diff_id.to_string(), copied, Some(copied));
    file.flush()
        .map_err(Cause::layer("write", summary.diff_id))?;
    staging.commit(&summary.diff_id, &changeset, summary.size)?;
    services.layers.remember(summary.diff_id, changeset);
    Ok(summary.diff_id)
}

/// A reader that shows all it read to somebody else too.
struct Tee<R, F> {
    reader: R,
    copy: F,
}

impl<R: Read, F: FnMut(&[u8]) -> io::Result<()>> Read for Tee<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        (self.copy)(&buffer[..count])?;
        Ok(count)
    }
}

fn expect(layer: DiffId, found: DiffId) -> Result<(), Cause> {
    if layer == found {
        return Ok(());
    }
    Err(Cause::Image(format!(
        "layer {layer} of the archive has diff id {found}"
    )))
}

fn read_config(bytes: &[u8]) -> Result<ImageConfig, Cause> {
    ImageConfig::from_json(bytes)
        .map_err(|error| Cause::Image(format!("can't use the archive: {error}")))
}

/// Puts an image whose layers are in the store under its names, or under none.
pub(super) fn keep_image(
    services: &Services<'_>,
    config_bytes: &[u8],
    config: ImageConfig,
    names: Vec<Reference>,
) -> Result<StoredImage, Cause> {
    let id = services.store.cas().put(config_bytes)?;
    let record = found::record(id, &config);
    services.store.refs().set_untagged(&record)?;
    for name in &names {
        services.store.refs().set(name, &record)?;
    }
    Ok(StoredImage {
        reference: names.into_iter().next(),
        record,
        config,
        config_bytes: config_bytes.to_vec(),
    })
}

/// What `kiln import` says of the image.
#[derive(Debug, Clone)]
pub struct Import {
    /// Its name.
    pub name: Option<Reference>,
    /// What its history says.
    pub message: String,
    /// What it runs on.
    pub platform: Platform,
    /// How it is run.
    pub config: RunConfig,
}

/// Makes an image of one layer out of the tar of a root filesystem, compressed or not.
pub fn import(
    services: &Services<'_>,
    reader: impl Read,
    import: Import,
    task: &Task<'_>,
) -> Result<StoredImage, BuildError> {
    let make = || -> Result<StoredImage, Cause> {
        let layer = keep_tar(services, reader, task)?;
        let mut config = ImageConfig::for_platform(&import.platform);
        config.config = import.config;
        let entry = History {
            comment: import.message,
            ..History::default()
        };
        keep_with(services, config, vec![layer], entry, import.name)
    };
    make().map_err(BuildError::new)
}

/// Writes images as an archive that `docker load`, `podman load` and every reader of OCI layouts take.
pub fn save(
    services: &Services<'_>,
    images: &[StoredImage],
    out: impl Write,
    task: &Task<'_>,
) -> Result<(), BuildError> {
    let mut ready = Vec::new();
    for image in images {
        let names = image.reference.iter().cloned().collect();
        let manifest = found::manifest_of(
            services,
            image,
            Compression::default(),
            MediaTypes::Oci,
            task,
        );
        ready.push((image, names, manifest.map_err(BuildError::new)?));
    }
    write_archive(services, &ready, true, 0, Output::Stream(Box::new(out))).map_err(BuildError::new)
}

/// Where an archive goes.
pub(crate) enum Output<'a> {
    /// A tar, to a stream.
    Stream(Box<dyn Write + 'a>),
    /// A directory.
    Directory(&'a Path),
}

/// Writes a layout with these images, each with its names; with `docker`, one that `docker load` takes.
pub(crate) fn write_archive(
    services: &Services<'_>,
    images: &[(&StoredImage, Vec<Reference>, ReadyManifest)],
    docker: bool,
    mtime: i64,
    output: Output<'_>,
) -> Result<(), Cause> {
    let mut entries = Vec::new();
    let mut docker_entries = Vec::new();
    let mut blobs = Vec::new();
    for (image, names, manifest) in images {
        let digest = Digest::of(&manifest.bytes);
        let size = manifest.bytes.len() as u64;
        entries.push(IndexEntry {
            descriptor: Descriptor::new(manifest.media_type.as_str().into(), size, digest.to_oci()),
            platform: Some(image.config.platform()),
            names: names.clone(),
            created: image.config.created.clone(),
            annotations: Default::default(),
        });
        let layers: Vec<Digest> = manifest
            .layers
            .iter()
            .map(digest_of)
            .collect::<Result<_, _>>()?;
        docker_entries.push(DockerEntry {
            config: image.record.config,
            names: names.clone(),
            layers: layers.clone(),
        });
        blobs.push(Blob::of_bytes(&manifest.bytes));
        blobs.push(Blob::of_bytes(&image.config_bytes));
        for (digest, layer) in layers.into_iter().zip(&manifest.layers) {
            let store = services.store;
            blobs.push(Blob {
                digest,
                size: layer.size(),
                open: Box::new(move || {
                    Ok(Box::new(
                        store.cas().open(&digest).map_err(io::Error::other)?,
                    ))
                }),
            });
        }
    }
    let content = LayoutContent {
        index: index_json(&entries).map_err(bad_output)?,
        docker_manifest: match docker {
            true => Some(docker_manifest_json(&docker_entries).map_err(bad_output)?),
            false => None,
        },
        blobs,
        mtime,
    };
    match output {
        Output::Stream(out) => write_tar(&content, out).map(|_| ()).map_err(bad_output),
        Output::Directory(folder) => {
            kiln_image::layout::write_directory(&content, folder).map_err(bad_output)
        }
    }
}

fn bad_output(error: LayoutError) -> Cause {
    Cause::Layer {
        act: "write",
        layer: "archive".to_owned(),
        source: Box::new(error),
    }
}
