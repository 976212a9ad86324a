//! A question to a registry, asked until there is an answer: schemes, redirects, authentication, retries.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use ureq::http::Method;

use crate::attempt::Attempt;
use crate::auth::{
    Remembered, Scopes, Secret, TokenAsk, TokenRequest, Tokens, Way, choose, tokens_of,
};
use crate::bucket::Lent;
use crate::challenge::{self, Challenge};
use crate::credentials::Credential;
use crate::endpoint::Endpoint;
use crate::error::{RegistryError, TransportError};
use crate::handshake::TlsFailure;
use crate::host::{Scheme, Url, is_loopback, server_of};
use crate::hosts::Host;
use crate::locked::locked;
use crate::mirrors::Mirrors;
use crate::options::Options;
use crate::registries::{Rules, RulesError};
use crate::retry::{self, Setback};
use crate::transport::{Answer, ExchangeError, Payload, Request, Wire, printable};
use crate::trouble::{Trouble, protocol, refused, unauthorized, unreachable};
use crate::warnings::{self, Warnings};

/// What is noted of a host that wants TLS where it was spoken to without.
const NOT_PLAIN: &str = "it does not speak plain HTTP";

/// Most redirects that are followed for one request.
const MOST_REDIRECTS: usize = 5;

/// Connections, tokens and what is known of each host.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) options: Options,
    pub(crate) wire: Wire,
    pub(crate) mirrors: Mirrors,
    pub(crate) warnings: Warnings,
    rules: OnceLock<Rules>,
    hosts: Mutex<HashMap<String, KnownHosts>>,
    remembered: Remembered,
    schemes: Mutex<HashMap<String, Scheme>>,
    credentials: Mutex<HashMap<(String, String), Option<Credential>>>,
    /// Keys of buckets.
    pub(crate) lent: Mutex<Lent>,
}

/// The hosts of a registry, if there is a file about them.
type KnownHosts = Option<Arc<[Arc<Host>]>>;

/// What is asked, below `/v2/<repository>/` of an endpoint or at an address that it gave.
pub(crate) struct Question<'a> {
    pub(crate) to: &'a Endpoint,
    pub(crate) method: Method,
    pub(crate) place: Place<'a>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) payload: Payload<'a>,
    pub(crate) scopes: Scopes,
    /// How much longer than usual the answer may take.
    pub(crate) grace: Duration,
}

/// Where a question goes.
#[derive(Clone)]
pub(crate) enum Place<'a> {
    /// A path below the repository: `manifests/latest`; for the registry as such, below `/v2/`.
    Below(&'a str),
    /// An address from an answer's `Location`.
    At(Url),
}

impl<'a> Question<'a> {
    pub(crate) fn new(to: &'a Endpoint, method: Method, path: &'a str, scopes: Scopes) -> Self {
        Question {
            to,
            method,
            place: Place::Below(path),
            headers: Vec::new(),
            payload: Payload::None,
            scopes,
            grace: Duration::ZERO,
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

    pub(crate) fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
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
            mirrors: Mirrors::default(),
            warnings: Warnings::default(),
            rules: OnceLock::new(),
            hosts: Mutex::default(),
            remembered: Remembered::default(),
            schemes: Mutex::default(),
            credentials: Mutex::default(),
            lent: Mutex::default(),
        }
    }

    /// Waits before try number `tries` + 1 of asking `host`, as long as `asked` or as kiln thinks best.
    pub(crate) fn wait(&self, host: &str, tries: u32, asked: Option<Duration>) {
        let pause = retry::spread(retry::pause(tries, asked), asked.is_some());
        let _told = self.wire.waits.pause(host, pause);
        self.options.sleep.wait(pause, &self.wire.stopper);
    }

    /// Tries until it comes to something, or as often as is worth it, with a pause before each further try.
    pub(crate) fn persist<T, E>(
        &self,
        mut attempt: impl FnMut() -> Result<T, Setback<E>>,
    ) -> Result<T, E> {
        let mut tries = 0;
        loop {
            let setback = match attempt() {
                Ok(outcome) => return Ok(outcome),
                Err(setback) => setback,
            };
            if tries >= setback.tries {
                return Err(*setback.error);
            }
            self.wait(&setback.host, tries, setback.asked);
            tries += 1;
        }
    }

    /// The rules about registries, read now if they are not.
    pub(crate) fn rules(&self, at: &Attempt) -> Result<&Rules, RegistryError> {
        if let Some(rules) = self.rules.get() {
            return Ok(rules);
        }
        let read = Rules::read(&self.options.rules).map_err(|source| rules_failure(at, source))?;
        Ok(self.rules.get_or_init(|| read))
    }

