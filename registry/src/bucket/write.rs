//! To the bucket: small objects whole, large ones in parts, and the date of those that are there.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use kiln_image::{Digest, Digester};
use rusty_s3::S3Action;
use rusty_s3::actions::{CompleteMultipartUpload, CreateMultipartUpload};

use super::exchange::{Attempt, element};
use super::{Bucket, BucketError, MOST_PARTS, Refusal};
use crate::host::percent_encoded;
use crate::locked::locked;
use crate::transport::{Answer, Payload, printable};

/// So many parts of one object are sent at a time.
const AT_ONCE: usize = 4;

/// An object to be written.
#[derive(Clone, Copy)]
pub struct Upload<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its size in bytes.
    pub size: u64,
    /// The digest of its content.
    pub digest: Digest,
    /// Opens its content at a place, in bytes from the start. Called once for each time that a part is sent, and once more.
    pub open: &'a (dyn Fn(u64) -> io::Result<Box<dyn Read>> + Sync),
    /// Gets the number of bytes sent so far, which may go back.
    pub progress: &'a (dyn Fn(u64) + Sync),
}

/// Content on its way out, and its digest.
struct Watched<'a> {
    inner: Box<dyn Read + 'a>,
    sent: u64,
    digester: &'a RefCell<Digester>,
    progress: &'a dyn Fn(u64),
}

/// An object whose parts are being sent.
struct Sending<'a> {
    bucket: &'a Bucket<'a>,
    upload: &'a Upload<'a>,
    id: &'a str,
    /// The part that is next, counted from zero.
    next: AtomicUsize,
    /// Bytes of all parts so far.
    sent: AtomicU64,
    tags: Mutex<Vec<String>>,
    failure: Mutex<Option<BucketError>>,
}

/// A part on its way out.
struct Counted<'a> {
    inner: Box<dyn Read + 'a>,
    /// Bytes of this part so far.
    own: &'a Cell<u64>,
    sending: &'a Sending<'a>,
}

impl Sending<'_> {
    /// Sends one part after another, and begins no new one after a failure.
    fn take_turns(&self, parts: &[Range<u64>]) {
        while locked(&self.failure).is_none() {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(number) else {
                return;
            };
            match self.send(number, part) {
                Ok(tag) => locked(&self.tags)[number] = tag,
                Err(error) => {
                    locked(&self.failure).get_or_insert(error);
                }
            }
        }
    }

    /// Sends a part; the tag that it has there.
    fn send(&self, number: usize, part: &Range<u64>) -> Result<String, BucketError> {
        let Self { bucket, upload, .. } = self;
        let at = Attempt {
            act: "write",
            key: upload.key,
        };
        let credentials = bucket.credentials.as_ref();
        let number = u16::try_from(number + 1).unwrap_or(u16::MAX);
        let action = bucket
            .place
            .upload_part(credentials, upload.key, number, self.id);
        let own = Cell::new(0);
        let open = || -> io::Result<Box<dyn Read + '_>> {
            self.sent.fetch_sub(own.take(), Ordering::Relaxed); // of a try that failed
            Ok(Box::new(Counted {
                inner: (upload.open)(part.start)?,
                own: &own,
                sending: self,
            }))
        };
        let payload = Payload::Stream {
            open: &open,
            length: part.end - part.start,
        };
        let answer = bucket.ask_for_success(at, &action, &[], payload)?;
        let (tag, host) = (answer.header("etag"), answer.url.authority());
        tag.map(str::to_owned)
            .ok_or_else(|| bucket.protocol(at, host, "the part has no tag"))
    }
}

/// Reads all that is to be sent.
fn digest(upload: &Upload<'_>) -> io::Result<Digester> {
    let mut digester = Digester::new();
    io::copy(&mut (upload.open)(0)?.take(upload.size), &mut digester)?;
    Ok(digester)
}

