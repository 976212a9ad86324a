//! Everything that can go wrong between kiln and a registry.
//!
//! The first line of each message says what was attempted on which object; causes follow through `source()`. What the registry
//! itself said is kept, shortened to one line, in `detail`.

use std::io;

use kiln_image::Digest;
use thiserror::Error;

use crate::attempt::Attempt;
use crate::credentials::CredentialsError;
use crate::handshake::TlsFailure;
use crate::registries::RulesError;

/// A request to a registry that did not succeed.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// No answer: name not found, connection refused, TLS refused, cut off and retries used up.
    #[error("could not {at}: registry `{registry}` can't be reached")]
    Unreachable {
        /// What was attempted.
        at: Box<Attempt>,
        /// The host (and port) that was called: the registry, its token service or where it redirected to.
        registry: String,
        /// Why not.
        #[source]
        source: TransportError,
    },
    /// The registry answered that there is no such image or blob.
    #[error("could not {at}: not found in registry `{registry}`{}", said(detail))]
    NotFound {
        /// What was attempted.
        at: Box<Attempt>,
        /// The registry that answered.
        registry: String,
        /// The registry's own words; empty when it gave none.
        detail: String,
    },
    /// The registry wants credentials: none were given, or those given were refused.
    #[error("could not {at}: registry `{registry}` {}{}", refusal(*with_credentials), said(detail))]
    Unauthorized {
        /// What was attempted.
        at: Box<Attempt>,
        /// The host that refused.
        registry: String,
        /// Whether credentials were sent.
        with_credentials: bool,
        /// The registry's own words; empty when it gave none.
        detail: String,
    },
    /// The registry knows who asks and does not allow it.
    #[error("could not {at}: registry `{registry}` denies access{}", said(detail))]
    Denied {
        /// What was attempted.
        at: Box<Attempt>,
        /// The host that refused.
        registry: String,
        /// The registry's own words; empty when it gave none.
        detail: String,
    },
    /// Any other answer that is not a success, retries used up where they made sense.
    #[error(
        "could not {at}: registry `{registry}` answered {status}{}",
        said(detail)
    )]
    Status {
        /// What was attempted.
        at: Box<Attempt>,
        /// The host that answered.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words; empty when it gave none.
        detail: String,
    },
    /// The bytes that came are not the ones asked for, or not the ones the registry says they are.
    #[error("could not {at}: its content has digest {actual}, not {expected}")]
    DigestMismatch {
        /// What was attempted.
        at: Box<Attempt>,
        /// The digest that was asked for or announced.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// More or fewer bytes came than the descriptor says.
    #[error("could not {at}: {actual} bytes came where its descriptor says {expected}")]
    SizeMismatch {
        /// What was attempted.
        at: Box<Attempt>,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes that came; when too many, the count at which reading stopped.
        actual: u64,
    },
    /// A manifest or token answer over the limit.
    #[error("could not {at}: the answer of `{registry}` is larger than {limit} bytes")]
    TooLarge {
        /// What was attempted.
        at: Box<Attempt>,
        /// The host that answered.
        registry: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// An answer that the distribution specification does not allow.
    #[error("could not {at}: the answer of `{registry}` makes no sense: {problem}")]
    Protocol {
        /// What was attempted.
        at: Box<Attempt>,
        /// The host that answered.
        registry: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The credential file or helper failed.
    #[error("could not {at}: no usable credentials for `{registry}`")]
    Credentials {
        /// What was attempted.
        at: Box<Attempt>,
        /// The registry the credentials are for.
        registry: String,
        /// Why not.
        #[source]
        source: CredentialsError,
    },
    /// The rules about registries can't be read, or forbid this one.
    #[error("could not {at}")]
    Rules {
        /// What was attempted.
        at: Box<Attempt>,
        /// Why not.
        #[source]
        source: RulesError,
    },
    /// It was to be had neither from the registry nor from its mirrors.
    #[error("{source}; {mirrors}")]
    Mirrored {
        /// What the registry itself came to.
        source: Box<RegistryError>,
        /// What the mirrors came to.
        mirrors: String,
    },
    /// A mirror gave other bytes than were asked for. It isn't asked again.
    #[error("could not {at}: mirror `{mirror}` gave something else")]
    WrongMirror {
        /// What was attempted.
        at: Box<Attempt>,
        /// The host.
        mirror: String,
        /// What is wrong with what it gave.
        #[source]
        source: Box<RegistryError>,
    },
    /// A layer that its maker lets nobody pass on (Windows' base layers), and that the registry doesn't have.
    #[error(
        "could not {at}: it is a layer that may not be distributed, and the registry does not have it"
    )]
    Foreign {
        /// What was attempted.
        at: Box<Attempt>,
    },
    /// This machine's side failed: the blob to push could not be read, or the blob pulled could not be written.
    #[error("could not {at}: {side}")]
    Local {
        /// What was attempted.
        at: Box<Attempt>,
        /// `reading it here failed` or `writing it here failed`.
        side: &'static str,
        /// The file system's answer.
        #[source]
        source: io::Error,
    },
}

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransportError {
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// The name has no address.
    #[error("host name not found")]
    UnknownHost,
    /// Connecting, or waiting for the next bytes, took too long.
    #[error("timed out: {0}")]
    TimedOut(String),
    /// Somebody takes connections there, and never said a word.
    #[error("it takes connections and does not answer: {0}")]
    Silent(String),
    /// This side was asked to stop.
    #[error("stopped")]
    Stopped,
    /// The TLS handshake failed; most often an unknown certificate authority.
    #[error("TLS: {0}")]
    Tls(TlsFailure),
    /// The connection broke before the answer was whole.
    #[error("the connection was cut: {0}")]
    Cut(String),
    /// The proxy could not be used.
    #[error("proxy: {0}")]
    Proxy(String),
    /// Anything else the HTTP layer reports.
    #[error("{0}")]
    Other(String),
}

/// Whether this side was asked to stop, which is nobody's failure: what is behind an error of this crate.
pub fn is_stop(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<TransportError>())
        .any(|error| *error == TransportError::Stopped)
}

impl RegistryError {
    /// What was attempted.
    pub fn attempt(&self) -> &Attempt {
        match self {
            RegistryError::Unreachable { at, .. }
            | RegistryError::NotFound { at, .. }
            | RegistryError::Unauthorized { at, .. }
            | RegistryError::Denied { at, .. }
            | RegistryError::Status { at, .. }
            | RegistryError::DigestMismatch { at, .. }
            | RegistryError::SizeMismatch { at, .. }
            | RegistryError::TooLarge { at, .. }
            | RegistryError::Protocol { at, .. }
            | RegistryError::Credentials { at, .. }
            | RegistryError::Rules { at, .. }
            | RegistryError::Foreign { at }
            | RegistryError::WrongMirror { at, .. }
            | RegistryError::Local { at, .. } => at,
            RegistryError::Mirrored { source, .. } => source.attempt(),
        }
    }

    /// Whether the same, tried again, is answered by somebody else.
    pub fn is_worth_another_try(&self) -> bool {
        matches!(self, RegistryError::WrongMirror { .. })
    }

    /// The registry's own failure, without what its mirrors came to.
    pub fn of_registry(&self) -> &RegistryError {
        match self {
            RegistryError::Mirrored { source, .. } => source,
            other => other,
        }
    }
}

fn said(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(": {detail}")
    }
}

fn refusal(with_credentials: bool) -> &'static str {
    if with_credentials {
        "refused the credentials"
    } else {
        "asks for credentials"
    }
}
