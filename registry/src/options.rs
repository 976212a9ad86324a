//! What a [`Client`](crate::Client) needs to know of the world; the crate finds none of it by itself.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::credentials::Credentials;
use crate::proxy::Proxy;
use crate::registries::RegistryRules;
use crate::stop::Stopper;

/// Settings of a client. `Options::default()` is anonymous, strict about TLS and patient.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Whether certificates are checked and plain HTTP is refused, for all registries; `None` leaves it to the rules, and to
    /// plain HTTP being good enough on loopback.
    pub tls_verify: Option<bool>,
    /// Mirrors, insecure and blocked registries.
    pub rules: RegistryRules,
    /// Registries (`host` or `host:port`) that are pushed to as if a rule called them insecure.
    pub insecure_pushes: Vec<String>,
    /// Folders like `/etc/docker/certs.d` and `/etc/containerd/certs.d`, the most important first.
    pub certificates: Vec<PathBuf>,
    /// Where user names, passwords and tokens come from.
    pub credentials: Credentials,
    /// Proxies for everything but loopback hosts.
    pub proxy: Proxy,
    /// Longest time to find and connect to a host.
    pub connect_timeout: Duration,
    /// Longest time without a byte moving in either direction. The end of a large upload may take longer.
    pub stall_timeout: Duration,
    /// How often a request is tried again after a broken connection, a 429 or a 5xx.
    pub retries: u32,
    /// How to wait before trying again.
    pub sleep: Sleep,
}

/// How pauses are made. Tests hand in a function that only takes note.
#[derive(Clone, Default)]
pub struct Sleep(Option<Arc<dyn Fn(Duration) + Send + Sync>>);

impl Sleep {
    /// Waits by calling `sleep`.
    pub fn new(sleep: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Sleep(Some(Arc::new(sleep)))
    }

    /// Waits, at the longest until the stop.
    pub(crate) fn wait(&self, duration: Duration, stopper: &Stopper) {
        match &self.0 {
            Some(sleep) => sleep(duration),
            None => stopper.pause(duration),
        }
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
            tls_verify: None,
            rules: RegistryRules::default(),
            insecure_pushes: Vec::new(),
            certificates: Vec::new(),
            credentials: Credentials::default(),
            proxy: Proxy::default(),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            retries: 4,
            sleep: Sleep::default(),
        }
    }
}
