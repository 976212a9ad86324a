//! What a [`Client`](crate::Client) needs to know of the world; the crate finds none of it by itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::credentials::Credentials;

/// Settings of a client. `Options::default()` is anonymous, strict about TLS and patient.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Registries (`host` or `host:port`) that may be spoken to over plain HTTP when HTTPS fails. Loopback hosts always may.
    pub insecure: Vec<String>,
    /// Where user names, passwords and tokens come from.
    pub credentials: Credentials,
    /// The proxy for everything but loopback hosts.
    pub proxy: Option<Proxy>,
    /// Longest time to find and connect to a host.
    pub connect_timeout: Duration,
    /// Longest time without a byte moving in either direction.
    pub stall_timeout: Duration,
    /// How often a request is tried again after a broken connection, a 429 or a 5xx.
    pub retries: u32,
    /// How to wait before trying again.
    pub sleep: Sleep,
}

/// An HTTP proxy and the hosts that bypass it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// `http://[user:password@]host:port`.
    pub url: String,
    /// Entries of `NO_PROXY`: hosts, or domains with or without their leading dot; `*` is every host.
    pub bypass: Vec<String>,
}

/// A function that waits. Tests hand in one that only takes note.
#[derive(Clone)]
pub struct Sleep(Arc<dyn Fn(Duration) + Send + Sync>);

impl Sleep {
    /// Waits by calling `sleep`.
    pub fn new(sleep: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Sleep(Arc::new(sleep))
    }

    pub(crate) fn wait(&self, duration: Duration) {
        (self.0)(duration);
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sleep")
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            user_agent: concat!("kiln/", env!("CARGO_PKG_VERSION")).to_owned(),
            insecure: Vec::new(),
            credentials: Credentials::default(),
            proxy: None,
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(60),
            retries: 4,
            sleep: Sleep::new(std::thread::sleep),
        }
    }
}
