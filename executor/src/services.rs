//! What a build works with.

use std::sync::OnceLock;

use kiln_cache::{Store, StoreError, StoreLock};
use kiln_registry::Client;

use crate::error::Cause;
use crate::layers::Layers;
use crate::sandbox::{self, Launcher, Unavailable};

/// The store, the registries and the sandbox of one run of kiln. As long as it lives, nothing is taken out of the store.
pub struct Services<'a> {
    /// Where everything is kept.
    pub store: &'a Store,
    /// Registries.
    pub registry: &'a Client,
    /// Starts steps.
    pub launcher: &'a Launcher,
    /// Layers in the forms that steps need.
    pub layers: Layers<'a>,
    sandbox: OnceLock<Result<(), Unavailable>>,
    _held: StoreLock,
}

impl<'a> Services<'a> {
    /// Puts them together; waits while another process collects.
    pub fn new(
        store: &'a Store,
        registry: &'a Client,
        launcher: &'a Launcher,
    ) -> Result<Self, StoreError> {
        Ok(Services {
            _held: store.lock_shared()?,
            store,
            registry,
            launcher,
            layers: Layers::new(store, registry),
            sandbox: OnceLock::new(),
        })
    }

    /// Whether steps can run on this machine; found out once.
    pub(crate) fn can_run(&self) -> Result<(), Cause> {
        let probe = || sandbox::probe(self.store.root()).map(|_| ());
        self.sandbox
            .get_or_init(probe)
            .clone()
            .map_err(Cause::NoSandbox)
    }
}
