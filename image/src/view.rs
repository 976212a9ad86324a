//! An image and a layer as anyone may see them: a store, a layout, an archive and a registry all can show one.
//!
//! A sink (an exporter, a push) takes `&dyn Image` and needs not know where the bytes come from.

use std::io::{self, Read};
use std::sync::Arc;

use crate::{Descriptor, DiffId};

/// A complete image for one platform.
pub trait Image: Send + Sync {
    /// The config exactly as it is named by its digest.
    fn config_bytes(&self) -> io::Result<Vec<u8>>;

    /// The manifest exactly as it is named by its digest, with its media type; `None` if none was made yet.
    fn manifest(&self) -> io::Result<Option<(String, Vec<u8>)>>;

    /// The layers, lowest first.
    fn layers(&self) -> Vec<Arc<dyn Layer>>;
}

/// One layer of an image.
pub trait Layer: Send + Sync {
    /// Digest of the uncompressed tar.
    fn diff_id(&self) -> DiffId;

    /// The blob a manifest would name; `None` if there is none yet, compressed or not.
    fn descriptor(&self) -> Option<Descriptor>;

    /// The bytes of that blob.
    fn blob(&self) -> io::Result<Box<dyn Read + Send + '_>>;

    /// The uncompressed tar.
    fn uncompressed(&self) -> io::Result<Box<dyn Read + Send + '_>>;
}
