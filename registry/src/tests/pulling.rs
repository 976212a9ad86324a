use std::cell::RefCell;
use std::net::TcpListener;

use kiln_image::media_type::{DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};

use super::*;
use crate::testing::Fault;
use crate::{Act, MANIFEST_LIMIT, RegistryError, TransportError};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"layers":[]}"#;

fn pull(client: &Client, registry: &TestRegistry, bytes: &[u8]) -> Result<Vec<u8>, RegistryError> {
    let mut out = Vec::new();
    client.pull_blob(
        &reference(registry, "app:1"),
        &descriptor(bytes),
        &mut out,
        &|_| {},
    )?;
    Ok(out)
}

#[test]
fn manifests_and_indexes_are_found_by_tag_and_digest() {
    let registry = TestRegistry::start();
    for (tag, media_type) in [
        ("oci", OCI_MANIFEST),
        ("docker", DOCKER_MANIFEST),
        ("index", OCI_INDEX),
    ] {
        let digest = registry.put_manifest("team/app", tag, media_type, MANIFEST);
        let resolved = client()
            .resolve(&reference(&registry, &format!("team/app:{tag}")))
            .unwrap();
        assert_eq!(resolved.bytes, MANIFEST);
        assert_eq!(resolved.descriptor.media_type().to_string(), media_type);
        assert_eq!(resolved.descriptor.digest(), &digest.to_oci());
        assert_eq!(resolved.descriptor.size(), MANIFEST.len() as u64);
        let by_digest = client()
            .manifest_by_digest(&reference(&registry, "team/app"), &digest)
            .unwrap();
        assert_eq!(by_digest, MANIFEST);
    }
}

#[test]
fn what_is_not_there_is_not_found_with_the_registrys_words() {
    let registry = TestRegistry::start();
    let error = client()
        .resolve(&reference(&registry, "nope:1"))
        .unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }));
    assert_eq!(error.attempt().act, Act::Resolve);
    let host = registry.host();
    assert_eq!(
        error.to_string(),
        format!(
            "could not resolve `{host}/nope:1`: not found in registry `{host}`: MANIFEST_UNKNOWN: manifest unknown"
        )
    );
}

#[test]
fn a_manifest_that_is_not_what_its_digest_says_is_refused() {
    let registry = TestRegistry::start();
    let digest = registry.put_manifest("app", "1", OCI_MANIFEST, MANIFEST);
    registry.order(Fault::WrongDigestHeader);
    let error = client()
        .resolve(&reference(&registry, "app:1"))
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { actual, .. } if actual == digest),
        "{error}"
    );
    registry.put_manifest(
        "app",
        &digest.to_string(),
        OCI_MANIFEST,
        b"{\"layers\":[1]}",
    );
    let error = client()
        .resolve(&reference(&registry, &format!("app@{digest}")))
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { expected, .. } if expected == digest),
        "{error}"
    );
}

#[test]
fn dockers_first_format_is_refused_by_its_name() {
    let registry = TestRegistry::start();
    let first = br#"{"schemaVersion":1,"name":"app","tag":"1","fsLayers":[]}"#;
    registry.put_manifest("app", "1", OCI_MANIFEST, first);
    let error = client()
        .resolve(&reference(&registry, "app:1"))
        .unwrap_err();
    assert!(error.to_string().contains("schema 1"), "{error}");
}

