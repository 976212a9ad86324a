//! A bucket on an S3-compatible server, in memory, that checks every signature by a reading of its own of the specification
//! ("Authenticating Requests: Using Query Parameters (AWS Signature Version 4)").

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_image::{Digest, Digester};

use super::http::decoded;
use super::{Asked, Reply, TestServer};
use crate::host::percent_encoded;

/// The account that may use the bucket.
pub const KEY_ID: &str = "AKIDTESTTESTTEST";
/// Its secret.
pub const SECRET: &str = "s3cr3t/of+the=test";
/// The region that signatures must be for.
pub const REGION: &str = "test-1";
/// The bucket's name.
pub const BUCKET: &str = "cache";

/// When every object was written, as servers say it.
const LONG_AGO: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const NOW: &str = "Sat, 01 Jan 2400 00:00:00 GMT";

/// A running server with one bucket, whose addresses have it in their path.
pub struct TestBucket {
    server: TestServer,
    state: Arc<Mutex<State>>,
}

type Fault = dyn Fn(&Asked<'_>) -> Option<Reply> + Send + Sync;

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, BTreeMap<u64, Vec<u8>>>,
    fault: Option<Arc<Fault>>,
    refused: Vec<String>,
}

#[derive(Clone)]
struct Object {
    bytes: Vec<u8>,
    modified: &'static str,
}

impl TestBucket {
    /// Starts one on a free port of loopback.
    #[must_use]
    pub fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let served = Arc::clone(&state);
        let server = TestServer::start(move |asked| {
            let fault = locked(&served).fault.clone();
            if let Some(reply) = fault.and_then(|fault| fault(&asked)) {
                return reply;
            }
            let mut state = locked(&served);
            match signature_problem(&asked) {
                Some(problem) => {
                    state.refused.push(problem.clone());
                    failure(403, "SignatureDoesNotMatch", &problem)
                }
                None => state.answer(&asked),
            }
        });
        TestBucket { server, state }
    }

    /// `http://127.0.0.1:port`
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.server.origin()
    }

    /// Keys of its objects.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        locked(&self.state).objects.keys().cloned().collect()
    }

    /// The content of an object.
    #[must_use]
    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        let state = locked(&self.state);
        state.objects.get(key).map(|object| object.bytes.clone())
    }

    /// Puts an object there, written long ago.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let object = Object {
            bytes: bytes.to_vec(),
            modified: LONG_AGO,
        };
        locked(&self.state).objects.insert(key.to_owned(), object);
    }

    /// Removes an object.
    pub fn remove(&self, key: &str) {
        locked(&self.state).objects.remove(key);
    }

    /// Whether an object was written or copied since the server was started.
    #[must_use]
    pub fn is_new(&self, key: &str) -> bool {
        let state = locked(&self.state);
        state
            .objects
            .get(key)
            .is_some_and(|object| object.modified == NOW)
    }

    /// How many uploads in parts were begun and neither ended nor given up.
    #[must_use]
    pub fn open_uploads(&self) -> usize {
        locked(&self.state).uploads.len()
    }

    /// What was wrong with signatures.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        locked(&self.state).refused.clone()
    }

    /// Has requests answered by `fault` where it gives something.
    pub fn fail(&self, fault: impl Fn(&Asked<'_>) -> Option<Reply> + Send + Sync + 'static) {
        locked(&self.state).fault = Some(Arc::new(fault));
    }

    /// The requests since this was asked the last time: method, a space, and path without query.
    #[allow(clippy::must_use_candidate)] // asked to forget them, too
    pub fn lines(&self) -> Vec<String> {
        let lines = self.server.lines().into_iter();
        lines
            .map(|line| line.split('?').next().unwrap_or_default().to_owned())
            .collect()
    }
}

