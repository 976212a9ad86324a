//! The network tier: against a real docker-registry on loopback, with skopeo looking on from the other side.
//!
//! `cargo xtask test` starts the registry and names it in `KILN_TEST_REGISTRY` (`127.0.0.1:port`).
#![allow(clippy::unwrap_used)]

mod real;

use std::io::{self, Cursor, Read};

use kiln_image::media_type::{OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use kiln_image::{Descriptor, Digest, Reference};
use kiln_registry::{Client, Options, Pushed, RegistryError, TransportError};
use real::material::{descriptor, layer};
use real::skopeo;

fn reference(rest: &str) -> Reference {
    let host = std::env::var("KILN_TEST_REGISTRY")
        .expect("`KILN_TEST_REGISTRY` names the registry; `cargo xtask test` sets it");
    format!("{host}/registry-crate/{rest}").parse().unwrap()
}

fn push(
    client: &Client,
    to: &Reference,
    blob: &Descriptor,
    bytes: &[u8],
    from: Option<&str>,
) -> Pushed {
    let copy = bytes.to_vec();
    let open = move || -> io::Result<Box<dyn Read>> { Ok(Box::new(Cursor::new(copy.clone()))) };
    client.push_blob(to, blob, &open, from, &|_| {}).unwrap()
}

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_an_image_goes_there_and_back_and_skopeo_reads_it() {
    let client = Client::new(Options::default());
    let to = reference("app:1");
    let tar = layer("hello", 40_000);
    let diff_id = Digest::of(&tar);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    )
    .into_bytes();
    let (config_blob, layer_blob) = (descriptor(OCI_CONFIG, &config), descriptor(OCI_LAYER, &tar));
    push(&client, &to, &config_blob, &config, None);
    push(&client, &to, &layer_blob, &tar, None);
    assert_eq!(push(&client, &to, &layer_blob, &tar, None), Pushed::Present);
    let entry = |blob: &Descriptor| serde_json::to_string(blob).unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{},"layers":[{}]}}"#,
        entry(&config_blob),
        entry(&layer_blob)
    );
    let digest = client
        .push_manifest(&to, OCI_MANIFEST, manifest.as_bytes())
        .unwrap();

    let inspected = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{to}")]);
    assert!(inspected.contains(&digest.to_string()), "{inspected}");
    let resolved = client.resolve(&to).unwrap();
    assert_eq!(resolved.bytes, manifest.as_bytes());
    let mut back = Vec::new();
    client
        .pull_blob(&to, &layer_blob, &mut back, &|_| {})
        .unwrap();
    assert_eq!(back, tar);
    assert_eq!(
        push(
            &client,
            &reference("other:1"),
            &layer_blob,
            &tar,
            Some("registry-crate/app")
        ),
        Pushed::Mounted
    );
}

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_a_name_that_is_not_there_is_not_found() {
    let error = Client::new(Options::default())
        .resolve(&reference("nothing:1"))
        .unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
}

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_a_host_that_nobody_has_is_said_so() {
    let image = "nobody.invalid/app:1".parse().unwrap();
    let error = Client::new(Options::default()).resolve(&image).unwrap_err();
    let RegistryError::Unreachable { source, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*source, TransportError::UnknownHost);
}
