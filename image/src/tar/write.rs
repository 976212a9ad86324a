//! A changeset written as a layer tar.
//!
//! The bytes are a pure function of the changeset and the files' contents. The entries come in the
//! changeset's own order, which is a layer's (R-LAY-2); a file's content is hashed while it goes by, once, and
//! held against what the changeset says, so a tar whose diff id is known never holds anything else than what
//! the changeset describes.
//!
//! Opening and hashing many files is what takes the time, so a large layer is cut into runs of entries that several
//! threads turn into bytes; they are put together in order ([`pipeline`]). A small one needs no thread.

mod encode;
mod pipeline;
mod places;

use std::collections::HashMap;
use std::io::{self, Write};

pub use self::places::TarContents;

use self::encode::{Attributes, Encoder, Member};
use super::TarSummary;
use super::read::UNKNOWN;
use crate::contents::Contents;
use crate::scan::Draft;
use crate::{Change, Changeset, Digest, ImagePath, Kind};

/// Why a layer tar could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file is not what the changeset says it is.
    #[error("`{path}` changed while it was read: expected {expected}, found {found}")]
    ContentChanged {
        /// The file.
        path: ImagePath,
        /// What the changeset says.
        expected: String,
        /// What was read.
        found: String,
    },
    /// A file could not be opened or read.
    #[error("could not read `{path}`")]
    Content {
        /// The file.
        path: ImagePath,
        /// Why.
        source: io::Error,
    },
    /// The tar could not be written.
    #[error("could not write the layer tar")]
    Output(#[source] io::Error),
    /// An opaque directory: layers say what is gone name by name (R-LAY-4), which takes the tree below.
    #[error("`{path}` is an opaque directory, which a layer tar has no entry for")]
    Opaque {
        /// The directory.
        path: ImagePath,
    },
}

/// Writes the tar of a changeset whose file digests are known, verifying each file against them.
///
/// The changeset must be normalised ([`Changeset::normalise`]): with parents, without opaque directories.
pub fn write_layer(
    changeset: &Changeset,
    contents: &dyn Contents,
    out: impl Write,
) -> Result<TarSummary, WriteError> {
    write_with(Attributes::OfLayers, changeset, contents, out)
}

/// Writes the tar of a whole root filesystem, which has all extended attributes that its files have.
pub fn write_root_filesystem(
    changeset: &Changeset,
    contents: &dyn Contents,
    out: impl Write,
) -> Result<TarSummary, WriteError> {
    write_with(Attributes::All, changeset, contents, out)
}

fn write_with(
    attributes: Attributes,
    changeset: &Changeset,
    contents: &dyn Contents,
    out: impl Write,
) -> Result<TarSummary, WriteError> {
    let encoder = Encoder {
        members: members(changeset),
        contents,
        attributes,
    };
    Ok(pipeline::write(&encoder, out)?.summary)
}

/// Writes the tar of a changeset some of whose file digests are not known, and fills those in: each file is read
/// once, for its digest and for the tar. To learn only the digests and the diff id, write to [`io::sink`].
pub fn write_draft(
    draft: Draft,
    contents: &dyn Contents,
    out: impl Write,
) -> Result<(Changeset, TarSummary), WriteError> {
    let mut changes = draft.into_changes();
    let encoder = Encoder {
        members: members(&changes),
        contents,
        attributes: Attributes::OfLayers,
    };
    let written = pipeline::write(&encoder, out)?;
    let digests = encoder.digests(&written.digests);
    for (change, found) in changes.values_mut().zip(digests) {
        if let (Some(found), Change::Put(node)) = (found, change)
            && let Kind::File { digest, .. } = &mut node.kind
        {
            *digest = found;
        }
    }
    Ok((Changeset::from_sorted(changes), written.summary))
}

/// The entries in order, each name of a hard-linked object but the first with the position of that one.
fn members<'a>(changes: impl IntoIterator<Item = (&'a ImagePath, &'a Change)>) -> Vec<Member<'a>> {
    let mut first_names: HashMap<u64, usize> = HashMap::new();
    let member = |(position, (path, change)): (usize, (&'a ImagePath, &'a Change))| {
        let first = link_of(change).map(|link| *first_names.entry(link).or_insert(position));
        Member {
            path,
            change,
            first: first.filter(|first| *first != position),
        }
    };
    changes.into_iter().enumerate().map(member).collect()
}

fn link_of(change: &Change) -> Option<u64> {
    match change {
        Change::Put(node) => node.link,
        Change::Opaque(_) | Change::Remove => None,
    }
}

/// The digest a file should have; `None` where it isn't known.
fn expected(digest: Digest) -> Option<Digest> {
    (digest != UNKNOWN).then_some(digest)
}
