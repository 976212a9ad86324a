//! Authentication: from a challenge to an `Authorization` header, and remembering it.
//!
//! A registry answers 401 and says what it wants. *Basic* is user name and password. *Bearer* names a token service (realm),
//! which is asked, with the user's credentials or anonymously, for a token good for certain scopes. A header that worked is kept
//! by registry and scopes, never used for another registry, and dropped when it is refused.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::Method;

use crate::attempt::Attempt;
use crate::challenge::Challenge;
use crate::credentials::Credential;
use crate::error::RegistryError;
use crate::host::{Scheme, Url, is_loopback, percent_encoded};
use crate::transport::{Answer, Payload, Request};

/// Largest answer of a token service that is read, in bytes.
pub(crate) const TOKEN_LIMIT: u64 = 256 * 1024;

/// What a request may do: the scopes of its token, best kept few so that tokens are shared between requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scopes(Vec<String>);

impl Scopes {
    pub(crate) fn pull(repository: &str) -> Self {
        Scopes(vec![format!("repository:{repository}:pull")])
    }

    pub(crate) fn push(repository: &str) -> Self {
        Scopes(vec![format!("repository:{repository}:pull,push")])
    }

    pub(crate) fn and_pull(mut self, repository: &str) -> Self {
        self.0.push(format!("repository:{repository}:pull"));
        self
    }

    /// With what the challenge names, if it is about something else than these do.
    fn with_challenge(&self, asked: Option<&str>) -> Vec<String> {
        let subject = |scope: &str| {
            scope
                .rsplit_once(':')
                .map_or(scope, |(subject, _)| subject)
                .to_owned()
        };
        let mut all = self.0.clone();
        for scope in asked.unwrap_or("").split_whitespace() {
            if all.iter().all(|known| subject(known) != subject(scope)) {
                all.push(scope.to_owned());
            }
        }
        all
    }
}

/// Headers that worked, by registry and scopes; those of *Basic* are good for every scope.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<HashMap<(String, Option<Scopes>), Secret>>);

/// An `Authorization` header. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    header: String,
    any_scope: bool,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    pub(crate) fn basic(username: &str, password: &str) -> Self {
        Secret {
            header: format!(
                "Basic {}",
                STANDARD.encode(format!("{username}:{password}"))
            ),
            any_scope: true,
        }
    }

    fn bearer(token: &str) -> Self {
        Secret {
            header: format!("Bearer {token}"),
            any_scope: false,
        }
    }

    pub(crate) fn header(&self) -> &str {
        &self.header
    }
}

impl Remembered {
    pub(crate) fn find(&self, registry: &str, scopes: &Scopes) -> Option<Secret> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = |scopes| (registry.to_owned(), scopes);
        known
            .get(&key(Some(scopes.clone())))
            .or_else(|| known.get(&key(None)))
            .cloned()
    }

    pub(crate) fn keep(&self, registry: &str, scopes: &Scopes, secret: &Secret) {
        let scopes = if secret.any_scope {
            None
        } else {
            Some(scopes.clone())
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((registry.to_owned(), scopes), secret.clone());
    }

    pub(crate) fn forget(&self, registry: &str, refused: &Secret) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(host, _), kept| host != registry || kept != refused);
    }
}

/// How to satisfy a challenge.
#[derive(Debug)]
pub(crate) enum Way {
    /// With this header.
    Header(Secret),
    /// By asking a token service.
    Token(TokenRequest),
}

/// What to ask a token service.
#[derive(Debug)]
pub(crate) struct TokenRequest {
    url: Url,
    service: String,
    scopes: Vec<String>,
    credential: Option<Credential>,
}

/// Chooses among a registry's challenges. `Ok(None)`: it wants credentials and there are none.
pub(crate) fn choose(
    challenges: &[Challenge],
    scopes: &Scopes,
    credential: Option<&Credential>,
    asked_over: Scheme,
) -> Result<Option<Way>, String> {
    if let Some(bearer) = challenges
        .iter()
        .find(|challenge| challenge.scheme == "bearer")
    {
        return token_request(bearer, scopes, credential, asked_over)
            .map(|request| Some(Way::Token(request)));
    }
    if !challenges
        .iter()
        .any(|challenge| challenge.scheme == "basic")
    {
        return Err(
            "it asks for authentication and names no way kiln knows (Bearer, Basic)".to_owned(),
        );
    }
    match credential {
        None => Ok(None),
        Some(Credential::Password { username, password }) => {
            Ok(Some(Way::Header(Secret::basic(username, password))))
        }
        Some(Credential::IdentityToken(_)) => {
            Err("it wants a user name and password, and an identity token is configured".to_owned())
        }
    }
}

fn token_request(
    bearer: &Challenge,
    scopes: &Scopes,
    credential: Option<&Credential>,
    asked_over: Scheme,
) -> Result<TokenRequest, String> {
    let realm = bearer
        .parameter("realm")
        .ok_or("its Bearer challenge has no realm")?;
    let url = Url::parse(realm)
        .ok_or_else(|| format!("its token service `{realm}` is not a valid address"))?;
    let in_the_clear = url.scheme() == Scheme::Http && !is_loopback(url.authority());
    if in_the_clear && asked_over == Scheme::Https {
        return Err(format!(
            "its token service `{realm}` is not protected by TLS"
        ));
    }
    Ok(TokenRequest {
        url,
        service: bearer.parameter("service").unwrap_or("").to_owned(),
        scopes: scopes.with_challenge(bearer.parameter("scope")),
        credential: credential.cloned(),
    })
}

