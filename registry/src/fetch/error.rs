//! Why a download failed.

use std::io;

use thiserror::Error;

use crate::error::TransportError;

/// A download that did not succeed.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The address is none that a request can be sent to.
    #[error("could not download `{address}`: it is no valid address")]
    Address {
        /// The address.
        address: String,
    },
    /// No answer: name not found, connection refused, TLS refused, cut off and retries used up.
    #[error("could not download `{address}`: `{host}` can't be reached")]
    Unreachable {
        /// The address.
        address: String,
        /// The host that was called: that of the address, or where it redirected to.
        host: String,
        /// Why not.
        #[source]
        source: TransportError,
    },
    /// An answer that is no success (R-ADD-6).
    #[error("could not download `{address}`: invalid response status {status}")]
    Status {
        /// The address.
        address: String,
        /// The host that answered.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// An answer that HTTP does not allow.
    #[error("could not download `{address}`: the answer of `{host}` makes no sense: {problem}")]
    Protocol {
        /// The address.
        address: String,
        /// The host that answered.
        host: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What came after the connection was cut does not belong to what came before.
    #[error("could not download `{address}`: it changed while it was downloaded")]
    Changed {
        /// The address.
        address: String,
    },
    /// It is not encoded as its header says.
    #[error("could not download `{address}`: its content is damaged")]
    Damaged {
        /// The address.
        address: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// This machine's side failed.
    #[error("could not download `{address}`: writing it here failed")]
    Local {
        /// The address.
        address: String,
        /// The file system's answer.
        #[source]
        source: io::Error,
    },
}
