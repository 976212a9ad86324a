//! Caches elsewhere: results of steps from a registry, a folder or a bucket, and back to it.
//!
//! ```text
//! --cache-from ─begin─▶ manifest, index   (threads of their own, from the start)
//!                          │
//! step not in the store ─find─▶ result ─▶ its layer is known to be elsewhere ─needed?─▶ fetched
//!                                                                   └─missing, damaged─▶ forgotten: the build solves again
//! step ended ──offer─▶ its layer is sent                (threads of their own, --cache-to)
//! build ended ─keep─▶ records whose layers came into the store
//!             └─export─▶ layers that are still missing there, index, manifest
//! ```
//!
//! Cache mounts travel too where that is asked for (`mounts.rs`): a step whose mount isn't here yet begins with what a cache has.
//!
//! What is elsewhere may be gone, damaged or far away, and none of that stops a build: it is a miss. The format is
//! `kiln_cache::transfer`'s.

mod bucket;
mod export;
mod folder;
mod import;
mod inline;
mod load;
mod mounts;
mod save_mounts;
mod uploads;

use std::fmt;
use std::path::PathBuf;

use kiln_image::compress::Compression;
use kiln_image::{Digest, Reference};

pub use bucket::BucketCache;
pub use export::{CacheExported, export_cache};
pub use import::Imports;
pub(crate) use inline::inline_value;
pub(crate) use mounts::{BuildMounts, bring_mount};
pub use uploads::Uploads;

/// Where a cache is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheSource {
    /// A registry: a cache, or an image with one in its config.
    Registry(Reference),
    /// A layout on this machine.
    Layout {
        /// Its folder.
        path: PathBuf,
        /// The tag of the cache in it.
        tag: String,
        /// The digest of its manifest; outranks the tag.
        digest: Option<Digest>,
    },
    /// A bucket of an S3-compatible server.
    Bucket(Box<BucketCache>),
}

/// Where a cache is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheTarget {
    /// A registry.
    Registry(Reference),
    /// A layout on this machine.
    Layout {
        /// Its folder.
        path: PathBuf,
        /// The tag the cache gets in it.
        tag: String,
    },
    /// A bucket of an S3-compatible server.
    Bucket(Box<BucketCache>),
}

/// Which layers go (R-CEXP-1). What steps came to is told of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheMode {
    /// Those of the image.
    #[default]
    Min,
    /// Those of every step.
    Max,
}

/// A cache to be put somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheExport {
    /// Where.
    pub target: CacheTarget,
    /// Which layers.
    pub mode: CacheMode,
    /// How layers that have no compressed form yet are compressed.
    pub compression: Compression,
    /// Whether what steps have in their cache mounts goes along.
    pub mounts: bool,
}

impl fmt::Display for CacheSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout { path, .. } => path.display().fmt(f),
            Self::Bucket(cache) => cache.fmt(f),
        }
    }
}
