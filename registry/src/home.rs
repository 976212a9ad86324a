//! Where a registry's addresses begin: with TLS or, where that will do, without.

use std::time::Duration;

use ureq::http::Method;

use crate::endpoint::Endpoint;
use crate::error::TransportError;
use crate::handshake::TlsFailure;
use crate::host::{Scheme, Url, is_loopback, server_of};
use crate::locked::locked;
use crate::session::Session;
use crate::transport::{ExchangeError, Payload, Request};
use crate::trouble::Trouble;

/// What is noted of a host that wants TLS where it was spoken to without.
const NOT_PLAIN: &str = "it does not speak plain HTTP";

impl Session {
    /// The origin of a registry. Where plain HTTP is allowed, the host is asked once which it speaks, without any secret.
    pub(crate) fn home(&self, to: &Endpoint) -> Result<Url, Trouble> {
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

    pub(crate) fn is_unverified(&self, to: &Endpoint) -> bool {
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

    /// What a registry's home is asked: nothing but for an answer.
    pub(crate) fn knock<'a>(&'a self, to: &'a Endpoint, home: &Url) -> Request<'a> {
        Request {
            method: Method::GET,
            url: home.clone(),
            headers: Vec::new(),
            payload: Payload::None,
            unverified: self.is_unverified(to),
            grace: Duration::ZERO,
            host: to.entry_for(home),
        }
    }

    fn probe(&self, to: &Endpoint, home: Url) -> Result<Url, TransportError> {
        match self.wire.send(&self.knock(to, &home), None) {
            // What servers that expect TLS say to plain HTTP.
            Ok(answer) if answer.status == 400 && home.scheme() == Scheme::Http => {
                Err(TransportError::Other(NOT_PLAIN.to_owned()))
            }
            Ok(_) => Ok(home),
            Err(ExchangeError::Transport(error)) => Err(error),
            Err(ExchangeError::Payload(error)) => Err(TransportError::Other(error.to_string())),
        }
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
