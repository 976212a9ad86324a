//! Content by digest: configs, manifests, compressed layers.
//!
//! What goes in is hashed while it is written and gets its name only when it is whole and, where the caller knows
//! what it should be, right. What comes out is hashed while it is read: a reader that got to the end without an
//! error has read the true bytes. A large file that this process has written, and that nobody has touched since, is not hashed again.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;

use kiln_image::{Digest, DigestReader, DigestWriter};

use crate::checksum::FileStat;
use crate::inventory::PartName;
use crate::store::{read_file, sync_parent};
use crate::tmp::{TmpPath, remove_all};
use crate::{Store, StoreError};

/// The store's blobs.
#[derive(Debug, Clone, Copy)]
pub struct Cas<'s> {
    store: &'s Store,
}

/// A blob being written. Dropped without [`BlobWriter::commit`], nothing is left of it.
#[derive(Debug)]
pub struct BlobWriter<'s> {
    store: &'s Store,
    tmp: TmpPath,
    out: DigestWriter<BufWriter<File>>,
}

/// A file whose digest is known, being read. Reading to the end fails with [`io::ErrorKind::InvalidData`] and a
/// [`StoreError::Corrupt`] inside if the bytes are not the ones asked for; that file is then out of the store.
#[derive(Debug)]
pub struct VerifiedReader {
    inner: Option<Reading>,
    path: PathBuf,
    expected: Digest,
    size: u64,
}

/// A file on its way to its end.
#[derive(Debug)]
enum Reading {
    /// It is hashed.
    Hashed(DigestReader<File>),
    /// It is as this process has written it.
    AsWritten(File),
}

/// From this size on, in bytes, it is remembered that a blob was written here.
const LARGE: u64 = 1 << 20;

impl<'s> Cas<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self { store }
    }

    /// Where a blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.store.dir("blobs/sha256").join(digest.hex())
    }

    /// Whether there is a blob of this name. Its bytes are verified when they are read.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.size(digest).is_some()
    }

    /// A blob's size in bytes.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        self.store.rely_on(PartName::Blob(*digest));
        let metadata = fs::symlink_metadata(self.path(digest)).ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// Opens a blob for reading from its start to its end.
    pub fn open(&self, digest: &Digest) -> Result<VerifiedReader, StoreError> {
        self.store.rely_on(PartName::Blob(*digest));
        let written = self.store.written_blob(digest);
        VerifiedReader::open_known(self.path(digest), *digest, written)?
            .ok_or(StoreError::BlobMissing { digest: *digest })
    }

    /// A whole blob of at most `limit` bytes.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let mut reader = self.open(digest)?;
        if reader.size() > limit {
            return Err(StoreError::BlobTooLarge {
                digest: *digest,
                size: reader.size(),
                limit,
            });
        }
        let mut bytes = Vec::new();
        let path = self.path(digest);
        match reader.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(corrupt_or_io(error, path)),
        }
    }

    /// Begins a blob.
    pub fn writer(&self) -> Result<BlobWriter<'s>, StoreError> {
        let tmp = self.store.tmp_path()?;
        let out = DigestWriter::new(BufWriter::with_capacity(128 * 1024, tmp.create_file()?));
        Ok(BlobWriter {
            store: self.store,
            tmp,
            out,
        })
    }

    /// Stores bytes at hand.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.path(&digest);
        // Small files are compared rather than trusted: this is the moment to repair a damaged one.
        if self.size(&digest) == Some(bytes.len() as u64)
            && read_file(&path)?.is_some_and(|stored| stored == bytes)
        {
            return Ok(digest);
        }
        self.store.write_durably(&[(&path, bytes)])?;
        Ok(digest)
    }

    /// Removes a blob, if there is one. Only while the store is held alone: see [`crate::gc`].
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// All blobs with their sizes in bytes, in no order.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>, StoreError> {
        let directory = self.store.dir("blobs/sha256");
        let entries = fs::read_dir(&directory).map_err(StoreError::io("list", &directory))?;
        let named = entries.flatten().filter_map(|entry| {
            let digest = Digest::from_hex(entry.file_name().to_str()?).ok()?;
            Some((digest, entry.metadata().ok()?.len()))
        });
        Ok(named.collect())
    }
}

