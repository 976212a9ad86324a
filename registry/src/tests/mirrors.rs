use std::path::PathBuf;

use kiln_image::media_type::OCI_MANIFEST;

use super::*;
use crate::testing::{Access, Fault};
use crate::{Credential, Credentials, RegistryError, RegistryRules};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"layers":[]}"#;

/// A client for these rules, and what keeps them on the disk.
fn with_rules(rules: &str) -> (Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("registries.conf");
    std::fs::write(&path, rules).unwrap();
    let rules = RegistryRules {
        last: vec![path],
        ..RegistryRules::default()
    };
    let options = Options {
        rules,
        ..Options::default()
    };
    (client_with(options).0, folder)
}

fn mirrored(mirrors: &[&TestRegistry]) -> String {
    let mirrors = mirrors.iter().map(|mirror| {
        format!(
            "[[registry.mirror]]\nlocation = \"{}/hub\"\n",
            mirror.host()
        )
    });
    format!(
        "[[registry]]\nprefix = \"images.example\"\nlocation = \"127.0.0.1:1\"\n{}",
        mirrors.collect::<String>()
    )
}

fn pull(client: &Client, bytes: &[u8]) -> Result<Vec<u8>, RegistryError> {
    let mut out = Vec::new();
    let image = "images.example/app:1".parse().unwrap();
    client.pull_blob(&image, &descriptor(bytes), &mut out, &|_| {})?;
    Ok(out)
}

#[test]
fn an_image_comes_from_the_first_mirror_that_has_it() {
    let (empty, full) = (TestRegistry::start(), TestRegistry::start());
    full.put_manifest("hub/app", "1", OCI_MANIFEST, MANIFEST);
    let bytes = noise(1000);
    full.put_blob("hub/app", &bytes);
    let (client, _rules) = with_rules(&mirrored(&[&empty, &full]));
    let resolved = client.resolve(&"images.example/app:1".parse().unwrap());
    assert_eq!(resolved.unwrap().bytes, MANIFEST);
    let before = empty.received().len();
    assert_eq!(pull(&client, &bytes).unwrap(), bytes);
    // The one that served the manifest is asked first.
    assert_eq!(empty.received().len(), before);
}

#[test]
fn a_blob_goes_on_at_the_next_mirror_where_the_last_one_broke() {
    let (breaks, whole) = (TestRegistry::start(), TestRegistry::start());
    let bytes = noise(50_000);
    for mirror in [&breaks, &whole] {
        mirror.put_blob("hub/app", &bytes);
    }
    breaks.order(Fault::CutBlobAfter(70_000));
    for _ in 0..10 {
        breaks.order(Fault::CutBlobAfter(0));
    }
    let (client, _rules) = with_rules(&mirrored(&[&breaks, &whole]));
    assert_eq!(pull(&client, &bytes).unwrap(), bytes);
    let asked = whole.received();
    assert_eq!(asked.last().unwrap().headers["range"], "bytes=70000-");
}

#[test]
fn a_mirror_that_gives_something_else_is_not_asked_again() {
    for fault in [Fault::CorruptBlob, Fault::LongBlob] {
        let (wrong, right) = (TestRegistry::start(), TestRegistry::start());
        let bytes = noise(50_000);
        for mirror in [&wrong, &right] {
            mirror.put_blob("hub/app", &bytes);
        }
        let (client, _rules) = with_rules(&mirrored(&[&wrong, &right]));
        let image: Reference = "images.example/app:1".parse().unwrap();
        wrong.order(fault.clone());
        let pulled = client.pull_small_blob(&image, &descriptor(&bytes), &|_| {});
        assert_eq!(pulled.unwrap(), bytes, "{fault:?}");
        let warnings = client.take_warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let named = format!("mirror `{}`: ", wrong.host());
        assert!(warnings[0].starts_with(&named), "{warnings:?}");
        let asked = wrong.received().len();
        assert_eq!(pull(&client, &bytes).unwrap(), bytes);
        if fault == Fault::CorruptBlob {
            assert_eq!(wrong.received().len(), asked);
        }
    }
}

