//! What cache mounts begin with (`RUN --mount=type=cache`) where a cache elsewhere has something for them.
//!
//! It is fetched when the first step is about to mount a directory that isn't here, and a directory that is here stays as it is:
//! which of two is better nobody can tell. Nothing depends on what a mount has in it, so what is damaged or gone is told, and the
//! mount begins empty. Mounts that `--no-cache` has emptied stay empty (R-CACHE-24).

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use kiln_cache::transfer::MountDirectory;
use kiln_image::compress::BoundedDecoder;
use kiln_image::tar::{self, Devices, Limits};
use kiln_planner::{ExecOp, Mount, Op, Plan};

use super::import::FoundMount;
use super::load::NoCache;
use crate::Services;
use crate::cancel::Cancel;
use crate::error::chain;
use crate::event::{Reporter, Stream, Task};
use crate::op::cache_mount;
use crate::sandbox::Removals;

/// The cache mounts of one build.
#[derive(Default)]
pub(crate) struct BuildMounts {
    /// Ids of all steps that the targets need, cached or not.
    ids: OnceLock<BTreeSet<String>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Directories that steps have had.
    used: BTreeSet<String>,
    /// Ids whose directories begin empty.
    emptied: BTreeSet<String>,
}

impl BuildMounts {
    /// Notes which ones there are.
    pub(crate) fn expect(&self, plans: &[Plan]) {
        let vertices = plans.iter().flat_map(|plan| plan.graph.node_weights());
        let steps = vertices.filter_map(|vertex| match &vertex.op {
            Op::Exec(op) => Some(op),
            _ => None,
        });
        let _ = self.ids.set(steps.flat_map(ids).collect());
    }

    /// A step has a directory.
    pub(crate) fn note_use(&self, name: &str) {
        self.state().used.insert(name.to_owned());
    }

    /// The directories of a step are to be empty.
    pub(crate) fn note_emptied(&self, op: &ExecOp) {
        self.state().emptied.extend(ids(op));
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &String> {
        self.ids.get().into_iter().flatten()
    }

    pub(super) fn was_used(&self, name: &str) -> bool {
        self.state().used.contains(name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ids(op: &ExecOp) -> impl Iterator<Item = String> {
    op.mounts.iter().filter_map(|mount| match mount {
        Mount::Cache(cache) => Some(cache.id.clone()),
        _ => None,
    })
}

/// Unpacks below `scratch` what a cache has for the directory `name` of the mount `id`; says where it is then.
pub(crate) fn bring_mount(
    id: &str,
    name: &str,
    scratch: &Path,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
    halt: &Cancel,
) -> Option<PathBuf> {
    if !services.imports.are_there() || services.mounts.state().emptied.contains(id) {
        return None;
    }
    let found = services.imports.mounts_of(id, reporter, halt);
    let is_this = |found: &&FoundMount| cache_mount::name_of(id, &found.saved.variant) == name;
    let found = found.iter().find(is_this)?;
    let task = reporter.start(format!("importing cache mount {id}"));
    let brought = unpack(found, scratch, services, &task);
    if let Err(reason) = &brought {
        let told = format!("warning: the cache mount begins empty: {reason}\n");
        task.log(Stream::Stderr, told.as_bytes());
    }
    task.done();
    brought.ok()
}

fn unpack(
    found: &FoundMount,
    scratch: &Path,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<PathBuf, String> {
    let fetched = scratch.join("fetched");
    fetch(found, &fetched, task)?;
    let directory = scratch.join("saved");
    let failed = |error: io::Error| chain(&error);
    DirBuilder::new()
        .mode(0o700)
        .create(&directory)
        .map_err(failed)?;
    let mut options = services.footing.unpack_options(Removals::Ignore);
    options.devices = Devices::LeaveOut;
    options.limits = Limits {
        size: found.saved.size.min(options.limits.size),
        ..options.limits
    };
    let file = BufReader::new(File::open(&fetched).map_err(failed)?);
    let tar = BoundedDecoder::new(file).map_err(failed)?;
    tar::unpack(tar, &directory, &options).map_err(|error| chain(&error))?;
    fs::remove_file(&fetched).map_err(failed)?;
    let MountDirectory { mode, uid, gid } = found.saved.directory;
    services
        .footing
        .give(&directory, uid, gid)
        .and_then(|()| fs::set_permissions(&directory, Permissions::from_mode(mode & 0o7777)))
        .map_err(failed)?;
    Ok(directory)
}

/// Brings the blob of a mount into a file.
pub(super) fn fetch(found: &FoundMount, to: &Path, task: &Task<'_>) -> Result<(), String> {
    let failed = |error: io::Error| chain(&error);
    let mut file = BufWriter::new(File::create(to).map_err(failed)?);
    let (part, size) = (found.saved.blob.to_string(), found.blob.size());
    let told = |done| task.progress(&part, done, Some(size));
    match found.holder.fetch(&found.blob, &mut file, &told) {
        Ok(()) => file.flush().map_err(failed),
        Err(NoCache::Absent) => Err("the cache has lost it".to_owned()),
        Err(NoCache::Failed(reason)) => Err(reason),
    }
}