impl State {
    fn answer(&mut self, asked: &Asked<'_>) -> Reply {
        let (path, query) = parts(asked.target());
        let key = match path.strip_prefix(&format!("/{BUCKET}/")) {
            Some(key) => decoded(&key.replace('+', "%2B")),
            None => return failure(404, "NoSuchBucket", "The specified bucket does not exist"),
        };
        let upload = query.get("uploadId").cloned();
        match (asked.method(), upload) {
            ("POST", None) => {
                let id = format!("upload-{}", self.uploads.len() + 1);
                self.uploads.insert(id.clone(), BTreeMap::new());
                Reply::ok(format!(
                    "<?xml version=\"1.0\"?><InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                ))
            }
            ("POST", Some(id)) => self.end(&key, &id, asked.body),
            ("DELETE", Some(id)) => {
                self.uploads.remove(&id);
                Reply::status(204)
            }
            ("DELETE", None) => {
                self.objects.remove(&key);
                Reply::status(204)
            }
            ("PUT", upload) => self.put(&key, upload, &query, asked),
            ("GET" | "HEAD", _) => self.get(&key, asked),
            _ => failure(405, "MethodNotAllowed", ""),
        }
    }

    fn get(&self, key: &str, asked: &Asked<'_>) -> Reply {
        let Some(object) = self.objects.get(key) else {
            return failure(404, "NoSuchKey", "The specified key does not exist.");
        };
        let start = asked.header("range").and_then(|range| {
            let start = range.strip_prefix("bytes=")?.strip_suffix('-')?;
            start.parse::<usize>().ok()
        });
        let reply = match start {
            Some(start) if start >= object.bytes.len() => {
                return failure(
                    416,
                    "InvalidRange",
                    "The requested range is not satisfiable",
                );
            }
            Some(start) => Reply {
                status: 206,
                ..Reply::ok(&object.bytes[start..])
            }
            .header(
                "content-range",
                format!("bytes {start}-/{}", object.bytes.len()),
            ),
            None => Reply::ok(object.bytes.clone()),
        };
        reply.header("last-modified", object.modified)
    }

    fn put(
        &mut self,
        key: &str,
        upload: Option<String>,
        query: &BTreeMap<String, String>,
        asked: &Asked<'_>,
    ) -> Reply {
        let (bytes, copied) = match asked.header("x-amz-copy-source") {
            None => (asked.body.to_vec(), false),
            Some(source) => {
                let source = decoded(source.trim_start_matches('/'));
                let source = source.split_once('/').map_or("", |(_, key)| key);
                let Some(object) = self.objects.get(source) else {
                    return failure(404, "NoSuchKey", "");
                };
                (
                    copied_part(&object.bytes, asked.header("x-amz-copy-source-range")),
                    true,
                )
            }
        };
        let tag = format!("\"{}\"", &Digest::of(&bytes).hex()[..32]);
        match upload {
            None => {
                let object = Object {
                    bytes,
                    modified: NOW,
                };
                self.objects.insert(key.to_owned(), object);
            }
            Some(id) => {
                let number = query.get("partNumber").and_then(|text| text.parse().ok());
                let Some(parts) = self.uploads.get_mut(&id) else {
                    return failure(404, "NoSuchUpload", "");
                };
                parts.insert(number.unwrap_or(0), bytes);
            }
        }
        match copied {
            true => Reply::ok(format!("<CopyResult><ETag>{tag}</ETag></CopyResult>")),
            false => Reply::ok("").header("etag", tag),
        }
    }

    fn end(&mut self, key: &str, id: &str, body: &[u8]) -> Reply {
        let Some(parts) = self.uploads.remove(id) else {
            return failure(404, "NoSuchUpload", "");
        };
        let asked = String::from_utf8_lossy(body)
            .matches("<PartNumber>")
            .count();
        if asked != parts.len() {
            return failure(400, "InvalidPart", "");
        }
        let object = Object {
            bytes: parts.into_values().flatten().collect(),
            modified: NOW,
        };
        self.objects.insert(key.to_owned(), object);
        Reply::ok(
            "<CompleteMultipartUploadResult><ETag>\"t-1\"</ETag></CompleteMultipartUploadResult>",
        )
    }
}

fn copied_part(bytes: &[u8], range: Option<&str>) -> Vec<u8> {
    let range = range.and_then(|range| {
        let (start, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some(start.parse::<usize>().ok()?..last.parse::<usize>().ok()? + 1)
    });
    let part = range.and_then(|range| bytes.get(range));
    part.unwrap_or(bytes).to_vec()
}

/// What the protocol says of a failure.
#[must_use]
pub fn failure(status: u16, code: &str, message: &str) -> Reply {
    Reply {
        status,
        ..Reply::ok(format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        ))
    }
}

fn parts(target: &str) -> (&str, BTreeMap<String, String>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    });
    (path, pairs.collect())
}

