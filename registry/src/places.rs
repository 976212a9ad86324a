//! Which places are asked: what the rules about registries say, and then what `hosts.toml` says of the registry among them.

use std::sync::Arc;

use kiln_image::Reference;

use crate::attempt::{Act, Attempt};
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::hosts::{self, Capabilities, Host};
use crate::registries::RulesError;
use crate::session::{Session, rules_failure};

impl Session {
    /// Where an image is asked for by `at`, in that order; the last one is the registry itself, or what its file says it is.
    pub(crate) fn to_pull(
        &self,
        at: &Attempt,
        image: &Reference,
    ) -> Result<Vec<Endpoint>, RegistryError> {
        let by_tag = at.act == Act::Resolve && image.digest().is_none();
        let may = |can: Capabilities| match by_tag {
            true => can.resolve,
            false => can.pull,
        };
        let places = self.rules(at)?.to_pull(image);
        let mut places = places.map_err(|source| rules_failure(at, source))?;
        let own = places.pop().expect("the registry itself is among them");
        let hosts = self.hosts_of(&own, may);
        places.extend(hosts.map_err(|source| rules_failure(at, source))?);
        match places.is_empty() {
            true => Err(nobody(at, &own)),
            false => Ok(places),
        }
    }

    /// Where an image is sent.
    pub(crate) fn to_push(
        &self,
        at: &Attempt,
        image: &Reference,
    ) -> Result<Endpoint, RegistryError> {
        let endpoint = self.rules(at)?.to_push(image);
        let mut endpoint = endpoint.map_err(|source| rules_failure(at, source))?;
        let hosts = &self.options.insecure_pushes;
        endpoint.insecure |= hosts.iter().any(|host| host == image.registry());
        self.one_of(at, &endpoint, |can| can.push)
    }

    /// The registry as such.
    pub(crate) fn registry(&self, at: &Attempt, registry: &str) -> Result<Endpoint, RegistryError> {
        let endpoint = self.rules(at)?.registry(registry);
        self.one_of(at, &endpoint, |can| can.push)
    }

    fn one_of(
        &self,
        at: &Attempt,
        own: &Endpoint,
        may: impl Fn(Capabilities) -> bool,
    ) -> Result<Endpoint, RegistryError> {
        let hosts = self.hosts_of(own, may);
        let mut hosts = hosts
            .map_err(|source| rules_failure(at, source))?
            .into_iter();
        hosts.next().ok_or_else(|| nobody(at, own))
    }

    /// What stands for a registry by its file, or the registry itself.
    fn hosts_of(
        &self,
        own: &Endpoint,
        may: impl Fn(Capabilities) -> bool,
    ) -> Result<Vec<Endpoint>, RulesError> {
        let Some(hosts) = self.host_entries(&own.host)? else {
            return Ok(vec![own.clone()]);
        };
        let able = hosts.iter().filter(|host| may(host.capabilities));
        Ok(able.map(|host| own.at(host)).collect())
    }

    /// The file of a registry, read once.
    fn host_entries(&self, registry: &str) -> Result<Option<Arc<[Arc<Host>]>>, RulesError> {
        if let Some(known) = self.known_hosts().get(registry) {
            return Ok(known.clone());
        }
        let found = hosts::find(&self.options.certificates, registry)?;
        let found = found.map(|hosts| hosts.into_iter().map(Arc::new).collect());
        let mut known = self.known_hosts();
        Ok(known.entry(registry.to_owned()).or_insert(found).clone())
    }
}

fn nobody(at: &Attempt, own: &Endpoint) -> RegistryError {
    let registry = own.host.clone();
    rules_failure(at, RulesError::Nobody { registry })
}
