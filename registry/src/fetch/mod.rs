//! Downloads that have nothing to do with images: a file at an address, asked for again only if it changed.
//!
//! A [`Download`] knows what was had before as [`Validators`]. The server is asked with a HEAD first, whose `ETag` is
//! compared here, because some servers give tags and don't honour `If-None-Match`; then with a conditional GET. The body is
//! a stream that goes on where it was cut: from the same place if the server can do that, else from the start, passing
//! over what came before after making sure that it is the same.

mod body;
mod error;
mod secrecy;

use std::time::Duration;

use ureq::http::Method;

pub use body::Body;
pub use error::FetchError;
pub use secrecy::secret_values;

use crate::Client;
use crate::error::TransportError;
use crate::host::Url;
use crate::retry::{self, Setback};
use crate::session::Session;
use crate::transport::{Answer, ExchangeError, Payload, Request};

/// Most redirects that are followed for one request.
const MOST_REDIRECTS: usize = 10;

/// What to download.
#[derive(Debug, Clone, Copy)]
pub struct Download<'a> {
    /// `http://` or `https://`, host, path and query; no user, no fragment.
    pub address: &'a str,
    /// The `Authorization` header. It goes to the address's own scheme, host and port, and to no other.
    pub authorization: Option<Authorization<'a>>,
    /// What was had from there before and is still at hand.
    pub known: &'a [Validators],
}

/// The value of an `Authorization` header. `Debug` doesn't show it.
#[derive(Clone, Copy)]
pub struct Authorization<'a>(pub &'a str);

/// By what an answer can be recognised.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Validators {
    /// `ETag`, as it came.
    pub etag: Option<String>,
    /// `Last-Modified`, as it came.
    pub last_modified: Option<String>,
}

/// What came of a download.
#[derive(Debug)]
pub enum Answered<'a> {
    /// It is still the one of this index in [`Download::known`].
    Unchanged(usize),
    /// It has to be read.
    Body(Box<Body<'a>>),
}

