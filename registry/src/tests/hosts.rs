//! `hosts.toml`: who is asked in place of a registry, for what, and how.

use kiln_image::media_type::OCI_MANIFEST;

use super::*;
use crate::testing::Fault;
use crate::{Pushed, RegistryError};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"layers":[]}"#;

/// A client with this file for `images.example:5000`, and what keeps it on the disk.
fn with_hosts(text: &str) -> (Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let registry = folder.path().join("images.example:5000");
    std::fs::create_dir(&registry).unwrap();
    std::fs::write(registry.join("hosts.toml"), text).unwrap();
    let options = Options {
        certificates: vec![folder.path().to_owned()],
        ..Options::default()
    };
    (client_with(options).0, folder)
}

fn image() -> Reference {
    "images.example:5000/app:1".parse().unwrap()
}

#[test]
fn hosts_are_asked_for_what_they_may_be_asked_for() {
    let (mirror, server) = (TestRegistry::start(), TestRegistry::start());
    let bytes = noise(1000);
    for registry in [&mirror, &server] {
        registry.put_blob("app", &bytes);
        registry.put_manifest("app", "1", OCI_MANIFEST, MANIFEST);
    }
    let file = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n[host.\"http://{}\".header]\nx-mark = \"7\"",
        server.host(),
        mirror.host(),
        mirror.host()
    );
    let (client, _file) = with_hosts(&file);
    assert_eq!(client.resolve(&image()).unwrap().bytes, MANIFEST);
    assert!(mirror.received().is_empty());
    let mut out = Vec::new();
    let blob = descriptor(&bytes);
    client
        .pull_blob(&image(), &blob, &mut out, &|_| {})
        .unwrap();
    assert_eq!(out, bytes);
    let digest = Digest::of(&bytes);
    let asked = mirror.received();
    let line = format!("GET /v2/app/blobs/{digest}?ns=images.example%3A5000");
    assert_eq!(asked.last().unwrap().line, line);
    assert_eq!(asked.last().unwrap().headers["x-mark"], "7");
    // The server stands for the registry, too.
    let to_server = lines(&server, "GET");
    assert!(
        to_server.iter().all(|line| line.contains("?ns=")),
        "{to_server:?}"
    );
}

#[test]
fn a_push_goes_to_who_may_have_it() {
    let (mirror, server) = (TestRegistry::start(), TestRegistry::start());
    let (client, _file) = with_hosts(&format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]",
        server.host(),
        mirror.host()
    ));
    let bytes = noise(10);
    let copy = bytes.clone();
    let open = move || -> std::io::Result<Box<dyn std::io::Read>> {
        Ok(Box::new(std::io::Cursor::new(copy.clone())))
    };
    let pushed = client.push_blob(&image(), &descriptor(&bytes), &open, None, &|_| {});
    assert_eq!(pushed.unwrap(), Pushed::Uploaded);
    assert!(mirror.received().is_empty());
    assert_eq!(server.blob("app", &Digest::of(&bytes)).unwrap(), bytes);
}

#[test]
fn headers_of_a_host_do_not_follow_a_redirect() {
    let (server, elsewhere) = (TestRegistry::start(), TestRegistry::start());
    let bytes = noise(10);
    server.put_blob("app", &bytes);
    elsewhere.put_blob("app", &bytes);
    server.order(Fault::RedirectBlobs(format!("http://{}", elsewhere.host())));
    let (client, _file) = with_hosts(&format!(
        "server = \"http://{}\"\n[header]\nauthorization = \"Secret\"",
        server.host()
    ));
    client
        .pull_blob(&image(), &descriptor(&bytes), &mut Vec::new(), &|_| {})
        .unwrap();
    let (asked, there) = (server.received(), elsewhere.received());
    assert_eq!(asked.last().unwrap().headers["authorization"], "Secret");
    assert!(!there.last().unwrap().headers.contains_key("authorization"));
}

#[test]
fn where_nobody_may_be_asked_that_is_said() {
    let (client, _file) = with_hosts("capabilities = [\"push\"]");
    let error = client.resolve(&image()).unwrap_err();
    assert!(matches!(error, RegistryError::Rules { .. }), "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        cause,
        "no host that `hosts.toml` names for `images.example:5000` may be asked for this"
    );
    let (client, _file) = with_hosts("capabilities = 7");
    let error = client.resolve(&image()).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.ends_with("hosts.toml`: `capabilities` has to be a text or a list of texts"),
        "{cause}"
    );
}
