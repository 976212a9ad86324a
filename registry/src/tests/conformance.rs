//! What the distribution specification (v1.1) asks of clients, clause by clause.
//!
//! | clause | asked of clients | kiln | shown by |
//! |---|---|---|---|
//! | Warning headers, legacy headers | depend on no Docker header or code | none is needed | `a_registry_without_headers_will_do` |
//! | Pulling manifests | `Accept` lists the types that are known | four types | `a_manifest_is_asked_for_by_the_types_that_are_known` |
//! | | ignore parameters of `Content-Type` | so | `pull::a_manifests_type_is_found_where_it_is_written` |
//! | | reject a `mediaType` that differs from it | so | `pull::what_can_be_read_in_two_ways_is_refused` |
//! | | `Docker-Content-Digest`, if used, has to match | for tags | `pulling::a_manifest_that_is_not_what_its_digest_says_is_refused` |
//! | | by digest: verify it | so | the same |
//! | Pulling blobs | verify the digest | size, too | `pulling::bytes_that_are_wrong_…` |
//! | | resume with `Range` | so | `pulling::a_cut_blob_is_resumed_where_it_broke` |
//! | Existence | HEAD; 404 is no | so | `pushing::a_blob_is_sent_once_then_present_then_mounted` |
//! | Digests | sha256 where nothing else is said | nothing else is known | `a_digest_of_another_kind_is_refused_by_its_name` |
//! | POST then PUT | location absolute or relative, its query kept | so | `an_upload_is_a_post_and_a_put` |
//! | | `Content-Length`, `Content-Type` | so | the same |
//! | Single POST | optional | not done | |
//! | Pushing in chunks | POST has `Content-Length: 0` | so | `a_large_upload_is_a_post_patches_and_a_put` |
//! | | inclusive ranges from 0 on, in order | so | the same |
//! | | pieces of at least `OCI-Chunk-Min-Length` | so | `pieces_are_not_smaller_than_the_registry_wants` |
//! | | the location of the answer before | so | the same |
//! | | closed by a PUT with the digest of all | so | the same |
//! | | 416: ask where it is | so | `pushing::a_large_blob_that_was_cut_goes_on_where_it_was` |
//! | Cancel | DELETE, failures ignored | so | `an_upload_that_comes_to_nothing_is_cancelled` |
//! | | the location of an answer, relative or absolute | so | `uploads::an_upload_goes_where_the_registry_says_in_each_form` |
//! | Mounting | 201 is done, 202 an upload | what is refused or fails, too | `pushing::a_mount_that_…`, `uploads::a_mount_that_a_registry_knows_nothing_of_…` |
//! | Pushing manifests | `Content-Type` without parameters, as `mediaType` | so | `uploads::a_manifest_goes_by_the_type_that_it_says_itself` |
//! | | 201 is done | of what else is a success, a look decides | `pushing::a_manifest_is_looked_for_where_nobody_says_that_it_was_made` |
//! | | 4 MiB at least | 4 MiB | `pulling::a_huge_manifest_is_not_read` |
//! | | blobs, then manifests, then indexes | so | `pushing::a_tree_goes_blobs_first_then_children_then_the_index` |
//! | `subject` without `OCI-Subject` | list it under the referrers tag | so | `a_manifest_with_a_subject_is_listed_where_the_registry_does_not` |
//! | | its tag, of digests of any kind | so | `referrers::a_digest_of_any_kind_becomes_a_tag_…` |
//! | | `artifactType` of the config where there is none | so | `referrers::what_a_manifest_is_comes_from_its_config_…` |
//! | Listing tags and referrers, deletion | | not done | |
//! | Proxies (`ns`) | none to registries that are no proxies | to hosts of a `hosts.toml` | `hosts::hosts_are_asked_for_what_they_may_be_asked_for` |
//! | | no credentials of the source for a proxy | so | `mirrors::credentials_of_the_registry_do_not_go_to_its_mirrors` |
//! | Redirects | follow; no `Authorization` elsewhere | so | `access::no_secret_follows_a_redirect_to_another_host` |
//! | HTTP (RFC 9110, 9112) | bodies by length, in chunks, to the end | so | `replies::a_body_is_read_however_its_end_is_told` |
//! | | several challenges, any order and spelling | so | `tokens::a_challenge_is_understood_however_it_is_written` |
//! | Errors | any body may come | so | `replies::a_registrys_words_are_one_short_line_whatever_it_says` |
//! | 429 | `Retry-After` | seconds or date | `pulling::a_busy_registry_is_asked_again_when_it_says` |
//! | Warnings | tell the user, once | so | `hostile::a_warning_of_the_registry_is_told_once` |
//!
//! Of distribution's token specification: `token` or `access_token`, `expires_in` of at least a minute, `issued_at` by whatever
//! clock (`tokens::a_token_is_taken_in_each_form_it_comes_in`), scopes for all that a request touches
//! (`access::pushing_asks_for_both_actions_…`), refresh tokens by POST (`access::a_token_is_fetched_with_password_or_…`).

