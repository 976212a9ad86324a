//! One module an operation of the build graph.

pub(crate) mod archive;
pub(crate) mod cache_mount;
pub(crate) mod copy;
pub(crate) mod exec;
pub mod file;
mod log_limit;
pub(crate) mod mkdir;
pub(crate) mod mounts;

pub use log_limit::LogLimit;
