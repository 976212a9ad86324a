//! Images from and to files: `load`, `save` and `import`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use kiln_cache::{CompressedBlob, ImageRecord, ManifestRecord, NamedImages, ScratchDir};
use kiln_image::archive::{Archive, DockerArchive, DockerEntry, docker_manifest_json, spool};
use kiln_image::compress;
use kiln_image::layout::{
    Blob, IndexEntry, Layout, LayoutContent, LayoutError, index_json, write_tar,
};
use kiln_image::manifest::parse_manifest;
use kiln_image::media_type::LayerCompression;
use kiln_image::tar::{Limits, Nothing, read_layer};
use kiln_image::{
    Descriptor, DiffId, Digest, History, ImageConfig, ImageIndex, ImageManifest, Manifest,
    Platform, Reference, RunConfig, media_type,
};

use kiln_registry::{Answered, Download, ManifestTree};

use super::MOST_NESTED;
use super::commit::keep_with;
use super::found::{self, StoredImage};
use super::pull::put_manifest;
use super::tree;
use crate::Services;
use crate::error::{BuildError, Cause};
use crate::event::{Stream, Task};
use crate::layers::digest_of;

/// Where images are loaded from.
pub enum LoadSource<'a> {
    /// An archive, compressed or not.
    Stream(Box<dyn Read + 'a>),
    /// A folder with what an archive has in it: an image layout, or the files of `docker save`.
    Folder(&'a Path),
}

/// Loads every image of an archive or layout. Gives them as they are named in it.
pub fn load(
    services: &Services<'_>,
    source: LoadSource<'_>,
    task: &Task<'_>,
) -> Result<Vec<StoredImage>, BuildError> {
    let opened = || -> Result<Archive, Cause> {
        let reader = match source {
            LoadSource::Folder(path) => return Archive::open(path).map_err(bad_archive),
            LoadSource::Stream(reader) => reader,
        };
        let scratch = services.store.scratch_dir()?;
        let path = scratch.path().join("archive");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(Cause::file("create", &path))?;
        spool(reader, &file).map_err(Cause::file("write", &path))?;
        Archive::from_file(file).map_err(bad_archive)
    };
    let load = || -> Result<Vec<StoredImage>, Cause> {
        match opened()? {
            Archive::Layout(layout) => load_layout(services, &layout, task),
            Archive::Docker(archive) => load_docker(services, &archive, task),
        }
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
        let (bytes, manifest) = layout.manifest(&descriptor).map_err(bad_archive)?;
        if matches!(&manifest, Manifest::Image(manifest) if is_artifact(manifest)) {
            let told = format!("{} is no image: passed over\n", descriptor.digest());
            task.log(Stream::Stderr, told.as_bytes());
            continue;
        }
        let names: Vec<Reference> = name.into_iter().collect();
        match manifest {
            Manifest::Image(manifest) => {
                let keeps_manifest = is_ready_to_go(&manifest);
                let (config_bytes, config) =
                    load_image(services, layout, &manifest, keeps_manifest, task)?;
                let mut record = found::record(services.store.cas().put(&config_bytes)?, &config);
                if keeps_manifest {
                    let media_type = descriptor.media_type().to_string();
                    record.manifest = Some(put_manifest(services, media_type, &bytes)?);
                    record.own_manifest = true;
                }
                images.push(keep_record(services, record, &config_bytes, config, names)?);
            }
            Manifest::Index(index) => {
                let (descriptor, bytes, index) = innermost(layout, descriptor, bytes, index)?;
                let media_type = descriptor.media_type().to_string();
                let index_record = put_manifest(services, media_type, &bytes)?;
                let loaded = load_index(services, layout, &index, task)?;
                images.extend(keep_index(services, loaded, index_record, &names)?);
            }
        }
    }
    match images.is_empty() {
        true => Err(Cause::Image("the archive has no image".to_owned())),
        false => Ok(images),
    }
}

/// Whether an image may be sent to registries with this very manifest. Archives of Docker have layers that nobody has compressed
/// yet, and foreign layers become ordinary ones (R-MAN-9).
fn is_ready_to_go(manifest: &ImageManifest) -> bool {
    manifest.layers().iter().all(|layer| {
        let media_type = layer.media_type().as_ref();
        let compression = media_type::layer_compression(media_type);
        !media_type::is_foreign_layer(media_type)
            && matches!(
                compression,
                Some(LayerCompression::Gzip | LayerCompression::Zstd)
            )
    })
}

/// Whether something in a layout or registry has only the form of an image (a chart, a signature, a statement about one): its config is
/// none, or what it has are no layers.
pub(super) fn is_artifact(manifest: &ImageManifest) -> bool {
    let is_layer = |layer: &Descriptor| media_type::is_layer(layer.media_type().as_ref());
    let layers = manifest.layers();
    !media_type::is_config(manifest.config().media_type().as_ref())
        || (!layers.is_empty() && !layers.iter().any(is_layer))
}

/// The index that an index with nothing but another one in it is about.
fn innermost(
    layout: &Layout,
    mut descriptor: Descriptor,
    mut bytes: Vec<u8>,
    mut index: Box<ImageIndex>,
) -> Result<(Descriptor, Vec<u8>, Box<ImageIndex>), Cause> {
    for _ in 0..MOST_NESTED {
        let [only] = &index.manifests()[..] else {
            break;
        };
        let (inner_bytes, Manifest::Index(inner)) = layout.manifest(only).map_err(bad_archive)?
        else {
            break;
        };
        (descriptor, bytes, index) = (only.clone(), inner_bytes, inner);
    }
    Ok((descriptor, bytes, index))
}

/// Keeps the layers of an image, and gives its config.
fn load_image(
    services: &Services<'_>,
    layout: &Layout,
    manifest: &ImageManifest,
    keeps_manifest: bool,
    task: &Task<'_>,
) -> Result<(Vec<u8>, ImageConfig), Cause> {
    let config_bytes = layout.read_blob(manifest.config()).map_err(bad_archive)?;
    let config = read_config(&config_bytes)?;
    if config.diff_ids().len() != manifest.layers().len() {
        return Err(Cause::Image(
            "an image of the archive has more layers than diff ids, or fewer".to_owned(),
        ));
    }
    for (layer, blob) in config.diff_ids().iter().zip(manifest.layers()) {
        // An image that is sent with its own manifest needs the very blobs, even where the store knows the layers as others.
        let is_here = match keeps_manifest {
            true => services.layers.has_as(*layer, blob),
            false => services.store.layers().has_content(layer),
        };
        if !is_here {
            let reader = layout.open_blob(blob).map_err(bad_archive)?;
            keep_blob(services, *layer, blob, reader, task)?;
        }
    }
    Ok((config_bytes, config))
}

/// Keeps the images of an index that are there: an archive may have only some of them, but not none. What the index has
/// besides images, such as attestations, is kept as it is.
fn load_index(
    services: &Services<'_>,
    layout: &Layout,
    index: &ImageIndex,
    task: &Task<'_>,
) -> Result<Vec<StoredImage>, Cause> {
    let mut images = Vec::new();
    for descriptor in index.manifests() {
        if !layout.has_blob(&digest_of(descriptor)?) {
            continue;
        }
        let (bytes, manifest) = layout.manifest(descriptor).map_err(bad_archive)?;
        let Manifest::Image(manifest) = manifest else {
            return Err(Cause::Image(
                "the archive has an index within an index".to_owned(),
            ));
        };
        let blobs = manifest.layers().iter().chain([manifest.config()]);
        let blobs: Vec<Digest> = blobs.map(digest_of).collect::<Result<_, _>>()?;
        if !blobs.iter().all(|blob| layout.has_blob(blob)) {
            continue;
        }
        let media_type = descriptor.media_type().to_string();
        let record = put_manifest(services, media_type, &bytes)?;
        let platform = descriptor.platform().as_ref().map(Platform::from);
        if platform.is_some_and(|platform| platform.os == "unknown") || is_artifact(&manifest) {
            for blob in manifest.layers().iter().chain([manifest.config()]) {
                let mut writer = services.store.cas().writer()?;
                let mut reader = layout.open_blob(blob).map_err(bad_archive)?;
                let digest = digest_of(blob)?;
                io::copy(&mut reader, &mut writer)
                    .map_err(Cause::layer("read", "of the archive"))?;
                writer.commit(Some(digest))?;
            }
            continue;
        }
        let (config_bytes, config) = load_image(services, layout, &manifest, true, task)?;
        let mut image = keep_image(services, &config_bytes, config, Vec::new())?;
        image.record.manifest = Some(record);
        image.record.own_manifest = true;
        images.push(image);
    }
    Ok(images)
}

/// Gives the images of an index their names. The one for this machine, else the first, is what they stand for.
fn keep_index(
    services: &Services<'_>,
    mut images: Vec<StoredImage>,
    index: ManifestRecord,
    names: &[Reference],
) -> Result<Vec<StoredImage>, Cause> {
    let host = Platform::host();
    images.sort_by_key(|image| !host.matches(&image.record.platform)); // stable
    let mut records = images.iter().map(|image| image.record.clone());
    let image = records.next().ok_or_else(|| {
        Cause::Image("the archive has none of the images of its index".to_owned())
    })?;
    let named = NamedImages {
        image,
        others: records.collect(),
        index: Some(index),
    };
    for name in names {
        services.store.refs().set_all(name, &named)?;
    }
    if let Some(name) = names.first() {
        images.truncate(1); // one name, one line
        images[0].reference = Some(name.clone());
    }
    Ok(images)
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
    services.store.layers().add_blob(&layer, &blob)?;
    if !services.store.layers().contains(&layer) {
        let layers = services.store.layers();
        layers.put_changeset(&layer, &changeset, summary.size)?;
        services.layers.remember(layer, changeset);
    }
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
        let names = image.names();
        let image = keep_image(services, &config_bytes, config, names.clone())?;
        images.extend(under_each(image, names));
    }
    Ok(images)
}

