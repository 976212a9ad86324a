//! Downloads (R-ADD-6..8, R-CACHE-17).

use kiln_planner::HttpSource;

use super::remote::{Fetched, Fetcher};
use crate::error::Cause;
use crate::event::Task;

/// Brings a download into the store: a tree with the one file `source.name`.
pub(crate) fn fetch(
    source: &HttpSource,
    _fetcher: &Fetcher<'_>,
    _task: &Task<'_>,
) -> Result<Fetched, Cause> {
    let what = format!("downloading `{}` is not supported yet", source.url);
    Err(Cause::Unsupported(what))
}
