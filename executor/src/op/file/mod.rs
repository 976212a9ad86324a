//! COPY, ADD and WORKDIR as pure functions over trees.
//!
//! What a copy does is decided without touching a disk: [`copy()`] reads the trees of the sources and of the
//! destination and gives the layer as a changeset, with the place each file's content comes from. What a copy
//! reads, for the cache's keys, is told by [`select()`] from the same expansion of sources, so that the two can't
//! disagree. [`mkdir()`] is WORKDIR; [`Accounts`] turns names of users into numbers, for `--chown` and for RUN.

mod accounts;
mod copy;
mod error;
mod filter;
mod known_accounts;
mod landing;
mod mkdir;
mod owner;
mod select;
mod source;
#[cfg(test)]
mod testing;

pub use accounts::{Accounts, ReadFile, RunUser, UserError};
pub use copy::{Archives, CopyOutcome, Destination, Origin, copy, unpacked};
pub use error::CopyError;
pub(crate) use known_accounts::KnownAccounts;
pub use mkdir::{MkdirError, mkdir};
pub use owner::{Owner, OwnerError};
pub use select::{Selected, SelectedEntry, Selection, possible_archives, select, unread_files};
pub use source::{SourceTree, SourceTrees};
