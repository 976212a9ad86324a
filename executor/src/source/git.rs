//! Git repositories (R-ADD-9..12, R-CACHE-18).

use kiln_planner::GitSource;

use super::remote::{Fetched, Fetcher};
use crate::error::Cause;
use crate::event::Task;

/// Brings the files of a commit into the store.
pub(crate) fn fetch(
    source: &GitSource,
    _fetcher: &Fetcher<'_>,
    _task: &Task<'_>,
) -> Result<Fetched, Cause> {
    let what = format!("fetching the repository `{source}` is not supported yet");
    Err(Cause::Unsupported(what))
}
