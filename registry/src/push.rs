//! To the registry: blobs mounted or sent, manifests last.

use std::cell::RefCell;
use std::io::{self, Read};
use std::str::FromStr;

use kiln_image::{Digest, Digester, Reference};
use oci_spec::image::Descriptor;
use ureq::http::Method;

use crate::attempt::{Act, Attempt};
use crate::auth::Scopes;
use crate::client::{MANIFEST_LIMIT, Pushed};
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::host::{Scheme, Url};
use crate::pull::{self, blob_digest};
use crate::retry;
use crate::session::{Question, Session, protocol, refused};
use crate::transport::{Answer, Payload};

/// Size of the pieces that a registry which demands pieces gets, in bytes, unless it asks for larger ones.
const CHUNK: u64 = 8 * 1024 * 1024;

const OCTETS: &str = "application/octet-stream";

/// Opens a blob for reading from its start.
type Open<'a> = &'a dyn Fn() -> io::Result<Box<dyn Read>>;

/// A blob to be pushed.
pub(crate) struct Blob<'a> {
    at: Attempt,
    to: Endpoint,
    digest: Digest,
    size: u64,
    open: Open<'a>,
    progress: &'a dyn Fn(u64),
}

/// An upload that the registry has agreed to.
struct Upload {
    location: Url,
    least_chunk: u64,
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

    fn scopes(&self) -> Scopes {
        Scopes::push(&self.to.repository)
    }
}

/// Whether the repository has it already.
pub(crate) fn holds(session: &Session, blob: &Blob<'_>) -> Result<bool, RegistryError> {
    pull::holds(session, &blob.at, &blob.to, &blob.digest, blob.scopes())
}

/// Mounts or sends a blob that is not there. A broken upload is begun anew: its session may be gone.
pub(crate) fn blob(
    session: &Session,
    blob: &Blob<'_>,
    mount_from: Option<&str>,
) -> Result<Pushed, RegistryError> {
    let mut tries = 0;
    loop {
        let Some(upload) = begin(session, blob, mount_from)? else {
            return Ok(Pushed::Mounted);
        };
        let (error, asked) = match send_whole(session, blob, upload) {
            Ok(answer) if answer.is_success() => return Ok(Pushed::Uploaded),
            Ok(answer) if wants_chunks(answer.status) => return send_chunks(session, blob),
            Ok(answer) if retry::passing_status(answer.status) => {
                let asked = retry::asked_pause(&answer.headers);
                (refused(&blob.at, answer), asked)
            }
            Ok(answer) => return Err(refused(&blob.at, answer)),
            Err(error) => (error, None),
        };
        if tries >= again(&error, session.options.retries) {
            return Err(error);
        }
        session.options.sleep.wait(retry::pause(tries, asked));
        tries += 1;
    }
}

/// How often an upload may be begun anew after this error.
fn again(error: &RegistryError, retries: u32) -> u32 {
    match error {
        RegistryError::Unreachable { source, .. } => retry::limit(source, retries),
        RegistryError::Status { .. } => retries,
        _ => 0,
    }
}

/// Statuses of registries, and of gateways before them, that don't take a blob in one piece.
fn wants_chunks(status: u16) -> bool {
    matches!(status, 405 | 411 | 413 | 415 | 501)
}

/// Asks for an upload; `None` if the blob was mounted instead.
fn begin(
    session: &Session,
    blob: &Blob<'_>,
    mount_from: Option<&str>,
) -> Result<Option<Upload>, RegistryError> {
    let mut scopes = blob.scopes();
    let mut path = "blobs/uploads/".to_owned();
    if let Some(from) = mount_from.filter(|from| *from != blob.to.repository) {
        scopes = scopes.and_pull(from);
        path = format!("{path}?mount={}&from={from}", blob.digest);
    }
    let question =
        Question::new(&blob.to, Method::POST, &path, scopes).payload(Payload::Bytes(&[]));
    let answer = session.ask_for_success(&blob.at, &question)?;
    if answer.status == 201 && mount_from.is_some() {
        return Ok(None);
    }
    let least_chunk = answer
        .header("oci-chunk-min-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    Ok(Some(Upload {
        location: location(&blob.at, &answer)?,
        least_chunk,
    }))
}

