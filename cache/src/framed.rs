//! Small files that know when they are damaged: the digest of the rest is in front.
//!
//! Written without a sync, so a power loss may tear them. Reading one that is torn, cut short or written by a
//! kiln that frames differently gives [`Framed::Damaged`], which its readers treat as a miss.

use std::path::Path;

use kiln_image::Digest;

use crate::records::touch;
use crate::store::read_file;
use crate::{Store, StoreError};

/// In front of the digest; changes with the framing.
const MAGIC: &[u8; 4] = b"kln1";

/// What was found of a framed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Framed {
    /// The bytes that were written.
    Whole(Vec<u8>),
    /// No file.
    Absent,
    /// A file that can't be read, or whose digest is wrong.
    Damaged,
}

/// Writes `body` with its digest in front; it appears whole, or what was there stays.
pub(crate) fn write(store: &Store, path: &Path, body: &[u8]) -> Result<(), StoreError> {
    let digest = Digest::of(body);
    store.renew_file(path, &[MAGIC, digest.as_bytes(), body])
}

/// As [`write`], but if just that is there it only gets a new time: to replace a file costs ten times as much.
pub(crate) fn keep(store: &Store, path: &Path, body: &[u8]) -> Result<(), StoreError> {
    if read(path).whole().is_some_and(|found| found == body) {
        touch(path);
        return Ok(());
    }
    write(store, path, body)
}

/// Reads what [`write`] wrote.
pub(crate) fn read(path: &Path) -> Framed {
    match read_file(path) {
        Ok(Some(bytes)) => unframe(bytes),
        Ok(None) => Framed::Absent,
        Err(_) => Framed::Damaged,
    }
}

fn unframe(mut bytes: Vec<u8>) -> Framed {
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Framed::Damaged;
    };
    match rest.split_first_chunk::<32>() {
        Some((digest, body)) if Digest::of(body).as_bytes() == digest => {
            bytes.drain(..MAGIC.len() + 32);
            Framed::Whole(bytes)
        }
        _ => Framed::Damaged,
    }
}

impl Framed {
    /// The bytes, unless absent or damaged.
    pub(crate) fn whole(self) -> Option<Vec<u8>> {
        match self {
            Self::Whole(bytes) => Some(bytes),
            Self::Absent | Self::Damaged => None,
        }
    }
}
