//! A question to a registry, asked until there is an answer: schemes, redirects, authentication, retries.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ureq::http::Method;

use crate::attempt::Attempt;
use crate::auth::{Remembered, Scopes, Secret, TokenRequest, Way, choose, token_of};
use crate::challenge;
use crate::credentials::Credential;
use crate::error::{RegistryError, TransportError};
use crate::host::{Scheme, Url, is_loopback, server_of};
use crate::options::Options;
use crate::retry;
use crate::transport::{Answer, BodyError, ExchangeError, Payload, Request, Wire};

/// Most redirects that are followed for one request.
const MOST_REDIRECTS: usize = 5;

/// Connections, tokens and what is known of each host.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) options: Options,
    pub(crate) wire: Wire,
    remembered: Remembered,
    schemes: Mutex<HashMap<String, Scheme>>,
    credentials: Mutex<HashMap<(String, String), Option<Credential>>>,
}

/// What is asked, below `/v2/<repository>/` of the attempt's registry or at an address that it gave.
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    pub(crate) place: Place<'a>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) payload: Payload<'a>,
    pub(crate) scopes: Scopes,
}

/// Where a question goes.
#[derive(Clone)]
pub(crate) enum Place<'a> {
    /// A path below the repository: `manifests/latest`.
    Below(&'a str),
    /// An address from an answer's `Location`.
    At(Url),
}

/// Why a question has no answer: for good, or perhaps not the next time.
pub(crate) enum Trouble {
    Final(RegistryError),
    Transport { host: String, error: TransportError },
}

impl<'a> Question<'a> {
    pub(crate) fn new(method: Method, path: &'a str, scopes: Scopes) -> Self {
        Question {
            method,
            place: Place::Below(path),
            headers: Vec::new(),
            payload: Payload::None,
            scopes,
        }
    }

    pub(crate) fn at(mut self, url: Url) -> Self {
        self.place = Place::At(url);
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }
}

impl Session {
    pub(crate) fn new(options: Options) -> Self {
        Session {
            wire: Wire::new(&options),
            options,
            remembered: Remembered::default(),
            schemes: Mutex::default(),
            credentials: Mutex::default(),
        }
    }

    /// Asks, and asks again after passing failures, up to `retries` times. Every status but 401 from the registry itself
    /// comes back as an answer.
    pub(crate) fn ask(
        &self,
        at: &Attempt,
        question: &Question<'_>,
        retries: u32,
    ) -> Result<Answer, RegistryError> {
        let mut tries = 0;
        loop {
            let asked = match self.once(at, question) {
                Ok(answer) if retry::passing_status(answer.status) && tries < retries => {
                    retry::asked_pause(&answer.headers)
                }
                Ok(answer) => return Ok(answer),
                Err(Trouble::Transport { error, .. }) if tries < retry::limit(&error, retries) => {
                    None
                }
                Err(trouble) => return Err(trouble.into_error(at)),
            };
            self.options.sleep.wait(retry::pause(tries, asked));
            tries += 1;
        }
    }

    /// [`ask`](Session::ask), with the retries of the options, for an answer that is a success.
    pub(crate) fn ask_for_success(
        &self,
        at: &Attempt,
        question: &Question<'_>,
    ) -> Result<Answer, RegistryError> {
        let answer = self.ask(at, question, self.options.retries)?;
        if answer.is_success() {
            Ok(answer)
        } else {
            Err(refused(at, answer))
        }
    }

    /// Asks once, or twice if the registry wants to know who asks.
    fn once(&self, at: &Attempt, question: &Question<'_>) -> Result<Answer, Trouble> {
        let home = self.home(at.registry())?;
        let url = match &question.place {
            Place::Below(path) => Url::new(
                home.scheme(),
                home.authority(),
                format!("/v2/{}/{path}", at.reference.repository()),
            ),
            Place::At(url) => url.clone(),
        };
        let request = || Request {
            method: question.method.clone(),
            url: url.clone(),
            headers: question.headers.clone(),
            payload: question.payload,
        };
        let known = self.remembered.find(at.registry(), &question.scopes);
        let answer = self.follow(at, &home, request(), known.as_ref())?;
        if answer.status != 401 || !answer.url.same_origin(&home) {
            return Ok(answer);
        }
        if let Some(refused) = &known {
            self.remembered.forget(at.registry(), refused);
        }
        let (secret, with_credentials) = self.authenticate(at, &home, answer, &question.scopes)?;
        let answer = self.follow(at, &home, request(), Some(&secret))?;
        if answer.status == 401 && answer.url.same_origin(&home) {
            return Err(Trouble::Final(unauthorized(at, answer, with_credentials)));
        }
        self.remembered
            .keep(at.registry(), &question.scopes, &secret);
        Ok(answer)
    }

