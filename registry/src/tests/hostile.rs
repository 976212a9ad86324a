//! Servers that get the protocol wrong, by mistake or not: each exchange comes to its right end or fails with a reason.

use std::io::{Cursor, Read};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kiln_image::media_type::{OCI_INDEX, OCI_MANIFEST};

use super::*;
use crate::testing::{Access, Asked, Fault, Reply, TestServer};
use crate::{Credential, Credentials, Pushed, RegistryError, TransportError};

fn image(server: &TestServer) -> Reference {
    let host = server.origin().trim_start_matches("http://").to_owned();
    format!("{host}/app:1").parse().unwrap()
}

fn pull(server: &TestServer, bytes: &[u8]) -> Result<Vec<u8>, RegistryError> {
    let mut out = Vec::new();
    client().pull_blob(&image(server), &descriptor(bytes), &mut out, &|_| {})?;
    Ok(out)
}

fn push(client: &Client, to: &Reference, bytes: &[u8]) -> Result<Pushed, RegistryError> {
    let copy = bytes.to_vec();
    let open =
        move || -> std::io::Result<Box<dyn Read>> { Ok(Box::new(Cursor::new(copy.clone()))) };
    client.push_blob(to, &descriptor(bytes), &open, None, &|_| {})
}

/// Answers `/v2/` well, and all else by `rest`.
fn server(rest: impl Fn(Asked<'_>) -> Reply + Send + Sync + 'static) -> TestServer {
    TestServer::start(move |asked| match asked.target() {
        "/v2/" => Reply::ok(""),
        _ => rest(asked),
    })
}

/// Breaks off in the middle of the first whole answer, and answers a request for the rest by `rest`.
fn breaks(bytes: &[u8], rest: impl Fn(&[u8]) -> Reply + Send + Sync + 'static) -> TestServer {
    let (bytes, whole) = (bytes.to_vec(), AtomicUsize::new(0));
    server(move |asked| match asked.header("range") {
        Some(_) => rest(&bytes),
        None => Reply {
            cut_after: (whole.fetch_add(1, Ordering::SeqCst) == 0).then_some(500),
            ..Reply::ok(bytes.clone())
        },
    })
}

#[test]
fn a_blob_whose_rest_is_not_given_rightly_is_read_again_from_the_start() {
    let bytes = noise(250);
    let part = |bytes: &[u8], from: usize| {
        Reply {
            status: 206,
            ..Reply::ok(&bytes[from..])
        }
        .header("content-range", format!("bytes {from}-999/1000"))
    };
    for server in [
        breaks(&bytes, |_| Reply::status(416)),
        breaks(&bytes, move |bytes| part(bytes, 501)),
        breaks(&bytes, move |bytes| part(bytes, 499)),
        breaks(&bytes, |bytes| Reply {
            status: 206,
            ..Reply::ok(&bytes[500..])
        }),
        breaks(&bytes, |bytes| Reply::ok(bytes)),
    ] {
        assert_eq!(pull(&server, &bytes).unwrap(), bytes);
    }
    // Said rightly, given wrongly.
    let wrong = breaks(&bytes, move |bytes| Reply {
        body: bytes[499..999].to_vec(),
        ..part(bytes, 500)
    });
    let error = pull(&wrong, &bytes).unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error}"
    );
}

#[test]
fn a_part_where_all_was_asked_for_is_refused() {
    let bytes = noise(250);
    let body = bytes.clone();
    let server = server(move |_| {
        Reply {
            status: 206,
            ..Reply::ok(&body[1..])
        }
        .header("content-range", "bytes 1-999/1000")
    });
    pull(&server, &bytes).unwrap_err();
}

/// Takes uploads, and says `finally` when one is done.
fn takes_uploads(finally: Reply) -> TestServer {
    server(move |asked| match asked.method() {
        "POST" => Reply::status(202).header("location", "/up?a=b"),
        "PUT" => finally.clone(),
        _ => Reply::status(405),
    })
}

#[test]
fn a_registry_that_cant_be_asked_for_a_blob_is_sent_it() {
    let server = takes_uploads(Reply::status(201));
    assert_eq!(
        push(&client(), &image(&server), b"x").unwrap(),
        Pushed::Uploaded
    );
    let last = server.lines().pop().unwrap();
    assert_eq!(
        last,
        format!(
            "PUT /up?a=b&digest=sha256%3A{}",
            &Digest::of(b"x").to_string()[7..]
        )
    );
}

#[test]
fn a_registry_that_has_something_else_than_it_was_sent_is_not_believed() {
    let other = Digest::of(b"y").to_string();
    let server = takes_uploads(Reply::status(201).header("docker-content-digest", other));
    let error = push(&client(), &image(&server), b"x").unwrap_err();
    assert!(error.to_string().contains("it says that it has"), "{error}");
}