#[test]
fn a_layer_that_may_not_be_distributed_is_called_that() {
    let registry = TestRegistry::start();
    let mut layer = descriptor(b"windows");
    layer.set_media_type("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into());
    let from = reference(&registry, "app:1");
    let error = client().pull_blob(&from, &layer, &mut Vec::new(), &|_| {});
    assert!(
        matches!(error, Err(RegistryError::Foreign { .. })),
        "{error:?}"
    );
    // Some registries have them all the same.
    registry.put_blob("app", b"windows");
    let mut out = Vec::new();
    client()
        .pull_blob(&from, &layer, &mut out, &|_| {})
        .unwrap();
    assert_eq!(out, b"windows");
}

#[test]
fn a_huge_manifest_is_not_read() {
    let registry = TestRegistry::start();
    registry.put_manifest("app", "1", OCI_MANIFEST, MANIFEST);
    registry.order(Fault::HugeManifest(MANIFEST_LIMIT + 1));
    let error = client()
        .resolve(&reference(&registry, "app:1"))
        .unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::TooLarge {
                limit: MANIFEST_LIMIT,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn blobs_are_streamed_and_progress_only_grows() {
    let registry = TestRegistry::start();
    let bytes = noise(100_000);
    registry.put_blob("app", &bytes);
    let (mut out, seen) = (Vec::new(), RefCell::new(vec![0]));
    let progress = |done| seen.borrow_mut().push(done);
    client()
        .pull_blob(
            &reference(&registry, "app:1"),
            &descriptor(&bytes),
            &mut out,
            &progress,
        )
        .unwrap();
    assert_eq!(out, bytes);
    assert!(seen.borrow().is_sorted());
    assert_eq!(seen.borrow().last(), Some(&(bytes.len() as u64)));
    assert_eq!(
        pull(&client(), &registry, &{
            registry.put_blob("app", b"");
            Vec::new()
        })
        .unwrap(),
        b""
    );
}

#[test]
fn a_cut_blob_is_resumed_where_it_broke() {
    let registry = TestRegistry::start();
    let bytes = noise(50_000);
    registry.put_blob("app", &bytes);
    for cut in [70_000, 0, 10] {
        registry.order(Fault::CutBlobAfter(cut));
    }
    assert_eq!(pull(&client(), &registry, &bytes).unwrap(), bytes);
    let ranges: Vec<_> = registry
        .received()
        .into_iter()
        .filter_map(|request| request.headers.get("range").cloned())
        .collect();
    assert_eq!(ranges, ["bytes=70000-", "bytes=70000-", "bytes=70010-"]);
}

#[test]
fn a_registry_without_ranges_is_read_again_from_the_start() {
    let registry = TestRegistry::start();
    let bytes = noise(50_000);
    registry.put_blob("app", &bytes);
    registry.order(Fault::IgnoreRanges);
    registry.order(Fault::CutBlobAfter(70_000));
    assert_eq!(pull(&client(), &registry, &bytes).unwrap(), bytes);
}

#[test]
fn a_registry_that_always_cuts_is_given_up() {
    let registry = TestRegistry::start();
    let bytes = noise(10);
    registry.put_blob("app", &bytes);
    for _ in 0..20 {
        registry.order(Fault::CutBlobAfter(0));
    }
    let error = pull(&client(), &registry, &bytes).unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::Unreachable {
                source: TransportError::Cut(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(lines(&registry, "GET /v2/app/").len(), 5);
}

#[test]
fn bytes_that_are_wrong_too_many_or_not_writable_are_errors_of_their_own() {
    let registry = TestRegistry::start();
    let bytes = noise(10);
    registry.put_blob("app", &bytes);
    registry.order(Fault::CorruptBlob);
    assert!(matches!(
        pull(&client(), &registry, &bytes),
        Err(RegistryError::DigestMismatch { .. })
    ));
    registry.order(Fault::LongBlob);
    assert!(matches!(
        pull(&client(), &registry, &bytes),
        Err(RegistryError::SizeMismatch {
            expected: 40,
            actual: 41,
            ..
        })
    ));
    let mut full: &mut [u8] = &mut [0; 3];
    let error = client()
        .pull_blob(
            &reference(&registry, "app:1"),
            &descriptor(&bytes),
            &mut full,
            &|_| {},
        )
        .unwrap_err();
    assert!(matches!(error, RegistryError::Local { .. }), "{error}");
}

#[test]
fn a_busy_registry_is_asked_again_when_it_says() {
    let registry = TestRegistry::start();
    registry.put_manifest("app", "1", OCI_MANIFEST, MANIFEST);
    // The probe for the scheme comes first, and is content with any answer.
    for (status, retry_after) in [(429, None), (429, Some(7)), (503, None), (500, Some(1))] {
        registry.order(Fault::Answer {
            method: Some("GET"),
            status,
            retry_after,
        });
    }
    let (client, pauses) = client_with(Options::default());
    client.resolve(&reference(&registry, "app:1")).unwrap();
    let pauses: Vec<u128> = pauses
        .lock()
        .unwrap()
        .iter()
        .map(Duration::as_millis)
        .collect();
    // Spread, but not below what was asked for.
    for (pause, least, most) in [(0, 7000, 7700), (1, 250, 500), (2, 1000, 1100)] {
        let pause = pauses[pause];
        assert!((least..=most).contains(&pause), "{pauses:?}");
    }
    assert_eq!(pauses.len(), 3);
}

#[test]
fn retries_end_and_a_plain_failure_has_none() {
    let registry = TestRegistry::start();
    let client = client();
    client.resolve(&reference(&registry, "app:1")).unwrap_err();
    for (status, times) in [(503, 5), (418, 1)] {
        for _ in 0..times {
            registry.order(Fault::Answer {
                method: None,
                status,
                retry_after: None,
            });
        }
        let error = client.resolve(&reference(&registry, "app:1")).unwrap_err();
        assert!(
            matches!(&error, RegistryError::Status { status: got, detail, .. } if *got == status && detail == "ORDERED: as ordered"),
            "{error}"
        );
    }
}

#[test]
fn nobody_listening_is_said_so() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (client, pauses) = client_with(Options::default());
    let error = client
        .resolve(&format!("127.0.0.1:{port}/app:1").parse().unwrap())
        .unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::Unreachable {
                source: TransportError::Refused,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        format!(
            "could not resolve `127.0.0.1:{port}/app:1`: registry `127.0.0.1:{port}` can't be reached"
        )
    );
    assert_eq!(pauses.lock().unwrap().len(), 2);
}
