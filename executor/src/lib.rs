//! Do what must be done: run vertices in order, in parallel, in sandboxes; emit layers.
pub mod op;
pub mod sandbox;
pub mod sys;
