//! One HTTP exchange: a request goes out, an answer comes back, nothing is followed, retried or authenticated here.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thiserror::Error;
use ureq::http::{HeaderMap, Method, Request as HttpRequest};
use ureq::{Agent, AsSendBody, SendBody, Timeout};

use crate::certificates::HostCertificates;
use crate::error::TransportError;
use crate::forwarded::Forwarder;
use crate::handshake::TlsFailure;
use crate::host::{Scheme, Url};
use crate::hosts::Host;
use crate::locked::locked;
use crate::options::Options;
use crate::proxy::{Proxy, Via};
use crate::retry;
use crate::socket::{Names, connector};
use crate::stop::Stopper;
use crate::tls::Tls;
use crate::waits::{Wait, WaitedFor, Waits};

/// Largest part of an error body that is read, in bytes.
const ERROR_BODY_LIMIT: u64 = 64 * 1024;
/// Longest sentence of a registry that is repeated to the user, in characters.
const DETAIL_LIMIT: usize = 300;

/// A request without credentials; those are added when it is sent to where they belong.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) payload: Payload<'a>,
    /// Whether any certificate will do.
    pub(crate) unverified: bool,
    /// How much longer than usual its answer may take.
    pub(crate) grace: Duration,
    /// What is known of the host it is sent to.
    pub(crate) host: Option<&'a Host>,
}

/// What a request carries. A stream is opened anew each time it is sent.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    Stream {
        open: &'a dyn Fn() -> io::Result<Box<dyn Read + 'a>>,
        length: u64,
    },
}

/// The answer to one request; its body is not read yet.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Where it came from.
    pub(crate) url: Url,
    body: ureq::Body,
    wait: Wait,
    stall_timeout: Duration,
}

/// Why an exchange gave no answer.
#[derive(Debug, Error)]
pub(crate) enum ExchangeError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The payload could not be read on this side.
    #[error("reading the payload failed")]
    Payload(#[source] io::Error),
}

/// The connections of a client.
pub(crate) struct Wire {
    user_agent: String,
    connect_timeout: Duration,
    stall_timeout: Duration,
    pub(crate) stopper: Stopper,
    pub(crate) waits: Waits,
    /// Hosts that have answered.
    known: Mutex<HashSet<String>>,
    proxy: Proxy,
    certificates: Vec<PathBuf>,
    lines: Mutex<HashMap<Kind, Line>>,
    /// What the folders of certificates have for hosts.
    of_hosts: Mutex<HashMap<String, Option<Arc<HostCertificates>>>>,
}

/// What makes connections, and by way of whom.
#[derive(Clone)]
struct Line {
    agent: Agent,
    proxy: Option<Via>,
}

