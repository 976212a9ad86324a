//! The OCI distribution specification, as a client: find manifests, pull and push blobs, authenticate; and plain downloads, and the
//! objects of S3-compatible servers.
//!
//! This is the only crate of kiln that speaks HTTP or TLS. It reads no environment and prints nothing: proxies, credential
//! files and those of rules about registries are handed in through [`Options`], progress goes out through callbacks, and every
//! failure is a [`RegistryError`] that names what was attempted and on what.
//!
//! ```no_run
//! use kiln_image::Reference;
//! use kiln_registry::{Client, Options};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(Options::default());
//! let alpine: Reference = "alpine:3".parse()?;
//! let resolved = client.resolve(&alpine)?;
//! assert!(resolved.bytes.len() as u64 == resolved.descriptor.size());
//! # Ok(())
//! # }
//! ```
//!
//! What a registry may try, and what stops it: tokens and passwords go only to the host they are for and are dropped on a
//! redirect elsewhere ([`Client`] follows redirects itself); manifests, token answers and error bodies are read up to a limit;
//! blobs are streamed and stop at their declared size; everything with a digest is checked against it.

mod attempt;
mod auth;
mod bucket;
mod certificates;
mod challenge;
mod client;
mod credentials;
mod endpoint;
mod error;
mod fetch;
mod forwarded;
mod handshake;
mod home;
mod host;
mod hosts;
mod locked;
mod login;
mod mirrors;
mod options;
mod places;
mod proxy;
mod pull;
mod push;
mod referrers;
mod registries;
mod retry;
mod session;
mod socket;
mod stop;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tls;
mod transport;
mod tree;
mod trouble;
mod upload;
mod waits;
mod warnings;

pub use attempt::{Act, Attempt, Subject};
pub use bucket::{
    AccessKey, Bucket, BucketError, BucketSettings, ContainerToken, Found, KeyLender, Refusal,
    Upload,
};
pub use client::{Client, MANIFEST_LIMIT, Pushed, Resolved};
pub use credentials::{Credential, CredentialSource, Credentials, CredentialsError, Kept};
pub use error::{RegistryError, TransportError, is_stop};
pub use fetch::{Answered, Authorization, Body, Download, FetchError, Validators, secret_values};
pub use handshake::TlsFailure;
pub use host::is_loopback;
pub use options::{Options, Sleep};
pub use proxy::Proxy;
pub use registries::{RegistryRules, RuleFile, RulesError};
pub use stop::Stopper;
pub use tree::{BlobSource, ManifestTree};
pub use waits::Waiting;

#[cfg(test)]
mod tests;
