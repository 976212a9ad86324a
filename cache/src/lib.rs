//! Has this step been done before, and where is its result?
//!
//! A [`Store`] is a directory that holds everything kiln keeps: blobs by digest ([`Cas`]), layers by diff id
//! ([`Layers`]), results of steps by key ([`ActionCache`]), images by name ([`Refs`]) and what is known of sources
//! elsewhere ([`Remotes`]). Any number of processes
//! share one.
//!
//! ```
//! use kiln_cache::{ActionResult, OutputId, Preimage, Store, Value};
//!
//! let dir = tempfile::tempdir()?;
//! let store = Store::open(&dir.path().join("store"))?;
//!
//! let step = Preimage::new("exec").field("argv", Value::List(vec!["make".to_owned()]));
//! assert_eq!(store.actions().get(&step.key()), None);
//!
//! let result = ActionResult {
//!     output: OutputId::scratch(),
//!     layer: None,
//!     created: "2026-01-01T00:00:00Z".parse()?,
//!     duration_ms: 1200,
//! };
//! store.actions().put(&step.key(), &result, &step)?;
//! assert_eq!(store.actions().get(&step.key()), Some(result));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The module [`key`] says what identifies a step, [`checksum`] makes the digests of context files, [`MissReason`]
//! says why nothing was found, [`builds`] keeps the history of builds, [`store`] draws the directory, [`gc`] removes what nothing refers to.
//!
//! A thing appears in the store by rename after it is whole. A damaged or missing entry is a miss, never an error
//! and never a wrong hit; [`StoreError`] is for a store that can't be used and for content asked for by name that
//! isn't there.

pub mod budget;
pub mod builds;
pub mod checksum;
pub mod content_hash;
pub mod explain;
pub mod gc;
pub mod key;
pub mod store;
pub mod transfer;

mod cas;
mod containers;
mod disk;
mod error;
mod file_digest;
mod framed;
mod inventory;
mod layers;
mod lease;
mod loan;
mod locks;
mod miss;
mod mounts;
mod records;
mod refs;
mod remotes;
mod summary;
mod sweeper;
mod tar_file;
#[cfg(test)]
mod testing;
mod tmp;
mod unsynced;

pub use budget::{Amount, Budget};
pub use builds::{BuildId, BuildRecord, Builds, RecipeId};
pub use cas::{BlobWriter, Cas, VerifiedReader};
pub use checksum::{Candidate, ChecksumError, Checksums, FileStat, FileTime};
pub use containers::{ContainerRecord, Containers, FailedStep, StepFile};
pub use content_hash::{ContentHash, Hasher, content_digest};
pub use disk::Disk;
pub use error::StoreError;
pub use file_digest::{FileDigest, FileFacts, FileKind, ShortDigest};
pub use gc::{Freed, Limits, Plan, Policy, Verdict};
pub use inventory::{Detail, Entry, EntryKind, Inventory};
pub use key::{CacheKey, Field, InputId, OutputId, Preimage, Selected, Value};
pub use layers::{CompressedBlob, DerivedLayer, LayerMeta, LayerPlace, LayerStaging, Layers};
pub use loan::Loan;
pub use locks::{KeyLock, StoreLock};
pub use miss::{Closest, Difference, FileChange, MissReason};
pub use records::{ActionCache, ActionResult, Found};
pub use refs::{ImageRecord, ManifestRecord, NamedImages, Refs};
pub use remotes::{Remotes, Seen};
pub use store::{ScratchDir, Store};
pub use tar_file::TarFile;
pub use transfer::{CacheIndex, IndexError, Preimages, SavedMount};
