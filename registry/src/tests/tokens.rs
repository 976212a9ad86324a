//! Challenges and token services: what is asked of whom, and what of their answers counts.

use kiln_image::media_type::OCI_MANIFEST;

use super::*;
use crate::testing::{Asked, Reply, TestServer};
use crate::{Credential, Credentials, RegistryError};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"layers":[]}"#;

/// A registry that lets in who shows `Bearer good` or `Basic bWU6c2VjcmV0`, challenges others with these headers (`REALM` is its
/// token service), and whose token service answers by `token`.
fn registry(
    challenges: &[&str],
    token: impl Fn(Asked<'_>) -> Reply + Send + Sync + 'static,
) -> TestServer {
    let challenges: Vec<String> = challenges.iter().map(|&text| text.to_owned()).collect();
    TestServer::start(move |asked| {
        if asked.target().starts_with("/token") {
            return token(asked);
        }
        match asked.header("authorization") {
            Some("Bearer good" | "Basic bWU6c2VjcmV0") => {
                Reply::ok(MANIFEST).header("content-type", OCI_MANIFEST)
            }
            _ => {
                let realm = format!("http://{}/token", asked.header("host").unwrap());
                let challenges = challenges.iter();
                challenges.fold(Reply::status(401), |reply, text| {
                    reply.header("www-authenticate", text.replace("REALM", &realm))
                })
            }
        }
    })
}

fn gives(body: &'static str) -> impl Fn(Asked<'_>) -> Reply + Send + Sync + 'static {
    move |_| Reply::ok(body)
}

fn image(server: &TestServer, rest: &str) -> Reference {
    let host = server.origin().replace("http://", "");
    format!("{host}/{rest}").parse().unwrap()
}

fn client_of(server: &TestServer, credential: Option<Credential>) -> Client {
    let host = server.origin().replace("http://", "");
    let given = credential.map(|credential| (host, credential));
    client_with(Options {
        credentials: Credentials {
            given: given.into_iter().collect(),
            ..Credentials::default()
        },
        ..Options::default()
    })
    .0
}

fn me() -> Credential {
    Credential::Password {
        username: "me".to_owned(),
        password: "secret".to_owned(),
    }
}

