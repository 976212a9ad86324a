//! What was being done when something went wrong: the first half of every error message.

use std::fmt;

use kiln_image::{Digest, Reference};

/// One thing asked of a registry. Displays as a phrase with a verb: ``pull blob sha256:… of `alpine:3` ``.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What was done.
    pub act: Act,
    /// The image it was done for.
    pub reference: Reference,
}

/// The kinds of things that are asked of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
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

impl Attempt {
    pub(crate) fn new(act: Act, reference: &Reference) -> Self {
        Attempt {
            act,
            reference: reference.clone(),
        }
    }

    /// The registry that was asked, as the reference names it.
    pub fn registry(&self) -> &str {
        self.reference.registry()
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let image = self.reference.familiar();
        match self.act {
            Act::Resolve => write!(f, "resolve `{image}`"),
            Act::PullManifest(digest) => write!(f, "pull manifest {digest} of `{image}`"),
            Act::PullBlob(digest) => write!(f, "pull blob {digest} of `{image}`"),
            Act::CheckBlob(digest) => write!(f, "look for blob {digest} of `{image}`"),
            Act::PushBlob(digest) => write!(f, "push blob {digest} of `{image}`"),
            Act::PushManifest => write!(f, "push the manifest of `{image}`"),
        }
    }
}