/// The image as it is found by each of its names.
fn under_each(image: StoredImage, names: Vec<Reference>) -> Vec<StoredImage> {
    if names.is_empty() {
        return vec![image];
    }
    let under = |name| StoredImage {
        reference: Some(name),
        ..image.clone()
    };
    names.into_iter().map(under).collect()
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
        .map_err(|error| Cause::Image(format!("can't use the archive: {}", chain(&error))))
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
    keep_record(services, record, config_bytes, config, names)
}

fn keep_record(
    services: &Services<'_>,
    record: ImageRecord,
    config_bytes: &[u8],
    config: ImageConfig,
    names: Vec<Reference>,
) -> Result<StoredImage, Cause> {
    // What has the name now gives way to nothing that a power loss could take.
    services.store.sync()?;
    services.store.refs().set_untagged(&record)?;
    for name in &names {
        services.store.refs().set(name, &record)?;
    }
    Ok(StoredImage {
        reference: names.into_iter().next(),
        named: None,
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
    /// When it was made, as RFC 3339 says it; `None` for now.
    pub created: Option<String>,
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
            created: import.created,
            ..History::default()
        };
        keep_with(services, config, vec![layer], entry, import.name)
    };
    make().map_err(BuildError::new)
}

/// The same with a tar that is downloaded.
pub fn import_from(
    services: &Services<'_>,
    address: &str,
    import: Import,
    task: &Task<'_>,
) -> Result<StoredImage, BuildError> {
    let downloaded = || -> Result<(ScratchDir, File), Cause> {
        let scratch = services.store.scratch_dir()?;
        let path = scratch.path().join("download");
        let made = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        let mut file = made.map_err(Cause::file("create", &path))?;
        let download = Download {
            address,
            authorization: None,
            known: &[],
        };
        if let Answered::Body(body) = services.registry.download(download)? {
            let told = |done, total| task.progress("download", done, total);
            body.copy_to(&mut file, &told)?;
        }
        file.rewind().map_err(Cause::file("read", &path))?;
        Ok((scratch, file))
    };
    let (_scratch, file) = downloaded().map_err(BuildError::new)?;
    self::import(services, file, import, task)
}

