//! Downloads from a server in this process.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use kiln_image::Change;
use kiln_planner::HttpUrl;
use kiln_registry::testing::{Asked, Reply, TestServer};

use super::*;
use crate::source::remote::testing::Place;

/// What the server has: content, ETag, `Last-Modified`.
type File = Arc<Mutex<(&'static str, Option<&'static str>, Option<&'static str>)>>;

const LONG_AGO: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A server that honours conditions.
fn serving(file: &File) -> TestServer {
    let file = Arc::clone(file);
    TestServer::start(move |asked: Asked<'_>| {
        let (content, etag, modified) = *file.lock().unwrap();
        let mut reply = Reply::ok(content);
        let tags = asked.header("if-none-match").unwrap_or_default();
        let same_tag = etag.is_some_and(|etag| tags.split(", ").any(|tag| tag == etag));
        let same_time = modified.is_some() && asked.header("if-modified-since") == modified;
        if same_tag || same_time {
            reply = Reply::status(304);
        }
        if let Some(etag) = etag {
            reply = reply.header("etag", etag);
        }
        if let Some(modified) = modified {
            reply = reply.header("last-modified", modified);
        }
        reply
    })
}

fn file(content: &'static str, etag: Option<&'static str>, modified: Option<&'static str>) -> File {
    Arc::new(Mutex::new((content, etag, modified)))
}

fn source(address: &str) -> HttpSource {
    let url = HttpUrl::parse(address).unwrap();
    HttpSource {
        name: url.name.clone(),
        checksum: None,
        url,
    }
}

/// Mode, owner, time and content of the one file.
fn shown(place: &Place, fetched: &Fetched) -> String {
    let changeset = place.changeset(fetched);
    let all: Vec<_> = changeset.iter().collect();
    let [(path, Change::Put(node))] = &all[..] else {
        panic!("{all:?}");
    };
    let Metadata {
        mode,
        uid,
        gid,
        mtime,
        ..
    } = &node.metadata;
    let content = place.content(fetched, &path.to_string());
    format!("{path} {mode:o} {uid}:{gid} {} {content}", mtime.secs)
}

// R-ADD-6
#[test]
fn a_download_is_private_and_as_old_as_the_server_says() {
    let place = Place::new();
    for (modified, expected) in [
        (None, "f.txt 600 0:0 0 text"),
        (Some(LONG_AGO), "f.txt 600 0:0 784111777 text"),
        (Some("yesterday"), "f.txt 600 0:0 0 text"),
    ] {
        let file = file("text", None, modified);
        let server = serving(&file);
        let source = source(&format!("{}/p/f.txt?x=1", server.origin()));
        let fetched = place.fetch(&source).unwrap();
        assert_eq!(shown(&place, &fetched), expected, "{modified:?}");
    }
}

// R-CACHE-17
#[test]
fn what_did_not_change_is_not_sent_again() {
    for (etag, modified, asked) in [
        (Some("\"1\""), None, "HEAD /f"),
        (None, Some(LONG_AGO), "GET /f"),
        (Some("\"1\""), Some(LONG_AGO), "HEAD /f"),
    ] {
        let place = Place::new();
        let file = file("text", etag, modified);
        let server = serving(&file);
        let source = source(&format!("{}/f", server.origin()));
        let first = place.fetch(&source).unwrap();
        server.lines();
        let again = place.fetch(&source).unwrap();
        assert!(!first.cached && again.cached);
        assert_eq!(first.layer, again.layer);
        assert_eq!(server.lines(), [asked], "{etag:?} {modified:?}");
        // Back to what it was once: every tag is remembered.
        file.lock().unwrap().0 = "other";
        let tags = etag.map(|_| "\"2\"");
        (file.lock().unwrap().1, file.lock().unwrap().2) = (tags, None);
        let other = place.fetch(&source).unwrap();
        assert!(!other.cached && other.output != first.output);
        *file.lock().unwrap() = ("text", etag, modified);
        server.lines();
        assert_eq!(place.fetch(&source).unwrap().layer, first.layer);
        if etag.is_some() {
            assert_eq!(server.lines(), ["HEAD /f"]);
        }
    }
}

// R-CACHE-17
#[test]
fn a_time_that_is_too_fresh_tells_nothing() {
    let place = Place::new();
    let server = TestServer::start(|_| {
        Reply::ok("text")
            .header("last-modified", LONG_AGO)
            .header("date", LONG_AGO)
    });
    let source = source(&format!("{}/f", server.origin()));
    let first = place.fetch(&source).unwrap();
    let again = place.fetch(&source).unwrap();
    let received = server.received();
    let conditions = |name| {
        received
            .iter()
            .any(|asked| asked.headers.contains_key(name))
    };
    assert!(!conditions("if-modified-since") && received.len() == 2);
    // It had to come again, but is the same.
    assert!(again.cached && first.layer == again.layer);
}

