//! To the registry: blobs mounted or sent, manifests last.

use std::io::{self, Read};
use std::str::FromStr;

use kiln_image::{Digest, Reference};
use oci_spec::image::Descriptor;
use serde::Deserialize;
use ureq::http::Method;

use crate::attempt::{Act, Attempt};
use crate::auth::Scopes;
use crate::client::{MANIFEST_LIMIT, Pushed};
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::pull::{self, blob_digest};
use crate::referrers;
use crate::retry::{self, Setback};
use crate::session::{Question, Session};
use crate::transport::Payload;
use crate::trouble::{protocol, refused};
use crate::upload::{self, Begun};

/// Opens a blob for reading from its start.
type Open<'a> = &'a dyn Fn() -> io::Result<Box<dyn Read>>;

/// A blob to be pushed.
pub(crate) struct Blob<'a> {
    pub(crate) at: Attempt,
    pub(crate) to: Endpoint,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) open: Open<'a>,
    pub(crate) progress: &'a dyn Fn(u64),
}

impl<'a> Blob<'a> {
    pub(crate) fn new(
        session: &Session,
        reference: &Reference,
        descriptor: &Descriptor,
        open: Open<'a>,
        progress: &'a dyn Fn(u64),
    ) -> Result<Self, RegistryError> {
        let digest = blob_digest(descriptor, reference, Act::PushManifest)?;
        let at = Attempt::new(Act::PushBlob(digest), reference);
        Ok(Blob {
            to: session.to_push(&at, reference)?,
            at,
            digest,
            size: descriptor.size(),
            open,
            progress,
        })
    }

    pub(crate) fn scopes(&self) -> Scopes {
        Scopes::push(&self.to.repository)
    }
}

/// Whether the repository has it already.
pub(crate) fn holds(session: &Session, blob: &Blob<'_>) -> Result<bool, RegistryError> {
    pull::holds(session, &blob.at, &blob.to, &blob.digest, blob.scopes())
}

/// Mounts or sends a blob that is not there.
pub(crate) fn blob(
    session: &Session,
    blob: &Blob<'_>,
    mount_from: Option<&str>,
) -> Result<Pushed, RegistryError> {
    let mount_from = mount_from.filter(|from| *from != blob.to.repository);
    let begun = match begin(session, blob, mount_from) {
        Err(error) if mount_from.is_some() && is_refusal(&error) => begin(session, blob, None),
        begun => begun,
    };
    match begun? {
        None => Ok(Pushed::Mounted),
        Some(begun) => upload::send(session, blob, begun).map(|()| Pushed::Uploaded),
    }
}

/// Whether a registry doesn't do it. Who may push here need not be let in there, not all know of mounts, and some stumble.
fn is_refusal(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::Unauthorized { .. }
            | RegistryError::Denied { .. }
            | RegistryError::NotFound { .. }
            | RegistryError::Status { .. }
    )
}

/// Asks for an upload.
pub(crate) fn begin_upload(session: &Session, blob: &Blob<'_>) -> Result<Begun, RegistryError> {
    let begun = begin(session, blob, None)?;
    Ok(begun.expect("only a mount ends without an upload"))
}

/// Asks for an upload; `None` if the blob was mounted instead.
fn begin(
    session: &Session,
    blob: &Blob<'_>,
    mount_from: Option<&str>,
) -> Result<Option<Begun>, RegistryError> {
    let mut scopes = blob.scopes();
    let mut path = "blobs/uploads/".to_owned();
    if let Some(from) = mount_from {
        scopes = scopes.and_pull(from);
        path = format!("{path}?mount={}&from={from}", blob.digest);
    }
    let question =
        Question::new(&blob.to, Method::POST, &path, scopes).payload(Payload::Bytes(&[]));
    let answer = session.ask_for_success(&blob.at, &question)?;
    if answer.status == 201 && mount_from.is_some() {
        return Ok(None);
    }
    Begun::of(blob, &answer).map(Some)
}

/// Puts a manifest under the tag of `reference`, or under its digest, and lists it where its subject's are listed.
pub(crate) fn manifest(
    session: &Session,
    reference: &Reference,
    media_type: &str,
    bytes: &[u8],
) -> Result<Digest, RegistryError> {
    let (digest, is_listed) = put(session, reference, media_type, bytes)?;
    if !is_listed {
        referrers::note(session, reference, media_type, bytes)?;
    }
    Ok(digest)
}

/// What a manifest says that it is, by which it has to be sent then.
fn own_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: String,
    }
    let typed: Typed = serde_json::from_slice(bytes).ok()?;
    Some(typed.media_type)
        .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()))
}

/// Puts a manifest as such; with its digest, whether the registry lists what it refers to.
pub(crate) fn put(
    session: &Session,
    reference: &Reference,
    media_type: &str,
    bytes: &[u8],
) -> Result<(Digest, bool), RegistryError> {
    let at = Attempt::new(Act::PushManifest, reference);
    if bytes.len() as u64 > MANIFEST_LIMIT {
        let registry = reference.registry().to_owned();
        return Err(RegistryError::TooLarge {
            at: Box::new(at),
            registry,
            limit: MANIFEST_LIMIT,
        });
    }
    let digest = Digest::of(bytes);
    let name = reference
        .tag()
        .map_or_else(|| digest.to_string(), str::to_owned);
    let path = format!("manifests/{name}");
    let to = session.to_push(&at, reference)?;
    let question = Question::new(&to, Method::PUT, &path, Scopes::push(&to.repository))
        .header(
            "content-type",
            own_type(bytes).as_deref().unwrap_or(media_type),
        )
        .payload(Payload::Bytes(bytes));
    let answer = session.ask_for_success(&at, &question)?;
    let announced = answer.header("docker-content-digest");
    match announced.and_then(|header| Digest::from_str(header).ok()) {
        Some(actual) if actual != digest => {
            let problem = format!("it says that it has {actual} instead of {digest}");
            return Err(protocol(&at, answer.url.authority(), problem));
        }
        _ => {}
    }
    if answer.status != 201 {
        confirm(session, &at, &to, &digest, answer.status)?;
    }
    Ok((digest, answer.headers.contains_key("oci-subject")))
}

/// Sees that a manifest is there, where it isn't said in so many words: gateways answer 200 to anything, and some registries 202.
fn confirm(
    session: &Session,
    at: &Attempt,
    to: &Endpoint,
    digest: &Digest,
    said: u16,
) -> Result<(), RegistryError> {
    let path = format!("manifests/{digest}");
    session.persist(|| {
        let question = Question::new(to, Method::HEAD, &path, Scopes::push(&to.repository))
            .header("accept", pull::ACCEPTED.join(", "));
        let answer = session.ask(at, &question, session.options.retries);
        let answer = answer.map_err(Setback::last)?;
        // Who must not look, or asks in a way that isn't known there, learns nothing by it; who was never answered doesn't either.
        if answer.status != 404 {
            return match retry::passing_status(answer.status) {
                true => Err(Setback::last(refused(at, answer))),
                false => Ok(()),
            };
        }
        let host = answer.url.authority().to_owned();
        let problem = format!("it answered {said} and doesn't have {digest}");
        let error = protocol(at, &host, problem);
        Err(Setback::at(host, session.options.retries, error))
    })
}
