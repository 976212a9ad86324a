//! Authentication: from a challenge to an `Authorization` header, and remembering it.
//!
//! A registry answers 401 and says what it wants. *Basic* is user name and password. *Bearer* names a token service (realm),
//! which is asked, with the user's credentials or anonymously, for a token good for certain scopes. A header that worked is kept
//! by registry and scopes, never used for another registry, and dropped when it is refused or its time is over. That is counted
//! from when it came, by a clock that nobody sets: `issued_at` is the service's clock, and may be any.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::attempt::Attempt;
use crate::challenge::Challenge;
use crate::credentials::Credential;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::host::{Scheme, Url, is_loopback, percent_encoded};
use crate::locked::locked;
use crate::transport::{Answer, printable};

/// Largest answer of a token service that is read, in bytes.
pub(crate) const TOKEN_LIMIT: u64 = 256 * 1024;
/// How long a token is good for where its service doesn't say, and at least (distribution's token specification).
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// How long a token is taken for good at most.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// What a request may do: the scopes of its token, best kept few so that tokens are shared between requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scopes(Vec<String>);

impl Scopes {
    pub(crate) fn pull(repository: &str) -> Self {
        Scopes(vec![format!("repository:{repository}:pull")])
    }

    /// Of the registry as such.
    pub(crate) fn none() -> Self {
        Scopes(Vec::new())
    }

    pub(crate) fn push(repository: &str) -> Self {
        Scopes(vec![format!("repository:{repository}:pull,push")])
    }

    pub(crate) fn and_pull(mut self, repository: &str) -> Self {
        self.0.push(format!("repository:{repository}:pull"));
        self
    }

    /// With what the challenge names besides: other things, and other actions.
    fn with_challenge(&self, asked: Option<&str>) -> Vec<String> {
        let mut all = self.0.clone();
        for scope in asked.unwrap_or("").split_whitespace() {
            let (subject, actions) = parts(scope);
            match all.iter_mut().find(|known| parts(known).0 == subject) {
                Some(known) => add_actions(known, actions),
                None => all.push(scope.to_owned()),
            }
        }
        all
    }
}

/// What a scope is about, and the actions it is for: `repository:app` and `pull,push`.
fn parts(scope: &str) -> (&str, &str) {
    scope.rsplit_once(':').unwrap_or((scope, ""))
}

fn add_actions(scope: &mut String, actions: &str) {
    for action in actions.split(',').filter(|action| !action.is_empty()) {
        if !parts(scope).1.split(',').any(|known| known == action) {
            scope.push(',');
            scope.push_str(action);
        }
    }
}

/// Headers that worked, by registry and what they are good for.
#[derive(Debug, Default)]
pub(crate) struct Remembered(Mutex<HashMap<(String, GoodFor), Secret>>);

/// Who may log in to one repository need not be who may log in to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum GoodFor {
    Scopes(Scopes),
    Repository(String),
}

/// An `Authorization` header. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    header: String,
    any_scope: bool,
    /// When it is no good any more, if ever.
    until: Option<Instant>,
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
            until: None,
        }
    }

    /// A token that somebody gave the user.
    fn ready(token: &str) -> Self {
        Secret {
            any_scope: true,
            ..Secret::bearer(token)
        }
    }

    fn bearer(token: &str) -> Self {
        Secret {
            header: format!("Bearer {token}"),
            any_scope: false,
            until: None,
        }
    }

    fn lasting(self, life: Duration) -> Self {
        Secret {
            until: Instant::now().checked_add(life),
            ..self
        }
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    pub(crate) fn header(&self) -> &str {
        &self.header
    }
}

impl Remembered {
    pub(crate) fn find(&self, to: &Endpoint, scopes: &Scopes) -> Option<Secret> {
        let known = locked(&self.0);
        let key = |good_for| (to.host.clone(), good_for);
        known
            .get(&key(GoodFor::Scopes(scopes.clone())))
            .or_else(|| known.get(&key(GoodFor::Repository(to.repository.clone()))))
            .filter(|secret| !secret.is_over())
            .cloned()
    }

    pub(crate) fn keep(&self, to: &Endpoint, scopes: &Scopes, secret: &Secret) {
        let good_for = if secret.any_scope {
            GoodFor::Repository(to.repository.clone())
        } else {
            GoodFor::Scopes(scopes.clone())
        };
        locked(&self.0).insert((to.host.clone(), good_for), secret.clone());
    }

