//! What a build works with.

use kiln_cache::Store;
use kiln_registry::Client;

use crate::layers::Layers;
use crate::sandbox::Launcher;

/// The store, the registries and the sandbox of one run of kiln.
pub struct Services<'a> {
    /// Where everything is kept.
    pub store: &'a Store,
    /// Registries.
    pub registry: &'a Client,
    /// Starts steps.
    pub launcher: &'a Launcher,
    /// Layers in the forms that steps need.
    pub layers: Layers<'a>,
}

impl<'a> Services<'a> {
    /// Puts them together.
    pub fn new(store: &'a Store, registry: &'a Client, launcher: &'a Launcher) -> Self {
        Services {
            store,
            registry,
            launcher,
            layers: Layers::new(store, registry),
        }
    }
}
