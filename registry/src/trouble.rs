//! Why a registry gave no good answer: whether it may give one another time, and what is said of it if not.

use std::time::Duration;

use crate::attempt::Attempt;
use crate::error::{RegistryError, TransportError};
use crate::host::Url;
use crate::retry::{self, Setback};
use crate::transport::{Answer, BodyError, ExchangeError};

/// Why a question has no answer: for good, or perhaps not the next time.
pub(crate) enum Trouble {
    Final(RegistryError),
    Transport {
        host: String,
        error: TransportError,
    },
    /// An answer that may be another one later, after as long as it says.
    Busy {
        error: RegistryError,
        asked: Option<Duration>,
    },
}

impl Trouble {
    pub(crate) fn of(at: &Attempt, url: &Url, error: ExchangeError) -> Self {
        match error {
            ExchangeError::Transport(error) => Trouble::Transport {
                host: url.authority().to_owned(),
                error,
            },
            ExchangeError::Payload(source) => Trouble::Final(RegistryError::Local {
                at: Box::new(at.clone()),
                side: "reading it here failed",
                source,
            }),
        }
    }

    /// How often it may be asked again, and what to say if not.
    pub(crate) fn setback(self, at: &Attempt, retries: u32) -> Setback<RegistryError> {
        match self {
            Trouble::Transport { host, error } => {
                let tries = retry::limit(&error, retries);
                let error = unreachable(at, &host, error);
                Setback::at(host, tries, error)
            }
            Trouble::Busy { error, asked } => Setback {
                host: error.attempt().registry().to_owned(),
                tries: retries,
                asked,
                error: Box::new(error),
            },
            Trouble::Final(error) => Setback::last(error),
        }
    }

    /// Of an answer that is not a success.
    pub(crate) fn refused(at: &Attempt, answer: Answer) -> Self {
        let asked = retry::asked_pause(&answer.headers);
        match retry::passing_status(answer.status) {
            true => Trouble::Busy {
                error: refused(at, answer),
                asked,
            },
            false => Trouble::Final(refused(at, answer)),
        }
    }
}

pub(crate) fn unreachable(at: &Attempt, host: &str, error: TransportError) -> RegistryError {
    RegistryError::Unreachable {
        at: Box::new(at.clone()),
        registry: host.to_owned(),
        source: error,
    }
}

pub(crate) fn protocol(at: &Attempt, host: &str, problem: impl Into<String>) -> RegistryError {
    RegistryError::Protocol {
        at: Box::new(at.clone()),
        registry: host.to_owned(),
        problem: problem.into(),
    }
}

/// The error for a body that could not be read whole.
pub(crate) fn body_failure(
    at: &Attempt,
    host: &str,
    limit: u64,
    error: BodyError,
) -> RegistryError {
    match error {
        BodyError::TooLarge => RegistryError::TooLarge {
            at: Box::new(at.clone()),
            registry: host.to_owned(),
            limit,
        },
        BodyError::Transport(error) => unreachable(at, host, error),
    }
}

pub(crate) fn unauthorized(at: &Attempt, answer: Answer, with_credentials: bool) -> RegistryError {
    let registry = answer.url.authority().to_owned();
    RegistryError::Unauthorized {
        at: Box::new(at.clone()),
        registry,
        with_credentials,
        detail: answer.detail(),
    }
}

/// The error for an answer that is not a success.
pub(crate) fn refused(at: &Attempt, answer: Answer) -> RegistryError {
    let at = Box::new(at.clone());
    let registry = answer.url.authority().to_owned();
    let status = answer.status;
    let detail = answer.detail();
    match status {
        401 => RegistryError::Unauthorized {
            at,
            registry,
            with_credentials: false,
            detail,
        },
        403 => RegistryError::Denied {
            at,
            registry,
            detail,
        },
        404 => RegistryError::NotFound {
            at,
            registry,
            detail,
        },
        _ => RegistryError::Status {
            at,
            registry,
            status,
            detail,
        },
    }
}