impl Client {
    /// Asks for a file.
    ///
    /// # Errors
    /// If nobody answers, or with a status that is no success.
    pub fn download(&self, download: Download<'_>) -> Result<Answered<'_>, FetchError> {
        let asker = Asker::new(&self.session, &download)?;
        if let Some(index) = asker.still_current(&download) {
            return Ok(Answered::Unchanged(index));
        }
        let answer = asker.ask(&Method::GET, &conditions(download.known))?;
        if answer.status == 304 {
            let index = recognised(&answer, download.known).ok_or_else(|| {
                asker.failed(&answer, "it says `not modified` of something it never gave")
            })?;
            return Ok(Answered::Unchanged(index));
        }
        if !(200..400).contains(&answer.status) {
            return Err(asker.refused(&answer));
        }
        Ok(Answered::Body(Box::new(Body::of(asker, answer))))
    }
}

impl Client {
    /// Which of the known ones a file still is, as far as that can be had without its body; `None` says nothing.
    ///
    /// # Errors
    /// If it is no address that a request can be sent to.
    pub fn still_current(&self, download: Download<'_>) -> Result<Option<usize>, FetchError> {
        Ok(Asker::new(&self.session, &download)?.still_current(&download))
    }
}

impl Validators {
    fn of(answer: &Answer) -> Self {
        let header = |name| answer.header(name).map(str::to_owned);
        Validators {
            etag: header("etag"),
            last_modified: header("last-modified"),
        }
    }
}

/// The tag without the mark of a weak one: for a file that is had whole, weak and strong tags serve alike.
fn opaque(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

/// The headers of a conditional request. Times are asked with only when there is one thing to compare with and no tag.
fn conditions(known: &[Validators]) -> Vec<(&'static str, String)> {
    let tags: Vec<&str> = known
        .iter()
        .filter_map(|validators| validators.etag.as_deref())
        .map(opaque)
        .collect();
    match known {
        _ if !tags.is_empty() => vec![("if-none-match", tags.join(", "))],
        [only] => match &only.last_modified {
            Some(time) => vec![("if-modified-since", time.clone())],
            None => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Which of the known ones an answer speaks of. One without a tag speaks of the only one that was asked about.
fn recognised(answer: &Answer, known: &[Validators]) -> Option<usize> {
    match answer.header("etag") {
        Some(etag) => known.iter().position(|validators| {
            validators
                .etag
                .as_deref()
                .is_some_and(|known| opaque(known) == opaque(etag))
        }),
        None if answer.status == 304 && known.len() == 1 => Some(0),
        None => None,
    }
}

/// One download being asked for.
#[derive(Clone)]
struct Asker<'a> {
    session: &'a Session,
    home: Url,
    authorization: Option<String>,
    shown: String,
}

impl<'a> Asker<'a> {
    fn new(session: &'a Session, download: &Download<'_>) -> Result<Self, FetchError> {
        let shown = secrecy::shown(download.address);
        let home = Url::parse(download.address).ok_or_else(|| FetchError::Address {
            address: shown.clone(),
        })?;
        let authorization = download.authorization;
        Ok(Asker {
            session,
            home,
            authorization: authorization.map(|Authorization(value)| value.to_owned()),
            shown,
        })
    }

    /// Which of the known ones it still is, if that can be had without the body.
    fn still_current(&self, download: &Download<'_>) -> Option<usize> {
        let has_tag = |validators: &Validators| validators.etag.is_some();
        if !download.known.iter().any(has_tag) {
            return None;
        }
        // Whatever is wrong here will be told by the GET.
        let answer = self
            .once(&Method::HEAD, &conditions(download.known))
            .ok()?
            .ok()?;
        match answer.status {
            200 | 304 => recognised(&answer, download.known),
            _ => None,
        }
    }

    /// Asks, and asks again after passing failures.
    fn ask(
        &self,
        method: &Method,
        headers: &[(&'static str, String)],
    ) -> Result<Answer, FetchError> {
        let retries = self.session.options.retries;
        let asked = self.session.persist(|| {
            let answer = self.once(method, headers);
            match answer.map_err(|error| Setback::last(Err(error)))? {
                Ok(answer) => retry::unless_busy(answer, retries),
                Err((host, error)) => {
                    let tries = retry::limit(&error, retries);
                    let failure = self.unreachable(host.clone(), error);
                    Err(Setback::at(host, tries, Err(failure)))
                }
            }
        });
        asked.or_else(|last| last)
    }

    /// Asks once, following redirects. The inner error is a transport's, with the host it happened at.
    #[allow(clippy::type_complexity)]
    fn once(
        &self,
        method: &Method,
        headers: &[(&'static str, String)],
    ) -> Result<Result<Answer, (String, TransportError)>, FetchError> {
        let mut url = self.home.clone();
        for _ in 0..=MOST_REDIRECTS {
            let request = Request {
                method: method.clone(),
                url: url.clone(),
                headers: headers.to_vec(),
                payload: Payload::None,
                unverified: false,
                grace: Duration::ZERO,
                host: None,
            };
            let authorization = self.authorization.as_deref();
            let authorization = authorization.filter(|_| url.same_origin(&self.home));
            let answer = match self.session.wire.send(&request, authorization) {
                Ok(answer) => answer,
                Err(ExchangeError::Transport(error)) => {
                    return Ok(Err((url.authority().to_owned(), error)));
                }
                Err(ExchangeError::Payload(error)) => {
                    let error = TransportError::Other(error.to_string());
                    return Ok(Err((url.authority().to_owned(), error)));
                }
            };
            let location = match answer.status {
                301..=303 | 307 | 308 => answer.header("location").map(str::to_owned),
                _ => None,
            };
            let Some(location) = location else {
                return Ok(Ok(answer));
            };
            url = url
                .join(&location)
                .ok_or_else(|| self.failed(&answer, "it redirects to what is no valid address"))?;
        }
        Err(FetchError::Protocol {
            address: self.shown.clone(),
            host: url.authority().to_owned(),
            problem: "it redirects too often".to_owned(),
        })
    }

    fn unreachable(&self, host: String, source: TransportError) -> FetchError {
        FetchError::Unreachable {
            address: self.shown.clone(),
            host,
            source,
        }
    }

    fn failed(&self, answer: &Answer, problem: &str) -> FetchError {
        FetchError::Protocol {
            address: self.shown.clone(),
            host: answer.url.authority().to_owned(),
            problem: problem.to_owned(),
        }
    }

    fn refused(&self, answer: &Answer) -> FetchError {
        FetchError::Status {
            address: self.shown.clone(),
            host: answer.url.authority().to_owned(),
            status: answer.status,
        }
    }
}

impl std::fmt::Debug for Authorization<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorization(…)")
    }
}
