//! Two root filesystems beside each other.

use kiln_image::{DiffId, Difference};

use crate::Services;
use crate::container::root_of;
use crate::error::BuildError;
use crate::event::Task;

/// The paths at which two stacks of layers differ; with `times`, files that differ in their time alone too.
pub fn compare(
    services: &Services<'_>,
    old: &[DiffId],
    new: &[DiffId],
    times: bool,
    task: &Task<'_>,
) -> Result<Vec<Difference>, BuildError> {
    let tree = |layers| root_of(layers).tree(&services.layers, task);
    let old = tree(old).map_err(BuildError::new)?;
    let new = tree(new).map_err(BuildError::new)?;
    Ok(old.differences(&new, times))
}
