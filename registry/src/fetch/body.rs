//! The body of a download, which survives a cut connection.

use std::fmt;
use std::io::{self, Read, Write};

use kiln_image::Digester;
use kiln_image::compress::{Algorithm, decoder};
use ureq::http::Method;

use super::{Asker, FetchError, Validators};
use crate::error::TransportError;
use crate::retry;
use crate::transport::{Answer, body_error};
use crate::waits;

/// Size of the pieces a body is copied in, in bytes.
const PIECE: usize = 128 * 1024;

/// A file that comes.
pub struct Body<'a> {
    validators: Validators,
    date: Option<String>,
    is_gzip: bool,
    raw: Raw<'a>,
}

/// The bytes as they are sent. A failure that is final comes out as the [`FetchError`] inside of an [`io::Error`].
struct Raw<'a> {
    asker: Asker<'a>,
    reader: Box<dyn Read + Send>,
    host: String,
    /// A tag by which the same bytes can be had again, not just the same content.
    strong_tag: Option<String>,
    /// By the header.
    total: Option<u64>,
    done: u64,
    seen: Digester,
    /// Failures since it last got further.
    tries: u32,
    /// Bytes since the last failure.
    came: u64,
}

/// Tells how far a body has come.
struct Told<'a, 'p> {
    raw: Raw<'a>,
    progress: &'p dyn Fn(u64, Option<u64>),
}

impl<'a> Body<'a> {
    pub(super) fn of(asker: Asker<'a>, answer: Answer) -> Self {
        let validators = Validators::of(&answer);
        let is_strong = |tag: &String| !tag.starts_with("W/");
        let length = answer.header("content-length");
        let encoding = answer.header("content-encoding").unwrap_or("");
        Body {
            is_gzip: encoding.eq_ignore_ascii_case("gzip"),
            date: answer.header("date").map(str::to_owned),
            raw: Raw {
                asker,
                host: answer.url.authority().to_owned(),
                strong_tag: validators.etag.clone().filter(is_strong),
                total: length.and_then(|length| length.parse().ok()),
                done: 0,
                seen: Digester::new(),
                tries: 0,
                came: 0,
                reader: Box::new(answer.reader()),
            },
            validators,
        }
    }

    /// By what it can be recognised the next time.
    #[must_use]
    pub fn validators(&self) -> &Validators {
        &self.validators
    }

    /// `Date`: when the server answered, by its own clock.
    #[must_use]
    pub fn date(&self) -> Option<&str> {
        self.date.as_deref()
    }

    /// Streams it into `out`, without the encoding it was sent in (R-ADD-6). `progress` gets the number of bytes that came so
    /// far, and how many there are in all where the server says so.
    ///
    /// # Errors
    /// If it breaks off for good, or can't be written; what `out` received must be thrown away then.
    pub fn copy_to(
        self,
        out: &mut dyn Write,
        progress: &dyn Fn(u64, Option<u64>),
    ) -> Result<(), FetchError> {
        let address = self.raw.asker.shown.clone();
        let mut told = Told {
            raw: self.raw,
            progress,
        };
        if !self.is_gzip {
            return pour(&mut told, out, &address);
        }
        let mut plain = decoder(told).map_err(|source| failure(source, &address))?;
        if plain.algorithm() != Algorithm::Gzip {
            let source = io::Error::other("it is not in the gzip format");
            return Err(FetchError::Damaged { address, source });
        }
        pour(&mut plain, out, &address)
    }
}

impl Raw<'_> {
    /// Goes on after the connection broke, or gives up.
    fn resume(&mut self, error: TransportError) -> Result<(), FetchError> {
        if waits::is_progress(self.came, &error) {
            self.tries = 0;
        }
        self.came = 0;
        let mut error = (self.host.clone(), error);
        loop {
            let options = &self.asker.session.options;
            if self.tries >= retry::limit(&error.1, options.retries) {
                return Err(self.asker.unreachable(error.0, error.1));
            }
            self.asker.session.wait(&error.0, self.tries, None);
            self.tries += 1;
            match self.asker.once(&Method::GET, &self.range())? {
                Err(again) => error = again,
                Ok(answer) if retry::passing_status(answer.status) => {
                    let text = format!("it answered {}", answer.status);
                    error = (self.host.clone(), TransportError::Cut(text));
                }
                Ok(answer) => match self.go_on(answer)? {
                    None => return Ok(()),
                    Some(again) => error = (self.host.clone(), again),
                },
            }
        }
    }

    fn range(&self) -> Vec<(&'static str, String)> {
        match &self.strong_tag {
            Some(tag) if self.done > 0 => vec![
                ("range", format!("bytes={}-", self.done)),
                ("if-range", tag.clone()),
            ],
            _ => Vec::new(),
        }
    }

    /// Takes a new answer up where the last one ended. A whole one is passed over as far as it was seen, if it is the same.
    fn go_on(&mut self, answer: Answer) -> Result<Option<TransportError>, FetchError> {
        let address = || self.asker.shown.clone();
        match answer.status {
            206 if starts_at(&answer) == Some(self.done) => {
                self.reader = Box::new(answer.reader());
                Ok(None)
            }
            200 => {
                let mut reader = answer.reader();
                let mut again = Digester::new();
                let skipped = io::copy(&mut (&mut reader).take(self.done), &mut again);
                match skipped {
                    Err(error) => return Ok(Some(body_error(error))),
                    Ok(count) if count < self.done => {}
                    Ok(_) if again.finish() == self.seen.clone().finish() => {
                        self.reader = Box::new(reader);
                        return Ok(None);
                    }
                    Ok(_) => {}
                }
                Err(FetchError::Changed { address: address() })
            }
            206 => Err(self
                .asker
                .failed(&answer, "its part is not the one that was asked for")),
            _ => Err(self.asker.refused(&answer)),
        }
    }
}

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let cut = match self.reader.read(buffer) {
                Ok(0) if buffer.is_empty() => return Ok(0),
                Ok(0) => match self.total {
                    Some(total) if self.done < total => {
                        TransportError::Cut(format!("after {} of {total} bytes", self.done))
                    }
                    _ => return Ok(0),
                },
                Ok(count) => {
                    self.seen.update(&buffer[..count]);
                    self.done += count as u64;
                    self.came += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => body_error(error),
            };
            self.resume(cut).map_err(io::Error::other)?;
        }
    }
}

impl Read for Told<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.raw.read(buffer)?;
        if count > 0 {
            (self.progress)(self.raw.done, self.raw.total);
        }
        Ok(count)
    }
}

impl fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("address", &self.raw.asker.shown)
            .field("total", &self.raw.total)
            .finish_non_exhaustive()
    }
}

/// The first byte of a partial answer.
fn starts_at(answer: &Answer) -> Option<u64> {
    let range = answer.header("content-range")?.strip_prefix("bytes ")?;
    range.split('-').next()?.parse().ok()
}

fn pour(from: &mut dyn Read, out: &mut dyn Write, address: &str) -> Result<(), FetchError> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failure(error, address)),
        };
        out.write_all(&piece[..count])
            .map_err(|source| FetchError::Local {
                address: address.to_owned(),
                source,
            })?;
    }
}

/// What is behind an error of reading: a download's own, or that the content can't be decoded.
fn failure(error: io::Error, address: &str) -> FetchError {
    error
        .downcast::<FetchError>()
        .unwrap_or_else(|source| FetchError::Damaged {
            address: address.to_owned(),
            source,
        })
}
