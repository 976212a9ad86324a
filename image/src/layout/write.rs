//! Layouts written: as a tar to any writer, or as a folder.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ::tar::EntryType;

use super::{BlobReader, LayoutError, ahead, blob_name};
use crate::Digest;
use crate::tar::{END, MemberHeader};

/// The whole of the file that says a folder or tar is a layout.
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Bytes that are read at a time.
const PIECE: usize = 128 << 10;

/// A blob that can be opened when its turn comes.
pub struct Blob<'a> {
    /// What its bytes must have.
    pub digest: Digest,
    /// How many they must be.
    pub size: u64,
    /// Whether what `open` gives fails by itself where the digest is another, so that nobody has to hash it again.
    pub is_vouched: bool,
    /// Gives the bytes; called once.
    pub open: Box<dyn Fn() -> io::Result<Box<dyn Read + Send + 'a>> + 'a>,
}

/// Everything a layout is made of.
#[derive(Debug)]
pub struct LayoutContent<'a> {
    /// The bytes of `index.json`, from [`super::index_json`].
    pub index: Vec<u8>,
    /// The bytes of `manifest.json`, which `docker load` wants (R-EXPORT-1), from
    /// [`crate::archive::docker_manifest_json`].
    pub docker_manifest: Option<Vec<u8>>,
    /// All blobs: manifests, configs, layers. In any order; one that is there twice is written once.
    pub blobs: Vec<Blob<'a>>,
    /// The time of the members of a tar, in seconds since the epoch (R-SDE-2).
    pub mtime: i64,
}

/// Writes a layout as a tar, its members sorted (R-EXPORT-2), and gives the writer back, flushed.
pub fn write_tar<W: Write>(content: &LayoutContent<'_>, out: W) -> Result<W, LayoutError> {
    let mut tar = TarWriter {
        out: BufWriter::with_capacity(PIECE, out),
        mtime: content.mtime,
    };
    tar.header("blobs/", EntryType::Directory, 0o755, 0)?;
    tar.header("blobs/sha256/", EntryType::Directory, 0o755, 0)?;
    for blob in content.sorted() {
        tar.file(
            &blob_name(&blob.digest),
            0o444,
            blob.size,
            &mut blob.reader()?,
        )?;
    }
    for (name, bytes) in content.documents() {
        tar.file(name, 0o644, bytes.len() as u64, &mut &bytes[..])?;
    }
    tar.finish()
}

/// Writes a layout as a folder, made if it isn't there. A blob appears only when it is whole and verified, and
/// `index.json` only when all of them are.
pub fn write_directory(content: &LayoutContent<'_>, folder: &Path) -> Result<(), LayoutError> {
    let failed = |name: &str| {
        let name = name.to_owned();
        move |source| LayoutError::Write { name, source }
    };
    fs::create_dir_all(folder.join("blobs/sha256")).map_err(failed("blobs/sha256"))?;
    for blob in content.sorted() {
        let name = blob_name(&blob.digest);
        let mut reader = blob.reader()?;
        put_file(&folder.join(&name), 0o444, &mut reader)
            .map_err(|error| blob_error(&name, error))?;
    }
    // `index.json` comes first in a tar, and last here.
    for (name, bytes) in content.documents().into_iter().rev() {
        put_file(&folder.join(name), 0o644, &mut &bytes[..]).map_err(failed(name))?;
    }
    Ok(())
}

/// Writes a file beside its place, then moves it there.
fn put_file(path: &Path, mode: u32, content: &mut dyn Read) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let write = || {
        let mut file = File::create(partial)?;
        io::copy(&mut BufReader::with_capacity(PIECE, content), &mut file)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        fs::rename(partial, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(partial)))
}

/// A blob that turned out damaged is reported as such, not as a failed write.
fn blob_error(name: &str, error: io::Error) -> LayoutError {
    match error.downcast::<LayoutError>() {
        Ok(damaged) => damaged,
        Err(source) => LayoutError::Write {
            name: name.to_owned(),
            source,
        },
    }
}

impl<'a> LayoutContent<'a> {
    fn sorted(&self) -> impl Iterator<Item = &Blob<'a>> {
        let by_digest: BTreeMap<Digest, &Blob<'a>> =
            self.blobs.iter().map(|blob| (blob.digest, blob)).collect();
        by_digest.into_values()
    }

    /// The other files, sorted.
    fn documents(&self) -> Vec<(&'static str, &[u8])> {
        let docker = self
            .docker_manifest
            .as_deref()
            .map(|bytes| ("manifest.json", bytes));
        let ends = ("index.json", self.index.as_slice());
        [Some(ends), docker, Some(("oci-layout", OCI_LAYOUT))]
            .into_iter()
            .flatten()
            .collect()
    }
}

impl<'a> Blob<'a> {
    /// A blob held in memory, such as a manifest.
    pub fn of_bytes(bytes: &'a [u8]) -> Self {
        let open = move || -> io::Result<Box<dyn Read + Send + 'a>> { Ok(Box::new(bytes)) };
        Self {
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            is_vouched: true,
            open: Box::new(open),
        }
    }

    fn reader(&self) -> Result<BlobReader<Box<dyn Read + Send + 'a>>, LayoutError> {
        let name = || blob_name(&self.digest);
        let opened = (self.open)().map_err(|source| LayoutError::Read {
            name: name(),
            source,
        })?;
        Ok(match self.is_vouched {
            true => BlobReader::of_vouched(opened, self.digest, self.size),
            false => BlobReader::new(opened, self.digest, self.size),
        })
    }
}

impl fmt::Debug for Blob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { digest, size, .. } = self;
        f.debug_struct("Blob")
            .field("digest", digest)
            .field("size", size)
            .finish_non_exhaustive()
    }
}

struct TarWriter<W: Write> {
    out: BufWriter<W>,
    mtime: i64,
}

impl<W: Write> TarWriter<W> {
    fn header(
        &mut self,
        name: &str,
        kind: EntryType,
        mode: u32,
        size: u64,
    ) -> Result<(), LayoutError> {
        let header = MemberHeader {
            size,
            mtime: self.mtime,
            ..MemberHeader::new(name.as_bytes(), kind, mode)
        };
        let written = self.out.write_all(&header.to_bytes());
        written.map_err(|source| LayoutError::Write {
            name: name.to_owned(),
            source,
        })
    }

    /// Writes a file whose content is verified, length included, by the time it ends.
    fn file(
        &mut self,
        name: &str,
        mode: u32,
        size: u64,
        content: &mut (dyn Read + Send),
    ) -> Result<(), LayoutError> {
        self.header(name, EntryType::Regular, mode, size)?;
        ahead::copy(content, size, &mut self.out).map_err(|error| blob_error(name, error))?;
        let padding = (size.next_multiple_of(512) - size) as usize;
        let written = self.out.write_all(&END[..padding]);
        written.map_err(|source| LayoutError::Write {
            name: name.to_owned(),
            source,
        })
    }

    fn finish(mut self) -> Result<W, LayoutError> {
        let failed = |source| LayoutError::Write {
            name: "the end of the archive".to_owned(),
            source,
        };
        self.out.write_all(&END).map_err(failed)?;
        let mut out = self
            .out
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        out.flush().map_err(failed)?;
        Ok(out)
    }
}