/// What is wrong with a request's signature.
fn signature_problem(asked: &Asked<'_>) -> Option<String> {
    let (path, query) = parts(asked.target());
    let Some(given) = query.get("X-Amz-Signature") else {
        return Some("no signature".to_owned());
    };
    let signed: Vec<&str> = query
        .get("X-Amz-SignedHeaders")
        .map_or("", String::as_str)
        .split(';')
        .collect();
    let amazons = asked
        .request
        .headers
        .keys()
        .find(|name| name.starts_with("x-amz-") && !signed.contains(&name.as_str()));
    if let Some(name) = amazons {
        return Some(format!("{name} is not signed"));
    }
    let headers: Vec<(&str, &str)> = signed
        .iter()
        .map(|name| (*name, asked.header(name).unwrap_or("")))
        .collect();
    let expected = signature(asked.method(), path, &query, &headers, SECRET);
    let scope = query.get("X-Amz-Credential").map_or("", String::as_str);
    let in_scope =
        scope.starts_with(&format!("{KEY_ID}/")) && scope.contains(&format!("/{REGION}/s3/"));
    match (in_scope, expected == *given) {
        (true, true) => None,
        (false, _) => Some(format!("credential {scope}")),
        (_, false) => Some(format!("the signature of {} {path}", asked.method())),
    }
}

/// The signature that the parameters of a query call for.
fn signature(
    method: &str,
    path: &str,
    query: &BTreeMap<String, String>,
    headers: &[(&str, &str)],
    secret: &str,
) -> String {
    let parameter = |name: &str| query.get(name).map_or("", String::as_str);
    let pairs = query.iter().filter(|(name, _)| *name != "X-Amz-Signature");
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{}={}", percent_encoded(name), percent_encoded(value)))
        .collect();
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let canonical = format!(
        "{method}\n{path}\n{}\n{lines}\n{}\nUNSIGNED-PAYLOAD",
        pairs.join("&"),
        parameter("X-Amz-SignedHeaders"),
    );
    let (_, scope) = parameter("X-Amz-Credential")
        .split_once('/')
        .unwrap_or(("", ""));
    let hashed = Digest::of(canonical.as_bytes());
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        parameter("X-Amz-Date"),
        hashed.hex()
    );
    let first = format!("AWS4{secret}").into_bytes();
    let key = scope
        .split('/')
        .fold(first, |key, part| hmac(&key, part.as_bytes()));
    hmac(&key, text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// RFC 2104 with SHA-256.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = match key.len() {
        0..=64 => key.to_vec(),
        _ => bytes_of(&Digest::of(key)),
    };
    block.resize(64, 0);
    let padded = |pad: u8| block.iter().map(|byte| byte ^ pad).collect::<Vec<u8>>();
    let digest = |first: &[u8], second: &[u8]| {
        let mut digester = Digester::new();
        digester.update(first);
        digester.update(second);
        bytes_of(&digester.finish())
    };
    digest(&padded(0x5c), &digest(&padded(0x36), message))
}

fn bytes_of(digest: &Digest) -> Vec<u8> {
    let hex = digest.hex();
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap_or(0);
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn the_published_example_has_its_published_signature() {
        let target = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host";
        let (path, query) = parts(target);
        let headers = [("host", "examplebucket.s3.amazonaws.com")];
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        assert_eq!(
            signature("GET", path, &query, &headers, secret),
            "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }
}