/// Writes images as an archive that `docker load`, `podman load` and every reader of OCI layouts take.
pub fn save(
    services: &Services<'_>,
    images: &[StoredImage],
    out: impl Write,
    task: &Task<'_>,
) -> Result<(), BuildError> {
    let mut entries = Vec::new();
    for image in images {
        let tree = tree::tree_of(services, image, task).map_err(BuildError::new)?;
        entries.push(ArchiveEntry {
            names: image.reference.iter().cloned().collect(),
            platform: Some(image.config.platform()).filter(|_| tree.children.is_empty()),
            created: image.config.created.clone(),
            annotations: BTreeMap::new(),
            docker: Some(image.record.config),
            tree,
        });
    }
    write_archive(services, &entries, 0, Output::Stream(Box::new(out))).map_err(BuildError::new)
}

/// What an archive has under its names.
pub(crate) struct ArchiveEntry {
    /// All its names; there may be none.
    pub names: Vec<Reference>,
    /// The manifest, or the index with its manifests. All their blobs are in the store.
    pub tree: ManifestTree,
    /// What the image runs on; `None` for an index.
    pub platform: Option<Platform>,
    /// When it was made, as RFC 3339 says it.
    pub created: Option<String>,
    /// What `index.json` says of it besides.
    pub annotations: BTreeMap<String, String>,
    /// The image that `docker load` takes where it knows no indexes, by its config; `None` for a mere layout.
    pub docker: Option<Digest>,
}