// R-CACHE-17: an unchanged content still hits later steps by content.
#[test]
fn the_same_content_at_another_time_is_the_same_output() {
    let place = Place::new();
    let file = file("text", None, None);
    let server = serving(&file);
    let source = source(&format!("{}/f", server.origin()));
    let first = place.fetch(&source).unwrap();
    file.lock().unwrap().2 = Some(LONG_AGO);
    let later = place.fetch(&source).unwrap();
    assert_ne!(first.layer, later.layer);
    assert_eq!(first.output, later.output);
}

// R-ADD-8
#[test]
fn a_checksum_must_match_and_saves_the_question() {
    let place = Place::new();
    let file = file("text", None, None);
    let server = serving(&file);
    let plain = source(&format!("{}/f", server.origin()));
    let with = |content: &[u8]| HttpSource {
        checksum: Some(Digest::of(content)),
        ..plain.clone()
    };
    let error = place.fetch(&with(b"other")).unwrap_err();
    let expected = format!(
        "digest mismatch {}: {}",
        Digest::of(b"text"),
        Digest::of(b"other")
    );
    assert_eq!(error.to_string(), expected);
    let first = place.fetch(&with(b"text")).unwrap();
    server.lines();
    let again = place.fetch(&with(b"text")).unwrap();
    assert!(again.cached && again.layer == first.layer);
    // From anywhere else, too.
    let elsewhere = HttpSource {
        url: HttpUrl::parse("http://127.0.0.1:9/f").unwrap(),
        ..with(b"text")
    };
    assert_eq!(place.fetch(&elsewhere).unwrap().layer, first.layer);
    assert!(server.lines().is_empty());
    let error = place.fetch(&with(b"gone")).unwrap_err();
    assert!(matches!(error, Cause::DigestMismatch { .. }), "{error}");
}

#[test]
fn finding_downloads_nothing() {
    let place = Place::new();
    let file = file("text", Some("\"1\""), None);
    let server = serving(&file);
    let source = source(&format!("{}/f", server.origin()));
    assert!(place.find(&source).unwrap().is_none());
    let first = place.fetch(&source).unwrap();
    server.lines();
    assert_eq!(place.find(&source).unwrap().unwrap().layer, first.layer);
    *file.lock().unwrap() = ("other", Some("\"2\""), None);
    assert!(place.find(&source).unwrap().is_none());
    assert_eq!(server.lines(), ["HEAD /f", "HEAD /f"]);
}

// R-ADD-9
#[test]
fn secrets_for_the_host_are_sent() {
    let server = TestServer::start(|asked: Asked<'_>| {
        let authorization = asked.header("authorization").unwrap_or("nobody");
        Reply::ok(authorization.to_owned())
    });
    let seen = |secrets: &[(&str, &str)], address: &str| {
        let place = Place::with_secrets(secrets);
        let fetched = place.fetch(&source(address)).unwrap();
        place.content(&fetched, "f")
    };
    let address = format!("{}/f", server.origin());
    assert_eq!(seen(&[], &address), "nobody");
    let header = ("HTTP_AUTH_HEADER_127.0.0.1", "Custom x\n");
    assert_eq!(seen(&[header], &address), "Custom x");
    let token = ("HTTP_AUTH_TOKEN_127.0.0.1", "abc");
    assert_eq!(seen(&[header, token], &address), "Bearer abc");
    assert_eq!(
        seen(&[("HTTP_AUTH_TOKEN_other", "abc")], &address),
        "nobody"
    );
    let named = address.replace("http://", "http://u:p@");
    assert_eq!(seen(&[], &named), "Basic dTpw");
    let broken = [("HTTP_AUTH_TOKEN_127.0.0.1", "a\r\nHost: b")];
    let place = Place::with_secrets(&broken);
    let error = place.fetch(&source(&address)).unwrap_err();
    assert!(matches!(error, Cause::Secret(_)), "{error}");
}

#[test]
fn a_stopped_build_downloads_nothing() {
    let place = Place::new();
    let file = file("text", None, None);
    let server = serving(&file);
    place.halt.request();
    let error = place.fetch(&source(&format!("{}/f", server.origin())));
    assert!(matches!(error, Err(Cause::Canceled)));
}

#[test]
fn dates_have_three_forms() {
    for text in [
        LONG_AGO,
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Mon, 06 Nov 1994 08:49:37 GMT",
    ] {
        assert_eq!(http_date(Some(text)), Some(784_111_777), "{text}");
    }
    for text in [
        "",
        "yesterday",
        "Sun, 06 Nov 1994",
        "Sun, 32 Nov 1994 08:49:37 GMT",
    ] {
        assert_eq!(http_date(Some(text)), None, "{text}");
    }
    assert_eq!(http_date(None), None);
    assert_eq!(http_date(Some("Thu, 01 Jan 1970 00:00:00 GMT")), Some(0));
}