impl TokenRequest {
    /// The host that is asked.
    pub(crate) fn host(&self) -> &str {
        self.url.authority()
    }

    pub(crate) fn with_credentials(&self) -> bool {
        self.credential.is_some()
    }

    /// Passes the request to `send`: the form goes as a POST body (OAuth2, for an identity token), the rest as a GET.
    pub(crate) fn send<T>(&self, send: impl FnOnce(Request<'_>, Option<Secret>) -> T) -> T {
        match &self.credential {
            Some(Credential::IdentityToken(token)) => {
                let form = self.form(token);
                let headers = vec![(
                    "content-type",
                    "application/x-www-form-urlencoded".to_owned(),
                )];
                let payload = Payload::Bytes(form.as_bytes());
                send(
                    Request {
                        method: Method::POST,
                        url: self.url.clone(),
                        headers,
                        payload,
                    },
                    None,
                )
            }
            Some(Credential::Password { username, password }) => {
                let url = self.query().with_query("account", username);
                let request = Request {
                    method: Method::GET,
                    url,
                    headers: Vec::new(),
                    payload: Payload::None,
                };
                send(request, Some(Secret::basic(username, password)))
            }
            None => send(
                Request {
                    method: Method::GET,
                    url: self.query(),
                    headers: Vec::new(),
                    payload: Payload::None,
                },
                None,
            ),
        }
    }

    fn query(&self) -> Url {
        let mut url = self.url.clone();
        if !self.service.is_empty() {
            url = url.with_query("service", &self.service);
        }
        self.scopes
            .iter()
            .fold(url, |url, scope| url.with_query("scope", scope))
    }

    fn form(&self, refresh_token: &str) -> String {
        let scope = self.scopes.join(" ");
        [
            ("grant_type", "refresh_token"),
            ("client_id", "kiln"),
            ("service", &self.service),
            ("scope", &scope),
            ("refresh_token", refresh_token),
        ]
        .map(|(name, value)| format!("{name}={}", percent_encoded(value)))
        .join("&")
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The token in a token service's successful answer.
pub(crate) fn token_of(at: &Attempt, answer: Answer) -> Result<Secret, RegistryError> {
    let registry = answer.url.authority().to_owned();
    let protocol = |problem: &str| RegistryError::Protocol {
        at: Box::new(at.clone()),
        registry: registry.clone(),
        problem: problem.to_owned(),
    };
    let bytes = answer
        .bytes(TOKEN_LIMIT)
        .map_err(|error| crate::session::body_failure(at, &registry, TOKEN_LIMIT, error))?;
    let parsed: TokenAnswer =
        serde_json::from_slice(&bytes).map_err(|_| protocol("it is no token answer"))?;
    let token = parsed
        .token
        .filter(|token| !token.is_empty())
        .or(parsed.access_token)
        .filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| protocol("it holds no token"))?;
    if token.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(protocol(
            "its token holds characters that no header may have",
        ));
    }
    Ok(Secret::bearer(&token))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::challenge::parse;

    fn chosen(
        header: &str,
        credential: Option<&Credential>,
        over: Scheme,
    ) -> Result<Option<Way>, String> {
        choose(&parse(header), &Scopes::pull("a/b"), credential, over)
    }

    #[test]
    fn a_token_service_in_the_clear_is_refused_unless_the_registry_is_too() {
        let header = r#"Bearer realm="http://auth.example/token""#;
        assert!(
            chosen(header, None, Scheme::Https)
                .unwrap_err()
                .contains("TLS")
        );
        assert!(chosen(header, None, Scheme::Http).is_ok());
        assert!(
            chosen(
                r#"Bearer realm="http://127.0.0.1:1/token""#,
                None,
                Scheme::Https
            )
            .is_ok()
        );
    }

    #[test]
    fn basic_without_credentials_is_a_question_to_the_user() {
        assert!(
            chosen("Basic realm=x", None, Scheme::Https)
                .unwrap()
                .is_none()
        );
        assert!(chosen("Negotiate", None, Scheme::Https).is_err());
        let me = Credential::Password {
            username: "Aladdin".to_owned(),
            password: "open sesame".to_owned(),
        };
        match chosen("Basic realm=x", Some(&me), Scheme::Https).unwrap() {
            Some(Way::Header(secret)) => {
                assert_eq!(secret.header(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scopes_of_the_challenge_are_added_only_if_new() {
        let push = Scopes::push("a/b");
        assert_eq!(
            push.with_challenge(Some("repository:a/b:pull")),
            ["repository:a/b:pull,push"]
        );
        assert_eq!(
            push.with_challenge(Some("registry:catalog:* repository:a/b:pull")),
            ["repository:a/b:pull,push", "registry:catalog:*"]
        );
    }

    #[test]
    fn an_identity_token_goes_as_a_form() {
        let token = Credential::IdentityToken("r&t".to_owned());
        let Some(Way::Token(request)) = chosen(
            r#"Bearer realm="https://h/t",service=s"#,
            Some(&token),
            Scheme::Https,
        )
        .unwrap() else {
            panic!("no token request");
        };
        request.send(|http, secret| {
            assert!(secret.is_none());
            assert_eq!(http.url.to_string(), "https://h/t");
            let Payload::Bytes(form) = http.payload else { panic!("no form") };
            let form = std::str::from_utf8(form).unwrap();
            assert_eq!(
                form,
                "grant_type=refresh_token&client_id=kiln&service=s&scope=repository%3Aa%2Fb%3Apull&refresh_token=r%26t"
            );
        });
    }
}