#[test]
fn wrong_bytes_are_told_of_before_others_are_asked() {
    let (wrong, right) = (TestRegistry::start(), TestRegistry::start());
    let bytes = noise(50_000);
    for mirror in [&wrong, &right] {
        mirror.put_blob("hub/app", &bytes);
    }
    let (client, _rules) = with_rules(&mirrored(&[&wrong, &right]));
    // All of the wrong one's bytes, then the rest from the other.
    wrong.order(Fault::CorruptBlob);
    wrong.order(Fault::CutBlobAfter(70_000));
    for _ in 0..5 {
        wrong.order(Fault::CutBlobAfter(0));
    }
    let error = pull(&client, &bytes).unwrap_err();
    assert!(error.is_worth_another_try(), "{error}");
    assert_eq!(pull(&client, &bytes).unwrap(), bytes);
}

#[test]
fn a_mirrors_wrong_manifest_is_passed_over() {
    let (wrong, right) = (TestRegistry::start(), TestRegistry::start());
    for mirror in [&wrong, &right] {
        mirror.put_manifest("hub/app", "1", OCI_MANIFEST, MANIFEST);
    }
    let (client, _rules) = with_rules(&mirrored(&[&wrong, &right]));
    wrong.order(Fault::WrongDigestHeader);
    let image = "images.example/app:1".parse().unwrap();
    assert_eq!(client.resolve(&image).unwrap().bytes, MANIFEST);
    let warnings = client.take_warnings();
    assert!(
        warnings[0].ends_with("; the next place is asked"),
        "{warnings:?}"
    );
}

#[test]
fn when_all_fail_each_is_told_of() {
    let empty = TestRegistry::start();
    let (client, _rules) = with_rules(&mirrored(&[&empty]));
    let error = client
        .resolve(&"images.example/app:1".parse().unwrap())
        .unwrap_err();
    assert!(
        matches!(error.of_registry(), RegistryError::Unreachable { .. }),
        "{error}"
    );
    let host = empty.host();
    assert_eq!(
        error.to_string(),
        format!(
            "could not resolve `images.example/app:1`: registry `127.0.0.1:1` can't be reached; \
             mirror `{host}`: not found in registry `{host}`: MANIFEST_UNKNOWN: manifest unknown"
        )
    );
}

#[test]
fn credentials_of_the_registry_do_not_go_to_its_mirrors() {
    let access = Access::Basic {
        username: "me".to_owned(),
        password: "secret".to_owned(),
    };
    let mirror = TestRegistry::with_access(access);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registries.conf");
    std::fs::write(&path, mirrored(&[&mirror])).unwrap();
    let credential = Credential::Password {
        username: "me".to_owned(),
        password: "secret".to_owned(),
    };
    let client = client_with(Options {
        credentials: Credentials {
            given: [("images.example".to_owned(), credential)].into(),
            ..Credentials::default()
        },
        rules: RegistryRules {
            last: vec![path],
            ..RegistryRules::default()
        },
        ..Options::default()
    })
    .0;
    client
        .resolve(&"images.example/app:1".parse().unwrap())
        .unwrap_err();
    let asked = mirror.received();
    assert!(!asked.is_empty());
    assert!(
        asked
            .iter()
            .all(|request| !request.headers.contains_key("authorization"))
    );
}

#[test]
fn rules_that_block_or_are_broken_end_it() {
    for (rules, expected) in [
        (
            "[[registry]]\nlocation = \"images.example\"\nblocked = true",
            "blocks `images.example`",
        ),
        ("[[registry]]\nlocation = 1", "`location` has to be a text"),
    ] {
        let (client, _rules) = with_rules(rules);
        let error = client
            .resolve(&"images.example/app:1".parse().unwrap())
            .unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.ends_with(expected), "{cause}");
    }
}
