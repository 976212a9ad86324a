//! From the registry: manifests whole and checked, blobs as streams that survive a cut connection.

use std::io::{self, Read, Write};
use std::str::FromStr;

use kiln_image::{Digest, Digester, Reference, media_type};
use oci_spec::image::{Descriptor, MediaType};
use ureq::http::Method;

use crate::attempt::{Act, Attempt};
use crate::auth::Scopes;
use crate::client::{MANIFEST_LIMIT, Resolved};
use crate::endpoint::Endpoint;
use crate::error::{RegistryError, TransportError};
use crate::host::server_of;
use crate::mirrors;
use crate::retry::{self, Setback};
use crate::session::{Question, Session};
use crate::transport::{Answer, body_error, printable};
use crate::trouble::{body_failure, protocol, refused, unreachable};
use crate::waits;

/// Size of the pieces a blob is copied in, in bytes.
const PIECE: usize = 128 * 1024;

/// What kiln understands as a manifest or an index, preferred first.
pub(crate) const ACCEPTED: [&str; 4] = [
    media_type::OCI_INDEX,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_INDEX,
    media_type::DOCKER_MANIFEST,
];

/// Fetches a manifest or index by `digest`, or by the tag of `image`.
pub(crate) fn manifest(
    session: &Session,
    at: &Attempt,
    image: &Reference,
    digest: Option<Digest>,
) -> Result<Resolved, RegistryError> {
    let asked_for = match digest {
        Some(digest) => &image.by_digest(digest),
        None => image,
    };
    mirrors::from_any(session, at, asked_for, |endpoint| {
        manifest_from(session, at, endpoint, asked_for)
    })
}

/// The same from this very place.
pub(crate) fn manifest_from(
    session: &Session,
    at: &Attempt,
    from: &Endpoint,
    image: &Reference,
) -> Result<Resolved, RegistryError> {
    let name = match image.digest() {
        Some(digest) => digest.to_string(),
        None => image.tag().unwrap_or("latest").to_owned(),
    };
    let path = format!("manifests/{name}");
    session.persist(|| {
        let question = Question::new(from, Method::GET, &path, Scopes::pull(&from.repository))
            .header("accept", ACCEPTED.join(", "));
        let answer = session.ask_for_success(at, &question);
        let answer = answer.map_err(Setback::last)?;
        let host = answer.url.authority().to_owned();
        let content_type = answer.header("content-type").map(str::to_owned);
        let expected = image
            .digest()
            .or_else(|| Digest::from_str(answer.header("docker-content-digest")?).ok());
        let bytes = answer.bytes(MANIFEST_LIMIT).map_err(|error| {
            let tries = error.limit(session.options.retries);
            let failure = body_failure(at, &host, MANIFEST_LIMIT, error);
            Setback::at(host.clone(), tries, failure)
        })?;
        checked(at, &host, content_type.as_deref(), expected, bytes).map_err(Setback::last)
    })
}

fn checked(
    at: &Attempt,
    host: &str,
    content_type: Option<&str>,
    expected: Option<Digest>,
    bytes: Vec<u8>,
) -> Result<Resolved, RegistryError> {
    let actual = Digest::of(&bytes);
    if let Some(expected) = expected.filter(|expected| *expected != actual) {
        return Err(RegistryError::DigestMismatch {
            at: Box::new(at.clone()),
            expected,
            actual,
        });
    }
    if is_schema_1(content_type, &bytes) {
        return Err(protocol(
            at,
            host,
            "it is a manifest in Docker's first format (schema 1), which registries stopped taking long ago; \
             pull it with an old client and push it again",
        ));
    }
    if let Some(problem) = ambiguity(content_type, &bytes) {
        return Err(protocol(at, host, problem));
    }
    let media_type = media_type_of(content_type, &bytes).ok_or_else(|| {
        protocol(
            at,
            host,
            format!(
                "it is neither a manifest nor an index ({})",
                content_type.map_or_else(|| "no type".to_owned(), printable)
            ),
        )
    })?;
    let descriptor = Descriptor::new(
        MediaType::from(media_type.as_str()),
        bytes.len() as u64,
        actual.to_oci(),
    );
    Ok(Resolved { descriptor, bytes })
}

