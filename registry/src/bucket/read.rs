//! From the bucket: whether an object is there, small ones whole, large ones as streams that survive a cut connection.

use std::io::{self, Read, Write};

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use kiln_image::{Digest, Digester};

use super::exchange::{Attempt, said};
use super::{Bucket, BucketError, Refusal};
use crate::error::TransportError;
use crate::retry::{self, Setback};
use crate::transport::{Answer, BodyError, Payload, body_error};

/// Size of the pieces an object is copied in, in bytes.
const PIECE: usize = 128 * 1024;

/// What is known of an object without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its size in bytes, where the server says it.
    pub size: Option<u64>,
    /// When it was written.
    pub modified: Option<Timestamp>,
}

/// An object on its way.
struct Transfer<'a> {
    size: u64,
    done: u64,
    digester: Digester,
    out: &'a mut dyn Write,
    progress: &'a dyn Fn(u64),
}

impl Bucket<'_> {
    /// Whether there is an object. `None` also where nobody may ask: writing will tell.
    ///
    /// # Errors
    /// If nobody answers, or with something else.
    pub fn find(&self, key: &str) -> Result<Option<Found>, BucketError> {
        let at = Attempt {
            act: "look for",
            key,
        };
        let action = self.place.head_object(self.credentials.as_ref(), key);
        let answer = self.ask(at, &action, &[], Payload::None)?;
        match answer.status {
            404 | 403 => Ok(None),
            _ if answer.is_success() => Ok(Some(Found {
                size: answer
                    .header("content-length")
                    .and_then(|length| length.parse().ok()),
                modified: answer.header("last-modified").and_then(date),
            })),
            _ => Err(self.refused(at, said(answer))),
        }
    }

    /// A whole object of at most `limit` bytes, `None` if there is none.
    ///
    /// # Errors
    /// If it can't be read, or there is no such bucket.
    pub fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, BucketError> {
        let at = Attempt { act: "read", key };
        let action = self.place.get_object(self.credentials.as_ref(), key);
        self.session.persist(|| {
            let answer = self.ask(at, &action, &[], Payload::None);
            let answer = answer.map_err(Setback::last)?;
            if !answer.is_success() {
                let said = said(answer);
                return match (said.status, said.code.as_str()) {
                    (404, "NoSuchBucket") => Err(Setback::last(self.refused(at, said))),
                    (404, _) => Ok(None),
                    _ => Err(Setback::last(self.refused(at, said))),
                };
            }
            let host = answer.url.authority().to_owned();
            match answer.bytes(limit) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(BodyError::TooLarge) => {
                    Err(Setback::last(self.failed(at, Refusal::TooLarge { limit })))
                }
                Err(BodyError::Transport(source)) => {
                    let tries = retry::limit(&source, self.session.options.retries);
                    Err(self.setback(at, host, tries, source))
                }
            }
        })
    }

    /// Streams an object into `out`, verified by size and digest. `progress` gets the number of bytes written so far. After an
    /// error, what `out` received must be thrown away.
    ///
    /// # Errors
    /// If it is not there, is another, or breaks off for good.
    pub fn download(
        &self,
        key: &str,
        size: u64,
        digest: &Digest,
        out: &mut dyn Write,
        progress: &dyn Fn(u64),
    ) -> Result<(), BucketError> {
        let at = Attempt { act: "read", key };
        let mut transfer = Transfer {
            size,
            done: 0,
            digester: Digester::new(),
            out,
            progress,
        };
        let mut tries = 0;
        while let Some((host, source)) = self.go_on(at, &mut transfer, &mut tries)? {
            if tries >= retry::limit(&source, self.session.options.retries) {
                return Err(self.failed(at, Refusal::Unreachable { host, source }));
            }
            self.session.wait(&host, tries, None);
            tries += 1;
        }
        let actual = transfer.digester.finish();
        match actual == *digest {
            true => Ok(()),
            false => {
                let expected = *digest;
                Err(self.failed(at, Refusal::Digest { expected, actual }))
            }
        }
    }

    /// Asks for what is missing and copies it as far as it comes; returns why it broke off. Tries count anew with every byte.
    fn go_on(
        &self,
        at: Attempt<'_>,
        transfer: &mut Transfer<'_>,
        tries: &mut u32,
    ) -> Result<Option<(String, TransportError)>, BucketError> {
        let range = match transfer.done {
            0 => Vec::new(),
            done => vec![("range", format!("bytes={done}-"))],
        };
        let action = self.place.get_object(self.credentials.as_ref(), at.key);
        let answer = self.ask_for_success(at, &action, &range, Payload::None)?;
        let host = answer.url.authority().to_owned();
        let skip = match answer.status {
            206 => match starts_at(&answer) {
                Some(start) if start <= transfer.done => transfer.done - start,
                _ => return Err(self.protocol(at, &host, "it sent another part")),
            },
            _ => transfer.done,
        };
        let before = transfer.done;
        let mut body = answer.reader();
        let cut = match io::copy(&mut (&mut body).take(skip), &mut io::sink()) {
            Err(error) => Some(body_error(error)),
            Ok(_) => transfer
                .copy(&mut body)
                .map_err(|why| self.failed(at, why))?,
        };
        if transfer.done > before {
            *tries = 0;
        }
        Ok(cut.map(|source| (host, source)))
    }
}

impl Transfer<'_> {
    fn copy(&mut self, body: &mut dyn Read) -> Result<Option<TransportError>, Refusal> {
        let mut piece = vec![0; PIECE];
        loop {
            let count = match body.read(&mut piece) {
                Ok(0) if self.done == self.size => return Ok(None),
                Ok(0) => {
                    // Not worth another try if the object itself is shorter; then the next answer says so.
                    let text = format!("after {} of {} bytes", self.done, self.size);
                    return Ok(Some(TransportError::Cut(text)));
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Some(body_error(error))),
            };
            let after = self.done + count as u64;
            if after > self.size {
                return Err(Refusal::Size {
                    expected: self.size,
                    actual: after,
                });
            }
            let written = self.out.write_all(&piece[..count]);
            written.map_err(|source| Refusal::Local {
                side: "writing it here failed",
                source,
            })?;
            self.digester.update(&piece[..count]);
            self.done = after;
            (self.progress)(after);
        }
    }
}

fn starts_at(answer: &Answer) -> Option<u64> {
    let range = answer.header("content-range")?.strip_prefix("bytes ")?;
    range.split('-').next()?.parse().ok()
}

fn date(text: &str) -> Option<Timestamp> {
    rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}
