//! Registries behind HTTP proxies. What is in the clear is asked of the proxy, whose part a scripted server plays.

use super::*;
use crate::testing::{Asked, Reply, TestServer};
use crate::{Proxy, RegistryError, TransportError};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"layers":[]}"#;

/// A client that speaks to everybody by way of `server`, and to registries in the clear where they don't know TLS.
fn client_behind(server: &TestServer, user: &str) -> Client {
    let address = server
        .origin()
        .replace("http://", &format!("http://{user}"));
    let proxy = Proxy {
        http: Some(address.clone()),
        https: Some(address),
        bypass: Vec::new(),
    };
    let options = Options {
        proxy,
        tls_verify: Some(false),
        ..Options::default()
    };
    client_with(options).0
}

/// A proxy that makes no tunnels, before a registry that only it can find.
fn answer(asked: Asked<'_>) -> Reply {
    match (asked.method(), asked.target()) {
        ("CONNECT", _) => Reply::status(403),
        (_, "http://r.invalid:5000/v2/") => Reply::status(200),
        (_, "http://r.invalid:5000/v2/app/manifests/1") => Reply::ok(MANIFEST),
        (_, "http://r.invalid:5000/v2/app/blobs/uploads/") => {
            Reply::status(202).header("location", "/up?a=b")
        }
        ("PUT", _) => Reply::status(201),
        _ => Reply::status(404),
    }
}

#[test]
fn a_registry_in_the_clear_is_asked_for_by_its_whole_address() {
    let server = TestServer::start(answer);
    let client = client_behind(&server, "me:p%40ss@");
    let image: Reference = "r.invalid:5000/app:1".parse().unwrap();
    assert_eq!(client.resolve(&image).unwrap().bytes, MANIFEST);
    let bytes = noise(100_000);
    let copy = bytes.clone();
    let open = move || -> std::io::Result<Box<dyn std::io::Read>> {
        Ok(Box::new(std::io::Cursor::new(copy.clone())))
    };
    client
        .push_blob(&image, &descriptor(&bytes), &open, None, &|_| {})
        .unwrap();
    let received = server.received();
    let forwarded = received
        .iter()
        .filter(|request| !request.line.starts_with("CONNECT"));
    let mut last = "";
    for request in forwarded {
        assert!(
            request.line.contains(" http://r.invalid:5000/"),
            "{request:?}"
        );
        assert_eq!(request.headers["host"], "r.invalid:5000");
        // `me:p@ss`
        assert_eq!(request.headers["proxy-authorization"], "Basic bWU6cEBzcw==");
        last = &request.line;
    }
    let digest = Digest::of(&bytes).to_string().replace(':', "%3A");
    let put = format!("PUT http://r.invalid:5000/up?a=b&digest={digest}");
    assert_eq!(last, put);
}

#[test]
fn a_proxy_that_lets_nobody_through_is_told_of_by_its_name() {
    for (status, told) in [
        (407, "wants a user name and password (407)"),
        (403, "makes no connection to `r.invalid:5000` (403)"),
    ] {
        let server = TestServer::start(move |asked| match (asked.method(), status) {
            // In the clear, it is the registry that forbids.
            ("GET", 403) => Reply::status(404),
            _ => Reply::status(status),
        });
        let proxy = server.origin().replace("http://", "");
        let options = Options {
            proxy: Proxy {
                http: Some(server.origin()),
                https: Some(server.origin()),
                bypass: Vec::new(),
            },
            tls_verify: (status == 407).then_some(false),
            ..Options::default()
        };
        let (client, pauses) = client_with(options);
        let image: Reference = "r.invalid:5000/app:1".parse().unwrap();
        match client.resolve(&image).unwrap_err() {
            RegistryError::Unreachable { source, .. } => {
                let told = TransportError::Proxy(format!("`{proxy}` {told}"));
                assert_eq!(source, told);
            }
            other => panic!("{other}"),
        }
        assert!(pauses.lock().unwrap().is_empty());
    }
}