/// What connections have in common that one agent makes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    proxy: Option<String>,
    /// Whether the proxy is given requests, where it makes tunnels for others.
    forwarded: bool,
    unverified: bool,
    /// The host, if certificates are kept for it.
    host: Option<String>,
    connect_timeout: Duration,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    pub(crate) fn new(options: &Options) -> Self {
        Wire {
            user_agent: options.user_agent.clone(),
            connect_timeout: options.connect_timeout,
            stall_timeout: options.stall_timeout,
            stopper: Stopper::default(),
            waits: Waits::default(),
            known: Mutex::default(),
            proxy: options.proxy.clone(),
            certificates: options.certificates.clone(),
            lines: Mutex::default(),
            of_hosts: Mutex::default(),
        }
    }

    /// Sends `request`, with `authorization` if given.
    pub(crate) fn send(
        &self,
        request: &Request<'_>,
        authorization: Option<&str>,
    ) -> Result<Answer, ExchangeError> {
        let line = self.line_for(request)?;
        let host = request.url.authority();
        let wait = self.waits.begin(host);
        let mut http = HttpRequest::builder()
            .method(request.method.clone())
            .uri(request.url.to_string());
        for (name, value) in &request.headers {
            http = http.header(*name, value);
        }
        for (name, value) in request.host.map_or(&[][..], |host| &host.headers) {
            if authorization.is_none() || !name.eq_ignore_ascii_case("authorization") {
                http = http.header(name, value);
            }
        }
        if let Some(authorization) = authorization {
            http = http.header("authorization", authorization);
        }
        let response = match request.payload {
            Payload::None => self.run(&line, request, http.body(()))?,
            Payload::Bytes(bytes) => self.run(&line, request, http.body(bytes))?,
            Payload::Stream { open, length } => {
                let http = http.header("content-length", length);
                let mut source = Source::open(open, length, &wait)?;
                let body = http.body(SendBody::from_reader(&mut source));
                let result = self.run(&line, request, body);
                if let Some(failure) = source.failure {
                    return Err(ExchangeError::Payload(failure));
                }
                result?
            }
        };
        self.heard(host);
        wait.rest();
        let (parts, body) = response.into_parts();
        if let (407, Some(proxy)) = (parts.status.as_u16(), &line.proxy) {
            return Err(proxy.refused(407, host).into());
        }
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            url: request.url.clone(),
            body,
            wait,
            stall_timeout: self.stall_timeout,
        })
    }

    /// Notes that a host answers.
    pub(crate) fn heard(&self, host: &str) {
        let mut known = locked(&self.known);
        if !known.contains(host) {
            known.insert(host.to_owned());
        }
    }

    fn run(
        &self,
        line: &Line,
        request: &Request<'_>,
        http: Result<HttpRequest<impl AsSendBody>, ureq::http::Error>,
    ) -> Result<ureq::http::Response<ureq::Body>, ExchangeError> {
        let mut http = http.map_err(malformed)?;
        if request.grace > Duration::ZERO {
            let limit = self.stall_timeout + request.grace;
            let configured = line.agent.configure_request(http);
            http = configured
                .timeout_per_read(Some(limit))
                .timeout_recv_response(Some(limit.max(self.head_timeout())))
                .build();
        }
        let answered = line.agent.run(http);
        answered.map_err(|error| {
            let proxy = line.proxy.as_ref();
            self.no_answer(request, proxy, error).into()
        })
    }

    /// How long the head of an answer may take, however it comes.
    fn head_timeout(&self) -> Duration {
        self.stall_timeout * 2
    }

    fn no_answer(
        &self,
        request: &Request<'_>,
        proxy: Option<&Via>,
        error: ureq::Error,
    ) -> TransportError {
        if self.stopper.is_asked() {
            return TransportError::Stopped;
        }
        let within = |limit: Duration| format!("within {}s", limit.as_secs_f64());
        let stall = within(self.stall_timeout + request.grace);
        let stalled = match error {
            ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                let own = request.host.and_then(|host| host.connect_timeout);
                let limit = within(own.unwrap_or(self.connect_timeout));
                let way = proxy.map_or(String::new(), |proxy| format!(" by way of {proxy}"));
                return TransportError::TimedOut(format!("no connection {limit}{way}"));
            }
            ureq::Error::Timeout(Timeout::PerRead) => format!("not a byte {stall}"),
            ureq::Error::Timeout(Timeout::RecvResponse) => {
                let limit = within(self.head_timeout() + request.grace);
                format!("no whole answer {limit}")
            }
            ureq::Error::Timeout(Timeout::PerWrite) => format!("it takes nothing more {stall}"),
            other => {
                let error = match other {
                    ureq::Error::Io(error) if is_of_socks(&error) => {
                        TransportError::Proxy(error.to_string())
                    }
                    other => transport_error(other),
                };
                let host = request.url.authority();
                return match (error, proxy) {
                    (error, Some(proxy)) => proxy.blamed(error, host),
                    // It may be on its way back.
                    (TransportError::Refused, None) if locked(&self.known).contains(host) => {
                        TransportError::Cut("it takes no connections any more".to_owned())
                    }
                    (error, None) => error,
                };
            }
        };
        match locked(&self.known).contains(request.url.authority()) {
            true => TransportError::TimedOut(stalled),
            false => TransportError::Silent(stalled),
        }
    }

    fn line_for(&self, request: &Request<'_>) -> Result<Line, TransportError> {
        if self.stopper.is_asked() {
            return Err(TransportError::Stopped);
        }
        let url = &request.url;
        let mut kind = Kind {
            proxy: self.proxy.to_reach(url).map(str::to_owned),
            forwarded: url.scheme() == Scheme::Http,
            unverified: request.unverified,
            host: None,
            connect_timeout: self.connect_timeout,
        };
        let mut certificates = match url.scheme() {
            Scheme::Https => self.certificates_of(url.authority())?,
            Scheme::Http => None,
        };
        kind.host = certificates.is_some().then(|| url.authority().to_owned());
        if let Some(host) = request.host {
            kind.proxy = host.proxy.clone().or(kind.proxy);
            kind.connect_timeout = host.connect_timeout.unwrap_or(self.connect_timeout);
            if let Some(own) = &host.certificates {
                certificates = Some(Arc::clone(own));
                kind.host = Some(host.name.clone());
            }
        }
        kind.forwarded &= kind.proxy.is_some();
        if let Some(line) = locked(&self.lines).get(&kind) {
            return Ok(line.clone());
        }
        let line = self.line(&kind, certificates)?;
        if !self.stopper.reaches(&line.agent) {
            return Err(TransportError::Stopped);
        }
        locked(&self.lines).insert(kind, line.clone());
        Ok(line)
    }

    /// What is kept for a host, read once.
    fn certificates_of(
        &self,
        authority: &str,
    ) -> Result<Option<Arc<HostCertificates>>, TransportError> {
        if let Some(known) = locked(&self.of_hosts).get(authority) {
            return Ok(known.clone());
        }
        let found = HostCertificates::find(&self.certificates, authority)
            .map_err(|problem| TransportError::Tls(TlsFailure::Other(problem)))?
            .map(Arc::new);
        locked(&self.of_hosts).insert(authority.to_owned(), found.clone());
        Ok(found)
    }

    fn line(
        &self,
        kind: &Kind,
        certificates: Option<Arc<HostCertificates>>,
    ) -> Result<Line, TransportError> {
        let proxy = kind.proxy.as_deref().map(ureq::Proxy::new).transpose();
        let proxy = proxy.map_err(|error| TransportError::Proxy(error.to_string()))?;
        let via = proxy.as_ref().map(Via::of);
        let scheme = match kind.forwarded {
            true => Scheme::Http,
            false => Scheme::Https,
        };
        let forwarder = proxy
            .as_ref()
            .and_then(|proxy| Forwarder::of(proxy, scheme));
        let proxy = proxy.filter(|_| forwarder.is_none());
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            .user_agent(&self.user_agent)
            .accept_encoding("identity")
            .timeout_resolve(Some(kind.connect_timeout))
            .timeout_connect(Some(kind.connect_timeout))
            .timeout_per_read(Some(self.stall_timeout))
            .timeout_per_write(Some(self.stall_timeout))
            .timeout_recv_response(Some(self.head_timeout()))
            .build();
        let tls = Tls::new(kind.unverified, certificates);
        let connector = connector(&self.stopper, self.stall_timeout, forwarder.as_ref(), tls);

        let names = Names {
            stopper: self.stopper.clone(),
            forwarder,
        };
        Ok(Line {
            agent: Agent::with_parts(config, connector, names),
            proxy: via,
        })
    }
}

