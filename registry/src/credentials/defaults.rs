//! The `credential-helpers` of `containers-registries.conf(5)`: programs that have credentials for all registries, before the usual
//! files, after them, or instead of them. They know registries as such and no namespaces.

use super::file::{normal, servers};
use super::helper::{self, Patience};
use super::{Credential, CredentialsError, Kept};
use crate::registries::{AUTH_FILES, RegistryRules, Rules};

/// Where credentials may be.
pub(super) enum Place<'a> {
    /// In the usual files.
    Files,
    /// With a program.
    Helper(Helper<'a>),
}

/// The program `docker-credential-NAME`, by this name.
pub(super) struct Helper<'a>(&'a str);

/// What the first place gives that has something. One that fails is passed over if another has it, as podman has it; if none has, the
/// first failure counts.
pub(super) fn first<T>(
    rules: &RegistryRules,
    mut ask: impl FnMut(Place<'_>) -> Result<Option<T>, CredentialsError>,
) -> Result<Option<T>, CredentialsError> {
    let rules = Rules::read(rules).map_err(CredentialsError::Rules)?;
    let named = rules.helpers.filter(|names| !names.is_empty());
    let names = named.unwrap_or_else(|| vec![AUTH_FILES.to_owned()]);
    let mut failure = None;
    for name in &names {
        let place = match name.as_str() {
            AUTH_FILES => Place::Files,
            name => Place::Helper(Helper(name)),
        };
        match ask(place) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(None), Err)
}

impl Helper<'_> {
    pub(super) fn find(
        &self,
        registry: &str,
        patience: &Patience,
    ) -> Result<Option<Credential>, CredentialsError> {
        for server in called(&normal(registry)) {
            if let Some(found) = helper::get(self.0, server, patience)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    pub(super) fn store(
        &self,
        registry: &str,
        credential: &Credential,
    ) -> Result<Kept, CredentialsError> {
        let name = normal(registry);
        if name.contains('/') {
            let problem = "can't keep credentials for a part of a registry";
            return Err(helper::failed(self.0, "store", problem));
        }
        helper::store(self.0, &name, credential)?;
        Ok(Kept::ByHelper(self.0.to_owned()))
    }

    pub(super) fn erase(&self, registry: &str) -> Result<bool, CredentialsError> {
        let name = normal(registry);
        let mut erased = false;
        if name.contains('/') {
            return Ok(erased);
        }
        for server in called(&name) {
            // Helpers differ in whether they complain about what they don't have.
            let known = helper::get(self.0, server, &Patience::default())?.is_some();
            erased |= known && helper::erase(self.0, server)?;
        }
        Ok(erased)
    }
}

/// What podman calls a registry to helpers, and after that what Docker does.
fn called(name: &str) -> impl Iterator<Item = &str> {
    let others = servers(name).filter(move |server| *server != name);
    std::iter::once(name).chain(others)
}
