//! Pulling from the first place that has something: mirrors by their order, the registry last.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use kiln_image::Reference;

use crate::attempt::Attempt;
use crate::endpoint::Endpoint;
use crate::error::{RegistryError, TransportError};
use crate::locked::locked;
use crate::session::Session;

/// What is known of the places of images.
#[derive(Debug, Default)]
pub(crate) struct Mirrors(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Which place served an image's manifest: its blobs are asked for there first.
    served: HashMap<String, Endpoint>,
    /// Places that gave something else than was asked for.
    wrong: Vec<Endpoint>,
}

impl Mirrors {
    fn served(&self, image: &Reference) -> Option<Endpoint> {
        self.known().served.get(&image.name()).cloned()
    }

    fn note(&self, image: &Reference, endpoint: &Endpoint) {
        self.known().served.insert(image.name(), endpoint.clone());
    }

    /// Has a place not asked any more.
    fn distrust(&self, endpoint: &Endpoint) {
        self.known().wrong.push(endpoint.clone());
    }

    fn is_trusted(&self, endpoint: &Endpoint) -> bool {
        !self.known().wrong.contains(endpoint)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        locked(&self.0)
    }
}

/// Does `pull` with each place that may have the image until one has it. A failure that is this machine's own ends it.
pub(crate) fn from_any<T>(
    session: &Session,
    at: &Attempt,
    image: &Reference,
    mut pull: impl FnMut(&Endpoint) -> Result<T, RegistryError>,
) -> Result<T, RegistryError> {
    let mut endpoints = session.to_pull(at, image)?;
    let own = endpoints.last().cloned();
    let is_own = |endpoint: &Endpoint| Some(endpoint) == own.as_ref();
    endpoints.retain(|endpoint| is_own(endpoint) || session.mirrors.is_trusted(endpoint));
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
            Err(error) if is_this_sides(&error) => return Err(error),
            Err(error) if is_own(endpoint) => of_registry = Some(error),
            Err(error) => {
                let failure = format!("mirror `{}`: {}", endpoint.host, brief(&error));
                if !matches!(error, RegistryError::NotFound { .. }) {
                    session
                        .warnings
                        .add(format!("{failure}; the next place is asked"));
                }
                if matches!(error, RegistryError::DigestMismatch { .. }) {
                    session.mirrors.distrust(endpoint);
                }
                failures.push(failure);
            }
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

fn is_this_sides(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Local { .. }
            | RegistryError::Unreachable {
                source: TransportError::Stopped,
                ..
            }
    )
}

/// What to say of wrong bytes that came from `givers`, one after another. The first mirror among them is not asked again, as
/// nobody knows whose part was wrong, and then it is worth another try.
pub(crate) fn blame(
    session: &Session,
    at: &Attempt,
    image: &Reference,
    givers: Vec<Endpoint>,
    error: RegistryError,
) -> RegistryError {
    let own = session
        .to_pull(at, image)
        .ok()
        .and_then(|mut places| places.pop());
    let mut mirrors = givers
        .into_iter()
        .filter(|giver| Some(giver) != own.as_ref());
    let Some(mirror) = mirrors.next() else {
        return error;
    };
    session.mirrors.distrust(&mirror);
    let mirror = mirror.host;
    session.warnings.add(format!(
        "mirror `{mirror}`: {}; it isn't asked again",
        brief(&error)
    ));
    RegistryError::WrongMirror {
        at: Box::new(at.clone()),
        mirror,
        source: Box::new(error),
    }
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
