//! Where trees come from: the build context on this machine, and images from registries.

pub(crate) mod context;
mod walk;
