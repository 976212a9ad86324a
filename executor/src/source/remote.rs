//! What downloads and git repositories have in common: each ends up as one layer of the store.
//!
//! Such a layer is a root filesystem of its own, so all that can be done with a stage can be done with it: copied from,
//! mounted, built upon. Its identity for the keys of later steps is its content.

use std::sync::Arc;

use kiln_cache::OutputId;
use kiln_image::DiffId;

use crate::Services;
use crate::cancel::Cancel;
use crate::rootfs::RootFs;
use crate::secrets::Secrets;

#[allow(dead_code)] // until fetching lands
/// What fetching needs of a build; there need not be a plan yet.
#[derive(Clone, Copy)]
pub(crate) struct Fetcher<'a> {
    pub services: &'a Services<'a>,
    /// Where tokens and passwords come from (R-ADD-9).
    pub secrets: &'a Secrets,
    pub halt: &'a Cancel,
}

#[allow(dead_code)] // until fetching lands
/// A remote source that is in the store.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    /// What it is for the keys of those that read it.
    pub output: OutputId,
    /// Its files.
    pub layer: DiffId,
    /// What it turned out to be: a commit's id, a content's digest.
    pub identity: String,
    /// When it was changed last, in seconds since 1970, where that is known: a commit's time, `Last-Modified`.
    pub modified: Option<i64>,
    /// Whether it was in the store already.
    pub cached: bool,
}

impl Fetched {
    /// Its files as a root filesystem.
    pub(crate) fn root(&self) -> Arc<RootFs> {
        Arc::new(RootFs::base(self.output, vec![self.layer]))
    }
}
