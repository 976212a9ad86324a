//! One module an operation of the build graph.

mod agent_forward;
pub(crate) mod archive;
pub(crate) mod boundary;
pub(crate) mod cache_mount;
pub(crate) mod copy;
mod deadline;
pub(crate) mod exec;
pub mod file;
pub(crate) mod limits;
mod log_limit;
pub(crate) mod mkdir;
pub(crate) mod mounts;
pub(crate) mod retry;

pub use log_limit::LogLimit;