impl BlobWriter<'_> {
    /// How many bytes were written.
    pub fn count(&self) -> u64 {
        self.out.count()
    }

    /// Ends the blob and gives it its name; also returns its size in bytes. With `expected`, other bytes are refused
    /// and nothing is left of them.
    pub fn commit(self, expected: Option<Digest>) -> Result<(Digest, u64), StoreError> {
        let path = self.tmp.as_path().to_owned();
        let (buffered, digest, size) = self.out.finish();
        let file = buffered
            .into_inner()
            .map_err(|failed| StoreError::io("write", &path)(failed.into_error()))?;
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(StoreError::Corrupt {
                path,
                expected,
                found: digest,
            });
        }
        file.sync_data().map_err(StoreError::io("sync", &path))?;
        self.store.note_growth();
        self.store.rely_on(PartName::Blob(digest));
        let to = self.store.cas().path(&digest);
        self.tmp.publish(&to)?;
        sync_parent(&to)?;
        if size >= LARGE
            && let Ok(metadata) = file.metadata()
        {
            self.store.note_written_blob(digest, (&metadata).into());
        }
        Ok((digest, size))
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl VerifiedReader {
    /// Opens a file of the store that should have this digest; `None` if there is none.
    pub(crate) fn open(path: PathBuf, expected: Digest) -> Result<Option<Self>, StoreError> {
        Self::open_known(path, expected, None)
    }

    /// The same, where it is known what the file with these bytes is.
    fn open_known(
        path: PathBuf,
        expected: Digest,
        written: Option<FileStat>,
    ) -> Result<Option<Self>, StoreError> {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("open", path)(error)),
        };
        let metadata = file.metadata().map_err(StoreError::io("read", &path))?;
        let is_as_written = written.is_some_and(|written| written == (&metadata).into());
        let reading = match is_as_written {
            true => Reading::AsWritten(file),
            false => Reading::Hashed(DigestReader::new(file)),
        };
        Ok(Some(Self {
            inner: Some(reading),
            path,
            expected,
            size: metadata.len(),
        }))
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn verify(&mut self) -> io::Result<()> {
        let Some(Reading::Hashed(reader)) = self.inner.take() else {
            return Ok(());
        };
        let (_, found, _) = reader.finish();
        if found == self.expected {
            return Ok(());
        }
        remove_all(&self.path);
        let corrupt = StoreError::Corrupt {
            path: self.path.clone(),
            expected: self.expected,
            found,
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, corrupt))
    }
}

impl Read for VerifiedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.inner {
            Some(Reading::Hashed(reader)) => reader.read(buffer)?,
            Some(Reading::AsWritten(file)) => file.read(buffer)?,
            None => return Ok(0),
        };
        if read == 0 && !buffer.is_empty() {
            self.verify()?;
        }
        Ok(read)
    }
}