use std::io::{self, Cursor, Read};

use kiln_image::media_type::{MANIFESTS, OCI_INDEX, OCI_MANIFEST};
use serde_json::{Value, json};

use super::*;
use crate::RegistryError;
use crate::testing::{Fault, Received, Reply, TestServer};

fn push(client: &Client, to: &Reference, bytes: &[u8]) -> Result<crate::Pushed, RegistryError> {
    let copy = bytes.to_vec();
    let open = move || -> io::Result<Box<dyn Read>> { Ok(Box::new(Cursor::new(copy.clone()))) };
    client.push_blob(to, &descriptor(bytes), &open, None, &|_| {})
}

fn requests(registry: &TestRegistry, method: &str) -> Vec<Received> {
    let received = registry.received().into_iter();
    received
        .filter(|request| request.line.starts_with(method))
        .collect()
}

#[test]
fn a_registry_without_headers_will_do() {
    let manifest = br#"{"schemaVersion":2,"layers":[]}"#;
    let server = TestServer::start(move |asked| match asked.target() {
        "/v2/app/manifests/1" => Reply::ok(*manifest),
        "/v2/" => Reply::status(404),
        _ => Reply::ok(*b"blob"),
    });
    let host = server.origin().replace("http://", "");
    let image: Reference = format!("{host}/app:1").parse().unwrap();
    assert_eq!(client().resolve(&image).unwrap().bytes, manifest);
    let mut out = Vec::new();
    client()
        .pull_blob(&image, &descriptor(b"blob"), &mut out, &|_| {})
        .unwrap();
    assert_eq!(out, b"blob");
}

#[test]
fn a_manifest_is_asked_for_by_the_types_that_are_known() {
    let registry = TestRegistry::start();
    client()
        .resolve(&reference(&registry, "app:1"))
        .unwrap_err();
    let asked = requests(&registry, "GET /v2/app/manifests/1");
    assert_eq!(asked[0].headers["accept"], MANIFESTS.join(", "));
}

#[test]
fn a_digest_of_another_kind_is_refused_by_its_name() {
    let digest = format!("sha512:{}", "0".repeat(128));
    let descriptor: Descriptor = serde_json::from_value(json!({
        "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 1,
    }))
    .unwrap();
    let registry = TestRegistry::start();
    let error = client()
        .pull_blob(
            &reference(&registry, "app:1"),
            &descriptor,
            &mut Vec::new(),
            &|_| {},
        )
        .unwrap_err();
    assert!(error.to_string().contains("sha512:"), "{error}");
}

#[test]
fn an_upload_is_a_post_and_a_put() {
    let registry = TestRegistry::start();
    push(&client(), &reference(&registry, "app:1"), b"bytes").unwrap();
    let sent = requests(&registry, "P");
    assert_eq!(sent[0].line, "POST /v2/app/blobs/uploads/");
    assert_eq!(sent[0].headers["content-length"], "0");
    let digest = Digest::of(b"bytes").to_string().replace(':', "%3A");
    assert_eq!(
        sent[1].line,
        format!("PUT /v2/app/blobs/uploads/upload-1?_state=a%3Db&digest={digest}")
    );
    assert_eq!(sent[1].headers["content-length"], "5");
    assert_eq!(sent[1].headers["content-type"], "application/octet-stream");
    assert_eq!(sent.len(), 2);
}

#[test]
fn a_large_upload_is_a_post_patches_and_a_put() {
    let registry = TestRegistry::start();
    registry.order(Fault::OnlyChunks);
    let bytes = noise(4_500_000);
    push(&client(), &reference(&registry, "app:1"), &bytes).unwrap();
    let sent = requests(&registry, "P");
    let shown: Vec<String> = sent
        .iter()
        .map(|request| {
            let range = request.headers.get("content-range");
            let method = request.line.split(' ').next().unwrap();
            let length = &request.headers["content-length"];
            format!("{method} {} {length}", range.map_or("-", |range| range))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "POST - 0",
            // All of it, which this registry doesn't take; so from the start, in pieces.
            "PATCH 0-17999999 18000000",
            "POST - 0",
            "PATCH 0-8388607 8388608",
            "PATCH 8388608-16777215 8388608",
            "PATCH 16777216-17999999 1222784",
            "PUT - 0",
        ]
    );
    let digest = Digest::of(&bytes).to_string().replace(':', "%3A");
    assert!(sent[6].line.ends_with(&format!("digest={digest}")));
}

