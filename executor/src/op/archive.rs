//! Archives among ADD's sources: told by their content, and read once (R-ADD-2).
//!
//! An archive is not unpacked to files: a layer is made of its members' metadata, which needs no privileges to keep in
//! memory, and of their contents, which go one after the other into a single file of the store's temporary directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;

use kiln_cache::{ScratchDir, Store};
use kiln_image::compress::{BoundedDecoder, decoder};
use kiln_image::tar::{ArchiveError, ArchiveMember, Limits, is_archive, read_archive};
use kiln_image::{DigestReader, ImagePath, Kind, Node};

use super::file::Archives;
use crate::error::Cause;
use crate::event::Task;
use crate::layers::is_another_file;

/// How often progress is told, in bytes of the archive.
const TELL_EVERY: u64 = 4 << 20;

/// Members of an archive are held in memory, so there is an end to them.
const MOST_MEMBERS: u64 = 2_000_000;

/// The archives of one ADD, by input and path.
#[derive(Debug, Default)]
pub(crate) struct Unpacked(BTreeMap<(usize, ImagePath), Archive>);

#[derive(Debug)]
struct Archive {
    members: Vec<ArchiveMember>,
    contents: File,
    /// Where the contents are, kept until they are not needed any more.
    _place: ScratchDir,
}

impl Unpacked {
    /// Reads the file at `path` if it is an archive; `open` opens it, and `node` is what the cache's key is over.
    pub(crate) fn read<R: Read>(
        &mut self,
        input: usize,
        path: &ImagePath,
        node: &Node,
        open: impl Fn() -> io::Result<R>,
        store: &Store,
        task: &Task<'_>,
    ) -> Result<(), Cause> {
        let Kind::File { size, digest, .. } = node.kind else {
            return Ok(());
        };
        let key = (input, path.clone());
        if size == 0 || self.0.contains_key(&key) {
            return Ok(());
        }
        let failed = || Cause::file("read", path.to_string());
        let open = || open().map_err(|error| unopened(path, error));
        if !looks_like_archive(open()?) {
            return Ok(());
        }
        let told = Progress {
            inner: DigestReader::new(open()?),
            task,
            part: path.to_string(),
            total: size,
            next: 0,
        };
        let mut plain = BoundedDecoder::new(told).map_err(failed())?;
        let archive = Archive::read(&mut plain, path, store);
        // Also what is after its end belongs to what the key is over.
        let mut rest = plain.into_inner();
        io::copy(&mut rest, &mut io::sink()).map_err(failed())?;
        let (_, found, length) = rest.inner.finish();
        if (found, length) != (digest, size) {
            return Err(Cause::ContextChanged {
                path: path.to_string(),
            });
        }
        self.0.insert(key, archive?);
        Ok(())
    }

    /// What the archives hold.
    pub(crate) fn members(&self) -> Archives<'_> {
        let archives = self.0.iter();
        archives
            .map(|(key, archive)| (key.clone(), &archive.members[..]))
            .collect()
    }

    /// The content of the regular file `node`, which starts at `start` among those of the archive at `path`.
    pub(crate) fn open(
        &self,
        input: usize,
        path: &ImagePath,
        start: u64,
        node: &Node,
    ) -> io::Result<Box<dyn Read + '_>> {
        let Kind::File { size, .. } = node.kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let archive = self.0.get(&(input, path.clone()));
        let file = &archive.ok_or(io::ErrorKind::NotFound)?.contents;
        Ok(Box::new(Contents { file, at: start }.take(size)))
    }
}

/// Something else in the place of a file was put there after the context was listed.
fn unopened(path: &ImagePath, error: io::Error) -> Cause {
    match is_another_file(&error) {
        true => Cause::ContextChanged {
            path: path.to_string(),
        },
        false => Cause::file("read", path.to_string())(error),
    }
}

impl Archive {
    fn read(plain: impl Read, path: &ImagePath, store: &Store) -> Result<Self, Cause> {
        let limits = Limits {
            entries: MOST_MEMBERS,
            ..Limits::default()
        };
        let place = store.scratch_dir()?;
        let name = place.path().join("contents");
        let file = File::create_new(&name).map_err(Cause::file("make", &name))?;
        let mut contents = BufWriter::with_capacity(256 << 10, file);
        let members = read_archive(plain, &limits, &mut contents).map_err(|error| match error {
            ArchiveError::Read(source) => Cause::Archive {
                path: path.clone(),
                source,
            },
            ArchiveError::Write(source) => Cause::file("write", &name)(source),
        })?;
        contents.flush().map_err(Cause::file("write", &name))?;
        drop(contents);
        let contents = File::open(&name).map_err(Cause::file("read", &name))?;
        Ok(Archive {
            members,
            contents,
            _place: place,
        })
    }
}

/// Whether a file is a tar, as it is or compressed. What can't be decompressed is none.
fn looks_like_archive(reader: impl Read) -> bool {
    decoder(reader).is_ok_and(is_archive)
}

/// Contents from some place on; several readers of one file don't disturb each other.
pub(crate) struct Contents<'a> {
    pub(crate) file: &'a File,
    /// Where to read next, in bytes.
    pub(crate) at: u64,
}

impl Read for Contents<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Hashes what is read and tells how far it has come.
struct Progress<'a, R> {
    inner: DigestReader<R>,
    task: &'a Task<'a>,
    part: String,
    total: u64,
    /// When to tell next, in bytes.
    next: u64,
}

impl<R: Read> Read for Progress<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let done = self.inner.count();
        if self.total > TELL_EVERY && (done >= self.next || done == self.total) {
            self.task.progress(&self.part, done, Some(self.total));
            self.next = done + TELL_EVERY;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kiln_image::compress::{Compression, encoder};

    use super::*;

    fn packed(plain: &[u8], compression: Compression) -> Vec<u8> {
        let mut encoder = encoder(compression, Vec::new()).unwrap();
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn archives_are_told_by_content() {
        // R-ADD-2
        let mut header = [0; 512];
        header[..4].copy_from_slice(b"name");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let compressions = [
            Compression::None,
            Compression::default(),
            Compression::Zstd { level: 3 },
        ];
        for compression in compressions {
            assert!(looks_like_archive(&packed(&header, compression)[..]));
            for other in [&b"text"[..], b"", &[0; 2048]] {
                assert!(!looks_like_archive(&packed(other, compression)[..]));
            }
        }
        assert!(!looks_like_archive(&b"\x1f\x8b\x08 broken"[..]));
        assert!(!looks_like_archive(&b"\xfd7zXZ\0 broken"[..]));
        assert!(!looks_like_archive(&b"BZh91AY&SY broken"[..]));
        assert!(!looks_like_archive(&b"PK\x03\x04 is never unpacked"[..]));
    }
}
