//! eStargz: a gzip layer whose files can be fetched one by one (R-MAN-5).
//!
//! The format is containerd's stargz-snapshotter's, `docs/estargz.md`. To readers that don't know it the blob is gzip as any
//! other. Each file's content is a member of its own, and files of more than [`CHUNK`] bytes several. A table of contents
//! says where they are: the last file of the tar, `stargz.index.json`, found by the blob's last 51 bytes. The first
//! file says that nothing shall be fetched ahead. So the tar in the blob has two files more than the layer, and a diff id
//! of its own.
//!
//! As with plain gzip, members are made by several threads and the bytes are the same for any number of them.

mod toc;

use std::cell::RefCell;
use std::io::{self, Read, Write};

use ::tar::EntryType;

use self::toc::Toc;
use super::gzip::member;
use super::ordered::{OrderedWriter, Part};
use crate::tar::{BLOCK, END, Limits, MemberHeader, MemberKind, Members, ReadError, TarSummary};
use crate::{DiffId, Digest, Digester};

/// Most of a file that becomes one member.
const CHUNK: u64 = 1 << 20;

/// Tar headers are collected up to this many bytes before they are written.
const HEADERS: usize = 1 << 20;

/// The table of contents, as a file of the tar.
const TOC_NAME: &[u8] = b"stargz.index.json";

/// The file that says that nothing is to be fetched ahead, and what is in it.
const LANDMARK_NAME: &[u8] = b".no.prefetch.landmark";
const LANDMARK: &[u8] = &[0xf];

/// What says that files before it are to be fetched ahead: kiln knows of none.
const PREFETCH_NAME: &[u8] = b".prefetch.landmark";

/// A blob that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estargz {
    /// The tar that is in it.
    pub tar: TarSummary,
    /// Digest of the table of contents.
    pub toc: Digest,
}

