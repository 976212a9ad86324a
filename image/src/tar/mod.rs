//! Layer tars: changesets written as, read from and applied from tar streams (R-LAY-1..13).
//!
//! Writing is a pure function of the changeset and the files' contents: the same ones give the same bytes, on
//! any machine, as any user. Reading trusts nothing: names, sizes, links and whiteouts may be hostile, and
//! what can't be understood safely is refused by name. Everything streams; no file is ever held in memory.
//!
//! - [`write_layer`] and [`write_draft`]: changeset to tar. The second also finds out the files' digests.
//! - [`TarContents`]: the files in such a tar, without unpacking it.
//! - [`read_layer`]: tar to changeset; a [`Sink`] sees each entry as it goes by.
//! - [`unpack`]: tar to changeset and to files below a directory, in one pass.
//! - [`apply_changeset`]: changeset and contents to files below a directory.
//! - [`read_archive`]: any tar to its members, for ADD, to which they are no layer.

mod apply;
mod extract;
mod header;
mod member;
mod read;
mod sparse;
mod write;

pub use apply::{
    ApplyError, Devices, Owners, UnpackOptions, Unpacker, Whiteouts, add_attributes,
    apply_changeset, hides_all_below, unpack,
};
pub use extract::{ArchiveError, ArchiveMember, is_archive, read_archive};
pub use read::{Limits, Nothing, ReadError, Sink, read_layer};
pub use write::{TarContents, WriteError, write_draft, write_layer, write_root_filesystem};

pub(crate) use header::{BLOCK, END, MemberHeader};
pub(crate) use member::{Member, MemberKind, Members};
pub(crate) use read::{UNKNOWN, number_links};

use crate::DiffId;

/// The identity of a layer's uncompressed tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TarSummary {
    /// Digest of the whole stream.
    pub diff_id: DiffId,
    /// Length of the whole stream in bytes.
    pub size: u64,
}

/// The name of a whiteout is this followed by the name it removes (R-LAY-3).
pub(crate) const WHITEOUT: &[u8] = b".wh.";

/// The only extended attribute that layers have (R-LAY-9).
pub(crate) const CAPABILITY: &[u8] = b"security.capability";

/// The file that makes its directory opaque (R-LAY-4).
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

/// Whether an extended attribute is overlayfs's own bookkeeping, or ours. It never comes out of a tree nor gets in: a
/// layer that could set one could hide what is below it in ways its changeset doesn't show.
pub(crate) fn is_bookkeeping_xattr(name: &[u8]) -> bool {
    let overlays = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    overlays || crate::record::is_record(name)
}
