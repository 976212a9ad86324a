//! A root filesystem that one step may change, and what it changed.
//!
//! Most rungs stack the layers' directories with overlayfs ([`overlay`]): nothing is copied before the step writes, and the upper
//! directory is the layer. A rung without mounts needs a copy ([`copy`]), and so does a store on a filesystem that overlayfs can't write to.

mod copy;
mod dressings;
mod mount_points;
mod overlay;

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use kiln_image::contents::Contents;
use kiln_image::scan::{Draft, Owners};
use kiln_image::tar::{self, TarSummary};
use kiln_image::{Changeset, DiffId, Metadata, Tree};

use crate::Services;
use crate::cancel::Cancel;
use crate::error::Cause;
use crate::event::Task;
use crate::rootfs::RootFs;
use crate::sandbox::{Footing, MountedRoot, RootSpec, Way};
use copy::Copy;
use overlay::Overlay;

pub(crate) use copy::Copies;
pub(crate) use dressings::Dressings;
pub(crate) use mount_points::MountPoints;
pub(crate) use overlay::Places;

/// A root filesystem made for one step. What is left of it goes when this is dropped.
pub(crate) enum Snapshot<'s> {
    /// Layers and an upper directory.
    Overlay(Overlay),
    /// All of it as plain files.
    Copy(Copy<'s>),
}

impl<'s> Snapshot<'s> {
    /// Makes one of the layers so far.
    pub(crate) fn prepare(
        way: Way,
        root: &RootFs,
        services: &'s Services<'_>,
        task: &Task<'_>,
    ) -> Result<Self, Cause> {
        match way.overlay {
            true => Overlay::prepare(root, services, task).map(Self::Overlay),
            false => Copy::prepare(way.rung, root, services, task).map(Self::Copy),
        }
    }

    /// For the sandbox.
    pub(crate) fn root_spec(&self) -> RootSpec {
        match self {
            Self::Overlay(overlay) => overlay.root_spec(),
            Self::Copy(copy) => copy.root_spec(),
        }
    }

    /// The same, if it is mounted already.
    pub(crate) fn take_mounted(&mut self) -> Option<MountedRoot> {
        match self {
            Self::Overlay(overlay) => overlay.take_mounted(),
            Self::Copy(_) => None,
        }
    }

    /// Undoes what the ended step changed, where the root filesystem is worth being kept for that.
    pub(crate) fn rewind(
        self,
        root: &RootFs,
        services: &Services<'_>,
        task: &Task<'_>,
    ) -> Result<(), Cause> {
        match self {
            Self::Overlay(_) => Ok(()),
            Self::Copy(copy) => copy.rewind(root, services, task),
        }
    }

    /// Reads what the ended step changed over `tree`, and puts it into the store as a layer. `step` is named in errors. What the step has left
    /// `mounted` is for a later one, or goes.
    pub(crate) fn commit(
        self,
        owners: &Owners,
        mounted: Option<MountedRoot>,
        services: &Services<'_>,
        step: &str,
        tree: &Tree,
        halt: &Cancel,
    ) -> Result<(DiffId, Arc<Changeset>), Cause> {
        match self {
            Self::Overlay(overlay) => overlay.commit(owners, mounted, services, step, tree, halt),
            Self::Copy(copy) => copy.commit(owners, services, step, tree, halt),
        }
    }
}

/// What the root directory of a step begins with, whatever a layer or an earlier step said: the reference keeps its owner only, and
/// an image whose root only root may enter works with a USER.
const ROOT_MODE: u32 = 0o755;

/// Gives the directory that is to be the step's `/` what `/` has so far; overlayfs shows the upper directory's.
fn dress(directory: &Path, root: &Metadata, footing: &Footing) -> Result<(), Cause> {
    footing
        .give(directory, root.uid, root.gid)
        .map_err(Cause::file("change the owner of", directory))?;
    std::fs::set_permissions(directory, Permissions::from_mode(ROOT_MODE))
        .map_err(Cause::file("change the mode of", directory))
}

/// The tar of what a step changed. Gigabytes of it are no reason to go on once the build is to end.
fn write_until(
    halt: &Cancel,
    draft: Draft,
    contents: &dyn Contents,
    out: impl Write,
    step: &str,
) -> Result<(Changeset, TarSummary), Cause> {
    let out = Until { halt, out };
    tar::write_draft(draft, contents, out).map_err(|error| match halt.requested() {
        true => Cause::Canceled,
        false => Cause::layer("read", step)(error),
    })
}

/// What takes nothing any more once the build is to end.
struct Until<'h, W> {
    halt: &'h Cancel,
    out: W,
}

impl<W: Write> Write for Until<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.halt.requested() {
            true => Err(io::Error::other("the build is to end")),
            false => self.out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
