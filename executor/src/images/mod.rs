//! The images of the store: found by name, pulled, pushed, loaded, saved, imported.
//!
//! An image in the store is a record: the digest of its config and, if it came from a registry, of its manifest.
//! A name may stand for several, one for each platform of an index.
//! An image's layers are the store's, by diff id; one that is only known by its manifest is pulled when somebody needs it.

mod archive;
mod changes;
mod commit;
mod compare;
mod found;
mod index;
mod layout;
mod pull;
mod push;
mod squash;
mod tree;

pub(crate) use archive::{ArchiveEntry, Output as ArchiveOutput, write_archive};
pub use archive::{Import, LoadSource, import, import_from, load, save};
pub use changes::{changed, changes_source};
pub use commit::{Commit, commit, config_of};
pub use compare::compare;
pub use found::{Removed, StoredImage, find, find_for, list, remove, stored_config, tag};
pub use layout::LayoutImage;
pub use pull::{PullPolicy, pull};
pub use push::push;
pub use squash::{squash, squash_product, waste};

pub(crate) use found::{new_manifest, record};
pub(crate) use index::choose;
pub(crate) use layout::resolve_in_layout;
pub(crate) use pull::{put_manifest, resolve};
pub(crate) use push::{layer_media_type, send_tree};
pub(crate) use tree::leaf;

/// An index is within others so many times at most.
const MOST_NESTED: usize = 4;
