//! Where uploads go, and what registries answer to them.

use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_image::media_type::OCI_MANIFEST;

use super::*;
use crate::testing::{Access, Asked, Fault, Reply, TestServer};
use crate::{Credential, Credentials, Pushed, RegistryError};

fn push(
    client: &Client,
    to: &Reference,
    bytes: &[u8],
    mount_from: Option<&str>,
) -> Result<Pushed, RegistryError> {
    let copy = bytes.to_vec();
    let open = move || -> io::Result<Box<dyn Read>> { Ok(Box::new(Cursor::new(copy.clone()))) };
    client.push_blob(to, &descriptor(bytes), &open, mount_from, &|_| {})
}

fn image(server: &TestServer) -> Reference {
    let host = server.origin().replace("http://", "");
    format!("{host}/app:1").parse().unwrap()
}

/// More than goes in one PUT.
fn large() -> Vec<u8> {
    noise(2_100_000)
}

/// A registry whose uploads begin at `location`, and go on as `rest` says.
fn uploads_at(
    location: impl Fn(&str) -> String + Send + Sync + 'static,
    rest: impl Fn(Asked<'_>) -> Reply + Send + Sync + 'static,
) -> TestServer {
    TestServer::start(move |asked| match asked.method() {
        "HEAD" => Reply::status(404),
        "POST" => Reply::status(202).header("location", location(asked.header("host").unwrap())),
        "GET" if asked.target() == "/v2/" => Reply::ok(""),
        _ => rest(asked),
    })
}

#[test]
fn an_upload_goes_where_the_registry_says_in_each_form() {
    let digest = Digest::of(b"x").to_string().replace(':', "%3A");
    for (location, expected) in [
        ("/up/1", "/up/1?digest="),
        ("/up/1?a=b%2Fc&d", "/up/1?a=b%2Fc&d&digest="),
        ("http://HOST/up/1?a=b", "/up/1?a=b&digest="),
        ("//HOST/up/1", "/up/1?digest="),
        ("1234", "/v2/app/blobs/uploads/1234?digest="),
        ("../1234?x", "/v2/app/blobs/1234?x&digest="),
        ("?id=1", "/v2/app/blobs/uploads/?id=1&digest="),
    ] {
        let server = uploads_at(
            move |host| location.replace("HOST", host),
            |_| Reply::status(201),
        );
        push(&client(), &image(&server), b"x", None).unwrap();
        let last = server.lines().pop().unwrap();
        assert_eq!(last, format!("PUT {expected}{digest}"), "{location}");
    }
    for location in ["", "ftp://x/", "http://me:pw@x/", "http://"] {
        let server = uploads_at(move |_| location.to_owned(), |_| Reply::status(404));
        push(&client(), &image(&server), b"x", None).unwrap_err();
    }
}

#[test]
fn an_upload_elsewhere_gets_the_bytes_and_no_secret() {
    let elsewhere = TestServer::start(|asked| match asked.method() {
        "PATCH" => Reply::status(202).header("location", "/next?s=1"),
        _ => Reply::status(201),
    });
    let there = elsewhere.origin();
    let server = uploads_at(
        move |_| format!("{there}/first?s=0"),
        |_| Reply::status(500),
    );
    let known = TestServer::start({
        let home = image(&server).registry().to_owned();
        move |asked| match asked.header("authorization") {
            Some(_) => {
                Reply::status(307).header("location", format!("http://{home}{}", asked.target()))
            }
            None => Reply::status(401).header("www-authenticate", "Basic realm=x"),
        }
    });
    let credential = Credential::Password {
        username: "me".to_owned(),
        password: "secret".to_owned(),
    };
    let client = client_with(Options {
        credentials: Credentials {
            given: [(image(&known).registry().to_owned(), credential)].into(),
            ..Credentials::default()
        },
        ..Options::default()
    })
    .0;
    let bytes = large();
    push(&client, &image(&known), &bytes, None).unwrap();
    let with_secret = |server: &TestServer| {
        let all = server.received();
        let has = all
            .iter()
            .filter(|r| r.headers.contains_key("authorization"));
        (all.len(), has.count())
    };
    assert_eq!(with_secret(&server).1, 0);
    assert_eq!(with_secret(&elsewhere), (2, 0));
    assert!(with_secret(&known).1 > 0);
    let digest = Digest::of(&bytes).to_string().replace(':', "%3A");
    let lines = elsewhere.lines();
    assert_eq!(
        lines,
        [
            "PATCH /first?s=0".to_owned(),
            format!("PUT /next?s=1&digest={digest}")
        ]
    );
}

#[test]
fn a_piece_that_is_taken_without_a_new_place_goes_on_at_the_old_one() {
    let server = uploads_at(
        |_| "/up?s=1".to_owned(),
        |asked| match asked.method() {
            "PATCH" => Reply::status(202),
            _ => Reply::status(201),
        },
    );
    push(&client(), &image(&server), &large(), None).unwrap();
    let lines = server.lines();
    assert!(
        lines.last().unwrap().starts_with("PUT /up?s=1&digest="),
        "{lines:?}"
    );
}

#[test]
fn a_mount_that_a_registry_knows_nothing_of_becomes_an_upload() {
    for status in [400, 403, 404, 405, 422, 501] {
        let registry = TestRegistry::start();
        registry.order(Fault::Answer {
            method: Some("POST"),
            status,
            retry_after: None,
        });
        let to = reference(&registry, "app:1");
        let pushed = push(&client(), &to, b"bytes", Some("base"));
        assert_eq!(pushed.unwrap(), Pushed::Uploaded, "{status}");
        assert!(registry.blob("app", &Digest::of(b"bytes")).is_some());
    }
    // What is in the same repository isn't mounted from there.
    let registry = TestRegistry::start();
    push(
        &client(),
        &reference(&registry, "app:1"),
        b"bytes",
        Some("app"),
    )
    .unwrap();
    assert_eq!(lines(&registry, "POST"), ["POST /v2/app/blobs/uploads/"]);
}

#[test]
fn a_look_that_is_refused_where_the_bytes_are_kept_says_nothing() {
    let bucket = TestServer::start(|_| Reply::status(403));
    let there = bucket.origin();
    let server = TestServer::start(move |asked| match asked.method() {
        "HEAD" => Reply::status(307).header("location", format!("{there}/signed-for-get")),
        "POST" => Reply::status(202).header("location", "/up"),
        "PUT" => Reply::status(201),
        _ => Reply::ok(""),
    });
    assert_eq!(
        push(&client(), &image(&server), b"x", None).unwrap(),
        Pushed::Uploaded
    );
    // Where the registry itself says so, that is so.
    let registry = TestRegistry::start();
    registry.order(Fault::Answer {
        method: Some("HEAD"),
        status: 403,
        retry_after: None,
    });
    let error = push(&client(), &reference(&registry, "app:1"), b"x", None);
    assert!(
        matches!(error, Err(RegistryError::Denied { .. })),
        "{error:?}"
    );
}

#[test]
fn an_upload_that_cannot_begin_is_told() {
    for (status, tries) in [(405, 1), (404, 1), (400, 1), (503, 5), (429, 5)] {
        let registry = TestRegistry::start();
        for _ in 0..tries {
            registry.order(Fault::Answer {
                method: Some("POST"),
                status,
                retry_after: Some(0),
            });
        }
        let to = reference(&registry, "app:1");
        let error = push(&client(), &to, b"bytes", None).unwrap_err();
        assert!(error.to_string().contains("ORDERED: as ordered"), "{error}");
        assert_eq!(lines(&registry, "POST").len(), tries, "{status}");
        assert_eq!(
            push(&client(), &to, b"bytes", None).unwrap(),
            Pushed::Uploaded
        );
    }
}

#[test]
fn a_token_that_expires_between_two_pieces_is_replaced() {
    let registry = Arc::new(TestRegistry::with_access(Access::Bearer { user: None }));
    registry.order(Fault::OnlyChunks);
    let bytes = noise(4_500_000);
    let (copy, shared) = (bytes.clone(), Arc::clone(&registry));
    let sent = AtomicUsize::new(0);
    let open = move || -> io::Result<Box<dyn Read>> { Ok(Box::new(Cursor::new(copy.clone()))) };
    let progress = |_| {
        // The first PATCH was all, and refused; with each piece all tokens end.
        if lines(&shared, "PATCH").len() > 1 {
            sent.fetch_add(1, Ordering::SeqCst);
            shared.expire_tokens();
        }
    };
    let to = reference(&registry, "app:1");
    let pushed = client().push_blob(&to, &descriptor(&bytes), &open, None, &progress);
    assert_eq!(pushed.unwrap(), Pushed::Uploaded);
    assert_eq!(registry.blob("app", &Digest::of(&bytes)).unwrap(), bytes);
    assert!(sent.load(Ordering::SeqCst) >= 3);
}

#[test]
fn a_manifest_goes_by_the_type_that_it_says_itself() {
    let registry = TestRegistry::start();
    let bytes = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","layers":[]}}"#);
    let to = reference(&registry, "app:1");
    let other = "application/vnd.docker.distribution.manifest.v2+json";
    client()
        .push_manifest(&to, other, bytes.as_bytes())
        .unwrap();
    assert_eq!(registry.manifest("app", "1").unwrap().0, OCI_MANIFEST);
    client()
        .push_manifest(&to, other, b"{\"layers\":[]}")
        .unwrap();
    assert_eq!(registry.manifest("app", "1").unwrap().0, other);
}

#[test]
fn a_list_of_referrers_that_refers_to_something_itself_ends() {
    let subject = |text: &str| {
        let digest = Digest::of(text.as_bytes());
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":1}}}}"#
        )
    };
    let list = subject("list");
    let server = TestServer::start(move |asked| match asked.method() {
        "PUT" => Reply::status(201),
        _ if asked.target() == "/v2/" => Reply::ok(""),
        _ => Reply::ok(list.clone())
            .header("content-type", "application/vnd.oci.image.index.v1+json"),
    });
    let own = subject("image");
    let to = image(&server);
    let index = kiln_image::media_type::OCI_INDEX;
    client().push_manifest(&to, index, own.as_bytes()).unwrap();
    let puts = server.lines();
    assert_eq!(
        puts.iter().filter(|line| line.starts_with("PUT")).count(),
        2,
        "{puts:?}"
    );
}
