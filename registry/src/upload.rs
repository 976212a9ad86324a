//! A blob on its way to a registry, which goes on where it was cut.
//!
//! Small blobs go in one PUT. Others go in one PATCH, or in pieces where a registry or a gateway before it wants that, and an
//! empty PUT at the end; to a registry that knows no PATCH they go in one PUT, too. After a failure the registry is asked how much it has, and only the rest is sent; if it has forgotten
//! the upload, another is begun. Tries count anew whenever the registry has more than before.

use std::cell::RefCell;
use std::io::{self, Read};
use std::time::Duration;

use kiln_image::{Digest, Digester};
use ureq::http::Method;

use crate::error::RegistryError;
use crate::host::{Scheme, Url};
use crate::push::{self, Blob};
use crate::retry;
use crate::session::{Question, Session};
use crate::transport::{Answer, Payload, printable};
use crate::trouble::{protocol, refused};
use crate::waits;

/// Up to this size a blob goes in one PUT; and the size of pieces, unless the registry asks for larger ones. In bytes.
const PIECE: u64 = 8 * 1024 * 1024;
/// Largest piece that is held in memory, in bytes.
const LARGEST_PIECE: u64 = 32 * 1024 * 1024;

/// What a slow registry checks and moves in a second, in bytes.
const CHECKED_IN_A_SECOND: u64 = 16 * 1024 * 1024;

const OCTETS: &str = "application/octet-stream";

/// An upload that the registry has agreed to.
pub(crate) struct Begun {
    location: Url,
    least_piece: u64,
}

impl Begun {
    /// What the answer to the request for an upload says.
    pub(crate) fn of(blob: &Blob<'_>, answer: &Answer) -> Result<Self, RegistryError> {
        let least = answer.header("oci-chunk-min-length");
        Ok(Begun {
            location: location(blob, answer)?,
            least_piece: least.and_then(|length| length.parse().ok()).unwrap_or(0),
        })
    }
}

/// How the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// All in one PUT.
    AtOnce,
    /// All that is missing in one PATCH.
    Streamed,
    /// A PATCH for every so many bytes.
    Pieces(u64),
}

/// What came of one request.
enum Outcome {
    /// The registry has the blob.
    Done,
    /// It has all that it was sent.
    Further,
    /// It has less than it was sent, and doesn't say why.
    Less(RegistryError),
    /// It may go better another time, after so long.
    Trouble(RegistryError, Option<Duration>),
}

struct Upload<'a, 'b> {
    session: &'a Session,
    blob: &'a Blob<'b>,
    location: Url,
    least_piece: u64,
    manner: Manner,
    /// How many bytes the registry has.
    done: u64,
    /// Whether it had to be asked how many.
    resumed: bool,
    /// Whether what it has turned out to be something else.
    spoiled: bool,
    /// For pieces: a reader and where it is.
    reader: Option<(Box<dyn Read>, u64)>,
}

/// Sends a blob to where the registry wants it.
pub(crate) fn send(session: &Session, blob: &Blob<'_>, begun: Begun) -> Result<(), RegistryError> {
    let mut upload = Upload {
        session,
        blob,
        location: begun.location,
        least_piece: begun.least_piece,
        manner: match blob.size {
            0..=PIECE => Manner::AtOnce,
            _ => Manner::Streamed,
        },
        done: 0,
        resumed: false,
        spoiled: false,
        reader: None,
    };
    let sent = upload.until_done();
    if let Err(error) = &sent {
        upload.abandon(error);
    }
    sent
}