/// Whether this is a manifest that nothing can be checked of: its layers have no sizes, and often no digest of its own.
fn is_schema_1(content_type: Option<&str>, bytes: &[u8]) -> bool {
    let named = content_type.is_some_and(|text| {
        text.starts_with(media_type::DOCKER_SCHEMA_1)
            || text.starts_with(media_type::DOCKER_SCHEMA_1_SIGNED)
    });
    let is_first = || {
        let value: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
        let version = value.as_ref().and_then(|value| value.get("schemaVersion"));
        version.and_then(serde_json::Value::as_u64) == Some(1)
    };
    named || is_first()
}

/// Why it can be read in two ways, which must not be: a manifest to one reader and an index to another is two images under one
/// digest (CVE-2021-41190).
fn ambiguity(content_type: Option<&str>, bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let has = |name| value.get(name).is_some_and(|value| !value.is_null());
    if has("manifests") && (has("layers") || has("config")) {
        return Some("it is a manifest and an index at once".to_owned());
    }
    let header = content_type?.split(';').next()?.trim();
    let own = value.get("mediaType")?.as_str()?;
    let differ = header != own && ACCEPTED.contains(&header);
    differ.then(|| {
        let own = printable(own);
        format!("it is sent as `{header}` and says of itself that it is `{own}`")
    })
}

/// The type of a manifest: as its header says if that is one we know, else as it says itself, else by its members.
fn media_type_of(content_type: Option<&str>, bytes: &[u8]) -> Option<String> {
    let known = |name: &str| ACCEPTED.contains(&name).then(|| name.to_owned());
    if let Some(found) =
        content_type.and_then(|text| known(text.split(';').next().unwrap_or("").trim()))
    {
        return Some(found);
    }
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    if let Some(own) = value.get("mediaType").and_then(|own| own.as_str()) {
        return known(own);
    }
    if value
        .get("manifests")
        .is_some_and(serde_json::Value::is_array)
    {
        return Some(media_type::OCI_INDEX.to_owned());
    }
    value
        .get("layers")
        .is_some_and(serde_json::Value::is_array)
        .then(|| media_type::OCI_MANIFEST.to_owned())
}

/// Whether a repository has a blob.
pub(crate) fn holds(
    session: &Session,
    at: &Attempt,
    to: &Endpoint,
    digest: &Digest,
    scopes: Scopes,
) -> Result<bool, RegistryError> {
    let path = format!("blobs/{digest}");
    let question = Question::new(to, Method::HEAD, &path, scopes);
    let answer = session.ask(at, &question, session.options.retries)?;
    let elsewhere = answer.url.authority() != server_of(&to.host).to_ascii_lowercase();
    match answer.status {
        // One that can't be asked is sent everything.
        404 | 405 | 501 => Ok(false),
        // Addresses that are signed for GET are often given for HEAD, too, and then refused by who keeps the bytes.
        400..=499 if elsewhere => Ok(false),
        _ if answer.is_success() => Ok(true),
        _ => Err(refused(at, answer)),
    }
}

/// Streams a blob. After a cut, goes on from where it was, if need be at another place: it is the same blob everywhere. Tries
/// count anew whenever there was progress.
pub(crate) fn blob(
    session: &Session,
    reference: &Reference,
    descriptor: &Descriptor,
    out: &mut dyn Write,
    progress: &dyn Fn(u64),
) -> Result<(), RegistryError> {
    let digest = blob_digest(descriptor, reference, Act::Resolve)?;
    let at = Attempt::new(Act::PullBlob(digest), reference);
    let mut transfer = Transfer {
        at: &at,
        digest,
        size: descriptor.size(),
        done: 0,
        digester: Digester::new(),
        from_start: false,
        givers: Vec::new(),
        out,
        progress,
    };
    let pulled = mirrors::from_any(session, &at, reference, |from| {
        transfer.given_by(session, from)
    });
    pulled.map_err(|error| match error.of_registry() {
        RegistryError::NotFound { .. }
            if media_type::is_foreign_layer(descriptor.media_type().as_ref()) =>
        {
            RegistryError::Foreign {
                at: Box::new(at.clone()),
            }
        }
        _ => error,
    })?;
    let actual = transfer.digester.finish();
    if actual == digest {
        Ok(())
    } else {
        let error = RegistryError::DigestMismatch {
            at: Box::new(at.clone()),
            expected: digest,
            actual,
        };
        let givers = transfer.givers;
        Err(mirrors::blame(session, &at, reference, givers, error))
    }
}

