//! The client: one object for all registries, shared by threads.

use std::io::{self, Read, Write};
use std::time::Duration;

use kiln_image::{Digest, Reference};
use oci_spec::image::Descriptor;

use crate::attempt::{Act, Attempt};
use crate::auth::Scopes;
use crate::credentials::Credential;
use crate::error::RegistryError;
use crate::options::Options;
use crate::session::Session;
use crate::stop::Stopper;
use crate::waits::Waiting;
use crate::{pull, push};

/// Largest manifest or index that is read or sent, in bytes (4 MiB, as the distribution specification asks).
pub const MANIFEST_LIMIT: u64 = 4 * 1024 * 1024;

/// A client for any number of registries. Keeps connections, tokens and what it learned of each host; `&Client` is enough for
/// every call and may be shared by threads.
#[derive(Debug)]
pub struct Client {
    pub(crate) session: Session,
}

/// A manifest or index as the registry gave it, its digest checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Media type, digest and size of `bytes`.
    pub descriptor: Descriptor,
    /// The exact bytes.
    pub bytes: Vec<u8>,
}

/// How a blob came to be in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// Its bytes were sent.
    Uploaded,
    /// It was taken over from another repository of the same registry.
    Mounted,
    /// It was there already.
    Present,
}

impl Client {
    /// A client with these settings. Nothing is contacted yet.
    pub fn new(options: Options) -> Self {
        Client {
            session: Session::new(options),
        }
    }

    /// What ends all that this client does, from another thread.
    pub fn stopper(&self) -> Stopper {
        self.session.wire.stopper.clone()
    }

    /// Hosts that have let this client wait for at least `least`.
    pub fn waits_for(&self, least: Duration) -> Vec<Waiting> {
        self.session.wire.waits.longer_than(least)
    }

    /// What went wrong without failing since this was asked the last time, a sentence each.
    pub fn take_warnings(&self) -> Vec<String> {
        self.session.warnings.take()
    }

    /// Whether `registry` (`host` or `host:port`) lets in who shows `credential`. Gives the credential to keep in its place, if
    /// the registry has one: a token that can be taken back without changing the password.
    pub fn log_in(
        &self,
        registry: &str,
        credential: &Credential,
    ) -> Result<Option<Credential>, RegistryError> {
        self.session.log_in(registry, credential)
    }

    /// The manifest or index that `reference` names, by digest if it has one, else by tag.
    pub fn resolve(&self, reference: &Reference) -> Result<Resolved, RegistryError> {
        pull::manifest(
            &self.session,
            &Attempt::new(Act::Resolve, reference),
            reference,
            reference.digest(),
        )
    }

    /// The manifest with this digest in the repository of `reference`.
    pub fn manifest_by_digest(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<Vec<u8>, RegistryError> {
        let at = Attempt::new(Act::PullManifest(*digest), reference);
        pull::manifest(&self.session, &at, reference, Some(*digest)).map(|resolved| resolved.bytes)
    }

    /// Streams a blob into `out`, verified by size and digest. `progress` gets the number of bytes written so far. After an
    /// error, what `out` received must be thrown away. One that says so ([`RegistryError::is_worth_another_try`]) was a
    /// mirror's, which isn't asked again: another try is answered by others.
    pub fn pull_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        out: &mut dyn Write,
        progress: &dyn Fn(u64),
    ) -> Result<(), RegistryError> {
        pull::blob(&self.session, reference, descriptor, out, progress)
    }

    /// A blob that fits in memory, from the first place that has it as it should be.
    pub fn pull_small_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        progress: &dyn Fn(u64),
    ) -> Result<Vec<u8>, RegistryError> {
        loop {
            let mut bytes = Vec::new();
            match self.pull_blob(reference, descriptor, &mut bytes, progress) {
                Err(error) if error.is_worth_another_try() => {}
                pulled => return pulled.map(|()| bytes),
            }
        }
    }

    /// Whether the repository of `reference` has this blob, in its own registry.
    pub fn has_blob(&self, reference: &Reference, digest: &Digest) -> Result<bool, RegistryError> {
        let at = Attempt::new(Act::CheckBlob(*digest), reference);
        let to = self.session.to_push(&at, reference)?;
        let scopes = Scopes::pull(&to.repository);
        pull::holds(&self.session, &at, &to, digest, scopes)
    }

    /// Makes sure the repository of `reference` has a blob: asks first, then tries to mount it from the repository `mount_from`
    /// of the same registry, then sends it. `open` is called once for each time its bytes are sent; `progress` gets the number
    /// of bytes sent so far, which starts again with each try.
    pub fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        open: &dyn Fn() -> io::Result<Box<dyn Read>>,
        mount_from: Option<&str>,
        progress: &dyn Fn(u64),
    ) -> Result<Pushed, RegistryError> {
        let blob = push::Blob::new(&self.session, reference, descriptor, open, progress)?;
        if push::holds(&self.session, &blob)? {
            return Ok(Pushed::Present);
        }
        push::blob(&self.session, &blob, mount_from)
    }

    /// Puts a manifest or index under the tag of `reference`, or under its own digest if `reference` has no tag.
    pub fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        push::manifest(&self.session, reference, media_type, bytes)
    }
}