impl Upload<'_, '_> {
    fn until_done(&mut self) -> Result<(), RegistryError> {
        let (session, blob) = (self.session, self.blob);
        let (mut tries, mut most, mut anew) = (0, 0, 0);
        loop {
            let (error, asked) = match self.go_on()? {
                Outcome::Done => return Ok(()),
                Outcome::Further => continue,
                Outcome::Less(error) => {
                    if waits::is_worth_it(self.done.saturating_sub(most)) {
                        (most, tries) = (self.done, 0);
                    } else if tries >= session.options.retries {
                        return Err(error);
                    } else {
                        tries += 1;
                    }
                    continue;
                }
                Outcome::Trouble(error, asked) => (error, asked),
            };
            if tries >= again(&error, session.options.retries) {
                return Err(error);
            }
            session.wait(&blob.to.host, tries, asked);
            tries += 1;
            if push::holds(session, blob)? {
                return Ok(());
            }
            if !self.ask_how_far()? {
                anew += 1;
                if anew > session.options.retries {
                    return Err(error);
                }
                if self.spoiled {
                    self.abandon(&error);
                }
                self.begin_anew()?;
            }
            if is_progress(self.done.saturating_sub(most), &error) {
                (most, tries) = (self.done, 0);
            } else if self.manner == Manner::Streamed && tries > 1 {
                // Gateways that find a body too large often just hang up.
                self.in_pieces();
            }
        }
    }

    /// Tells the registry that nothing more will come, if it can be told. Whether it cares is its own matter.
    fn abandon(&self, error: &RegistryError) {
        if matches!(error, RegistryError::Unreachable { .. }) {
            return;
        }
        let question = Question::new(&self.blob.to, Method::DELETE, "", self.blob.scopes())
            .at(self.location.clone());
        let _ = self.session.ask(&self.blob.at, &question, 0);
    }
}

/// How often it may be tried again after this error.
fn again(error: &RegistryError, retries: u32) -> u32 {
    match error {
        RegistryError::Unreachable { source, .. } => retry::limit(source, retries),
        RegistryError::Status { .. } | RegistryError::NotFound { .. } => retries,
        _ => 0,
    }
}

/// Whether so many bytes more than ever before are worth to begin counting tries anew.
fn is_progress(bytes: u64, failure: &RegistryError) -> bool {
    match failure {
        RegistryError::Unreachable { source, .. } => waits::is_progress(bytes, source),
        _ => bytes > 0,
    }
}

/// Statuses of registries, and of gateways before them, that don't take so much at once.
fn is_too_much(status: u16) -> bool {
    matches!(status, 405 | 411 | 413 | 415 | 501)
}

