//! What a build works with.

use std::sync::OnceLock;

use kiln_cache::{Store, StoreError};
use kiln_registry::Client;

use crate::error::{Cause, chain};
use crate::event::{Stream, Task};
use crate::layers::Layers;
use crate::lock::{Hold, Lock};
use crate::network_files::SharedFiles;
use crate::op::file::KnownAccounts;
use crate::remote_cache::{BuildMounts, Imports, Uploads};
use crate::sandbox::{Footing, Launcher, Rung, Unavailable, Way};
use crate::snapshot::{Copies, Dressings, MountPoints, Places};
use crate::source::git::{GitSettings, ResolvedRefs};

/// The store, the registries and the sandbox of one run of kiln. What they have looked up stays in the store as long as that is open.
pub struct Services<'a> {
    /// Where everything is kept.
    pub store: &'a Store,
    /// Registries.
    pub registry: &'a Client,
    /// Starts steps.
    pub launcher: &'a Launcher,
    /// As whom files are made, and which rungs steps can have.
    pub footing: &'a Footing,
    /// Layers in the forms that steps need.
    pub layers: Layers<'a>,
    /// Caches elsewhere.
    pub imports: Imports,
    /// What goes to caches elsewhere.
    pub uploads: Uploads,
    /// Cache mounts that steps have.
    pub(crate) mounts: BuildMounts,
    /// What the `git` program may know of this machine.
    pub(crate) git: GitSettings,
    pub(crate) resolved_refs: ResolvedRefs,
    /// What names stand for, where that was settled before.
    pub(crate) hold: Hold,
    /// Root filesystems that ended steps left.
    pub(crate) copies: Copies,
    pub(crate) mount_points: MountPoints,
    pub(crate) dressings: Dressings,
    /// Directories for the changes of steps to come.
    pub(crate) places: Places,
    pub(crate) shared_files: SharedFiles,
    /// Users and groups of the last root filesystem.
    pub(crate) accounts: KnownAccounts,
    way: OnceLock<Result<Way, Unavailable>>,
}

impl<'a> Services<'a> {
    /// Puts them together; waits while another process collects.
    pub fn new(
        store: &'a Store,
        registry: &'a Client,
        launcher: &'a Launcher,
        footing: &'a Footing,
    ) -> Result<Self, StoreError> {
        Ok(Services {
            store,
            registry,
            launcher,
            footing,
            layers: Layers::new(store, registry, footing),
            imports: Imports::default(),
            uploads: Uploads::default(),
            mounts: BuildMounts::default(),
            git: GitSettings::default(),
            resolved_refs: ResolvedRefs::new(),
            hold: Hold::default(),
            copies: Copies::default(),
            mount_points: MountPoints::default(),
            dressings: Dressings::default(),
            places: Places::default(),
            shared_files: SharedFiles::default(),
            accounts: KnownAccounts::default(),
            way: OnceLock::new(),
        })
    }

    /// The same with what the `git` program may know of this machine.
    #[must_use]
    pub fn with_git(self, git: GitSettings) -> Self {
        Services { git, ..self }
    }

    /// Takes the names of images, downloads and repositories for what a lock says, and no others.
    pub fn hold_to(&self, lock: Lock) {
        self.hold.to(lock);
    }

    /// Tells of a failure that is but a layer which a cache promised and doesn't have: then the build goes on without it.
    /// Returns whether it is one.
    pub(crate) fn tell_miss(&self, cause: &Cause, task: &Task<'_>) -> bool {
        let found = self.imports.found_layers();
        let is_miss = !found.is_empty() && self.layers.has_lost(&found);
        if is_miss {
            let told = format!("a miss, for the cache has lost it: {}\n", chain(cause));
            task.log(Stream::Stderr, told.as_bytes());
        }
        is_miss
    }

    /// The rung for steps.
    pub(crate) fn rung(&self) -> Result<Rung, Cause> {
        self.way().map(|way| way.rung)
    }

    /// How steps are kept apart, found out once and when the first is about to run.
    pub(crate) fn way(&self) -> Result<Way, Cause> {
        let probe = || {
            // Its directories go while the build goes on.
            let place = self.store.layers().place().ok();
            let scratch = || place.as_ref()?.create_work().ok();
            self.footing.way_leaving(self.store.root(), &scratch)
        };
        self.way
            .get_or_init(probe)
            .clone()
            .map_err(Cause::NoSandbox)
    }
}
