use std::io::{Cursor, Read};

use kiln_image::media_type::OCI_MANIFEST;

use super::*;
use crate::testing::{Access, Fault};
use crate::{Credential, Credentials, RegistryError};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"layers":[]}"#;

fn user() -> (String, String) {
    ("me".to_owned(), "secret".to_owned())
}

fn as_user(registry: &TestRegistry, password: &str) -> Client {
    let credential = Credential::Password {
        username: user().0,
        password: password.to_owned(),
    };
    with(registry, credential)
}

fn with(registry: &TestRegistry, credential: Credential) -> Client {
    let credentials = Credentials {
        given: [(registry.host(), credential)].into(),
        ..Credentials::default()
    };
    client_with(Options {
        credentials,
        ..Options::default()
    })
    .0
}

fn filled(access: Access) -> TestRegistry {
    let registry = TestRegistry::with_access(access);
    registry.put_manifest("app", "1", OCI_MANIFEST, MANIFEST);
    registry.put_blob("app", b"blob");
    registry
}

fn pull_blob(client: &Client, registry: &TestRegistry) -> Result<(), RegistryError> {
    client.pull_blob(
        &reference(registry, "app:1"),
        &descriptor(b"blob"),
        &mut Vec::new(),
        &|_| {},
    )
}

#[test]
fn basic_asks_for_the_right_user() {
    let (username, password) = user();
    let registry = filled(Access::Basic { username, password });
    let app = reference(&registry, "app:1");
    as_user(&registry, "secret").resolve(&app).unwrap();
    let error = as_user(&registry, "wrong").resolve(&app).unwrap_err();
    assert_unauthorized(&error, true);
    let error = client().resolve(&app).unwrap_err();
    assert_unauthorized(&error, false);
    assert!(
        error
            .to_string()
            .contains("asks for credentials: UNAUTHORIZED: authentication required"),
        "{error}"
    );
}

#[test]
fn an_anonymous_token_is_fetched_once_for_a_repository_and_scope() {
    let registry = filled(Access::Bearer { user: None });
    let client = client();
    for _ in 0..2 {
        client.resolve(&reference(&registry, "app:1")).unwrap();
        pull_blob(&client, &registry).unwrap();
    }
    assert_eq!(
        lines(&registry, "GET /token"),
        ["GET /token?service=test&scope=repository%3Aapp%3Apull"]
    );
    client
        .resolve(&reference(&registry, "other:1"))
        .unwrap_err();
    assert_eq!(lines(&registry, "GET /token").len(), 2);
}

#[test]
fn a_busy_token_service_is_asked_again_when_it_says() {
    let registry = filled(Access::Bearer { user: None });
    let (client, pauses) = client_with(Options::default());
    registry.order(Fault::BusyTokenService(7));
    client.resolve(&reference(&registry, "app:1")).unwrap();
    registry.order(Fault::BusyTokenService(9));
    let credential = Credential::IdentityToken("any".to_owned());
    client.log_in(&registry.host(), &credential).unwrap();
    let pauses = pauses.lock().unwrap();
    let seconds: Vec<u64> = pauses.iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [7, 9]);
}

#[test]
fn a_token_is_fetched_with_password_or_identity_token() {
    let registry = filled(Access::Bearer { user: Some(user()) });
    let app = reference(&registry, "app:1");
    as_user(&registry, "secret").resolve(&app).unwrap();
    with(&registry, Credential::IdentityToken("secret".to_owned()))
        .resolve(&app)
        .unwrap();
    assert_eq!(lines(&registry, "POST /token").len(), 1);
    let error = as_user(&registry, "wrong").resolve(&app).unwrap_err();
    assert!(
        matches!(&error, RegistryError::Unauthorized { with_credentials: true, detail, .. } if detail.contains("incorrect")),
        "{error}"
    );
}

#[test]
fn an_expired_token_is_replaced() {
    let registry = filled(Access::Bearer { user: None });
    let client = client();
    client.resolve(&reference(&registry, "app:1")).unwrap();
    registry.expire_tokens();
    client.resolve(&reference(&registry, "app:1")).unwrap();
    assert_eq!(lines(&registry, "GET /token").len(), 2);
}

#[test]
fn pushing_asks_for_both_actions_and_mounting_for_the_source() {
    let registry = filled(Access::Bearer { user: None });
    let client = client();
    let open = || -> std::io::Result<Box<dyn Read>> { Ok(Box::new(Cursor::new(b"layer"))) };
    client
        .push_blob(
            &reference(&registry, "new:1"),
            &descriptor(b"layer"),
            &open,
            Some("app"),
            &|_| {},
        )
        .unwrap();
    client
        .push_manifest(&reference(&registry, "new:1"), OCI_MANIFEST, MANIFEST)
        .unwrap();
    assert_eq!(
        lines(&registry, "GET /token"),
        [
            "GET /token?service=test&scope=repository%3Anew%3Apull%2Cpush",
            "GET /token?service=test&scope=repository%3Anew%3Apull%2Cpush&scope=repository%3Aapp%3Apull",
        ]
    );
}

#[test]
fn no_secret_follows_a_redirect_to_another_host() {
    let (username, password) = user();
    for access in [
        Access::Basic { username, password },
        Access::Bearer { user: Some(user()) },
    ] {
        let elsewhere = filled(Access::Anonymous);
        let registry = filled(access);
        registry.order(Fault::RedirectBlobs(format!("http://{}", elsewhere.host())));
        pull_blob(&as_user(&registry, "secret"), &registry).unwrap();
        let there = elsewhere.received();
        assert_eq!(there.len(), 1);
        assert!(
            there
                .iter()
                .all(|request| !request.headers.contains_key("authorization")),
            "{there:?}"
        );
    }
}

#[test]
fn a_challenge_from_where_a_redirect_leads_is_not_answered() {
    let (username, password) = user();
    let elsewhere = filled(Access::Basic { username, password });
    let registry = filled(Access::Anonymous);
    registry.order(Fault::RedirectBlobs(format!("http://{}", elsewhere.host())));
    let error = pull_blob(&as_user(&registry, "secret"), &registry).unwrap_err();
    assert!(
        matches!(&error, RegistryError::Unauthorized { registry, .. } if *registry == elsewhere.host()),
        "{error}"
    );
    assert!(
        elsewhere
            .received()
            .iter()
            .all(|request| !request.headers.contains_key("authorization"))
    );
}

#[test]
fn redirects_that_never_end_are_given_up() {
    let registry = filled(Access::Anonymous);
    registry.order(Fault::RedirectBlobs(format!("http://{}", registry.host())));
    let error = pull_blob(&client(), &registry).unwrap_err();
    assert!(
        matches!(&error, RegistryError::Protocol { problem, .. } if problem.contains("redirects too often")),
        "{error}"
    );
}

#[test]
fn one_client_serves_many_threads() {
    let registry = filled(Access::Bearer { user: None });
    let client = client();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| pull_blob(&client, &registry).unwrap());
        }
    });
}