impl Upload<'_, '_> {
    /// One request further.
    fn go_on(&mut self) -> Result<Outcome, RegistryError> {
        let answer = match self.manner {
            Manner::AtOnce => self.send_all(),
            _ if self.done == self.blob.size => self.finish(),
            Manner::Streamed => self.send_rest(),
            Manner::Pieces(size) => self.send_piece(size),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error @ RegistryError::Unreachable { .. }) => {
                return Ok(Outcome::Trouble(error, None));
            }
            Err(error) => return Err(error),
        };
        let ends = self.manner == Manner::AtOnce || self.done == self.blob.size;
        if answer.is_success() && ends {
            return self.check(&answer).map(|()| Outcome::Done);
        }
        if answer.is_success() {
            return self.took(&answer);
        }
        let status = answer.status;
        let asked = retry::asked_pause(&answer.headers);
        let error = refused(&self.blob.at, answer);
        if is_too_much(status) && !matches!(self.manner, Manner::Pieces(_)) {
            self.in_pieces();
            return Ok(Outcome::Trouble(error, None));
        }
        // Not a byte of it by PATCH, in whatever pieces: there are registries that know POST and PUT alone.
        if matches!(status, 405 | 501) && self.manner != Manner::AtOnce && self.done == 0 {
            self.manner = Manner::AtOnce;
            return Ok(Outcome::Trouble(error, None));
        }
        // 404: the upload is gone. 416: not where the registry is. 400 of what was put together: not what was meant.
        let passing = retry::passing_status(status) || matches!(status, 404 | 416);
        if passing || (status == 400 && ends && self.resumed) {
            self.spoiled = status == 400;
            return Ok(Outcome::Trouble(error, asked));
        }
        Err(error)
    }

    /// Whether what the registry says it has is what it was sent.
    fn check(&self, answer: &Answer) -> Result<(), RegistryError> {
        let announced = answer.header("docker-content-digest");
        match announced.and_then(|header| header.parse::<Digest>().ok()) {
            Some(actual) if actual != self.blob.digest => {
                let problem = format!("it says that it has {actual} instead");
                Err(protocol(&self.blob.at, answer.url.authority(), problem))
            }
            _ => Ok(()),
        }
    }

    fn in_pieces(&mut self) {
        let size = PIECE.max(self.least_piece);
        if size <= LARGEST_PIECE {
            self.manner = Manner::Pieces(size);
        }
    }

    fn begin_anew(&mut self) -> Result<(), RegistryError> {
        let begun = push::begin_upload(self.session, self.blob)?;
        self.location = begun.location;
        self.least_piece = begun.least_piece;
        self.done = 0;
        self.resumed = false;
        self.spoiled = false;
        self.reader = None;
        Ok(())
    }

    /// Asks how much of the blob is there. `false`: the upload has to be begun anew.
    fn ask_how_far(&mut self) -> Result<bool, RegistryError> {
        if self.manner == Manner::AtOnce || self.spoiled {
            return Ok(false);
        }
        let question = Question::new(&self.blob.to, Method::GET, "", self.blob.scopes())
            .at(self.location.clone());
        let answer = self
            .session
            .ask(&self.blob.at, &question, self.session.options.retries)?;
        // `0-0` is said of one byte, and of none.
        let Some(done) = received(&answer).filter(|done| *done > 1 && *done <= self.blob.size)
        else {
            return Ok(false);
        };
        if answer.header("location").is_some() {
            self.location = location(self.blob, &answer)?;
        }
        self.done = done;
        self.resumed = true;
        Ok(true)
    }

    /// Notes how far the registry says it is.
    fn took(&mut self, answer: &Answer) -> Result<Outcome, RegistryError> {
        let sent = match self.manner {
            Manner::Pieces(size) => (self.done + size).min(self.blob.size),
            _ => self.blob.size,
        };
        // Some have one place for all of it, and name it once.
        if answer.header("location").is_some() {
            self.location = location(self.blob, answer)?;
        }
        let said = received(answer).filter(|done| *done > self.done.max(1) && *done < sent);
        self.done = said.unwrap_or(sent);
        (self.blob.progress)(self.done);
        Ok(match said {
            None => Outcome::Further,
            Some(done) => {
                let problem = format!("it was sent {sent} bytes, and says that it has {done}");
                let host = answer.url.authority();
                Outcome::Less(protocol(&self.blob.at, host, problem))
            }
        })
    }

    /// The whole blob in one PUT.
    fn send_all(&mut self) -> Result<Answer, RegistryError> {
        self.put(0)
    }

    /// What ends an upload whose bytes are all there.
    fn finish(&mut self) -> Result<Answer, RegistryError> {
        self.put(self.blob.size)
    }

    fn put(&self, from: u64) -> Result<Answer, RegistryError> {
        let digest = self.blob.digest.to_string();
        let location = self.location.clone().with_query("digest", &digest);
        self.stream(Method::PUT, location, from)
    }

    /// All that is missing, in one PATCH.
    fn send_rest(&mut self) -> Result<Answer, RegistryError> {
        self.stream(Method::PATCH, self.location.clone(), self.done)
    }

    /// Sends the blob's bytes from `from` on. Their digest is computed on the way, those before included, so that a file that
    /// changed is called by its name.
    fn stream(&self, method: Method, place: Url, from: u64) -> Result<Answer, RegistryError> {
        let blob = self.blob;
        let length = blob.size - from;
        let seen = RefCell::new(Seen::default());
        let open = || -> io::Result<Box<dyn Read + '_>> {
            *seen.borrow_mut() = Seen::default();
            let mut watched = Watched {
                inner: (blob.open)()?,
                seen: &seen,
                quiet: true,
                progress: blob.progress,
            };
            let skipped = io::copy(&mut (&mut watched).take(from), &mut io::sink())?;
            if skipped < from {
                return Err(shorter());
            }
            watched.quiet = false;
            Ok(Box::new(watched))
        };
        let payload = match length {
            0 => Payload::Bytes(&[]),
            _ => Payload::Stream {
                open: &open,
                length,
            },
        };
        let is_patch = method == Method::PATCH;
        let mut question = Question::new(&blob.to, method, "", blob.scopes())
            .at(place)
            .payload(payload);
        if length > 0 {
            question = question.header("content-type", OCTETS);
        }
        if !is_patch {
            question = question.grace(time_to_check(blob.size));
        }
        if is_patch {
            question = question.header("content-range", format!("{from}-{}", blob.size - 1));
        }
        let answer = self.session.ask(&blob.at, &question, 0);
        let seen = seen.take();
        if seen.count == blob.size && length > 0 {
            let actual = seen.digester.finish();
            if actual != blob.digest {
                return Err(RegistryError::DigestMismatch {
                    at: Box::new(blob.at.clone()),
                    expected: blob.digest,
                    actual,
                });
            }
        }
        answer
    }

    /// One piece, from memory.
    fn send_piece(&mut self, size: u64) -> Result<Answer, RegistryError> {
        let (from, length) = (self.done, size.min(self.blob.size - self.done));
        let piece = self
            .read_piece(from, length)
            .map_err(|source| RegistryError::Local {
                at: Box::new(self.blob.at.clone()),
                side: "reading it here failed",
                source,
            })?;
        let question = Question::new(&self.blob.to, Method::PATCH, "", self.blob.scopes())
            .at(self.location.clone())
            .header("content-type", OCTETS)
            .header("content-range", format!("{from}-{}", from + length - 1))
            .payload(Payload::Bytes(&piece));
        self.session.ask(&self.blob.at, &question, 0)
    }

    fn read_piece(&mut self, from: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut reader = match self.reader.take() {
            Some((reader, at)) if at == from => reader,
            _ => {
                let mut reader = (self.blob.open)()?;
                if io::copy(&mut (&mut reader).take(from), &mut io::sink())? < from {
                    return Err(shorter());
                }
                reader
            }
        };
        let mut piece = Vec::new();
        (&mut reader).take(length).read_to_end(&mut piece)?;
        if (piece.len() as u64) < length {
            return Err(shorter());
        }
        self.reader = Some((reader, from + length));
        Ok(piece)
    }
}