fn corrupt_or_io(error: io::Error, path: PathBuf) -> StoreError {
    match error.downcast::<StoreError>() {
        Ok(corrupt) => corrupt,
        Err(error) => StoreError::io("read", path)(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::testing::store;

    #[test]
    fn what_goes_in_comes_out() {
        let (_dir, store) = store();
        let mut writer = store.cas().writer().unwrap();
        writer.write_all(b"hello ").unwrap();
        writer.write_all(b"world").unwrap();
        let digest = Digest::of(b"hello world");
        assert_eq!(writer.commit(Some(digest)).unwrap(), (digest, 11));
        assert_eq!(store.cas().size(&digest), Some(11));
        assert_eq!(store.cas().read(&digest, 11).unwrap(), b"hello world");
        assert_eq!(store.cas().put(b"hello world").unwrap(), digest);
        assert_eq!(store.cas().list().unwrap(), [(digest, 11)]);
        store.cas().remove(&digest).unwrap();
        store.cas().remove(&digest).unwrap();
        assert!(!store.cas().contains(&digest));
        let missing = store.cas().open(&digest);
        assert!(matches!(missing, Err(StoreError::BlobMissing { .. })));
    }

    #[test]
    fn a_blob_is_not_there_before_it_is_committed() {
        let (_dir, store) = store();
        let digest = Digest::of(b"x");
        let mut writer = store.cas().writer().unwrap();
        writer.write_all(b"x").unwrap();
        writer.flush().unwrap();
        assert!(!store.cas().contains(&digest));
        drop(writer);
        assert!(!store.cas().contains(&digest));
    }

    #[test]
    fn other_bytes_than_expected_are_refused() {
        let (_dir, store) = store();
        let mut writer = store.cas().writer().unwrap();
        writer.write_all(b"evil").unwrap();
        let refused = writer.commit(Some(Digest::of(b"good")));
        assert!(matches!(refused, Err(StoreError::Corrupt { .. })));
        assert!(store.cas().list().unwrap().is_empty());
    }

    #[test]
    fn a_corrupt_blob_is_an_error_once_and_missing_after() {
        let (_dir, store) = store();
        let digest = store.cas().put(b"good").unwrap();
        std::fs::write(store.cas().path(&digest), b"evil").unwrap();
        let corrupt = store.cas().read(&digest, 100).unwrap_err();
        assert!(matches!(corrupt, StoreError::Corrupt { .. }), "{corrupt:?}");
        assert!(corrupt.help().is_some());
        assert!(!store.cas().contains(&digest));
    }

    #[test]
    fn a_large_blob_that_was_written_here_is_hashed_once_more_when_it_was_touched() {
        let (_dir, store) = store();
        let bytes = vec![7; LARGE as usize];
        let mut writer = store.cas().writer().unwrap();
        writer.write_all(&bytes).unwrap();
        let (digest, _) = writer.commit(None).unwrap();
        let is_hashed = || {
            let reader = store.cas().open(&digest).unwrap();
            matches!(reader.inner, Some(Reading::Hashed(_)))
        };
        assert!(!is_hashed());
        assert_eq!(store.cas().read(&digest, LARGE).unwrap(), bytes);
        let file = File::options()
            .write(true)
            .open(store.cas().path(&digest))
            .unwrap();
        file.set_len(LARGE - 1).unwrap();
        assert!(is_hashed());
        assert!(store.cas().read(&digest, LARGE).is_err());
        let other = Store::open(store.root()).unwrap();
        store.cas().put(&bytes).unwrap();
        assert!(matches!(
            other.cas().open(&digest).unwrap().inner,
            Some(Reading::Hashed(_))
        ));
    }

    #[test]
    fn a_cut_blob_fails_while_it_is_streamed() {
        let (_dir, store) = store();
        let digest = store.cas().put(b"a longer text").unwrap();
        std::fs::write(store.cas().path(&digest), b"a longer").unwrap();
        let mut reader = store.cas().open(&digest).unwrap();
        let failed = io::copy(&mut reader, &mut io::sink()).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn putting_a_blob_repairs_it() {
        let (_dir, store) = store();
        let digest = store.cas().put(b"good").unwrap();
        std::fs::write(store.cas().path(&digest), b"evil").unwrap();
        store.cas().put(b"good").unwrap();
        assert_eq!(store.cas().read(&digest, 4).unwrap(), b"good");
    }

    #[test]
    fn a_large_blob_is_not_read_into_memory() {
        let (_dir, store) = store();
        let digest = store.cas().put(b"12345").unwrap();
        let refused = store.cas().read(&digest, 4);
        assert!(matches!(
            refused,
            Err(StoreError::BlobTooLarge { size: 5, .. })
        ));
    }

    #[test]
    fn many_threads_commit_the_same_blob() {
        let (_dir, store) = store();
        let digest = Digest::of(b"same");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    // Each as a process of its own would.
                    let store = Store::open(store.root()).unwrap();
                    let mut writer = store.cas().writer().unwrap();
                    writer.write_all(b"same").unwrap();
                    assert_eq!(writer.commit(Some(digest)).unwrap().0, digest);
                    assert_eq!(store.cas().read(&digest, 4).unwrap(), b"same");
                });
            }
        });
    }
}
