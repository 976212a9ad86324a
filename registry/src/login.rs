//! Who asks: from a registry's challenge to what lets this client in.

use std::time::Duration;

use ureq::http::Method;

use crate::attempt::Attempt;
use crate::auth::{Scopes, Secret, TokenAsk, TokenRequest, Tokens, Way, choose, tokens_of};
use crate::challenge::{self, Challenge};
use crate::credentials::Credential;
use crate::endpoint::Endpoint;
use crate::error::{RegistryError, TransportError};
use crate::host::Url;
use crate::locked::locked;
use crate::retry;
use crate::session::{Session, redirect};
use crate::transport::{Answer, Payload, Request, printable};
use crate::trouble::{Trouble, protocol, refused, unauthorized, unreachable};

impl Session {
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
        let request = || self.knock(to, &home);
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

    /// A header that answers the challenge of `answer`, and whether the user's credentials went into it.
    pub(crate) fn authenticate(
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

/// All that a registry offers in its `WWW-Authenticate` headers.
fn challenges(answer: &Answer) -> Vec<Challenge> {
    let headers = answer.headers.get_all("www-authenticate");
    headers
        .iter()
        .flat_map(|value| challenge::parse(&String::from_utf8_lossy(value.as_bytes())))
        .collect()
}
