//! One module an operation of the build graph.

mod archive;
pub(crate) mod copy;
pub(crate) mod exec;
pub mod file;
pub(crate) mod mkdir;