fn malformed(error: ureq::http::Error) -> ExchangeError {
    ExchangeError::Transport(TransportError::Other(error.to_string()))
}

fn transport_error(error: ureq::Error) -> TransportError {
    match error {
        ureq::Error::HostNotFound => TransportError::UnknownHost,
        ureq::Error::Timeout(_) => TransportError::TimedOut("no more bytes came".to_owned()),
        ureq::Error::Tls(problem) => TransportError::Tls(TlsFailure::other(problem)),
        ureq::Error::Rustls(problem) => TransportError::Tls(TlsFailure::from(&problem)),
        ureq::Error::InvalidProxyUrl => {
            TransportError::Proxy("its address is not valid".to_owned())
        }
        ureq::Error::ConnectProxyFailed(problem) => TransportError::Proxy(problem),
        ureq::Error::Io(error) => io_error(&error),
        ureq::Error::Protocol(problem) => TransportError::Cut(problem.to_string()),
        other => TransportError::Other(other.to_string()),
    }
}

/// Whether a SOCKS proxy doesn't let this client in.
fn is_of_socks(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
        || error.to_string() == "no acceptable auth methods"
}

fn io_error(error: &io::Error) -> TransportError {
    let inner = error.get_ref();
    if let Some(problem) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return TransportError::Tls(TlsFailure::from(problem));
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => TransportError::Refused,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            TransportError::TimedOut(error.to_string())
        }
        io::ErrorKind::InvalidData => TransportError::Tls(TlsFailure::other(error.to_string())),
        // The standard library has no kind for a resolver's failure, only this text.
        _ if error.to_string().starts_with("failed to lookup address") => {
            TransportError::UnknownHost
        }
        _ => TransportError::Cut(error.to_string()),
    }
}

/// Reads a payload of known length, and remembers that it was this side that failed.
struct Source<'a, 'w> {
    inner: Box<dyn Read + 'a>,
    wait: &'w Wait,
    left: u64,
    failure: Option<io::Error>,
}

impl<'a, 'w> Source<'a, 'w> {
    fn open(
        open: &'a dyn Fn() -> io::Result<Box<dyn Read + 'a>>,
        length: u64,
        wait: &'w Wait,
    ) -> Result<Self, ExchangeError> {
        let inner = open().map_err(ExchangeError::Payload)?;
        Ok(Source {
            inner,
            wait,
            left: length,
            failure: None,
        })
    }
}

