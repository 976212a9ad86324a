//! Where trees come from: the build context on this machine, downloads and git repositories, and images from registries.

pub(crate) mod context;
pub(crate) mod git;
pub(crate) mod http;
pub(crate) mod remote;
mod walk;