    /// Files about the hosts of registries, as far as they were read.
    pub(crate) fn known_hosts(&self) -> MutexGuard<'_, HashMap<String, KnownHosts>> {
        locked(&self.hosts)
    }

    /// Asks, and asks again after passing failures, up to `retries` times. Every status but 401 from the registry itself
    /// comes back as an answer.
    pub(crate) fn ask(
        &self,
        at: &Attempt,
        question: &Question<'_>,
        retries: u32,
    ) -> Result<Answer, RegistryError> {
        let asked = self.persist(|| match self.once(at, question) {
            Ok(answer) => retry::unless_busy(answer, retries),
            Err(trouble) => Err(trouble.setback(at, retries).map(Err)),
        });
        asked.or_else(|last| last)
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
        let to = question.to;
        let home = self.home(to)?;
        let url = match &question.place {
            Place::Below(path) if to.repository.is_empty() => home.below(path),
            Place::Below(path) => home.below(&format!("{}/{path}", to.repository)),
            Place::At(url) => url.clone(),
        };
        // What containerd tells hosts that stand for several registries.
        let url = match (&question.place, &to.stands_for) {
            (Place::Below(_), Some(registry)) => url.with_query("ns", registry),
            _ => url,
        };
        let request = || Request {
            method: question.method.clone(),
            url: url.clone(),
            headers: question.headers.clone(),
            payload: question.payload,
            unverified: self.is_unverified(to),
            grace: question.grace,
            host: to.entry_for(&url),
        };
        let known = self.remembered.find(to, &question.scopes);
        let answer = self.follow(at, &home, request(), known.as_ref())?;
        if answer.status != 401 || !answer.url.same_origin(&home) {
            return Ok(answer);
        }
        if let Some(refused) = &known {
            self.remembered.forget(to, refused);
        }
        let (secret, with_credentials) =
            self.authenticate(at, to, &home, answer, &question.scopes)?;
        let answer = self.follow(at, &home, request(), Some(&secret))?;
        if answer.status == 401 && answer.url.same_origin(&home) {
            return Err(Trouble::Final(unauthorized(at, answer, with_credentials)));
        }
        self.remembered.keep(to, &question.scopes, &secret);
        Ok(answer)
    }

    /// Whether `credential` lets somebody in; anybody may be let in. Gives an identity token if the registry prefers that to be
    /// kept.
    pub(crate) fn log_in(
        &self,
        registry: &str,
        credential: &Credential,
    ) -> Result<Option<Credential>, RegistryError> {
        let at = Attempt::log_in(registry);
        let to = self.registry(&at, registry)?;
        self.persist(|| {
            let kept = self.log_in_once(&at, &to, credential);
            kept.map_err(|trouble| trouble.setback(&at, self.options.retries))
        })
    }

    fn log_in_once(
        &self,
        at: &Attempt,
        to: &Endpoint,
        credential: &Credential,
    ) -> Result<Option<Credential>, Trouble> {
        let home = self.home(to)?;
        let request = || Request {
            method: Method::GET,
            url: home.clone(),
            headers: Vec::new(),
            payload: Payload::None,
            unverified: self.is_unverified(to),
            grace: Duration::ZERO,
            host: to.entry_for(&home),
        };
        let answer = self.follow(at, &home, request(), None)?;
        if answer.is_success() {
            return Ok(None);
        }
        if answer.status != 401 {
            return Err(Trouble::refused(at, answer));
        }
        let way = choose(
            &challenges(&answer),
            &Scopes::none(),
            Some(credential),
            home.scheme(),
        );
        let (secret, refresh) =
            match way.map_err(|problem| Trouble::Final(protocol(at, home.authority(), problem)))? {
                None => return Err(Trouble::Final(unauthorized(at, answer, false))),
                Some(Way::Header(secret)) => (secret, None),
                Some(Way::Token(request)) => {
                    let tokens = self.tokens(at, to, &request.for_login())?;
                    (tokens.access, tokens.refresh)
                }
            };
        let answer = self.follow(at, &home, request(), Some(&secret))?;
        match answer.status {
            401 => Err(Trouble::Final(unauthorized(at, answer, true))),
            _ if answer.is_success() => Ok(refresh.map(Credential::IdentityToken)),
            _ => Err(Trouble::refused(at, answer)),
        }
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
            for header in answer.headers.get_all("warning") {
                if let Some(text) = header.to_str().ok().and_then(warnings::text_of) {
                    let host = answer.url.authority();
                    self.warnings
                        .add(format!("registry `{host}` says: {}", printable(&text)));
                }
            }
            let Some(location) = redirect(&request.method, &answer) else {
                return Ok(answer);
            };
            let protocol =
                |problem: String| Trouble::Final(protocol(at, request.url.authority(), problem));
            let next = request.url.join(&location);
            let next = next.ok_or_else(|| {
                protocol(format!(
                    "it redirects to `{}`, which is no valid address",
                    printable(&location)
                ))
            })?;
            if request.url.scheme() == Scheme::Https && next.scheme() == Scheme::Http {
                let next = printable(&next.to_string());
                return Err(protocol(format!("it redirects from https to `{next}`")));
            }
            if !next.same_origin(&request.url) {
                request.host = None;
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
    fn home(&self, to: &Endpoint) -> Result<Url, Trouble> {
        let entry = to.host_entry.as_ref();
        if let Some((entry, base)) = entry.and_then(|entry| Some((entry, entry.base.as_ref()?))) {
            if entry.is_in_the_clear() && self.options.tls_verify == Some(true) {
                let problem = TlsFailure::Other(format!("`{base}` is not protected by TLS"));
                return Err(Trouble::Transport {
                    host: to.host.clone(),
                    error: TransportError::Tls(problem),
                });
            }
            return Ok(base.below(""));
        }
        let server = server_of(&to.host);
        let schemes = self.allowed_schemes(to);
        if let [only] = schemes {
            return Ok(Url::new(*only, server, "/v2/"));
        }
        if let Some(known) = locked(&self.schemes).get(server) {
            return Ok(Url::new(*known, server, "/v2/"));
        }
        let mut failure = None;
        for scheme in schemes {
            let home = Url::new(*scheme, server, "/v2/");
            let error = match self.probe(to, home) {
                Ok(home) => {
                    locked(&self.schemes).insert(server.to_owned(), *scheme);
                    return Ok(home);
                }
                Err(error) => error,
            };
            // Whoever says nothing in the clear doesn't wait for TLS.
            let silent = matches!(
                error,
                TransportError::Silent(_) | TransportError::TimedOut(_)
            );
            let ends = silent && *scheme == Scheme::Http;
            // What a host that speaks the other one says of this one is no news, and who fails at TLS speaks it.
            if failure.as_ref().is_none_or(is_another_language) || ends || speaks_tls(&error) {
                failure = Some(error);
            }
            if ends {
                break;
            }
        }
        let error =
            failure.unwrap_or_else(|| TransportError::Other("no way to speak to it".to_owned()));
        Err(Trouble::Transport {
            host: server.to_owned(),
            error,
        })
    }

    fn is_unverified(&self, to: &Endpoint) -> bool {
        match self.options.tls_verify {
            Some(verify) => !verify,
            None => {
                let entry = to.host_entry.as_ref();
                let by_entry = entry.and_then(|entry| entry.skip_verify);
                by_entry.unwrap_or(to.insecure)
            }
        }
    }

    fn allowed_schemes(&self, to: &Endpoint) -> &'static [Scheme] {
        let is_loopback = is_loopback(&to.host);
        match self.options.tls_verify {
            Some(true) => &[Scheme::Https],
            _ if is_loopback => &[Scheme::Http, Scheme::Https],
            _ if self.is_unverified(to) && to.host_entry.is_none() => {
                &[Scheme::Https, Scheme::Http]
            }
            _ => &[Scheme::Https],
        }
    }

    fn probe(&self, to: &Endpoint, home: Url) -> Result<Url, TransportError> {
        let request = Request {
            method: Method::GET,
            url: home.clone(),
            headers: Vec::new(),
            payload: Payload::None,
            unverified: self.is_unverified(to),
            grace: Duration::ZERO,
            host: to.entry_for(&home),
        };
        match self.wire.send(&request, None) {
            // What servers that expect TLS say to plain HTTP.
            Ok(answer) if answer.status == 400 && home.scheme() == Scheme::Http => {
                Err(TransportError::Other(NOT_PLAIN.to_owned()))
            }
            Ok(_) => Ok(home),
            Err(ExchangeError::Transport(error)) => Err(error),
            Err(ExchangeError::Payload(error)) => Err(TransportError::Other(error.to_string())),
        }
    }

    /// A header that answers the challenge of `answer`, and whether the user's credentials went into it.
    fn authenticate(
        &self,
        at: &Attempt,
        to: &Endpoint,
        home: &Url,
        answer: Answer,
        scopes: &Scopes,
    ) -> Result<(Secret, bool), Trouble> {
        let credential = self.credential(at, to).map_err(Trouble::Final)?;
        let way = choose(
            &challenges(&answer),
            scopes,
            credential.as_ref(),
            home.scheme(),
        );
        match way.map_err(|problem| Trouble::Final(protocol(at, home.authority(), problem)))? {
            None => Err(Trouble::Final(unauthorized(at, answer, false))),
            Some(Way::Header(secret)) => Ok((secret, true)),
            Some(Way::Token(request)) => {
                let tokens = self.tokens(at, to, &request)?;
                Ok((tokens.access, request.with_credentials()))
            }
        }
    }

    fn tokens(
        &self,
        at: &Attempt,
        to: &Endpoint,
        wanted: &TokenRequest,
    ) -> Result<Tokens, Trouble> {
        let mut asks = wanted.asks().into_iter().peekable();
        while let Some(ask) = asks.next() {
            let answer = self.ask_for_token(at, to, &ask)?;
            match answer.status {
                200..300 => return tokens_of(at, answer).map_err(Trouble::Final),
                404 | 405 if asks.peek().is_some() => {}
                400 | 401 | 403 => {
                    let with_credentials = wanted.with_credentials();
                    return Err(Trouble::Final(unauthorized(at, answer, with_credentials)));
                }
                status if retry::passing_status(status) => {
                    let error = TransportError::Cut(format!("its token service answered {status}"));
                    return Err(Trouble::Busy {
                        error: unreachable(at, wanted.host(), error),
                        asked: retry::asked_pause(&answer.headers),
                    });
                }
                _ => return Err(Trouble::Final(refused(at, answer))),
            }
        }
        unreachable!("there is a last way to ask, and its answer ends this")
    }

    fn ask_for_token(
        &self,
        at: &Attempt,
        to: &Endpoint,
        ask: &TokenAsk,
    ) -> Result<Answer, Trouble> {
        let mut request = Request {
            method: Method::GET,
            url: ask.url.clone(),
            headers: Vec::new(),
            payload: Payload::None,
            unverified: self.is_unverified(to),
            grace: Duration::ZERO,
            host: to.entry_for(&ask.url),
        };
        let Some(form) = &ask.form else {
            return self.follow(at, &ask.url, request, ask.secret.as_ref());
        };
        request.method = Method::POST;
        let form_type = "application/x-www-form-urlencoded";
        request.headers = vec![("content-type", form_type.to_owned())];
        request.payload = Payload::Bytes(form.as_bytes());
        // The form holds the secret itself, so it goes to where it was meant to go and to no other place.
        let answer = self
            .wire
            .send(&request, None)
            .map_err(|error| Trouble::of(at, &request.url, error))?;
        match redirect(&Method::POST, &answer) {
            None => Ok(answer),
            Some(elsewhere) => Err(Trouble::Final(protocol(
                at,
                ask.url.authority(),
                format!(
                    "it wants credentials to be sent on to `{}`",
                    printable(&elsewhere)
                ),
            ))),
        }
    }

    /// The credential for a repository, looked up once: a helper may be slow, or ask the user.
    fn credential(&self, at: &Attempt, to: &Endpoint) -> Result<Option<Credential>, RegistryError> {
        let key = (to.host.clone(), to.repository.clone());
        // Held while looking: several threads ask at once, and a helper is to be asked once.
        let mut known = locked(&self.credentials);
        if let Some(known) = known.get(&key) {
            return Ok(known.clone());
        }
        let (stopper, waits) = (self.wire.stopper.clone(), self.wire.waits.clone());
        let credentials = &self.options.credentials;
        let found = credentials.find_until(stopper, waits, &key.0, &key.1);
        let found = found.map_err(|source| match self.wire.stopper.is_asked() {
            true => unreachable(at, &key.0, TransportError::Stopped),
            false => RegistryError::Credentials {
                at: Box::new(at.clone()),
                registry: key.0.clone(),
                source,
            },
        })?;
        known.insert(key, found.clone());
        Ok(found)
    }
}

/// Whether a host just doesn't know the way it was spoken to.
fn is_another_language(error: &TransportError) -> bool {
    match error {
        TransportError::Other(text) => text == NOT_PLAIN,
        TransportError::Tls(failure) => *failure == TlsFailure::NotTls,
        _ => false,
    }
}

/// Whether the failure shows that a host speaks TLS, be it not to this client's liking.
fn speaks_tls(error: &TransportError) -> bool {
    matches!(error, TransportError::Tls(failure) if *failure != TlsFailure::NotTls)
}

/// All that a registry offers in its `WWW-Authenticate` headers.
fn challenges(answer: &Answer) -> Vec<Challenge> {
    let headers = answer.headers.get_all("www-authenticate");
    headers
        .iter()
        .flat_map(|value| challenge::parse(&String::from_utf8_lossy(value.as_bytes())))
        .collect()
}

pub(crate) fn rules_failure(at: &Attempt, source: RulesError) -> RegistryError {
    RegistryError::Rules {
        at: Box::new(at.clone()),
        source,
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