/// Why a layer could not be made an eStargz blob.
#[derive(Debug, thiserror::Error)]
pub enum EstargzError {
    /// The layer's tar.
    #[error("could not read the layer as eStargz")]
    Read(#[from] ReadError),
    /// The blob.
    #[error("could not write the eStargz blob")]
    Output(#[from] io::Error),
}

/// The annotation of a layer with the digest of its table of contents.
pub const TOC_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";

/// The annotation of a layer with the size of its tar in bytes.
pub const UNCOMPRESSED_SIZE: &str = "io.containers.estargz.uncompressed-size";

/// Writes the layer of an uncompressed tar to `out`, at a gzip level of 0 to 9. A table of contents and landmarks that it has
/// already are left out. All of `tar` is read, what follows its end mark too.
pub fn write_estargz<R: Read, W: Write>(
    tar: R,
    level: u32,
    out: W,
) -> Result<(W, Estargz), EstargzError> {
    let recorder = Recorder {
        reader: tar,
        seen: RefCell::default(),
    };
    let mut members = Members::new(recorder, Limits::default().header);
    let mut blob = Blob::new(out, level);
    blob.small_file(LANDMARK_NAME, LANDMARK)?;
    while let Some(member) = members.next()? {
        let headers = members.reader().take();
        let is_left_out = [TOC_NAME, LANDMARK_NAME, PREFETCH_NAME].contains(&clean(&member.name));
        let mut digester = Digester::new();
        if !is_left_out {
            blob.plain(&headers)?;
            blob.toc.add(&member);
        }
        let mut left = member.size;
        while left > 0 {
            let wanted = left.min(CHUNK);
            let read = io::copy(&mut members.by_ref().take(wanted), &mut io::sink());
            read.map_err(|error| members.content_error(error))?;
            let chunk = members.reader().take();
            if !is_left_out {
                digester.update(&chunk);
                blob.chunk(&member.name, chunk, member.size - left, member.size)?;
            }
            left -= wanted;
        }
        members.skip_content()?;
        let padding = members.reader().take();
        if !is_left_out {
            blob.plain(&padding)?;
            if member.kind == MemberKind::File {
                blob.toc.set_digest(digester.finish());
            }
        }
    }
    let mut rest = members.into_inner().reader;
    io::copy(&mut rest, &mut io::sink()).map_err(ReadError::Input)?;
    blob.finish()
}

/// The name without what may stand before it.
fn clean(name: &[u8]) -> &[u8] {
    let name = name.strip_prefix(b"./").unwrap_or(name);
    name.strip_prefix(b"/").unwrap_or(name)
}

/// Keeps what is read, until it is taken.
struct Recorder<R> {
    reader: R,
    seen: RefCell<Vec<u8>>,
}

impl<R> Recorder<R> {
    fn take(&self) -> Vec<u8> {
        self.seen.take()
    }
}

impl<R: Read> Read for Recorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.seen.get_mut().extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

/// The blob as far as it is written.
struct Blob<W: Write> {
    out: OrderedWriter<W>,
    level: u32,
    /// Of the tar that is in the blob.
    digester: Digester,
    size: u64,
    /// Headers and padding that are not written yet.
    headers: Vec<u8>,
    toc: Toc,
}

impl<W: Write> Blob<W> {
    fn new(out: W, level: u32) -> Self {
        Self {
            out: OrderedWriter::new(out),
            level,
            digester: Digester::new(),
            size: 0,
            headers: Vec::new(),
            toc: Toc::default(),
        }
    }

    /// Adds what is no content of a file.
    fn plain(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.count(bytes);
        self.headers.extend_from_slice(bytes);
        match self.headers.len() {
            HEADERS.. => self.write_headers(),
            _ => Ok(()),
        }
    }

    /// Adds the next bytes of a file, `from` bytes from its start, of `size` in all.
    fn chunk(&mut self, name: &[u8], bytes: Vec<u8>, from: u64, size: u64) -> io::Result<()> {
        self.write_headers()?;
        self.count(&bytes);
        let digest = Digest::of(&bytes);
        self.toc
            .add_chunk(name, from, bytes.len() as u64, size, digest);
        self.submit(bytes, true)
    }

    /// Adds a file of the format's own.
    fn small_file(&mut self, name: &[u8], content: &[u8]) -> io::Result<()> {
        let header = own_header(name, content.len());
        self.plain(&header)?;
        self.toc.add_own(name, content);
        self.chunk(name, content.to_vec(), 0, content.len() as u64)?;
        self.toc.set_digest(Digest::of(content));
        self.plain(&END[..content.len().next_multiple_of(BLOCK) - content.len()])
    }

    fn write_headers(&mut self) -> io::Result<()> {
        let headers = std::mem::take(&mut self.headers);
        match headers.is_empty() {
            true => Ok(()),
            false => self.submit(headers, false),
        }
    }

    fn submit(&mut self, bytes: Vec<u8>, noted: bool) -> io::Result<()> {
        let level = self.level;
        self.out.submit(move || Part {
            bytes: member(&bytes, level),
            noted,
        })
    }

    fn count(&mut self, bytes: &[u8]) {
        self.digester.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Adds the table of contents and the end.
    fn finish(mut self) -> Result<(W, Estargz), EstargzError> {
        self.write_headers()?;
        self.out.drain()?;
        let offset = self.out.written();
        let json = std::mem::take(&mut self.toc).into_json(self.out.starts());
        let toc = Digest::of(&json);
        let mut last = own_header(TOC_NAME, json.len());
        last.extend_from_slice(&json);
        last.resize(last.len().next_multiple_of(BLOCK), 0);
        last.extend_from_slice(&END);
        drop(json);
        self.count(&last);
        self.submit(last, false)?;
        self.out.submit(move || Part {
            bytes: footer(offset),
            noted: false,
        })?;
        let written = Estargz {
            tar: TarSummary {
                diff_id: DiffId(self.digester.finish()),
                size: self.size,
            },
            toc,
        };
        Ok((self.out.finish()?, written))
    }
}

/// The header of a file that only the format has.
fn own_header(name: &[u8], size: usize) -> Vec<u8> {
    let header = MemberHeader {
        size: size as u64,
        ..MemberHeader::new(name, EntryType::Regular, 0o444)
    };
    header.to_bytes()
}

/// An empty gzip member of 51 bytes whose extra field says where the table of contents is.
fn footer(toc: u64) -> Vec<u8> {
    let subfield = format!("{toc:016x}STARGZ");
    let mut bytes = vec![
        0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0, b'S', b'G', 22, 0,
    ];
    bytes.extend_from_slice(subfield.as_bytes());
    // A last, stored block of no bytes; then check sum and length, both zero.
    bytes.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

#[cfg(test)]
mod tests;