#[test]
fn a_challenge_is_understood_however_it_is_written() {
    for challenges in [
        &["Bearer realm=\"REALM\",service=\"s\""][..],
        &["bearer Realm=\"REALM\" , Service=s"],
        &["BEARER\trealm = \"REALM\"\t,\tservice = \"s\""],
        // Several, in one header and in several, known and unknown.
        &["Basic realm=\"x\", Bearer realm=\"REALM\""],
        &["Basic realm=\"x\"", "Bearer realm=\"REALM\""],
        &["Bearer realm=\"REALM\"", "Basic realm=\"x\""],
        &["Negotiate", "NTLM", "Bearer realm=\"REALM\""],
        &[
            "Negotiate YIIabc==, Digest qop=\"auth,auth-int\", nonce=\"a\\\"b\", Bearer realm=\"REALM\"",
        ],
        &["Bearer error=\"invalid_token\", error_description=\"a, b = c\", realm=\"REALM\""],
        &["", "Bearer realm=\"REALM\""],
        &["Basic realm=\"\u{e9}\"", "Bearer realm=\"REALM\""],
    ] {
        let server = registry(challenges, gives(r#"{"token":"good"}"#));
        let resolved = client_of(&server, Some(me())).resolve(&image(&server, "app:1"));
        assert_eq!(resolved.unwrap().bytes, MANIFEST, "{challenges:?}");
        let asked = server.received();
        let token = asked.iter().find(|request| request.line.contains("/token"));
        assert!(token.is_some(), "{challenges:?}");
    }
}

#[test]
fn basic_serves_where_bearer_makes_no_sense() {
    for challenges in [
        &["Bearer realm=\"gopher://x\", Basic realm=\"x\""][..],
        &["Bearer", "Basic realm=\"x\""],
        &["Digest realm=\"x\"", "basic"],
    ] {
        let server = registry(challenges, |_| Reply::status(500));
        let resolved = client_of(&server, Some(me())).resolve(&image(&server, "app:1"));
        assert_eq!(resolved.unwrap().bytes, MANIFEST, "{challenges:?}");
    }
}

#[test]
fn a_token_is_taken_in_each_form_it_comes_in() {
    for body in [
        r#"{"token":"good"}"#,
        r#"{"access_token":"good"}"#,
        r#"{"token":"good","access_token":"other"}"#,
        r#"{"token":"","access_token":"good"}"#,
        r#"{"token":null,"access_token":"good"}"#,
        r#"{"token":"good","expires_in":0,"issued_at":"1999-12-31T23:59:59Z"}"#,
        r#"{"token":"good","expires_in":1,"issued_at":"2999-12-31T23:59:59Z"}"#,
        r#"{"token":"good","expires_in":-1,"issued_at":"yesterday"}"#,
        r#"{"token":"good","expires_in":"300","issued_at":7}"#,
        r#"{"token":"good","expires_in":1e99,"refresh_token":"r","scope":["x"],"more":{}}"#,
    ] {
        let server = registry(&["Bearer realm=\"REALM\""], gives(body));
        let client = client_of(&server, None);
        for _ in 0..2 {
            let resolved = client.resolve(&image(&server, "app:1"));
            assert_eq!(resolved.unwrap().bytes, MANIFEST, "{body}");
        }
        let asked = server.lines();
        let tokens = asked.iter().filter(|line| line.contains("/token"));
        assert_eq!(tokens.count(), 1, "{body}");
    }
}

#[test]
fn what_is_no_token_is_said_so_and_not_shown() {
    for (body, expected) in [
        ("", "it is no token answer"),
        ("<html>", "it is no token answer"),
        ("[]", "it is no token answer"),
        (r#"{"token":7}"#, "it is no token answer"),
        ("{}", "it holds no token"),
        (r#"{"token":"","access_token":""}"#, "it holds no token"),
        (
            r#"{"token":"hush\r\nx-evil: 1"}"#,
            "characters that no header",
        ),
        (r#"{"token":"hush hush"}"#, "characters that no header"),
    ] {
        let server = registry(&["Bearer realm=\"REALM\""], gives(body));
        let error = client_of(&server, None).resolve(&image(&server, "app:1"));
        let told = error.unwrap_err().to_string();
        assert!(told.contains(expected), "{body}: {told}");
        assert!(!told.contains("hush"), "{told}");
    }
    let server = registry(&["Bearer realm=\"REALM\""], |_| {
        Reply::ok(vec![b' '; 1_000_000])
    });
    let error = client_of(&server, None).resolve(&image(&server, "app:1"));
    assert!(
        matches!(error, Err(RegistryError::TooLarge { .. })),
        "{error:?}"
    );
}

#[test]
fn a_token_that_is_refused_is_asked_for_once_more_and_no_further() {
    let server = registry(&["Bearer realm=\"REALM\""], gives(r#"{"token":"bad"}"#));
    let client = client_of(&server, Some(me()));
    let error = client.resolve(&image(&server, "app:1")).unwrap_err();
    assert_unauthorized(&error, true);
    let asked = server.lines();
    assert_eq!(
        asked.iter().filter(|line| line.contains("/token")).count(),
        1,
        "{asked:?}"
    );
}

#[test]
fn a_token_service_may_redirect_a_question_and_gets_no_password_elsewhere() {
    let elsewhere = TestServer::start(|_| Reply::ok(r#"{"token":"good"}"#));
    let there = elsewhere.origin();
    let server = registry(&["Bearer realm=\"REALM\""], move |_| {
        Reply::status(307).header("location", format!("{there}/token"))
    });
    let client = client_of(&server, Some(me()));
    client.resolve(&image(&server, "app:1")).unwrap();
    let asked = elsewhere.received();
    assert_eq!(asked.len(), 1);
    assert!(!asked[0].headers.contains_key("authorization"));
    // A form has the secret in it.
    let client = client_of(&server, Some(Credential::IdentityToken("hush".to_owned())));
    let error = client.resolve(&image(&server, "app:1")).unwrap_err();
    assert!(error.to_string().contains("sent on to"), "{error}");
    assert_eq!(elsewhere.received().len(), 1);
}

#[test]
fn actions_and_things_that_the_challenge_names_are_asked_for_besides() {
    let challenge = "Bearer realm=\"REALM\",service=\"s p\",scope=\"repository:app:pull,delete registry:catalog:*\"";
    let server = registry(&[challenge], gives(r#"{"token":"good"}"#));
    client_of(&server, None)
        .resolve(&image(&server, "app:1"))
        .unwrap();
    let asked = server.lines();
    let token = asked.iter().find(|line| line.contains("/token"));
    assert_eq!(
        token.unwrap(),
        "GET /token?service=s%20p&scope=repository%3Aapp%3Apull%2Cdelete&scope=registry%3Acatalog%3A%2A"
    );
}

#[test]
fn a_token_for_one_repository_is_not_shown_for_another() {
    let server = registry(&["Bearer realm=\"REALM\""], gives(r#"{"token":"good"}"#));
    let client = client_of(&server, None);
    client.resolve(&image(&server, "one:1")).unwrap();
    client.resolve(&image(&server, "two:1")).unwrap();
    let first = |path: &str| {
        let asked = server.received();
        let asked = asked
            .into_iter()
            .find(|request| request.line.contains(path));
        asked.unwrap().headers.contains_key("authorization")
    };
    assert!(!first("/v2/one/"));
    assert!(!first("/v2/two/"));
}