/// Where an upload goes on. Registries behind a proxy often think that they are spoken to in the clear.
fn location(at: &Attempt, answer: &Answer) -> Result<Url, RegistryError> {
    let host = answer.url.authority();
    let header = answer
        .header("location")
        .ok_or_else(|| protocol(at, host, "it names no place for the upload"))?;
    let place = answer
        .url
        .join(header)
        .ok_or_else(|| protocol(at, host, format!("`{header}` is not a place for an upload")))?;
    if answer.url.scheme() == Scheme::Http || place.scheme() == Scheme::Https {
        return Ok(place);
    }
    if place.authority() == host {
        return Ok(place.over_tls());
    }
    let problem = format!("it wants the upload in the clear, at `{place}`");
    Err(protocol(at, host, problem))
}

/// The whole blob in one PUT, streamed; its digest is computed on the way, so that a file that changed is called by its name.
fn send_whole(session: &Session, blob: &Blob<'_>, upload: Upload) -> Result<Answer, RegistryError> {
    let seen = RefCell::new(Seen::default());
    let open = || -> io::Result<Box<dyn Read + '_>> {
        *seen.borrow_mut() = Seen::default();
        Ok(Box::new(Watched {
            inner: (blob.open)()?,
            seen: &seen,
            progress: blob.progress,
        }))
    };
    let payload = if blob.size == 0 {
        Payload::Bytes(&[])
    } else {
        Payload::Stream {
            open: &open,
            length: blob.size,
        }
    };
    let question = Question::new(&blob.to, Method::PUT, "", blob.scopes())
        .at(upload
            .location
            .with_query("digest", &blob.digest.to_string()))
        .header("content-type", OCTETS)
        .payload(payload);
    let answer = session.ask(&blob.at, &question, 0)?;
    if !answer.is_success() {
        let seen = seen.take();
        let actual = seen.digester.finish();
        if seen.count == blob.size && blob.size > 0 && actual != blob.digest {
            return Err(RegistryError::DigestMismatch {
                at: Box::new(blob.at.clone()),
                expected: blob.digest,
                actual,
            });
        }
    }
    Ok(answer)
}

/// The blob in pieces: PATCH after PATCH, then an empty PUT.
fn send_chunks(session: &Session, blob: &Blob<'_>) -> Result<Pushed, RegistryError> {
    let Some(mut upload) = begin(session, blob, None)? else {
        return Ok(Pushed::Mounted);
    };
    let chunk = CHUNK.max(upload.least_chunk);
    let local = |source| RegistryError::Local {
        at: Box::new(blob.at.clone()),
        side: "reading it here failed",
        source,
    };
    let mut reader = (blob.open)().map_err(local)?;
    let mut start = 0;
    while start < blob.size {
        let mut piece = Vec::new();
        let length = chunk.min(blob.size - start);
        (&mut reader)
            .take(length)
            .read_to_end(&mut piece)
            .map_err(local)?;
        if piece.len() as u64 != length {
            return Err(local(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it is shorter than its descriptor says",
            )));
        }
        let question = Question::new(&blob.to, Method::PATCH, "", blob.scopes())
            .at(upload.location)
            .header("content-type", OCTETS)
            .header("content-range", format!("{start}-{}", start + length - 1))
            .payload(Payload::Bytes(&piece));
        let answer = session.ask_for_success(&blob.at, &question)?;
        upload.location = location(&blob.at, &answer)?;
        start += length;
        (blob.progress)(start);
    }
    let question = Question::new(&blob.to, Method::PUT, "", blob.scopes())
        .at(upload
            .location
            .with_query("digest", &blob.digest.to_string()))
        .payload(Payload::Bytes(&[]));
    session
        .ask_for_success(&blob.at, &question)
        .map(|_| Pushed::Uploaded)
}

/// Puts a manifest under the tag of `reference`, or under its digest.
pub(crate) fn manifest(
    session: &Session,
    reference: &Reference,
    media_type: &str,
    bytes: &[u8],
) -> Result<Digest, RegistryError> {
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
        .header("content-type", media_type)
        .payload(Payload::Bytes(bytes));
    let answer = session.ask_for_success(&at, &question)?;
    match answer
        .header("docker-content-digest")
        .and_then(|header| Digest::from_str(header).ok())
    {
        Some(actual) if actual != digest => Err(RegistryError::DigestMismatch {
            at: Box::new(at),
            expected: digest,
            actual,
        }),
        _ => Ok(digest),
    }
}

/// What went by while a blob was sent.
#[derive(Default)]
struct Seen {
    count: u64,
    digester: Digester,
}

struct Watched<'a> {
    inner: Box<dyn Read>,
    seen: &'a RefCell<Seen>,
    progress: &'a dyn Fn(u64),
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let mut seen = self.seen.borrow_mut();
        seen.digester.update(&buffer[..count]);
        seen.count += count as u64;
        (self.progress)(seen.count);
        Ok(count)
    }
}
