//! Answers in all the forms that HTTP allows, and some that it doesn't: the bytes are had, or it is said why not.

use std::io::{Read, Write};

use super::*;
use crate::testing::{Reply, TestServer};
use crate::{MANIFEST_LIMIT, RegistryError};

const MANIFEST: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#;

/// A whole answer with this body, and whether another request may follow it.
type Form = fn(&[u8]) -> (Vec<u8>, bool);

fn joined(head: &str, body: &[u8], rest: &str) -> Vec<u8> {
    [head.as_bytes(), b"\r\n\r\n", body, rest.as_bytes()].concat()
}

fn with_length(body: &[u8]) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}", body.len())
}

/// `body` in chunks of 7 bytes, and what ends them.
fn chunks(body: &[u8], end: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(7) {
        out.extend(format!("{:x};name=\"value\"\r\n", chunk.len()).bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
    }
    out.extend(end.bytes());
    out
}

/// A registry that has a manifest and the blob `bytes`, and gives both in this form.
fn speaks(form: Form, blob: &[u8]) -> (SocketAddr, Arc<Mutex<usize>>) {
    let (blob, calls) = (blob.to_vec(), Arc::new(Mutex::new(0)));
    let counted = Arc::clone(&calls);
    let address = host(move |mut connection, _| {
        *counted.lock().unwrap() += 1;
        loop {
            let (body, keeps) = match head(&connection) {
                line if line.is_empty() => return,
                line if line.contains("/manifests/") => form(MANIFEST),
                line if line.contains("/blobs/") => form(&blob),
                _ => form(b""),
            };
            if connection.write_all(&body).is_err() || !keeps {
                return;
            }
        }
    });
    (address, calls)
}

#[test]
fn a_body_is_read_however_its_end_is_told() {
    let forms: [(&str, Form); 8] = [
        ("length", |body| {
            (joined(&with_length(body), body, ""), true)
        }),
        ("until the end", |body| {
            let head = "HTTP/1.1 200 OK\r\nconnection: close";
            (joined(head, body, ""), false)
        }),
        ("until the end, unsaid", |body| {
            (joined("HTTP/1.1 200 OK", body, ""), false)
        }),
        ("as of old", |body| {
            (joined("HTTP/1.0 200 OK\r\nserver: old", body, ""), false)
        }),
        ("as of old, with length", |body| {
            let head = with_length(body).replace("1.1", "1.0");
            (joined(&head, body, ""), false)
        }),
        ("in chunks", |body| {
            let head = "HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: chunked";
            (joined(head, &chunks(body, "0\r\n\r\n"), ""), true)
        }),
        ("in chunks, with trailers", |body| {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked";
            let end = "000;x\r\nx-sum: 1\r\nx-two: 2\r\n\r\n";
            (joined(head, &chunks(body, end), ""), true)
        }),
        ("a hint before", |body| {
            let hint = "HTTP/1.1 100 Continue\r\n\r\n";
            (
                joined(&format!("{hint}{}", with_length(body)), body, ""),
                true,
            )
        }),
    ];
    let bytes = noise(10_000);
    for (name, form) in forms {
        let (address, _) = speaks(form, &bytes);
        let (client, pauses) = client_with(Options::default());
        let image: Reference = format!("{address}/app:1").parse().unwrap();
        for _ in 0..2 {
            let resolved = client.resolve(&image);
            assert_eq!(resolved.unwrap().bytes, MANIFEST, "{name}");
            let mut out = Vec::new();
            let pulled = client.pull_blob(&image, &descriptor(&bytes), &mut out, &|_| {});
            assert!(pulled.is_ok(), "{name}: {pulled:?}");
            assert!(out == bytes, "{name}");
        }
        assert_eq!(pauses.lock().unwrap().len(), 0, "{name}");
    }
}

#[test]
fn what_is_said_after_an_answer_is_not_taken_for_the_next() {
    let forms: [(&str, Form); 2] = [
        ("twice", |body| {
            let answer = joined(&with_length(body), body, "");
            ([answer.clone(), answer].concat(), true)
        }),
        ("more than its length", |body| {
            (
                joined(&with_length(body), body, "HTTP/1.1 404 No\r\n\r\n"),
                true,
            )
        }),
    ];
    let bytes = noise(1000);
    for (name, form) in forms {
        let (address, calls) = speaks(form, &bytes);
        let client = client();
        let image: Reference = format!("{address}/app:1").parse().unwrap();
        for _ in 0..2 {
            assert_eq!(client.resolve(&image).unwrap().bytes, MANIFEST, "{name}");
            let mut out = Vec::new();
            let pulled = client.pull_blob(&image, &descriptor(&bytes), &mut out, &|_| {});
            assert!(pulled.is_ok() && out == bytes, "{name}: {pulled:?}");
        }
        // Nobody is spoken to who speaks unasked.
        assert!(*calls.lock().unwrap() >= 4, "{name}");
    }
}

#[test]
fn a_body_that_ends_too_early_is_asked_for_again_and_then_given_up() {
    let forms: [(&str, Form); 3] = [
        ("length", |body| {
            let half = &body[..body.len() / 2];
            (joined(&with_length(body), half, ""), false)
        }),
        ("until the end", |body| {
            let half = &body[..body.len() / 2];
            (joined("HTTP/1.1 200 OK", half, ""), false)
        }),
        ("in chunks", |body| {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked";
            let half = &body[..body.len() / 2];
            (joined(head, &chunks(half, "5\r\nab"), ""), false)
        }),
    ];
    let bytes = noise(1000);
    for (name, form) in forms {
        let (address, _) = speaks(form, &bytes);
        let (client, pauses) = client_with(Options::default());
        let image: Reference = format!("{address}/app:1").parse().unwrap();
        let pulled = client.pull_blob(&image, &descriptor(&bytes), &mut Vec::new(), &|_| {});
        let error = pulled.unwrap_err();
        let cut = matches!(error, RegistryError::Unreachable { .. });
        assert!(cut, "{name}: {error:?}");
        assert!(!pauses.lock().unwrap().is_empty(), "{name}");
        client.resolve(&image).unwrap_err();
    }
}

#[test]
fn what_is_no_http_is_said_so() {
    for said in [
        "SSH-2.0-OpenSSH_9\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}}",
        "HTTP/9.1 200 OK\r\n\r\n",
        "HTTP/1.1 9999 OK\r\n\r\n",
        "\0\0\0\0",
        "",
    ] {
        let address = host(move |mut connection, _| {
            // Or the beginning of a handshake, as the last resort.
            let _ = connection.read(&mut [0; 4096]);
            let _ = connection.write_all(said.as_bytes());
        });
        let image: Reference = format!("{address}/app:1").parse().unwrap();
        let error = client().resolve(&image).unwrap_err();
        assert!(
            error.to_string().starts_with("could not resolve"),
            "{error}"
        );
    }
}

#[test]
#[allow(clippy::print_stderr)] // A part that can't be tried says so.
fn a_registry_may_be_at_any_address_and_be_called_in_any_case() {
    let answers = |mut connection: TcpStream, _| {
        while !head(&connection).is_empty() {
            let answer = joined(&with_length(MANIFEST), MANIFEST, "");
            let _ = connection.write_all(&answer);
        }
    };
    for address in ["127.0.0.1:0", "127.9.8.7:0", "[::1]:0"] {
        let Ok(address) = host_at(address, answers) else {
            eprintln!("SKIPPED: nobody can listen at {address} here");
            continue;
        };
        let image: Reference = format!("{address}/app:1").parse().unwrap();
        assert_eq!(
            client().resolve(&image).unwrap().bytes,
            MANIFEST,
            "{address}"
        );
    }
    let port = host(answers).port();
    for name in ["localhost", "LOCALHOST", "LocalHost"] {
        let image: Reference = format!("{name}:{port}/app:1").parse().unwrap();
        assert_eq!(client().resolve(&image).unwrap().bytes, MANIFEST, "{name}");
    }
}

/// A registry that answers all but `/v2/` so.
fn refuses(reply: Reply) -> RegistryError {
    let server = TestServer::start(move |asked| match asked.target() {
        "/v2/" => Reply::ok(""),
        _ => reply.clone(),
    });
    let host = server.origin().replace("http://", "");
    let image: Reference = format!("{host}/app:1").parse().unwrap();
    client().resolve(&image).unwrap_err()
}

#[test]
fn a_registrys_words_are_one_short_line_whatever_it_says() {
    let status = |body: Vec<u8>| Reply {
        status: 418,
        ..Reply::ok(body)
    };
    let long = "x".repeat(1_000_000);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "answered 418"),
        (b"<!DOCTYPE html><title>no</title>".to_vec(), "answered 418"),
        (b"\xff\xfe\x00\x1b[31mred".to_vec(), "answered 418: "),
        (long.clone().into_bytes(), "answered 418: xxx"),
        (
            format!(r#"{{"errors":[{{"code":"A","message":"{long}"}}]}}"#).into_bytes(),
            "answered 418: ",
        ),
        (
            br#"{"errors":[{"code":"DENIED","message":"a\nb\u001b[2J","detail":{"x":1}}]}"#
                .to_vec(),
            "answered 418: DENIED: a b [2J",
        ),
        (br#"{"errors":[]}"#.to_vec(), "answered 418"),
        (
            br#"{"message":"slow down"}"#.to_vec(),
            "answered 418: slow down",
        ),
    ];
    for (body, expected) in cases {
        let told = refuses(status(body)).to_string();
        assert!(told.contains(expected), "{expected}: {told}");
        assert!(told.chars().count() < 500, "{}", told.len());
        assert!(!told.contains(char::is_control), "{told:?}");
    }
}

#[test]
fn addresses_of_a_registrys_choice_are_told_in_short() {
    let far = format!("ftp://{}", "x".repeat(5000));
    let to = |location: &str| Reply::status(307).header("location", location);
    for reply in [
        to(&far),
        Reply::status(401).header("www-authenticate", format!("Bearer realm=\"{far}\"")),
        Reply::ok("{}").header("content-type", "x".repeat(5000)),
    ] {
        let told = refuses(reply).to_string();
        assert!(told.len() < 600, "{}", told.len());
    }
}

#[test]
fn a_manifest_of_exactly_the_limit_is_read_and_one_byte_more_is_not() {
    let padded = |length: u64| {
        let mut bytes = MANIFEST.to_vec();
        bytes.resize(usize::try_from(length).unwrap(), b' ');
        bytes
    };
    for (length, fits) in [(MANIFEST_LIMIT, true), (MANIFEST_LIMIT + 1, false)] {
        let bytes = padded(length);
        let registry = TestRegistry::start();
        let types = kiln_image::media_type::OCI_MANIFEST;
        registry.put_manifest("app", "1", types, &bytes);
        let image = reference(&registry, "app:1");
        assert_eq!(client().resolve(&image).is_ok(), fits, "{length}");
        let pushed = client().push_manifest(&reference(&registry, "app:2"), types, &bytes);
        assert_eq!(pushed.is_ok(), fits, "{length}");
    }
}
