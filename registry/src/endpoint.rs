//! Where the images of a repository are asked for.

use kiln_image::Reference;

/// A repository at the host that is asked for it. By and large that is what a reference says; rules may say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `host` or `host:port`, as people write it: `docker.io`.
    pub(crate) host: String,
    /// The repository there; empty for the registry as such.
    pub(crate) repository: String,
    /// Whether it may be spoken to in the clear, and with a certificate that nobody vouches for.
    pub(crate) insecure: bool,
}

impl Endpoint {
    /// Just what `reference` says.
    pub(crate) fn of(reference: &Reference) -> Self {
        Endpoint {
            host: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            insecure: false,
        }
    }

    /// The registry as such.
    pub(crate) fn registry(host: &str) -> Self {
        Endpoint {
            host: host.to_owned(),
            repository: String::new(),
            insecure: false,
        }
    }
}