#[test]
fn a_token_that_expires_during_an_upload_is_replaced() {
    let user = ("me".to_owned(), "secret".to_owned());
    let registry = TestRegistry::with_access(Access::Bearer { user: Some(user) });
    let credential = Credential::Password {
        username: "me".to_owned(),
        password: "secret".to_owned(),
    };
    let client = client_with(Options {
        credentials: Credentials {
            given: [(registry.host(), credential)].into(),
            ..Credentials::default()
        },
        ..Options::default()
    })
    .0;
    let bytes = noise(1000);
    let (registry, opened) = (Arc::new(registry), AtomicUsize::new(0));
    let (copy, shared) = (bytes.clone(), Arc::clone(&registry));
    let open = move || -> std::io::Result<Box<dyn Read>> {
        // The upload is agreed on, its bytes are to come.
        if opened.fetch_add(1, Ordering::SeqCst) == 0 {
            shared.expire_tokens();
        }
        Ok(Box::new(Cursor::new(copy.clone())))
    };
    let to = reference(&registry, "app:1");
    let pushed = client.push_blob(&to, &descriptor(&bytes), &open, None, &|_| {});
    assert_eq!(pushed.unwrap(), Pushed::Uploaded);
    assert_eq!(registry.blob("app", &Digest::of(&bytes)).unwrap(), bytes);
}

#[test]
fn a_manifest_that_cant_be_read_in_one_way_is_refused() {
    let answer = |content_type: &'static str, body: &'static str| {
        let server = server(move |_| Reply::ok(body).header("content-type", content_type));
        client().resolve(&image(&server))
    };
    for (content_type, body, expected) in [
        (
            OCI_INDEX,
            r#"{"manifests":[],"layers":[]}"#,
            "a manifest and an index at once",
        ),
        (
            OCI_MANIFEST,
            r#"{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
            "it is sent as",
        ),
        (
            "text/html",
            "<html>sign in</html>",
            "neither a manifest nor an index (text/html)",
        ),
        ("application/json", "{}", "neither a manifest nor an index"),
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "{}",
            "schema 1",
        ),
    ] {
        let error = answer(content_type, body).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_registry_that_wants_to_know_who_asks_and_not_how_is_refused() {
    for challenge in [
        "",
        "Negotiate",
        "Bearer service=x",
        "Bearer realm=\"ftp://x/\"",
    ] {
        let server =
            TestServer::start(move |_| Reply::status(401).header("www-authenticate", challenge));
        let error = client().resolve(&image(&server)).unwrap_err();
        assert!(
            matches!(error, RegistryError::Protocol { .. }),
            "{challenge}: {error}"
        );
    }
}

#[test]
fn who_hangs_up_during_the_handshake_is_asked_again_and_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = connection.read(&mut [0; 16]);
        }
    });
    let (client, pauses) = client_with(Options {
        tls_verify: Some(true),
        ..Options::default()
    });
    let image: Reference = format!("{address}/app:1").parse().unwrap();
    let error = client.resolve(&image).unwrap_err();
    let RegistryError::Unreachable { source, .. } = &error else {
        panic!("{error}");
    };
    assert!(matches!(source, TransportError::Cut(_)), "{source:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 5);
    assert_eq!(pauses.lock().unwrap().len(), 4);
}

#[test]
fn the_nth_wrong_blob_fails_alone_and_can_be_had_the_next_time() {
    let registry = TestRegistry::start();
    let blobs: Vec<Vec<u8>> = (1..6).map(|size| noise(size * 100)).collect();
    for blob in &blobs {
        registry.put_blob("app", blob);
    }
    let (client, from) = (client(), reference(&registry, "app:1"));
    for wrong in 0..blobs.len() {
        for (at, blob) in blobs.iter().enumerate() {
            if at == wrong {
                registry.order(Fault::CorruptBlob);
            }
            let pull = || {
                let mut out = Vec::new();
                client
                    .pull_blob(&from, &descriptor(blob), &mut out, &|_| {})
                    .map(|()| out)
            };
            if at == wrong {
                let error = pull().unwrap_err();
                assert!(
                    matches!(error, RegistryError::DigestMismatch { .. }),
                    "{error}"
                );
            }
            assert_eq!(pull().unwrap(), *blob);
        }
    }
}

#[test]
fn a_warning_of_the_registry_is_told_once() {
    let server = server(|_| {
        let manifest = Reply::ok(r#"{"schemaVersion":2,"layers":[]}"#);
        manifest
            .header("content-type", OCI_MANIFEST)
            .header("warning", "299 - \"goes away\"")
    });
    let client = client();
    for _ in 0..2 {
        client.resolve(&image(&server)).unwrap();
    }
    assert_eq!(client.take_warnings().len(), 1);
}
