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
mod replies;
mod silence;
mod tokens;
mod uploads;

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use kiln_image::{Digest, Reference};
use oci_spec::image::{Descriptor, MediaType};

use crate::testing::TestRegistry;
use crate::{Client, Options, RegistryError, Sleep};

/// A client that never sleeps, and the pauses it would have made.
fn client_with(options: Options) -> (Client, Arc<Mutex<Vec<Duration>>>) {
    let pauses = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&pauses);
    let sleep = Sleep::new(move |pause| kept.lock().unwrap().push(pause));
    (Client::new(Options { sleep, ..options }), pauses)
}

/// Nobody is let in, `shown` whom or nobody.
#[track_caller]
fn assert_unauthorized(error: &RegistryError, shown: bool) {
    let RegistryError::Unauthorized {
        with_credentials, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(*with_credentials, shown, "{error}");
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

/// Serves each connection with `serve`, which is told how many came before.
fn host(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> SocketAddr {
    host_at("127.0.0.1:0", serve).unwrap()
}

/// The same at this address.
fn host_at(
    address: &str,
    serve: impl Fn(TcpStream, usize) + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for (number, connection) in listener.incoming().flatten().enumerate() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(connection, number));
        }
    });
    Ok(address)
}

/// Takes a request's head, and tells its first line.
fn head(connection: &TcpStream) -> String {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    while lines
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
    first
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