    /// Sends a request and follows redirects. `secret` goes to the origin of `home` and nowhere else.
    fn follow(
        &self,
        at: &Attempt,
        home: &Url,
        mut request: Request<'_>,
        secret: Option<&Secret>,
    ) -> Result<Answer, Trouble> {
        for _ in 0..=MOST_REDIRECTS {
            let header = secret
                .filter(|_| request.url.same_origin(home))
                .map(Secret::header);
            let answer = self
                .wire
                .send(&request, header)
                .map_err(|error| Trouble::of(at, &request.url, error))?;
            let Some(location) = redirect(&request.method, &answer) else {
                return Ok(answer);
            };
            let protocol =
                |problem: String| Trouble::Final(protocol(at, request.url.authority(), problem));
            let next = request.url.join(&location);
            let next = next.ok_or_else(|| {
                protocol(format!(
                    "it redirects to `{location}`, which is no valid address"
                ))
            })?;
            if request.url.scheme() == Scheme::Https && next.scheme() == Scheme::Http {
                return Err(protocol(format!("it redirects from https to `{next}`")));
            }
            request.url = next;
        }
        Err(Trouble::Final(protocol(
            at,
            request.url.authority(),
            "it redirects too often".to_owned(),
        )))
    }

    /// The origin of a registry. Where plain HTTP is allowed, the host is asked once which it speaks, without any secret.
    fn home(&self, registry: &str) -> Result<Url, Trouble> {
        let server = server_of(registry);
        let schemes = self.allowed_schemes(registry);
        if let [only] = schemes {
            return Ok(Url::new(*only, server, "/v2/"));
        }
        if let Some(known) = self
            .schemes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(server)
        {
            return Ok(Url::new(*known, server, "/v2/"));
        }
        let mut last_error = None;
        for scheme in schemes {
            match self.probe(Url::new(*scheme, server, "/v2/")) {
                Ok(home) => {
                    self.schemes
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(server.to_owned(), *scheme);
                    return Ok(home);
                }
                Err(error) => last_error = Some(error),
            }
        }
        let error =
            last_error.unwrap_or_else(|| TransportError::Other("no way to speak to it".to_owned()));
        Err(Trouble::Transport {
            host: server.to_owned(),
            error,
        })
    }

    fn allowed_schemes(&self, registry: &str) -> &'static [Scheme] {
        if is_loopback(registry) {
            &[Scheme::Http, Scheme::Https]
        } else if self
            .options
            .insecure
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(registry))
        {
            &[Scheme::Https, Scheme::Http]
        } else {
            &[Scheme::Https]
        }
    }

    fn probe(&self, home: Url) -> Result<Url, TransportError> {
        let request = Request {
            method: Method::GET,
            url: home.clone(),
            headers: Vec::new(),
            payload: Payload::None,
        };
        match self.wire.send(&request, None) {
            // What servers that expect TLS say to plain HTTP.
            Ok(answer) if answer.status == 400 && home.scheme() == Scheme::Http => Err(
                TransportError::Other("it does not speak plain HTTP".to_owned()),
            ),
            Ok(_) => Ok(home),
            Err(ExchangeError::Transport(error)) => Err(error),
            Err(ExchangeError::Payload(error)) => Err(TransportError::Other(error.to_string())),
        }
    }

    /// A header that answers the challenge of `answer`, and whether the user's credentials went into it.
    fn authenticate(
        &self,
        at: &Attempt,
        home: &Url,
        answer: Answer,
        scopes: &Scopes,
    ) -> Result<(Secret, bool), Trouble> {
        let header = answer
            .headers
            .get_all("www-authenticate")
            .iter()
            .filter_map(|value| value.to_str().ok());
        let challenges: Vec<_> = header.flat_map(challenge::parse).collect();
        let credential = self.credential(at).map_err(Trouble::Final)?;
        let way = choose(&challenges, scopes, credential.as_ref(), home.scheme());
        match way.map_err(|problem| Trouble::Final(protocol(at, home.authority(), problem)))? {
            None => Err(Trouble::Final(unauthorized(at, answer, false))),
            Some(Way::Header(secret)) => Ok((secret, true)),
            Some(Way::Token(request)) => {
                Ok((self.token(at, &request)?, request.with_credentials()))
            }
        }
    }

    fn token(&self, at: &Attempt, token: &TokenRequest) -> Result<Secret, Trouble> {
        let answer = token.send(|request, secret| {
            let service = request.url.clone();
            self.follow(at, &service, request, secret.as_ref())
        })?;
        match answer.status {
            200..300 => token_of(at, answer).map_err(Trouble::Final),
            400 | 401 | 403 => Err(Trouble::Final(unauthorized(
                at,
                answer,
                token.with_credentials(),
            ))),
            status if retry::passing_status(status) => {
                let error = TransportError::Cut(format!("its token service answered {status}"));
                Err(Trouble::Transport {
                    host: token.host().to_owned(),
                    error,
                })
            }
            _ => Err(Trouble::Final(refused(at, answer))),
        }
    }

    /// The credential for the attempt's repository, looked up once: a helper may be slow, or ask the user.
    fn credential(&self, at: &Attempt) -> Result<Option<Credential>, RegistryError> {
        let (registry, repository) = (
            at.registry().to_owned(),
            at.reference.repository().to_owned(),
        );
        let key = (registry, repository);
        if let Some(known) = self
            .credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            return Ok(known.clone());
        }
        let found = self
            .options
            .credentials
            .find(&key.0, &key.1)
            .map_err(|source| RegistryError::Credentials {
                at: Box::new(at.clone()),
                registry: key.0.clone(),
                source,
            })?;
        self.credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, found.clone());
        Ok(found)
    }
}