/// How long a registry may take to look at a blob that it has whole: it computes its digest, and may move it.
fn time_to_check(size: u64) -> Duration {
    Duration::from_secs(size / CHECKED_IN_A_SECOND)
}

/// Where an upload goes on. Registries behind a proxy often think that they are spoken to in the clear.
fn location(blob: &Blob<'_>, answer: &Answer) -> Result<Url, RegistryError> {
    let host = answer.url.authority();
    let failed = |problem: String| protocol(&blob.at, host, problem);
    let header = answer
        .header("location")
        .ok_or_else(|| failed("it names no place for the upload".to_owned()))?;
    let place = answer.url.join(header).ok_or_else(|| {
        let header = printable(header);
        failed(format!("`{header}` is not a place for an upload"))
    })?;
    if answer.url.scheme() == Scheme::Http || place.scheme() == Scheme::Https {
        return Ok(place);
    }
    if place.authority() == host {
        return Ok(place.over_tls());
    }
    let place = printable(&place.to_string());
    Err(failed(format!(
        "it wants the upload in the clear, at `{place}`"
    )))
}

/// How many bytes of an upload are there, by the `Range` of an answer.
fn received(answer: &Answer) -> Option<u64> {
    if !answer.is_success() {
        return None;
    }
    let range = answer.header("range")?;
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (start, end) = range.split_once('-')?;
    if start.trim() != "0" {
        return None;
    }
    end.trim().parse::<u64>().ok()?.checked_add(1)
}

fn shorter() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "it is shorter than its descriptor says",
    )
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
    quiet: bool,
    progress: &'a dyn Fn(u64),
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let mut seen = self.seen.borrow_mut();
        seen.digester.update(&buffer[..count]);
        seen.count += count as u64;
        if !self.quiet {
            (self.progress)(seen.count);
        }
        Ok(count)
    }
}
