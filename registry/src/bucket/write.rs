//! To the bucket: small objects whole, large ones in parts, and the date of those that are there.

use std::cell::RefCell;
use std::io::{self, Read};

use kiln_image::{Digest, Digester};
use rusty_s3::S3Action;
use rusty_s3::actions::{CompleteMultipartUpload, CreateMultipartUpload};

use super::exchange::{Attempt, element};
use super::{Bucket, BucketError, MOST_PARTS, Refusal};
use crate::host::percent_encoded;
use crate::transport::{Answer, Payload, printable};

/// An object to be written.
#[derive(Clone, Copy)]
pub struct Upload<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its size in bytes.
    pub size: u64,
    /// The digest of its content.
    pub digest: Digest,
    /// Opens its content at a place, in bytes from the start. Called once for each time that a part is sent.
    pub open: &'a dyn Fn(u64) -> io::Result<Box<dyn Read>>,
    /// Gets the number of bytes sent so far, which may go back.
    pub progress: &'a dyn Fn(u64),
}

/// Content on its way out: a part of an object, and the digest of all up to there.
struct Watched<'a> {
    inner: Box<dyn Read + 'a>,
    sent: u64,
    digester: &'a RefCell<Digester>,
    progress: &'a dyn Fn(u64),
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
        let actual = self
            .send(at, upload, &action, 0..upload.size, &Digester::new())?
            .1;
        if actual.clone().finish() == upload.digest {
            return Ok(());
        }
        let action = self
            .place
            .delete_object(self.credentials.as_ref(), upload.key);
        let _ = self.ask(at, &action, &[], Payload::None);
        Err(self.damaged(at, upload, actual))
    }

    fn upload_parts(&self, upload: &Upload<'_>) -> Result<(), BucketError> {
        let at = Attempt {
            act: "write",
            key: upload.key,
        };
        self.in_parts(at, |id| {
            let part = self.sizes.part.max(upload.size.div_ceil(MOST_PARTS));
            let (mut tags, mut seen, mut start) = (Vec::new(), Digester::new(), 0);
            while start < upload.size {
                let number = u16::try_from(tags.len() + 1).unwrap_or(u16::MAX);
                let end = upload.size.min(start + part);
                let credentials = self.credentials.as_ref();
                let action = self.place.upload_part(credentials, upload.key, number, id);
                let (answer, after) = self.send(at, upload, &action, start..end, &seen)?;
                let tag = answer.header("etag").map(str::to_owned);
                let host = answer.url.authority();
                tags.push(tag.ok_or_else(|| self.protocol(at, host, "the part has no tag"))?);
                (seen, start) = (after, end);
            }
            match seen.clone().finish() == upload.digest {
                true => Ok(tags),
                false => Err(self.damaged(at, upload, seen)),
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

    /// Sends a part. Also returns the digest of all up to its end, of which `before` knows what is before its start.
    fn send<'a, A: S3Action<'a>>(
        &self,
        at: Attempt<'_>,
        upload: &Upload<'_>,
        action: &A,
        range: std::ops::Range<u64>,
        before: &Digester,
    ) -> Result<(Answer, Digester), BucketError> {
        let seen = RefCell::new(before.clone());
        let open = || -> io::Result<Box<dyn Read + '_>> {
            *seen.borrow_mut() = before.clone();
            Ok(Box::new(Watched {
                inner: (upload.open)(range.start)?,
                sent: range.start,
                digester: &seen,
                progress: upload.progress,
            }))
        };
        let length = range.end - range.start;
        let payload = match length {
            0 => Payload::Bytes(&[]),
            length => Payload::Stream {
                open: &open,
                length,
            },
        };
        let answer = self.ask_for_success(at, action, &[], payload)?;
        Ok((answer, seen.into_inner()))
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
