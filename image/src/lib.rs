//! The OCI image specification as values.
//!
//! An image is a [`ImageConfig`] and a list of layers. A layer is a [`Changeset`]: what it puts in place
//! and what it removes. Layers applied in order give a [`Tree`], the root filesystem as a value, and most
//! questions a build asks (where does this path lead, what would this copy change, has this content been
//! seen before) are answered by the tree alone, without a mount or a look at the disk.
//!
//! ```
//! use kiln_image::{Changeset, ImagePath, Metadata, Node, Tree};
//!
//! let mut layer = Changeset::new();
//! layer.put(ImagePath::clean(b"/srv"), Node::directory(Metadata::directory()));
//! layer.put(ImagePath::clean(b"/srv/now"), Node::symlink("releases/7"));
//!
//! let mut root = Tree::new();
//! root.apply(0, &layer);
//! let found = root.resolve(&ImagePath::root(), b"srv/now/bin", true)?;
//! assert_eq!(found.path.to_string(), "srv/releases/7/bin");
//! assert!(!found.exists);
//! # Ok::<(), kiln_image::ResolveError>(())
//! ```
//!
//! No HTTP, no store and no sandbox here: what reads and writes files or streams is told which ones.

mod config;
mod digest;
mod path;
mod platform;
mod reference;

mod changeset;
mod node;
mod tree;
mod waste;
mod written;

pub mod acl;
pub mod archive;
pub mod attestation;
pub mod compress;
pub mod contents;
pub mod image_index;
pub mod json;
pub mod layout;
pub mod manifest;
pub mod media_type;
pub mod record;
pub mod scan;
pub mod tar;

pub use changeset::{Change, Changeset, ChangesetError};
pub use config::{ConfigError, Healthcheck, History, ImageConfig, RootFs, RunConfig};
pub use digest::{ChainId, DiffId, Digest, DigestError, DigestReader, DigestWriter, Digester};
pub use manifest::{Manifest, ManifestError};
pub use node::{Kind, Metadata, Node, Timestamp};
pub use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
pub use path::{ImagePath, PathError};
pub use platform::{Platform, PlatformError};
pub use reference::{DEFAULT_REGISTRY, Reference, ReferenceError};
pub use tree::{
    Aspect, Difference, Directory, Entry, Leaf, NodeRef, ResolveError, Resolved, Tree, Walk,
};
pub use waste::{LayerWaste, Piece, Reason, Waste};
