//! The usual root filesystem: layers below, and an upper directory that becomes the next layer's.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io;
use std::iter::successors;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kiln_cache::{LayerPlace, Store, StoreError};
use kiln_image::contents::DirContents;
use kiln_image::scan::{Owners, scan_upper};
use kiln_image::{Change, Changeset, DiffId, ImagePath, Tree};

use super::{dress, dressings, write_until};
use crate::Services;
use crate::cancel::Cancel;
use crate::error::{Cause, MOST_LAYERS};
use crate::event::Task;
use crate::rootfs::RootFs;
use crate::sandbox::{MountedRoot, RootSpec};

/// Directories for overlayfs.
pub(crate) struct Overlay {
    lowers: Vec<PathBuf>,
    place: Place,
    mounted: Option<MountedRoot>,
}

/// The directories that a step's changes go to.
struct Place {
    upper: PathBuf,
    work: PathBuf,
    place: LayerPlace,
}

/// Such directories for steps to come, made while there is time, or left by a step that changed nothing.
#[derive(Default)]
pub(crate) struct Places {
    made: Mutex<Option<Place>>,
    untouched: Mutex<Option<Untouched>>,
    /// The layer that does nothing, once a step has made it.
    nothing: OnceLock<(DiffId, Arc<Changeset>)>,
}

/// A root filesystem that a step left as it was, and mounted.
struct Untouched {
    mounted: MountedRoot,
    lowers: Vec<PathBuf>,
    place: Place,
}

/// Removes what a step has touched without a change, such as a directory in which something came and went. The layer serves every image that has
/// it, and they need not have these paths. In a directory that was made anew it stays: there nothing of the layers below is seen.
fn leave_out(dropped: &[ImagePath], anew: &BTreeSet<ImagePath>, upper: &Path) -> Result<(), Cause> {
    let is_within = |path: &ImagePath| {
        successors(path.parent(), ImagePath::parent).any(|above| anew.contains(&above))
    };
    let dropped = dropped.iter().filter(|path| !path.is_root());
    for path in dropped.filter(|path| !is_within(path)) {
        let found = upper.join(OsStr::from_bytes(path.as_bytes()));
        remove(&found).map_err(Cause::file("remove", &found))?;
    }
    Ok(())
}

/// Removes an object, and leaves its parent as old as it was.
fn remove(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    let times = FileTimes::new().set_modified(fs::metadata(parent)?.modified()?);
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| File::open(parent)?.set_times(times)),
    }
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

    /// A root filesystem of these layers that is mounted already.
    fn take_untouched(&self, lowers: &[PathBuf]) -> Option<Untouched> {
        let left = self.untouched().take();
        left.filter(|left| left.lowers == lowers)
    }

    /// Leaves one to the next step.
    fn leave(&self, untouched: Untouched) {
        *self.untouched() = Some(untouched);
    }

    fn untouched(&self) -> MutexGuard<'_, Option<Untouched>> {
        self.untouched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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

impl Overlay {
    pub(super) fn prepare(
        root: &RootFs,
        services: &Services<'_>,
        task: &Task<'_>,
    ) -> Result<Self, Cause> {
        // First of all: what layers do is learned while they are unpacked.
        let mut lowers = root.lowers(&services.layers, task)?;
        let tree = root.tree(&services.layers, task)?;
        let undressed = root.undressed(&services.layers, task)?;
        let is_full = lowers.len() == MOST_LAYERS;
        if !is_full {
            let dressing =
                services
                    .dressings
                    .above(&undressed, services.store, services.footing)?;
            lowers.extend(dressing);
        }
        if (1..MOST_LAYERS).contains(&lowers.len()) {
            let below = services.mount_points.below(&tree, services.store);
            lowers.splice(0..0, below);
        }
        if let Some(left) = services.places.take_untouched(&lowers) {
            return Ok(Self {
                lowers,
                place: left.place,
                mounted: Some(left.mounted),
            });
        }
        let place = services.places.take(services.store)?;
        dress(&place.upper, &tree.root().metadata, services.footing)?;
        if is_full {
            dressings::make(&undressed, &place.upper, services.footing)?;
        }
        Ok(Self {
            lowers,
            place,
            mounted: None,
        })
    }

    pub(super) fn take_mounted(&mut self) -> Option<MountedRoot> {
        self.mounted.take()
    }

    pub(super) fn root_spec(&self) -> RootSpec {
        RootSpec::Overlay {
            lowers: self.lowers.clone(),
            upper: self.place.upper.clone(),
            work: self.place.work.clone(),
        }
    }

    pub(super) fn commit(
        self,
        owners: &Owners,
        mounted: Option<MountedRoot>,
        services: &Services<'_>,
        step: &str,
        tree: &Tree,
        halt: &Cancel,
    ) -> Result<(DiffId, Arc<Changeset>), Cause> {
        let upper = &self.place.upper;
        let Places { nothing, .. } = &services.places;
        if let Some(mounted) = mounted.filter(|mounted| mounted.is_untouched(upper))
            && let Some((layer, changeset)) = nothing.get()
            && services.store.layers().contains(layer)
        {
            services.places.leave(Untouched {
                mounted,
                lowers: self.lowers,
                place: self.place,
            });
            return Ok((*layer, changeset.clone()));
        }
        let contents = DirContents::open(upper).map_err(Cause::file("open", upper))?;
        let draft = scan_upper(upper, owners).map_err(Cause::layer("read", step))?;
        let opaque = draft
            .iter()
            .filter(|(_, change)| matches!(change, Change::Opaque(_)));
        let anew: BTreeSet<ImagePath> = opaque.map(|(path, _)| path.clone()).collect();
        let draft = draft
            .normalise(tree, &contents)
            .map_err(Cause::layer("read", step))?;
        leave_out(draft.dropped(), &anew, upper)?;
        let (changeset, summary) = write_until(halt, draft, &contents, io::sink(), step)?;
        let staging = services.store.layers().stage_at(self.place.place);
        let stays = staging.commit(&summary.diff_id, &changeset, summary.size)?;
        let changeset = stays.unwrap_or(changeset);
        let changeset = services.layers.remember(summary.diff_id, changeset);
        if changeset.is_empty() {
            let _ = nothing.set((summary.diff_id, changeset.clone()));
        }
        Ok((summary.diff_id, changeset))
    }
}