    pub(crate) fn forget(&self, to: &Endpoint, refused: &Secret) {
        locked(&self.0).retain(|(host, _), kept| *host != to.host || kept != refused);
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

/// How kiln calls itself to token services.
const CLIENT: &str = "kiln";

/// One way to ask a token service: a form that is posted, or a GET with a header.
pub(crate) struct TokenAsk {
    pub(crate) url: Url,
    pub(crate) form: Option<String>,
    pub(crate) secret: Option<Secret>,
}

/// What a token service gave.
pub(crate) struct Tokens {
    pub(crate) access: Secret,
    /// Good for more tokens.
    pub(crate) refresh: Option<String>,
}

/// What to ask a token service.
#[derive(Debug)]
pub(crate) struct TokenRequest {
    url: Url,
    service: String,
    scopes: Vec<String>,
    credential: Option<Credential>,
    wants_refresh_token: bool,
}

/// Chooses among a registry's challenges. `Ok(None)`: it wants credentials and there are none.
pub(crate) fn choose(
    challenges: &[Challenge],
    scopes: &Scopes,
    credential: Option<&Credential>,
    asked_over: Scheme,
) -> Result<Option<Way>, String> {
    if let Some(Credential::RegistryToken(token)) = credential {
        return match has_scheme(challenges, "bearer") && is_header_text(token) {
            true => Ok(Some(Way::Header(Secret::ready(token)))),
            false => Err("it does not take the registry token that is configured".to_owned()),
        };
    }
    let bearers = challenges
        .iter()
        .filter(|challenge| challenge.scheme == "bearer");
    let mut problem = None;
    for bearer in bearers {
        match token_request(bearer, scopes, credential, asked_over) {
            Ok(request) => return Ok(Some(Way::Token(request))),
            Err(text) => problem = problem.or(Some(text)),
        }
    }
    if !has_scheme(challenges, "basic") {
        return Err(problem.unwrap_or_else(|| {
            "it asks for authentication and names no way kiln knows (Bearer, Basic)".to_owned()
        }));
    }
    match credential {
        None => Ok(None),
        Some(Credential::Password { username, password }) => {
            Ok(Some(Way::Header(Secret::basic(username, password))))
        }
        Some(_) => {
            Err("it wants a user name and password, and an identity token is configured".to_owned())
        }
    }
}

fn has_scheme(challenges: &[Challenge], scheme: &str) -> bool {
    challenges
        .iter()
        .any(|challenge| challenge.scheme == scheme)
}

fn is_header_text(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_graphic())
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
    let url = Url::parse(realm).ok_or_else(|| {
        format!(
            "its token service `{}` is not a valid address",
            printable(realm)
        )
    })?;
    let in_the_clear = url.scheme() == Scheme::Http && !is_loopback(url.authority());
    if in_the_clear && asked_over == Scheme::Https {
        return Err(format!(
            "its token service `{}` is not protected by TLS",
            printable(realm)
        ));
    }
    Ok(TokenRequest {
        url,
        service: bearer.parameter("service").unwrap_or("").to_owned(),
        scopes: scopes.with_challenge(bearer.parameter("scope")),
        credential: credential.cloned(),
        wants_refresh_token: false,
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

    /// The ways to ask, to be tried in this order where a service doesn't know one: with the user's name and password in a
    /// header, as registries' own services take them, and with what OAuth2 calls a grant.
    pub(crate) fn asks(&self) -> Vec<TokenAsk> {
        match &self.credential {
            Some(Credential::Password { username, password }) => {
                let mut url = self.query().with_query("account", username);
                if self.wants_refresh_token {
                    url = url.with_query("client_id", CLIENT);
                    url = url.with_query("offline_token", "true");
                }
                let get = TokenAsk {
                    url,
                    form: None,
                    secret: Some(Secret::basic(username, password)),
                };
                let own = [("username", username.as_str()), ("password", password)];
                vec![get, self.grant("password", &own)]
            }
            Some(Credential::IdentityToken(token)) => {
                vec![self.grant("refresh_token", &[("refresh_token", token)])]
            }
            Some(Credential::RegistryToken(_)) | None => vec![TokenAsk {
                url: self.query(),
                form: None,
                secret: None,
            }],
        }
    }

    /// Has the service asked for a refresh token, too.
    pub(crate) fn for_login(mut self) -> Self {
        self.wants_refresh_token = true;
        self
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

    fn grant(&self, kind: &str, own: &[(&str, &str)]) -> TokenAsk {
        let scope = self.scopes.join(" ");
        let mut fields = vec![
            ("grant_type", kind),
            ("client_id", CLIENT),
            ("service", &self.service),
            ("scope", &scope),
        ];
        if self.wants_refresh_token {
            fields.push(("access_type", "offline"));
        }
        fields.extend(own);
        let encoded = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", percent_encoded(value)));
        TokenAsk {
            url: self.url.clone(),
            form: Some(encoded.collect::<Vec<_>>().join("&")),
            secret: None,
        }
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    /// In seconds. What else stands there is no reason to refuse the token.
    expires_in: Option<Value>,
}

/// For how long a token is taken for good.
fn life(expires_in: Option<&Value>) -> Duration {
    let seconds = expires_in.and_then(|value| match value {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_f64(),
    });
    match seconds {
        Some(seconds) if seconds >= LONGEST_LIFE.as_secs_f64() => LONGEST_LIFE,
        Some(seconds) => Duration::try_from_secs_f64(seconds).unwrap_or_default(),
        None => SHORTEST_LIFE,
    }
    .max(SHORTEST_LIFE)
}

/// The tokens in a token service's successful answer.
pub(crate) fn tokens_of(at: &Attempt, answer: Answer) -> Result<Tokens, RegistryError> {
    let registry = answer.url.authority().to_owned();
    let protocol = |problem: &str| RegistryError::Protocol {
        at: Box::new(at.clone()),
        registry: registry.clone(),
        problem: problem.to_owned(),
    };
    let bytes = answer
        .bytes(TOKEN_LIMIT)
        .map_err(|error| crate::trouble::body_failure(at, &registry, TOKEN_LIMIT, error))?;
    let parsed: TokenAnswer =
        serde_json::from_slice(&bytes).map_err(|_| protocol("it is no token answer"))?;
    let token = parsed
        .token
        .filter(|token| !token.is_empty())
        .or(parsed.access_token)
        .filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| protocol("it holds no token"))?;
    if !is_header_text(&token) {
        return Err(protocol(
            "its token holds characters that no header may have",
        ));
    }
    Ok(Tokens {
        access: Secret::bearer(&token).lasting(life(parsed.expires_in.as_ref())),
        refresh: parsed.refresh_token.filter(|token| !token.is_empty()),
    })
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
        let pull = Scopes::pull("h:1/a").with_challenge(Some("repository:h:1/a:pull,delete  x"));
        assert_eq!(pull, ["repository:h:1/a:pull,delete", "x"]);
    }

    #[test]
    fn a_token_lasts_as_long_as_its_service_says_and_not_less_than_a_minute() {
        for (expires_in, seconds) in [
            (None, 60),
            (Some("0"), 60),
            (Some("-5"), 60),
            (Some("5"), 60),
            (Some("300"), 300),
            (Some("300.0"), 300),
            (Some("\"300\""), 300),
            (Some("\"soon\""), 60),
            (Some("[]"), 60),
            (Some("1e300"), 86400),
        ] {
            let value = expires_in.map(|text| serde_json::from_str(text).unwrap());
            let found = life(value.as_ref()).as_secs();
            assert_eq!(found, seconds, "{expires_in:?}");
        }
    }

    #[test]
    fn a_token_whose_time_is_over_is_not_shown() {
        let (remembered, scopes) = (Remembered::default(), Scopes::pull("a"));
        let to = Endpoint::registry("r");
        for (life, found) in [(Duration::ZERO, false), (SHORTEST_LIFE, true)] {
            remembered.keep(&to, &scopes, &Secret::bearer("t").lasting(life));
            assert_eq!(remembered.find(&to, &scopes).is_some(), found, "{life:?}");
        }
    }

    #[test]
    fn a_way_that_makes_no_sense_is_passed_over_where_there_is_another() {
        let me = Credential::Password {
            username: "me".to_owned(),
            password: "x".to_owned(),
        };
        for header in [
            "Bearer service=x, Basic realm=y",
            r#"Basic realm=y, Bearer realm="ftp://x/""#,
            "Negotiate, Digest realm=z, Basic",
        ] {
            let way = chosen(header, Some(&me), Scheme::Https).unwrap();
            assert!(matches!(way, Some(Way::Header(_))), "{header}: {way:?}");
        }
        let header = r#"Basic realm=y, Bearer, Bearer realm="https://h/t""#;
        let way = chosen(header, Some(&me), Scheme::Https).unwrap();
        assert!(matches!(way, Some(Way::Token(_))), "{way:?}");
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
        let [ask] = &request.asks()[..] else {
            panic!("one way to ask");
        };
        assert!(ask.secret.is_none());
        assert_eq!(ask.url.to_string(), "https://h/t");
        assert_eq!(
            ask.form.as_deref().unwrap(),
            "grant_type=refresh_token&client_id=kiln&service=s&scope=repository%3Aa%2Fb%3Apull&refresh_token=r%26t"
        );
    }

    #[test]
    fn a_password_goes_in_a_header_or_else_as_a_form() {
        let user = Credential::Password {
            username: "me".to_owned(),
            password: "s&c".to_owned(),
        };
        let Some(Way::Token(request)) = chosen(
            r#"Bearer realm="https://h/t",service=s"#,
            Some(&user),
            Scheme::Https,
        )
        .unwrap() else {
            panic!("no token request");
        };
        let asks = request.for_login().asks();
        assert_eq!(
            asks[0].url.to_string(),
            "https://h/t?service=s&scope=repository%3Aa%2Fb%3Apull&account=me&client_id=kiln&offline_token=true"
        );
        assert_eq!(asks[0].secret.as_ref().unwrap().header(), "Basic bWU6cyZj");
        assert_eq!(
            asks[1].form.as_deref().unwrap(),
            "grant_type=password&client_id=kiln&service=s&scope=repository%3Aa%2Fb%3Apull&access_type=offline&username=me&password=s%26c"
        );
    }

    #[test]
    fn a_registry_token_is_shown_as_it_is() {
        let token = Credential::RegistryToken("t".to_owned());
        let way = chosen(r#"Bearer realm="https://h/t""#, Some(&token), Scheme::Https);
        assert!(matches!(way.unwrap(), Some(Way::Header(secret)) if secret.header() == "Bearer t"));
        chosen("Basic realm=x", Some(&token), Scheme::Https).unwrap_err();
    }
}
