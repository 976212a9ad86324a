//! A question to a registry, asked until there is an answer: redirects, retries, a second time for who wants to know who asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use ureq::http::Method;

use crate::attempt::Attempt;
use crate::auth::{Remembered, Scopes, Secret};
use crate::bucket::Lent;
use crate::credentials::Credential;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::host::{Scheme, Url};
use crate::hosts::Host;
use crate::locked::locked;
use crate::mirrors::Mirrors;
use crate::options::Options;
use crate::registries::{Rules, RulesError};
use crate::retry::{self, Setback};
use crate::transport::{Answer, Payload, Request, Wire, printable};
use crate::trouble::{Trouble, protocol, refused, unauthorized};
use crate::warnings::{self, Warnings};

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
    pub(crate) schemes: Mutex<HashMap<String, Scheme>>,
    pub(crate) credentials: Mutex<HashMap<(String, String), Option<Credential>>>,
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

    /// Sends a request and follows redirects. `secret` goes to the origin of `home` and nowhere else.
    pub(crate) fn follow(
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
}

pub(crate) fn rules_failure(at: &Attempt, source: RulesError) -> RegistryError {
    RegistryError::Rules {
        at: Box::new(at.clone()),
        source,
    }
}

/// The `Location` of an answer that means "ask there instead" for this method.
pub(crate) fn redirect(method: &Method, answer: &Answer) -> Option<String> {
    let reads = *method == Method::GET || *method == Method::HEAD;
    let elsewhere =
        matches!(answer.status, 307 | 308) || (reads && matches!(answer.status, 301..=303));
    if elsewhere {
        answer.header("location").map(str::to_owned)
    } else {
        None
    }
}
