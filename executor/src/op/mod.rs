//! One module an operation of the build graph.
pub mod file;
