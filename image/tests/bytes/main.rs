//! Layers, layouts and archives as bytes: what is written, what is read, and what is refused.

#![allow(clippy::unwrap_used)]

mod fixture;

mod images;
mod layer_apply;
mod layer_read;
mod layer_roundtrip;
mod layer_write;
mod scanning;