impl Read for Source<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait.moved();
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let outcome = match self.inner.read(&mut buffer[..wanted]) {
            Ok(0) if wanted > 0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it is shorter than its descriptor says",
            )),
            other => other,
        };
        match outcome {
            Ok(count) => {
                self.left -= count as u64;
                Ok(count)
            }
            Err(error) => {
                let copy = io::Error::new(error.kind(), "reading the payload failed");
                self.failure = Some(error);
                Err(copy)
            }
        }
    }
}

/// Why a body could not be read whole.
#[derive(Debug)]
pub(crate) enum BodyError {
    TooLarge,
    Transport(TransportError),
}

impl BodyError {
    /// How often it is worth to ask for it again.
    pub(crate) fn limit(&self, retries: u32) -> u32 {
        match self {
            BodyError::TooLarge => 0,
            BodyError::Transport(error) => retry::limit(error, retries),
        }
    }
}

impl Answer {
    /// A header's text, `None` if it is missing or not text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The whole body, at most `limit` bytes of it.
    pub(crate) fn bytes(self, limit: u64) -> Result<Vec<u8>, BodyError> {
        let mut bytes = Vec::new();
        let read = self.reader().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| BodyError::Transport(body_error(error)))?;
        if bytes.len() as u64 > limit {
            Err(BodyError::TooLarge)
        } else {
            Ok(bytes)
        }
    }

    /// The body as a stream. A body cut short is an error of the stream; see [`body_error`].
    pub(crate) fn reader(self) -> impl Read {
        WaitedFor::new(self.body.into_reader(), self.wait, self.stall_timeout)
    }

    /// What the registry says about a failure, as one printable line; empty if it says nothing. Reads a limited part of the body.
    pub(crate) fn detail(self) -> String {
        let mut bytes = Vec::new();
        // A body that can't be read leaves the status to speak for itself.
        let _ = self.reader().take(ERROR_BODY_LIMIT).read_to_end(&mut bytes);
        printable(&errors_of(&bytes).unwrap_or_else(|| first_line(&bytes)))
    }
}

/// The meaning of an error from [`Answer::reader`].
pub(crate) fn body_error(error: io::Error) -> TransportError {
    transport_error(ureq::Error::from(error))
}

/// The `errors` of the distribution specification: `MANIFEST_UNKNOWN: manifest unknown`, joined by semicolons.
fn errors_of(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = |entry: &serde_json::Value, name: &str| {
        entry
            .get(name)
            .and_then(|v| v.as_str())
            .unwrap_or("")
            .to_owned()
    };
    let Some(errors) = value.get("errors").and_then(|errors| errors.as_array()) else {
        // Token services and gateways speak more freely.
        return ["details", "message", "error_description", "error"]
            .iter()
            .map(|name| text(&value, name))
            .find(|t| !t.is_empty());
    };
    let line = |entry: &serde_json::Value| match (text(entry, "code"), text(entry, "message")) {
        (code, message) if message.is_empty() => code,
        (code, message) if code.is_empty() => message,
        (code, message) => format!("{code}: {message}"),
    };
    Some(errors.iter().map(line).collect::<Vec<_>>().join("; "))
}

fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.trim().lines().next().unwrap_or("").trim();
    if line.starts_with('<') {
        String::new()
    } else {
        line.to_owned()
    }
}

/// Without control characters: what a registry says must not steer the user's terminal, or turn its words around.
pub(crate) fn printable(text: &str) -> String {
    let steers = |c: char| {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
    };
    text.chars()
        .map(|c| if steers(c) { ' ' } else { c })
        .take(DETAIL_LIMIT)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_registrys_words_are_found_and_tamed() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"},{"code":"X"}]}"#,
                "MANIFEST_UNKNOWN: manifest unknown; X",
            ),
            (
                r#"{"details":"incorrect username or password"}"#,
                "incorrect username or password",
            ),
            ("<html>no</html>", ""),
            ("\nbusy\u{1b}[2J now\nmore", "busy [2J now"),
            ("a\u{9b}31mb\u{202e}c", "a 31mb c"),
            (r#"{"errors":"no list"}"#, r#"{"errors":"no list"}"#),
            (r#"{"errors":[{"code":7,"message":["x"]}]}"#, ""),
            (
                r#"{"errors":[{"code":"A","message":"b\u001b]0;c\u0007"}]}"#,
                "A: b ]0;c ",
            ),
            ("", ""),
        ] {
            assert_eq!(
                printable(
                    &errors_of(body.as_bytes()).unwrap_or_else(|| first_line(body.as_bytes()))
                ),
                expected
            );
        }
    }
}
