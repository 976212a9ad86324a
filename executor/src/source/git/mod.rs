//! Git repositories (R-ADD-9..12, R-CACHE-18).
//!
//! ```text
//!   ref ──ls-remote──▶ commit ──key──hit──────────────────────────────▶ layer
//!                        └──miss──▶ fetch into the remote's bare repository ──▶ check out ──▶ layer
//! ```
//!
//! The commit is the identity, so a repository that did not move costs one question, and one that is named by its whole
//! commit id not even that. Everything is done by the `git` program ([`program`] says with what care); the objects stay in
//! the store, one bare repository a remote, so that the next commit brings only what is new.

mod checkout;
mod error;
mod head;
mod program;
mod refs;
mod repository;
mod resolve;

use std::time::Instant;

use kiln_cache::{CacheKey, Preimage, key};
use kiln_image::Digest;
use kiln_planner::GitSource;

pub(crate) use error::GitError;
pub use head::{HeadError, head_time};
pub(crate) use program::GitProgram;
pub use program::GitSettings;
pub(crate) use refs::ResolvedRefs;
pub(crate) use resolve::Resolved;

use super::remote::{Fetched, Fetcher};
use crate::error::Cause;
use crate::event::Task;

/// Brings the files of a commit into the store.
pub(crate) fn fetch(
    source: &GitSource,
    fetcher: &Fetcher<'_>,
    task: &Task<'_>,
) -> Result<Fetched, Cause> {
    let started = Instant::now();
    let program = GitProgram::new(source, fetcher, Some(task))?;
    let resolved = resolve::resolve(source, &program, fetcher)?;
    let preimage = preimage(source, &resolved);
    if let Some(fetched) = fetcher.look_up(&preimage) {
        return Ok(fetched);
    }
    let _alone = fetcher.hold(&preimage.key())?;
    if let Some(fetched) = fetcher.look_up(&preimage) {
        return Ok(fetched);
    }
    let staging = fetcher.services.store.layers().stage()?;
    let _repository = fetcher.hold(&lock_of(source))?;
    let repository = repository::with(source, &resolved, &program, fetcher)?;
    let (changeset, tar) =
        checkout::into_layer(source, &resolved, &repository, &program, &staging)?;
    fetcher.keep(staging, (changeset, &tar), &preimage, started)
}

/// The files of the commit that the source names now, where the store has them.
pub(crate) fn find(source: &GitSource, fetcher: &Fetcher<'_>) -> Result<Option<Fetched>, Cause> {
    let program = GitProgram::new(source, fetcher, None)?;
    let resolved = resolve::resolve(source, &program, fetcher)?;
    Ok(fetcher.look_up(&preimage(source, &resolved)))
}

/// Finds out what commit the source names, and brings nothing.
pub(crate) fn ask(source: &GitSource, fetcher: &Fetcher<'_>, task: &Task<'_>) -> Result<(), Cause> {
    let program = GitProgram::new(source, fetcher, Some(task))?;
    resolve::resolve(source, &program, fetcher).map(drop)
}

fn preimage(source: &GitSource, resolved: &Resolved) -> Preimage {
    key::repository(source, resolved.identity(source), &resolved.reference)
}

/// What is held while the remote's bare repository is used.
fn lock_of(source: &GitSource) -> CacheKey {
    CacheKey(Digest::of(source.remote.as_bytes()))
}

#[cfg(test)]
mod tests;
