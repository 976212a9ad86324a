//! The client against the registry of [`crate::testing`].
#![allow(clippy::unwrap_used)]

mod access;
mod bucket;
mod conformance;
mod fetching;
mod hostile;
mod hosts;
mod mirrors;
mod proxies;
mod pulling;
mod pushing;
mod silence;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln_image::{Digest, Reference};
use oci_spec::image::{Descriptor, MediaType};

use crate::testing::TestRegistry;
use crate::{Client, Options, Sleep};

/// A client that never sleeps, and the pauses it would have made.
fn client_with(options: Options) -> (Client, Arc<Mutex<Vec<Duration>>>) {
    let pauses = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&pauses);
    let sleep = Sleep::new(move |pause| kept.lock().unwrap().push(pause));
    (Client::new(Options { sleep, ..options }), pauses)
}

fn client() -> Client {
    client_with(Options::default()).0
}

fn reference(registry: &TestRegistry, rest: &str) -> Reference {
    format!("{}/{rest}", registry.host()).parse().unwrap()
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::new(
        MediaType::ImageLayerGzip,
        bytes.len() as u64,
        Digest::of(bytes).to_oci(),
    )
}

/// Bytes that differ everywhere.
fn noise(length: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length as usize * 4);
    for at in 0..length {
        bytes.extend_from_slice(&at.wrapping_mul(2_654_435_761).to_le_bytes());
    }
    bytes
}

/// The request lines that start with `method`, in order.
fn lines(registry: &TestRegistry, method: &str) -> Vec<String> {
    registry
        .received()
        .into_iter()
        .map(|request| request.line)
        .filter(|line| line.starts_with(method))
        .collect()
}
