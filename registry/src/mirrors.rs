//! Pulling from the first place that has something: mirrors by their order, the registry last.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kiln_image::Reference;

use crate::attempt::Attempt;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::session::Session;

/// Which place served an image's manifest: its blobs are asked for there first.
#[derive(Debug, Default)]
pub(crate) struct Mirrors(Mutex<HashMap<String, Endpoint>>);

impl Mirrors {
    fn served(&self, image: &Reference) -> Option<Endpoint> {
        let served = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        served.get(&image.name()).cloned()
    }

    fn note(&self, image: &Reference, endpoint: &Endpoint) {
        let mut served = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        served.insert(image.name(), endpoint.clone());
    }
}

/// Does `pull` with each place that may have the image until one has it. A failure that is this machine's own ends it.
pub(crate) fn from_any<T>(
    session: &Session,
    at: &Attempt,
    image: &Reference,
    mut pull: impl FnMut(&Endpoint) -> Result<T, RegistryError>,
) -> Result<T, RegistryError> {
    let rules = session.rules(at)?.to_pull(image);
    let mut endpoints = rules.map_err(|source| RegistryError::Rules {
        at: Box::new(at.clone()),
        source,
    })?;
    let own = endpoints.last().cloned();
    let mut failures = Vec::new();
    let served = session.mirrors.served(image);
    if let Some(first) = endpoints
        .iter()
        .position(|endpoint| Some(endpoint) == served.as_ref())
    {
        endpoints[..=first].rotate_right(1);
    }
    let mut of_registry = None;
    let several = endpoints.len() > 1;
    for endpoint in &endpoints {
        match pull(endpoint) {
            Ok(pulled) => {
                if several {
                    session.mirrors.note(image, endpoint);
                }
                return Ok(pulled);
            }
            Err(error @ RegistryError::Local { .. }) => return Err(error),
            Err(error) if Some(endpoint) == own.as_ref() => of_registry = Some(error),
            Err(error) => failures.push(format!("mirror `{}`: {}", endpoint.host, brief(&error))),
        }
    }
    let error = of_registry.expect("the registry itself was among them");
    Err(if failures.is_empty() {
        error
    } else {
        RegistryError::Mirrored {
            source: Box::new(error),
            mirrors: failures.join("; "),
        }
    })
}

/// What went wrong, without what was attempted, which is told once.
fn brief(error: &RegistryError) -> String {
    let text = error.to_string();
    let attempt = format!("could not {}: ", error.attempt());
    let text = text.strip_prefix(&attempt).unwrap_or(&text).to_owned();
    match std::error::Error::source(error) {
        Some(cause) => format!("{text} ({cause})"),
        None => text,
    }
}