/// The digest of a descriptor; kiln speaks sha256 only.
pub(crate) fn blob_digest(
    descriptor: &Descriptor,
    reference: &Reference,
    act: Act,
) -> Result<Digest, RegistryError> {
    Digest::try_from(descriptor.digest()).map_err(|error| {
        let at = Attempt::new(act, reference);
        protocol(
            &at,
            at.registry(),
            format!("it names a blob by `{}`: {error}", descriptor.digest()),
        )
    })
}

/// A blob on its way.
struct Transfer<'a> {
    at: &'a Attempt,
    digest: Digest,
    size: u64,
    done: u64,
    digester: Digester,
    /// Whether somebody can't give parts.
    from_start: bool,
    /// Whose bytes these are.
    givers: Vec<Endpoint>,
    out: &'a mut dyn Write,
    progress: &'a dyn Fn(u64),
}

enum Outcome {
    Whole,
    Cut { host: String, error: TransportError },
}

impl Transfer<'_> {
    /// All that is missing, from one place, which is remembered if anything came.
    fn given_by(&mut self, session: &Session, from: &Endpoint) -> Result<(), RegistryError> {
        let before = self.done;
        let given = self.from(session, from);
        if self.done > before {
            self.givers.push(from.clone());
        }
        given
    }

    fn from(&mut self, session: &Session, from: &Endpoint) -> Result<(), RegistryError> {
        let mut tries = 0;
        loop {
            let before = self.done;
            let (host, error) = match self.run(session, from)? {
                Outcome::Whole => return Ok(()),
                Outcome::Cut { host, error } => (host, error),
            };
            if waits::is_progress(self.done - before, &error) {
                tries = 0;
            }
            if tries >= retry::limit(&error, session.options.retries) {
                return Err(unreachable(self.at, &host, error));
            }
            session.wait(&host, tries, None);
            tries += 1;
        }
    }

    /// One request for what is missing, copied as far as it comes.
    fn run(&mut self, session: &Session, from: &Endpoint) -> Result<Outcome, RegistryError> {
        if self.done > 0 && self.done == self.size {
            // Somebody before gave all of it, and more.
            return Ok(Outcome::Whole);
        }
        let path = format!("blobs/{}", self.digest);
        let mut question = Question::new(from, Method::GET, &path, Scopes::pull(&from.repository));
        if self.done > 0 && !self.from_start {
            question = question.header("range", format!("bytes={}-", self.done));
        }
        let answer = session.ask(self.at, &question, session.options.retries)?;
        let host = answer.url.authority().to_owned();
        if answer.status == 416 && !self.from_start {
            return Ok(self.no_parts(host));
        }
        if !answer.is_success() {
            return Err(refused(self.at, answer));
        }
        let Some(skip) = self.already_here(&answer)? else {
            return Ok(self.no_parts(host));
        };
        let mut body = answer.reader();
        if let Err(error) = io::copy(&mut (&mut body).take(skip), &mut io::sink()) {
            return Ok(Outcome::Cut {
                host,
                error: body_error(error),
            });
        }
        self.copy(&mut body, host)
    }

    /// The registry gives parts wrongly: next time all of it is asked for.
    fn no_parts(&mut self, host: String) -> Outcome {
        self.from_start = true;
        Outcome::Cut {
            host,
            error: TransportError::Cut("it gave another part than was asked for".to_owned()),
        }
    }

    /// How much of this answer's body was received before: nothing if the registry honoured the range. `None` if it is a part
    /// that doesn't follow.
    fn already_here(&self, answer: &Answer) -> Result<Option<u64>, RegistryError> {
        if answer.status == 206 {
            let starts = answer.header("content-range").and_then(|range| {
                range
                    .strip_prefix("bytes ")?
                    .split('-')
                    .next()?
                    .parse::<u64>()
                    .ok()
            });
            return match starts {
                Some(start) if start <= self.done => Ok(Some(self.done - start)),
                _ if !self.from_start => Ok(None),
                _ => Err(protocol(
                    self.at,
                    answer.url.authority(),
                    "it gives a part where all was asked for",
                )),
            };
        }
        let announced = answer
            .header("content-length")
            .and_then(|length| length.parse::<u64>().ok());
        match announced {
            Some(actual) if actual != self.size => Err(self.wrong_size(actual)),
            _ => Ok(Some(self.done)),
        }
    }

    fn copy(&mut self, body: &mut dyn Read, host: String) -> Result<Outcome, RegistryError> {
        let mut piece = vec![0; PIECE];
        loop {
            let count = match body.read(&mut piece) {
                Ok(0) if self.done == self.size => return Ok(Outcome::Whole),
                Ok(0) => {
                    return Ok(Outcome::Cut {
                        host,
                        error: TransportError::Cut(format!(
                            "after {} of {} bytes",
                            self.done, self.size
                        )),
                    });
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Ok(Outcome::Cut {
                        host,
                        error: body_error(error),
                    });
                }
            };
            if self.done + count as u64 > self.size {
                return Err(self.wrong_size(self.done + count as u64));
            }
            self.out
                .write_all(&piece[..count])
                .map_err(|source| self.not_written(source))?;
            self.digester.update(&piece[..count]);
            self.done += count as u64;
            (self.progress)(self.done);
        }
    }

    fn wrong_size(&self, actual: u64) -> RegistryError {
        RegistryError::SizeMismatch {
            at: Box::new(self.at.clone()),
            expected: self.size,
            actual,
        }
    }

    fn not_written(&self, source: io::Error) -> RegistryError {
        RegistryError::Local {
            at: Box::new(self.at.clone()),
            side: "writing it here failed",
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let index = media_type::OCI_INDEX;
        for (header, body, expected) in [
            (None, r#"{"manifests":[],"layers":[]}"#, true),
            (None, r#"{"manifests":[],"config":{}}"#, true),
            (None, r#"{"manifests":[],"layers":null}"#, false),
            (Some(index), r#"{"manifests":[]}"#, false),
            (
                Some(index),
                r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#,
                true,
            ),
            (
                Some("application/vnd.oci.image.index.v1+json; charset=utf-8"),
                r#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#,
                false,
            ),
            (
                Some("application/json"),
                r#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#,
                false,
            ),
        ] {
            let found = ambiguity(header, body.as_bytes());
            assert_eq!(found.is_some(), expected, "{header:?} {body} {found:?}");
        }
    }

    #[test]
    fn a_manifests_type_is_found_where_it_is_written() {
        let docker = Some(media_type::DOCKER_MANIFEST.to_owned());
        for (header, body, expected) in [
            (
                Some("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"),
                "{}",
                docker.clone(),
            ),
            (
                Some("application/json"),
                r#"{"mediaType":"application/vnd.docker.distribution.manifest.v2+json"}"#,
                docker,
            ),
            (
                None,
                r#"{"manifests":[]}"#,
                Some(media_type::OCI_INDEX.to_owned()),
            ),
            (
                None,
                r#"{"layers":[]}"#,
                Some(media_type::OCI_MANIFEST.to_owned()),
            ),
            (Some("text/html"), "<html>", None),
            (
                None,
                r#"{"mediaType":"application/x-other","layers":[]}"#,
                None,
            ),
        ] {
            assert_eq!(
                media_type_of(header, body.as_bytes()),
                expected,
                "{header:?} {body}"
            );
        }
    }
}
