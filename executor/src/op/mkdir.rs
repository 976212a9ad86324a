//! WORKDIR as a vertex: the layer with the directory (R-WORKDIR-4).

use std::sync::Arc;

use kiln_image::contents::NoContents;
use kiln_image::tar::write_layer;
use kiln_image::{Changeset, DiffId, Timestamp};
use kiln_planner::MkdirOp;

use super::file::mkdir;
use crate::Services;
use crate::error::Cause;
use crate::event::Task;
use crate::rootfs::RootFs;

/// Makes the layer; one without entries if the directory is there.
pub(crate) fn make(
    op: &MkdirOp,
    root: &RootFs,
    created: Timestamp,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<(DiffId, Arc<Changeset>), Cause> {
    let layers = &services.layers;
    let tree = root.tree(layers, task)?;
    let changeset = mkdir(op, &tree, &root.reader(layers, task), created)?;
    let staging = services.store.layers().stage()?;
    let summary = write_layer(&changeset, &NoContents, staging.create_tar()?)
        .map_err(Cause::layer("write", "of WORKDIR"))?;
    staging.commit(&summary.diff_id, &changeset, summary.size)?;
    Ok((summary.diff_id, layers.remember(summary.diff_id, changeset)))
}
