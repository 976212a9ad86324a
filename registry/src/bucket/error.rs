//! What can go wrong between kiln and a bucket. Nothing here has an address: those are signed.

use std::io;

use kiln_image::Digest;
use thiserror::Error;

use crate::error::TransportError;

/// A request about an object that did not succeed.
#[derive(Debug, Error)]
#[error("could not {act} {}bucket `{bucket}`", object(key))]
pub struct BucketError {
    /// What was attempted: `read`, `write`…
    pub act: &'static str,
    /// On which object.
    pub key: String,
    /// In which bucket.
    pub bucket: String,
    /// Why not.
    #[source]
    pub why: Box<Refusal>,
}

/// Why a request about an object did not succeed.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The bucket can't be spoken to as it is described.
    #[error("{0}")]
    Settings(String),
    /// Nobody answers.
    #[error("`{host}` can't be reached: {source}")]
    Unreachable {
        /// The host that was called.
        host: String,
        /// Why not.
        source: TransportError,
    },
    /// Who asks may not do that.
    #[error("`{host}` denies it{}{}", said(detail), anonymous(*signed))]
    Denied {
        /// The host that answered.
        host: String,
        /// The server's own words.
        detail: String,
        /// Whether the request was signed.
        signed: bool,
    },
    /// The bucket is elsewhere.
    #[error("`{host}` says that the bucket is in {}", place_of(.region.as_deref()))]
    Elsewhere {
        /// The host that answered.
        host: String,
        /// Where, if it says so.
        region: Option<String>,
    },
    /// Any other answer that is no success.
    #[error("`{host}` answered {status}{}", said(detail))]
    Status {
        /// The host that answered.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The server's own words.
        detail: String,
    },
    /// An answer that is none.
    #[error("the answer of `{host}` makes no sense: {problem}")]
    Protocol {
        /// The host that answered.
        host: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Other bytes than its name says.
    #[error("its content has digest {actual}, not {expected}")]
    Digest {
        /// The digest it should have.
        expected: Digest,
        /// The one it has.
        actual: Digest,
    },
    /// More or fewer bytes than it should have.
    #[error("it has {actual} bytes where {expected} were announced")]
    Size {
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has; when too many, the count at which reading stopped.
        actual: u64,
    },
    /// More than anybody reads of such an object.
    #[error("it is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// This machine's side failed.
    #[error("{side}: {source}")]
    Local {
        /// `reading it here failed` or `writing it here failed`.
        side: &'static str,
        /// The file system's answer.
        source: io::Error,
    },
}

fn object(key: &str) -> String {
    match key {
        "" => String::new(),
        key => format!("`{key}` in "),
    }
}

fn said(detail: &str) -> String {
    match detail {
        "" => String::new(),
        detail => format!(": {detail}"),
    }
}

fn anonymous(signed: bool) -> &'static str {
    match signed {
        true => "",
        false => "; no access key was given",
    }
}

fn place_of(known: Option<&str>) -> String {
    known.map_or_else(
        || "another region".to_owned(),
        |region| format!("the region `{region}`"),
    )
}
