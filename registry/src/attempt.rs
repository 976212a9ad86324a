//! What was being done when something went wrong: the first half of every error message.

use std::fmt;

use kiln_image::{Digest, Reference};

/// One thing asked of a registry. Displays as a phrase with a verb: ``pull blob sha256:… of `alpine:3` ``.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What was done.
    pub act: Act,
    /// What it was done for.
    pub subject: Subject,
}

/// The kinds of things that are asked of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// See whether a user may log in.
    LogIn,
    /// Find the manifest or index behind a tag or digest.
    Resolve,
    /// Fetch a manifest by its digest.
    PullManifest(Digest),
    /// Fetch a layer or config.
    PullBlob(Digest),
    /// Ask whether a layer or config is there.
    CheckBlob(Digest),
    /// Upload a layer or config.
    PushBlob(Digest),
    /// Upload a manifest or index.
    PushManifest,
}

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An image.
    Image(Reference),
    /// A registry as such: `host` or `host:port`.
    Registry(String),
}

impl Act {
    /// Whether it is about something that the registry is to have.
    pub fn reads(self) -> bool {
        match self {
            Act::Resolve | Act::PullManifest(_) | Act::PullBlob(_) => true,
            Act::LogIn | Act::CheckBlob(_) | Act::PushBlob(_) | Act::PushManifest => false,
        }
    }
}

impl Attempt {
    pub(crate) fn new(act: Act, reference: &Reference) -> Self {
        Attempt {
            act,
            subject: Subject::Image(reference.clone()),
        }
    }

    pub(crate) fn log_in(registry: &str) -> Self {
        Attempt {
            act: Act::LogIn,
            subject: Subject::Registry(registry.to_owned()),
        }
    }

    /// The registry that was asked, as the reference names it.
    pub fn registry(&self) -> &str {
        match &self.subject {
            Subject::Image(reference) => reference.registry(),
            Subject::Registry(registry) => registry,
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = match &self.subject {
            Subject::Image(reference) => reference.familiar(),
            Subject::Registry(registry) => registry.clone(),
        };
        match self.act {
            Act::LogIn => write!(f, "log in to `{subject}`"),
            Act::Resolve => write!(f, "resolve `{subject}`"),
            Act::PullManifest(digest) => write!(f, "pull manifest {digest} of `{subject}`"),
            Act::PullBlob(digest) => write!(f, "pull blob {digest} of `{subject}`"),
            Act::CheckBlob(digest) => write!(f, "look for blob {digest} of `{subject}`"),
            Act::PushBlob(digest) => write!(f, "push blob {digest} of `{subject}`"),
            Act::PushManifest => write!(f, "push the manifest of `{subject}`"),
        }
    }
}
