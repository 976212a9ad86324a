//! Where the images of a repository are asked for.

use std::sync::Arc;

use kiln_image::Reference;

use crate::host::{Url, server_of};
use crate::hosts::Host;

/// A repository at the host that is asked for it. By and large that is what a reference says; rules may say otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// `host` or `host:port`, as people write it: `docker.io`.
    pub(crate) host: String,
    /// The repository there; empty for the registry as such.
    pub(crate) repository: String,
    /// Whether it may be spoken to in the clear, and with a certificate that nobody vouches for.
    pub(crate) insecure: bool,
    /// What a `hosts.toml` says of it.
    pub(crate) host_entry: Option<Arc<Host>>,
    /// The registry it stands in for, if its `hosts.toml` says that it does.
    pub(crate) stands_for: Option<String>,
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        let name = |endpoint: &Endpoint| endpoint.host_entry.as_ref().map(|host| host.name.clone());
        self.host == other.host
            && self.repository == other.repository
            && self.insecure == other.insecure
            && name(self) == name(other)
    }
}

impl Endpoint {
    /// Just what `reference` says.
    pub(crate) fn of(reference: &Reference) -> Self {
        Endpoint {
            host: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            insecure: false,
            host_entry: None,
            stands_for: None,
        }
    }

    /// The registry as such.
    pub(crate) fn registry(host: &str) -> Self {
        Endpoint {
            host: host.to_owned(),
            repository: String::new(),
            insecure: false,
            host_entry: None,
            stands_for: None,
        }
    }

    /// The same repository at a host of a `hosts.toml`.
    pub(crate) fn at(&self, host: &Arc<Host>) -> Self {
        let base = host.base.as_ref();
        let elsewhere = base.filter(|base| base.authority() != server_of(&self.host));
        Endpoint {
            host: elsewhere.map_or_else(|| self.host.clone(), |base| base.authority().to_owned()),
            stands_for: elsewhere.map(|_| self.host.clone()),
            host_entry: Some(Arc::clone(host)),
            ..self.clone()
        }
    }

    /// What is known of the host at an address, if it is the one of this place.
    pub(crate) fn entry_for(&self, url: &Url) -> Option<&Host> {
        let entry = self.host_entry.as_deref()?;
        let is_it = match &entry.base {
            Some(base) => base.same_origin(url),
            None => url.authority() == server_of(&self.host),
        };
        is_it.then_some(entry)
    }
}