/// The `Location` of an answer that means "ask there instead" for this method.
fn redirect(method: &Method, answer: &Answer) -> Option<String> {
    let reads = *method == Method::GET || *method == Method::HEAD;
    let elsewhere =
        matches!(answer.status, 307 | 308) || (reads && matches!(answer.status, 301..=303));
    if elsewhere {
        answer.header("location").map(str::to_owned)
    } else {
        None
    }
}

impl Trouble {
    fn of(at: &Attempt, url: &Url, error: ExchangeError) -> Self {
        match error {
            ExchangeError::Transport(error) => Trouble::Transport {
                host: url.authority().to_owned(),
                error,
            },
            ExchangeError::Payload(source) => Trouble::Final(RegistryError::Local {
                at: Box::new(at.clone()),
                side: "reading it here failed",
                source,
            }),
        }
    }

    fn into_error(self, at: &Attempt) -> RegistryError {
        match self {
            Trouble::Final(error) => error,
            Trouble::Transport { host, error } => unreachable(at, &host, error),
        }
    }
}

pub(crate) fn unreachable(at: &Attempt, host: &str, error: TransportError) -> RegistryError {
    RegistryError::Unreachable {
        at: Box::new(at.clone()),
        registry: host.to_owned(),
        source: error,
    }
}

pub(crate) fn protocol(at: &Attempt, host: &str, problem: impl Into<String>) -> RegistryError {
    RegistryError::Protocol {
        at: Box::new(at.clone()),
        registry: host.to_owned(),
        problem: problem.into(),
    }
}

/// The error for a body that could not be read whole.
pub(crate) fn body_failure(
    at: &Attempt,
    host: &str,
    limit: u64,
    error: BodyError,
) -> RegistryError {
    match error {
        BodyError::TooLarge => RegistryError::TooLarge {
            at: Box::new(at.clone()),
            registry: host.to_owned(),
            limit,
        },
        BodyError::Transport(error) => unreachable(at, host, error),
    }
}

fn unauthorized(at: &Attempt, answer: Answer, with_credentials: bool) -> RegistryError {
    let registry = answer.url.authority().to_owned();
    RegistryError::Unauthorized {
        at: Box::new(at.clone()),
        registry,
        with_credentials,
        detail: answer.detail(),
    }
}

/// The error for an answer that is not a success.
pub(crate) fn refused(at: &Attempt, answer: Answer) -> RegistryError {
    let at = Box::new(at.clone());
    let registry = answer.url.authority().to_owned();
    let status = answer.status;
    let detail = answer.detail();
    match status {
        401 => RegistryError::Unauthorized {
            at,
            registry,
            with_credentials: false,
            detail,
        },
        403 => RegistryError::Denied {
            at,
            registry,
            detail,
        },
        404 => RegistryError::NotFound {
            at,
            registry,
            detail,
        },
        _ => RegistryError::Status {
            at,
            registry,
            status,
            detail,
        },
    }
}