/// A registry whose pieces must be of 10 MiB, and that has another place for each.
fn picky() -> TestServer {
    TestServer::start(|asked| {
        let piece = asked.header("content-range").unwrap_or("");
        match asked.method() {
            "HEAD" => Reply::status(404),
            "POST" => Reply::status(202)
                .header("location", "/up/0")
                .header("oci-chunk-min-length", "10485760"),
            "PATCH" if asked.body.len() > 10_485_760 => Reply::status(413),
            "PATCH" => Reply::status(202)
                .header("location", format!("/up/after/{piece}"))
                .header("range", format!("0-{}", piece.split('-').nth(1).unwrap())),
            "PUT" => Reply::status(201),
            _ => Reply::status(200),
        }
    })
}

#[test]
fn pieces_are_not_smaller_than_the_registry_wants() {
    let server = picky();
    let host = server.origin().replace("http://", "");
    let to: Reference = format!("{host}/app:1").parse().unwrap();
    let bytes = noise(5_500_000);
    push(&client(), &to, &bytes).unwrap();
    let lines = server.lines();
    let sent = lines.iter().filter(|line| line.starts_with("P"));
    let shown: Vec<&str> = sent
        .map(|line| line.split("?digest").next().unwrap())
        .collect();
    assert_eq!(
        shown,
        [
            "POST /v2/app/blobs/uploads/",
            "PATCH /up/0",
            "POST /v2/app/blobs/uploads/",
            "PATCH /up/0",
            "PATCH /up/after/0-10485759",
            "PATCH /up/after/10485760-20971519",
            "PUT /up/after/20971520-21999999",
        ]
    );
}

#[test]
fn an_upload_that_comes_to_nothing_is_cancelled() {
    let registry = TestRegistry::start();
    registry.order(Fault::Answer {
        method: Some("PUT"),
        status: 403,
        retry_after: None,
    });
    push(&client(), &reference(&registry, "app:1"), b"bytes").unwrap_err();
    let deleted = lines(&registry, "DELETE");
    assert_eq!(
        deleted,
        ["DELETE /v2/app/blobs/uploads/upload-1?_state=a%3Db"]
    );
}

#[test]
fn a_manifest_is_sent_by_its_own_type() {
    let registry = TestRegistry::start();
    let manifest = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    let bytes = manifest.to_string().into_bytes();
    let to = reference(&registry, "app:1");
    client().push_manifest(&to, OCI_INDEX, &bytes).unwrap();
    let sent = requests(&registry, "PUT");
    assert_eq!(sent[0].line, "PUT /v2/app/manifests/1");
    assert_eq!(sent[0].headers["content-type"], OCI_INDEX);
}

#[test]
fn a_manifest_with_a_subject_is_listed_where_the_registry_does_not() {
    let registry = TestRegistry::start();
    let to = reference(&registry, "app");
    let subject = Digest::of(b"the image");
    let note = |text: &str| {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/x-note",
            "layers": [], "subject": { "mediaType": OCI_MANIFEST, "digest": subject.to_string(), "size": 9 },
            "annotations": { "text": text },
        });
        manifest.to_string().into_bytes()
    };
    let client = client();
    let (one, two) = (note("one"), note("two"));
    for bytes in [&one, &two, &one] {
        let by_digest = to.by_digest(Digest::of(bytes));
        client
            .push_manifest(&by_digest, OCI_MANIFEST, bytes)
            .unwrap();
    }
    let tag = subject.to_string().replace(':', "-");
    let (media_type, list) = registry.manifest("app", &tag).unwrap();
    assert_eq!(media_type, OCI_INDEX);
    let list: Value = serde_json::from_slice(&list).unwrap();
    let entry = |bytes: &[u8], text: &str| {
        json!({
            "mediaType": OCI_MANIFEST, "digest": Digest::of(bytes).to_string(), "size": bytes.len(),
            "artifactType": "application/x-note", "annotations": { "text": text },
        })
    };
    let expected = [entry(&one, "one"), entry(&two, "two")];
    assert_eq!(list["manifests"], json!(expected));
    // A tag of that name that is something else is left alone.
    registry.put_manifest("app", &tag, OCI_MANIFEST, br#"{"layers":[]}"#);
    client
        .push_manifest(
            &to.by_digest(Digest::of(&note("three"))),
            OCI_MANIFEST,
            &note("three"),
        )
        .unwrap_err();
}
