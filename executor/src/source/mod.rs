//! Where trees come from: the contexts of a build, downloads and git repositories, and images from registries.

pub(crate) mod context;
pub(crate) mod folder;
pub(crate) mod git;
pub(crate) mod http;
pub(crate) mod inventory;
pub(crate) mod load;
pub(crate) mod modes;
pub(crate) mod remote;
pub(crate) mod spooled;
mod walk;