impl Bucket<'_> {
    /// Writes a small object.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Result<(), BucketError> {
        let at = Attempt { act: "write", key };
        let action = self.place.put_object(self.credentials.as_ref(), key);
        self.ask_for_success(at, &action, &[], Payload::Bytes(bytes))?;
        Ok(())
    }

    /// Writes an object. Large ones are sent in parts; what came of them is given up if one fails.
    ///
    /// # Errors
    /// If it can't be read here, is not what its digest says, or can't be written there.
    pub fn upload(&self, upload: &Upload<'_>) -> Result<(), BucketError> {
        match upload.size <= self.sizes.whole {
            true => self.upload_whole(upload),
            false => self.upload_parts(upload),
        }
    }

    fn upload_whole(&self, upload: &Upload<'_>) -> Result<(), BucketError> {
        let at = Attempt {
            act: "write",
            key: upload.key,
        };
        let action = self.place.put_object(self.credentials.as_ref(), upload.key);
        let actual = self.send_whole(at, upload, &action)?;
        if actual.clone().finish() == upload.digest {
            return Ok(());
        }
        let action = self
            .place
            .delete_object(self.credentials.as_ref(), upload.key);
        let _ = self.ask(at, &action, &[], Payload::None);
        Err(self.damaged(at, upload, actual))
    }

    /// Several parts at a time, and the content's digest beside them: the object is put together only if it is the right one.
    fn upload_parts(&self, upload: &Upload<'_>) -> Result<(), BucketError> {
        let at = Attempt {
            act: "write",
            key: upload.key,
        };
        let part = self.sizes.part.max(upload.size.div_ceil(MOST_PARTS));
        let parts = (0..upload.size.div_ceil(part)).map(|number| {
            let start = number * part;
            start..upload.size.min(start + part)
        });
        let parts: Vec<Range<u64>> = parts.collect();
        self.in_parts(at, |id| {
            let sending = Sending {
                bucket: self,
                upload,
                id,
                next: AtomicUsize::new(0),
                sent: AtomicU64::new(0),
                tags: Mutex::new(vec![String::new(); parts.len()]),
                failure: Mutex::new(None),
            };
            let digest = thread::scope(|scope| {
                for _ in 0..AT_ONCE.min(parts.len()) {
                    scope.spawn(|| sending.take_turns(&parts));
                }
                digest(upload)
            });
            if let Some(failure) = locked(&sending.failure).take() {
                return Err(failure);
            }
            let side = "reading it here failed";
            let digest =
                digest.map_err(|source| self.failed(at, Refusal::Local { side, source }))?;
            match digest.clone().finish() == upload.digest {
                true => Ok(std::mem::take(&mut *locked(&sending.tags))),
                false => Err(self.damaged(at, upload, digest)),
            }
        })
    }

    /// Has an object be as new as if it was written now, for rules that remove old ones. Nothing is sent: the server copies it
    /// onto itself.
    ///
    /// # Errors
    /// If that isn't possible.
    pub fn touch(&self, key: &str, size: u64) -> Result<(), BucketError> {
        let at = Attempt { act: "renew", key };
        let segments: Vec<String> = key.split('/').map(percent_encoded).collect();
        let source = format!("{}/{}", self.place.name(), segments.join("/"));
        if size < self.sizes.copy {
            let mut action = self.place.put_object(self.credentials.as_ref(), key);
            let headers = [
                ("x-amz-copy-source", source),
                ("x-amz-metadata-directive", "REPLACE".to_owned()),
            ];
            for (name, value) in &headers {
                action.headers_mut().insert(*name, value.as_str());
            }
            let answer = self.ask_for_success(at, &action, &headers, Payload::Bytes(&[]))?;
            return self.well_ended(at, answer).map(drop);
        }
        self.in_parts(at, |id| {
            let (mut tags, mut start) = (Vec::new(), 0);
            while start < size {
                let number = u16::try_from(tags.len() + 1).unwrap_or(u16::MAX);
                let end = size.min(start + self.sizes.copy);
                let credentials = self.credentials.as_ref();
                let mut action = self.place.upload_part(credentials, key, number, id);
                let headers = [
                    ("x-amz-copy-source", source.clone()),
                    (
                        "x-amz-copy-source-range",
                        format!("bytes={start}-{}", end - 1),
                    ),
                ];
                for (name, value) in &headers {
                    action.headers_mut().insert(*name, value.as_str());
                }
                let answer = self.ask_for_success(at, &action, &headers, Payload::Bytes(&[]))?;
                tags.push(self.well_ended(at, answer)?);
                start = end;
            }
            Ok(tags)
        })
    }

    /// Begins an object of parts, has them sent and ends it, or gives it up: parts of unfinished objects cost money.
    fn in_parts(
        &self,
        at: Attempt<'_>,
        send: impl FnOnce(&str) -> Result<Vec<String>, BucketError>,
    ) -> Result<(), BucketError> {
        let credentials = self.credentials.as_ref();
        let action = CreateMultipartUpload::new(&self.place, credentials, at.key);
        let answer = self.ask_for_success(at, &action, &[], Payload::Bytes(&[]))?;
        let host = answer.url.authority().to_owned();
        let id = element(&self.text(at, answer)?, "UploadId");
        let id = id.ok_or_else(|| self.protocol(at, &host, "the upload has no id"))?;
        let ended = send(&id).and_then(|tags| {
            let tags = tags.iter().map(String::as_str);
            let action = || {
                CompleteMultipartUpload::new(&self.place, credentials, at.key, &id, tags.clone())
            };
            let body = action().body();
            let answer =
                self.ask_for_success(at, &action(), &[], Payload::Bytes(body.as_bytes()))?;
            self.well_ended(at, answer)
        });
        if ended.is_err() {
            let action = self.place.abort_multipart_upload(credentials, at.key, &id);
            let _ = self.ask(at, &action, &[], Payload::None);
        }
        ended.map(drop)
    }

    /// The tag in an answer that may be a failure though its status is a success: a server that takes long to put an object
    /// together says 200 before it knows.
    fn well_ended(&self, at: Attempt<'_>, answer: Answer) -> Result<String, BucketError> {
        let host = answer.url.authority().to_owned();
        let text = self.text(at, answer)?;
        match element(&text, "ETag") {
            Some(tag) if !text.contains("<Error") => Ok(tag),
            _ => {
                let code = element(&text, "Code").unwrap_or_else(|| "no result".to_owned());
                let problem = format!("it ended with `{}`", printable(&code));
                Err(self.protocol(at, &host, &problem))
            }
        }
    }

    /// Sends an object whole; the digest of what was sent.
    fn send_whole<'a, A: S3Action<'a>>(
        &self,
        at: Attempt<'_>,
        upload: &Upload<'_>,
        action: &A,
    ) -> Result<Digester, BucketError> {
        let seen = RefCell::new(Digester::new());
        let open = || -> io::Result<Box<dyn Read + '_>> {
            *seen.borrow_mut() = Digester::new();
            Ok(Box::new(Watched {
                inner: (upload.open)(0)?,
                sent: 0,
                digester: &seen,
                progress: upload.progress,
            }))
        };
        let payload = match upload.size {
            0 => Payload::Bytes(&[]),
            length => Payload::Stream {
                open: &open,
                length,
            },
        };
        self.ask_for_success(at, action, &[], payload)?;
        Ok(seen.into_inner())
    }

    fn damaged(&self, at: Attempt<'_>, upload: &Upload<'_>, actual: Digester) -> BucketError {
        let (expected, actual) = (upload.digest, actual.finish());
        self.failed(at, Refusal::Digest { expected, actual })
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digester.borrow_mut().update(&buffer[..count]);
        self.sent += count as u64;
        (self.progress)(self.sent);
        Ok(count)
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.own.set(self.own.get() + count as u64);
        let before = self.sending.sent.fetch_add(count as u64, Ordering::Relaxed);
        (self.sending.upload.progress)(before + count as u64);
        Ok(count)
    }
}
