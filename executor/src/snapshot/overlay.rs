//! The usual root filesystem: layers below, and an upper directory that becomes the next layer's.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_cache::{LayerPlace, LayerStaging, Store, StoreError};
use kiln_image::contents::DirContents;
use kiln_image::scan::{Owners, scan_upper};
use kiln_image::{Changeset, DiffId, Tree, tar};

use super::dress;
use crate::Services;
use crate::error::{Cause, MOST_LAYERS};
use crate::event::Task;
use crate::rootfs::RootFs;
use crate::sandbox::RootSpec;

/// Directories for overlayfs.
pub(crate) struct Overlay<'s> {
    lowers: Vec<PathBuf>,
    upper: PathBuf,
    work: PathBuf,
    staging: LayerStaging<'s>,
}

/// The directories that a step's changes go to.
struct Place {
    upper: PathBuf,
    work: PathBuf,
    place: LayerPlace,
}

/// Such directories for steps to come, made while there is time.
#[derive(Default)]
pub(crate) struct Places {
    made: Mutex<Option<Place>>,
}

impl Places {
    /// Makes them for the next step. Where that fails, the step will see to it, and tell.
    pub(crate) fn make_one(&self, store: &Store) {
        let mut made = self.made();
        if made.is_none() {
            *made = Place::make(store).ok();
        }
    }

    fn take(&self, store: &Store) -> Result<Place, StoreError> {
        let made = self.made().take();
        made.map_or_else(|| Place::make(store), Ok)
    }

    fn made(&self) -> MutexGuard<'_, Option<Place>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn make(store: &Store) -> Result<Self, StoreError> {
        let place = store.layers().place()?;
        Ok(Self {
            upper: place.create_fs()?,
            work: place.create_work()?,
            place,
        })
    }
}

impl<'s> Overlay<'s> {
    pub(super) fn prepare(
        root: &RootFs,
        services: &'s Services<'_>,
        task: &Task<'_>,
    ) -> Result<Self, Cause> {
        // First of all: what layers do is learned while they are unpacked.
        let mut lowers = root.lowers(&services.layers, task)?;
        let tree = root.tree(&services.layers, task)?;
        if (1..MOST_LAYERS).contains(&lowers.len()) {
            let below = services.mount_points.below(&tree, services.store);
            lowers.splice(0..0, below);
        }
        let Place { upper, work, place } = services.places.take(services.store)?;
        dress(&upper, &tree.root().metadata, services.footing)?;
        Ok(Self {
            lowers,
            upper,
            work,
            staging: services.store.layers().stage_at(place),
        })
    }

    pub(super) fn root_spec(&self) -> RootSpec {
        RootSpec::Overlay {
            lowers: self.lowers.clone(),
            upper: self.upper.clone(),
            work: self.work.clone(),
        }
    }

    pub(super) fn commit(
        self,
        owners: &Owners,
        services: &Services<'_>,
        step: &str,
        tree: &Tree,
    ) -> Result<(DiffId, Arc<Changeset>), Cause> {
        let upper = &self.upper;
        let contents = DirContents::open(upper).map_err(Cause::file("open", upper))?;
        let draft = scan_upper(upper, owners).map_err(Cause::layer("read", step))?;
        let draft = draft
            .normalise(tree, &contents)
            .map_err(Cause::layer("read", step))?;
        let (changeset, summary) =
            tar::write_draft(draft, &contents, io::sink()).map_err(Cause::layer("read", step))?;
        self.staging
            .commit(&summary.diff_id, &changeset, summary.size)?;
        let changeset = services.layers.remember(summary.diff_id, changeset);
        Ok((summary.diff_id, changeset))
    }
}
