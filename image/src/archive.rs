//! The archive of `docker save`, read and written.
//!
//! Two forms are about. The old one has a folder for each layer with a `layer.tar`, configs named by their
//! digest, and a `manifest.json` that says what belongs together; podman and skopeo write it to this day. The
//! new one is an OCI image layout with the same `manifest.json` beside it. Written is the new one (R-EXPORT-1),
//! which old engines read too; read is whatever comes: where there is a layout it counts, since only it has
//! the images' own manifests.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::compress::decoder;
use crate::layout::{DOCUMENT_LIMIT, Files, Layout, LayoutError, blob_name};
use crate::{Digest, Reference, json};

/// An archive or layout to load images from.
#[derive(Debug)]
pub enum Archive {
    /// An OCI image layout, `manifest.json` or not.
    Layout(Layout),
    /// An archive of the old form.
    Docker(DockerArchive),
}

/// An archive of the old form.
#[derive(Debug)]
pub struct DockerArchive {
    files: Files,
    images: Vec<DockerImage>,
}

/// One image of an archive of the old form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerImage {
    config: String,
    tags: Vec<String>,
    layers: Vec<String>,
}

/// What `manifest.json` says about one image that is to be written.
#[derive(Debug, Clone)]
pub struct DockerEntry {
    /// Its config.
    pub config: Digest,
    /// Its names.
    pub names: Vec<Reference>,
    /// Its layers' blobs, lowest first.
    pub layers: Vec<Digest>,
}

/// One element of `manifest.json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// The name of the file that says what an archive holds.
const MANIFEST: &str = "manifest.json";

/// The bytes of `manifest.json` (R-EXPORT-1).
pub fn docker_manifest_json(images: &[DockerEntry]) -> Result<Vec<u8>, LayoutError> {
    let entries: Vec<Entry> = images.iter().map(Entry::from).collect();
    json::compact(&entries).map_err(|source| LayoutError::Serialise {
        name: MANIFEST.to_owned(),
        source,
    })
}

/// Copies an archive from a stream into a file, taking off the compression it may have as a whole. Archives
/// are read by jumping about in them, which a stream can't.
pub fn spool(reader: impl Read, mut file: &File) -> io::Result<u64> {
    let copied = io::copy(&mut decoder(reader)?, &mut file)?;
    file.flush()?;
    Ok(copied)
}

impl Archive {
    /// Opens a layout, as a folder or a tar, or an archive of the old form.
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        Self::of(Files::open(path)?)
    }

    /// Opens an uncompressed tar that is open already.
    pub fn from_file(file: File) -> Result<Self, LayoutError> {
        Self::of(Files::of_tar(file)?)
    }

    fn of(files: Files) -> Result<Self, LayoutError> {
        if files.contains("index.json") && files.contains("oci-layout") {
            Layout::from_files(files).map(Self::Layout)
        } else if files.contains(MANIFEST) {
            DockerArchive::of(files).map(Self::Docker)
        } else {
            Err(LayoutError::NoImage)
        }
    }
}

impl DockerArchive {
    fn of(files: Files) -> Result<Self, LayoutError> {
        let parsed: Result<Vec<Entry>, _> =
            serde_json::from_slice(&files.read(MANIFEST, DOCUMENT_LIMIT)?);
        let entries = parsed.map_err(|source| LayoutError::Json {
            name: MANIFEST.to_owned(),
            source,
        })?;
        let images = entries.into_iter().map(DockerImage::from).collect();
        Ok(Self { files, images })
    }

    /// The images, in order.
    pub fn images(&self) -> &[DockerImage] {
        &self.images
    }

    /// The bytes of an image's config.
    pub fn config(&self, image: &DockerImage) -> Result<Vec<u8>, LayoutError> {
        self.files.read(&image.config, DOCUMENT_LIMIT)
    }

    /// The layer at `index` of an image, lowest first, as it is in the archive: usually an uncompressed tar, but see
    /// [`decoder`]. Nothing says what it must be but the config's diff ids: the reader must verify.
    pub fn layer(
        &self,
        image: &DockerImage,
        index: usize,
    ) -> Result<Box<dyn Read + Send>, LayoutError> {
        let missing = || LayoutError::Missing {
            name: format!("layer {index}"),
        };
        let name = image.layers.get(index).ok_or_else(missing)?;
        self.files.open_file(name).map(|(reader, _)| reader)
    }
}

impl DockerImage {
    /// The names it has in the archive; what isn't a reference is left out.
    pub fn names(&self) -> Vec<Reference> {
        self.tags
            .iter()
            .filter_map(|tag| tag.parse().ok())
            .collect()
    }

    /// How many layers it has.
    pub fn layer_count(&self) -> usize {
        self.layers.len()
    }
}

impl From<Entry> for DockerImage {
    fn from(entry: Entry) -> Self {
        let Entry {
            config,
            repo_tags,
            layers,
        } = entry;
        Self {
            config,
            tags: repo_tags.unwrap_or_default(),
            layers: layers.unwrap_or_default(),
        }
    }
}

impl From<&DockerEntry> for Entry {
    fn from(image: &DockerEntry) -> Self {
        let tags: Vec<String> = image.names.iter().map(Reference::familiar).collect();
        Self {
            config: blob_name(&image.config),
            repo_tags: (!tags.is_empty()).then_some(tags),
            layers: Some(image.layers.iter().map(blob_name).collect()),
        }
    }
}
