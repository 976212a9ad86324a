//! The OCI image layout, as a folder and as a tar (R-EXPORT-1..3).
//!
//! A [`Layout`] is read, from either form, without unpacking it: a blob is a range of the tar file. Blobs are
//! verified against their digests while they stream. Writing takes blobs as something to open, one after the
//! other, so an image of any size passes through a fixed amount of memory, and gives the same bytes for the same
//! image.

mod ahead;
mod files;
mod index;
mod write;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::manifest::parse_manifest;
use crate::tar::ReadError;
use crate::{
    Descriptor, Digest, DigestError, Digester, ImageIndex, Manifest, ManifestError, Reference,
};

pub use index::{CONTAINERD_NAME, CREATED, IndexEntry, REF_NAME, index_json};
pub use write::{Blob, LayoutContent, write_directory, write_tar};

pub(crate) use files::Files;

/// The longest manifest, index or config that is read, in bytes.
pub const DOCUMENT_LIMIT: u64 = 16 << 20;

/// A layout that can be read.
#[derive(Debug)]
pub struct Layout {
    files: Files,
    index: Box<ImageIndex>,
}

/// Why a layout or archive could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The file or folder can't be opened.
    #[error("could not open `{path}`")]
    Open {
        /// The file or folder.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Compressed as a whole: it must be decompressed into a file first ([`crate::archive::spool`]).
    #[error("the archive is compressed as a whole")]
    Compressed,
    /// Not a tar, or a damaged one.
    #[error("could not read the archive")]
    Tar(#[from] ReadError),
    /// Neither a layout nor an archive.
    #[error(
        "there is neither `index.json` nor `manifest.json`: this is no image layout or archive"
    )]
    NoImage,
    /// A file that must be there isn't.
    #[error("`{name}` is missing")]
    Missing {
        /// Its name in the layout.
        name: String,
    },
    /// A file can't be read.
    #[error("could not read `{name}`")]
    Read {
        /// Its name in the layout.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A file is longer than it may be.
    #[error("`{name}` is longer than {limit} bytes")]
    TooLarge {
        /// Its name in the layout.
        name: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file isn't the JSON it should be.
    #[error("could not understand `{name}`")]
    Json {
        /// Its name in the layout.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A version kiln doesn't know.
    #[error("the image layout has version `{version}`, not 1")]
    Version {
        /// What `oci-layout` says.
        version: String,
    },
    /// A manifest kiln doesn't understand.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A digest kiln doesn't understand.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A blob is not what its name says.
    #[error("the blob {expected} is damaged: its {size} bytes have the digest {found}")]
    Mismatch {
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        found: Digest,
        /// Its length in bytes.
        size: u64,
    },
    /// A blob has not the length it should have.
    #[error("the blob {digest} is damaged: it has {found} bytes, not {expected}")]
    Length {
        /// The blob.
        digest: Digest,
        /// The length it should have, in bytes.
        expected: u64,
        /// The length it has, in bytes; at least, if it was not read to its end.
        found: u64,
    },
    /// A file could not be written.
    #[error("could not write `{name}`")]
    Write {
        /// Its name in the layout.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A value could not be turned into JSON.
    #[error("could not serialise `{name}`")]
    Serialise {
        /// Its name in the layout.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// A blob's bytes; at their end, `InvalidData` if they have not the length or digest they should have.
#[derive(Debug)]
pub struct BlobReader<R> {
    inner: R,
    check: Check,
    expected: Digest,
    size: u64,
    count: u64,
}

/// What is still to be looked at.
#[derive(Debug)]
enum Check {
    DigestAndLength(Digester),
    Length,
    Done,
}

impl Layout {
    /// Reads a layout at `path`: a folder or an uncompressed tar.
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        Self::from_files(Files::open(path)?)
    }

    /// Reads a layout from an uncompressed tar that is open already.
    pub fn from_file(file: File) -> Result<Self, LayoutError> {
        Self::from_files(Files::of_tar(file)?)
    }

    pub(crate) fn from_files(files: Files) -> Result<Self, LayoutError> {
        check_version(&files)?;
        let name = "index.json";
        let index = files.read(name, DOCUMENT_LIMIT)?;
        let index = serde_json::from_slice(&index);
        let index = index.map_err(|source| LayoutError::Json {
            name: name.to_owned(),
            source,
        })?;
        Ok(Self { files, index })
    }

    /// What `index.json` says.
    pub fn index(&self) -> &ImageIndex {
        &self.index
    }

    /// The images by the names they have, in order; one entry may have no name.
    pub fn images(&self) -> Vec<(Descriptor, Option<Reference>)> {
        let manifests = self.index.manifests().iter();
        manifests
            .map(|descriptor| (descriptor.clone(), index::name_of(descriptor)))
            .collect()
    }

    /// A manifest or index: its bytes, verified, and what they say.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<(Vec<u8>, Manifest), LayoutError> {
        let bytes = self.read_blob(descriptor)?;
        let manifest = parse_manifest(&bytes, descriptor.media_type().as_ref())?;
        Ok((bytes, manifest))
    }

    /// A whole blob of at most [`DOCUMENT_LIMIT`] bytes, verified: a manifest, an index or a config.
    pub fn read_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, LayoutError> {
        let digest = Digest::try_from(descriptor.digest())?;
        let bytes = self.files.read(&blob_name(&digest), DOCUMENT_LIMIT)?;
        let (found, size) = (Digest::of(&bytes), bytes.len() as u64);
        if size != descriptor.size() {
            return Err(LayoutError::Length {
                digest,
                expected: descriptor.size(),
                found: size,
            });
        }
        if found != digest {
            return Err(LayoutError::Mismatch {
                expected: digest,
                found,
                size,
            });
        }
        Ok(bytes)
    }

    /// A blob to be read, verified at its end.
    pub fn open_blob(
        &self,
        descriptor: &Descriptor,
    ) -> Result<BlobReader<Box<dyn Read + Send>>, LayoutError> {
        let digest = Digest::try_from(descriptor.digest())?;
        let (inner, _) = self.files.open_file(&blob_name(&digest))?;
        Ok(BlobReader::new(inner, digest, descriptor.size()))
    }

    /// Whether the blob is there; its bytes aren't looked at.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.files.contains(&blob_name(digest))
    }
}

/// Where a layout has a blob.
pub fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn check_version(files: &Files) -> Result<(), LayoutError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct OciLayout {
        image_layout_version: String,
    }
    let name = "oci-layout";
    let parsed = serde_json::from_slice(&files.read(name, DOCUMENT_LIMIT)?);
    let OciLayout {
        image_layout_version: version,
    } = parsed.map_err(|source| LayoutError::Json {
        name: name.to_owned(),
        source,
    })?;
    match version.starts_with("1.") {
        true => Ok(()),
        false => Err(LayoutError::Version { version }),
    }
}

impl<R: Read> BlobReader<R> {
    /// Verifies what is read from `inner`.
    pub fn new(inner: R, expected: Digest, size: u64) -> Self {
        let check = Check::DigestAndLength(Digester::new());
        Self::checking(inner, check, expected, size)
    }

    /// Verifies the length alone of what is read from `inner`, which verifies the digest itself.
    pub(crate) fn of_vouched(inner: R, expected: Digest, size: u64) -> Self {
        Self::checking(inner, Check::Length, expected, size)
    }

    fn checking(inner: R, check: Check, expected: Digest, size: u64) -> Self {
        Self {
            inner,
            check,
            expected,
            size,
            count: 0,
        }
    }

    fn verify(&mut self) -> io::Result<()> {
        let found = match std::mem::replace(&mut self.check, Check::Done) {
            Check::DigestAndLength(digester) => digester.finish(),
            Check::Length => self.expected,
            Check::Done => return Ok(()),
        };
        let (digest, expected) = (self.expected, self.size);
        let error = match found {
            _ if self.count != expected => LayoutError::Length {
                digest,
                expected,
                found: self.count,
            },
            found if found != digest => LayoutError::Mismatch {
                expected: digest,
                found,
                size: self.count,
            },
            _ => return Ok(()),
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl<R: Read> Read for BlobReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = self.inner.read(buffer)?;
        self.count += read as u64;
        if read == 0 || self.count > self.size {
            self.verify()?;
        } else if let Check::DigestAndLength(digester) = &mut self.check {
            digester.update(&buffer[..read]);
        }
        Ok(read)
    }
}