/// Where an archive goes.
pub(crate) enum Output<'a> {
    /// A tar, to a stream.
    Stream(Box<dyn Write + 'a>),
    /// A directory.
    Directory(&'a Path),
}

/// Writes a layout with these entries; `mtime` is that of its members, in seconds since 1970.
pub(crate) fn write_archive(
    services: &Services<'_>,
    entries: &[ArchiveEntry],
    mtime: i64,
    output: Output<'_>,
) -> Result<(), Cause> {
    let mut listed = Vec::new();
    let mut docker = Vec::new();
    let mut blobs = Vec::new();
    for entry in entries {
        let (digest, size) = (Digest::of(&entry.tree.bytes), entry.tree.bytes.len() as u64);
        let media_type = entry.tree.media_type.as_str().into();
        listed.push(IndexEntry {
            descriptor: Descriptor::new(media_type, size, digest.to_oci()),
            platform: entry.platform.clone(),
            names: entry.names.clone(),
            created: entry.created.clone(),
            annotations: entry.annotations.clone(),
        });
        for tree in std::iter::once(&entry.tree).chain(&entry.tree.children) {
            add_blobs(services, tree, &mut blobs)?;
            docker.extend(docker_entry(entry, tree)?);
        }
    }
    let content = LayoutContent {
        index: index_json(&listed).map_err(bad_output)?,
        docker_manifest: match docker.is_empty() {
            false => Some(docker_manifest_json(&docker).map_err(bad_output)?),
            true => None,
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

/// A manifest, or index, and what it names but for further manifests.
fn add_blobs<'a>(
    services: &'a Services<'_>,
    tree: &'a ManifestTree,
    blobs: &mut Vec<Blob<'a>>,
) -> Result<(), Cause> {
    blobs.push(Blob::of_bytes(&tree.bytes));
    for blob in &tree.blobs {
        let digest = digest_of(blob)?;
        let open = move || -> io::Result<Box<dyn Read + Send>> {
            let opened = services.store.cas().open(&digest);
            Ok(Box::new(opened.map_err(io::Error::other)?))
        };
        blobs.push(Blob {
            digest,
            size: blob.size(),
            is_vouched: true,
            open: Box::new(open),
        });
    }
    Ok(())
}

/// What `manifest.json` says of the image that it is to name.
fn docker_entry(entry: &ArchiveEntry, tree: &ManifestTree) -> Result<Option<DockerEntry>, Cause> {
    let Some(wanted) = &entry.docker else {
        return Ok(None);
    };
    let parsed = parse_manifest(&tree.bytes, &tree.media_type);
    let Manifest::Image(manifest) = parsed.map_err(|error| Cause::Image(error.to_string()))? else {
        return Ok(None);
    };
    if digest_of(manifest.config())? != *wanted {
        return Ok(None);
    }
    let layers = manifest.layers().iter().map(digest_of);
    Ok(Some(DockerEntry {
        config: *wanted,
        names: entry.names.clone(),
        layers: layers.collect::<Result<_, _>>()?,
    }))
}

fn bad_output(error: LayoutError) -> Cause {
    Cause::Layer {
        act: "write",
        layer: "archive".to_owned(),
        source: Box::new(error),
    }
}
