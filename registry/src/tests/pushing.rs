use std::cell::{Cell, RefCell};
use std::io::{self, Cursor, Read};

use kiln_image::media_type::OCI_MANIFEST;

use super::*;
use crate::testing::Fault;
use crate::{Pushed, RegistryError};

fn push(
    client: &Client,
    registry: &TestRegistry,
    bytes: &[u8],
    mount_from: Option<&str>,
) -> Result<Pushed, RegistryError> {
    let copy = bytes.to_vec();
    let open = move || -> io::Result<Box<dyn Read>> { Ok(Box::new(Cursor::new(copy.clone()))) };
    client.push_blob(
        &reference(registry, "app:1"),
        &descriptor(bytes),
        &open,
        mount_from,
        &|_| {},
    )
}

#[test]
fn a_blob_is_sent_once_then_present_then_mounted() {
    let registry = TestRegistry::start();
    let bytes = noise(100_000);
    let client = client();
    assert!(
        !client
            .has_blob(&reference(&registry, "app"), &Digest::of(&bytes))
            .unwrap()
    );
    assert_eq!(
        push(&client, &registry, &bytes, None).unwrap(),
        Pushed::Uploaded
    );
    assert_eq!(registry.blob("app", &Digest::of(&bytes)).unwrap(), bytes);
    assert_eq!(
        push(&client, &registry, &bytes, None).unwrap(),
        Pushed::Present
    );
    let elsewhere = noise(7);
    registry.put_blob("base", &elsewhere);
    assert_eq!(
        push(&client, &registry, &elsewhere, Some("base")).unwrap(),
        Pushed::Mounted
    );
    assert!(
        client
            .has_blob(&reference(&registry, "app"), &Digest::of(&elsewhere))
            .unwrap()
    );
    assert_eq!(lines(&registry, "PUT").len(), 1);
}

#[test]
fn a_mount_that_does_not_happen_becomes_an_upload() {
    let registry = TestRegistry::start();
    assert_eq!(
        push(&client(), &registry, b"bytes", Some("base")).unwrap(),
        Pushed::Uploaded
    );
    assert_eq!(
        push(&client(), &registry, b"", None).unwrap(),
        Pushed::Uploaded
    );
}

#[test]
fn a_broken_or_refused_upload_is_begun_anew() {
    let registry = TestRegistry::start();
    registry.order(Fault::CutUpload);
    registry.order(Fault::Answer {
        method: Some("PUT"),
        status: 503,
        retry_after: None,
    });
    let bytes = noise(1000);
    let opened = Cell::new(0);
    let copy = bytes.clone();
    let open = || -> io::Result<Box<dyn Read>> {
        opened.set(opened.get() + 1);
        Ok(Box::new(Cursor::new(copy.clone())))
    };
    let pushed = client()
        .push_blob(
            &reference(&registry, "app:1"),
            &descriptor(&bytes),
            &open,
            None,
            &|_| {},
        )
        .unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
    assert_eq!(registry.blob("app", &Digest::of(&bytes)).unwrap(), bytes);
    assert!(opened.get() >= 2, "{}", opened.get());
    assert!(lines(&registry, "POST").len() >= 2);
}

#[test]
fn a_registry_that_wants_pieces_gets_them() {
    let registry = TestRegistry::start();
    registry.order(Fault::OnlyChunks);
    let bytes = noise(5_000_000);
    let seen = RefCell::new(Vec::new());
    let copy = bytes.clone();
    let open = move || -> io::Result<Box<dyn Read>> { Ok(Box::new(Cursor::new(copy.clone()))) };
    let progress = |done| seen.borrow_mut().push(done);
    client()
        .push_blob(
            &reference(&registry, "app:1"),
            &descriptor(&bytes),
            &open,
            None,
            &progress,
        )
        .unwrap();
    assert_eq!(registry.blob("app", &Digest::of(&bytes)).unwrap(), bytes);
    assert_eq!(lines(&registry, "PATCH").len(), 3);
    assert_eq!(seen.borrow().last(), Some(&20_000_000));
}

#[test]
fn a_file_that_changed_shrank_or_is_gone_is_not_the_registrys_fault() {
    let registry = TestRegistry::start();
    let attempt = |open: &dyn Fn() -> io::Result<Box<dyn Read>>| {
        client()
            .push_blob(
                &reference(&registry, "app:1"),
                &descriptor(b"expected"),
                open,
                None,
                &|_| {},
            )
            .unwrap_err()
    };
    let changed = attempt(&|| Ok(Box::new(Cursor::new(b"EXPECTED"))));
    assert!(
        matches!(changed, RegistryError::DigestMismatch { actual, .. } if actual == Digest::of(b"EXPECTED")),
        "{changed}"
    );
    let shrank = attempt(&|| Ok(Box::new(Cursor::new(b"exp"))));
    assert!(matches!(shrank, RegistryError::Local { .. }), "{shrank}");
    let gone = attempt(&|| Err(io::Error::from(io::ErrorKind::NotFound)));
    assert!(matches!(gone, RegistryError::Local { .. }), "{gone}");
}

#[test]
fn a_manifest_follows_its_blobs() {
    let registry = TestRegistry::start();
    let config = descriptor(b"{}");
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{}"}},"layers":[]}}"#,
        config.digest()
    )
    .into_bytes();
    let client = client();
    let error = client
        .push_manifest(&reference(&registry, "app:1"), OCI_MANIFEST, &manifest)
        .unwrap_err();
    assert!(
        error.to_string().contains("MANIFEST_BLOB_UNKNOWN"),
        "{error}"
    );
    push(&client, &registry, b"{}", None).unwrap();
    let digest = client
        .push_manifest(&reference(&registry, "app:1"), OCI_MANIFEST, &manifest)
        .unwrap();
    assert_eq!(digest, Digest::of(&manifest));
    assert_eq!(
        registry.manifest("app", "1").unwrap(),
        (OCI_MANIFEST.to_owned(), manifest.clone())
    );
    let by_digest = reference(&registry, &format!("app@{digest}"));
    client
        .push_manifest(&by_digest, OCI_MANIFEST, &manifest)
        .unwrap();
    assert!(
        lines(&registry, "PUT")
            .last()
            .unwrap()
            .ends_with(&digest.to_string())
    );
}
