//! Downloads: conditional, redirected, cut.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use kiln_image::compress::{Compression, encoder};

use super::*;
use crate::testing::{Asked, Reply, TestServer};
use crate::{Answered, Authorization, Download, FetchError, TransportError, Validators};

fn download<'a>(address: &'a str, known: &'a [Validators]) -> Download<'a> {
    Download {
        address,
        authorization: None,
        known,
    }
}

/// The content; `None` if it is one of those known.
fn content(download: Download<'_>) -> Result<Option<Vec<u8>>, FetchError> {
    let client = client();
    match client.download(download)? {
        Answered::Unchanged(_) => Ok(None),
        Answered::Body(body) => {
            let mut out = Vec::new();
            body.copy_to(&mut out, &|_, _| {})?;
            Ok(Some(out))
        }
    }
}

fn tag(etag: &str) -> Validators {
    Validators {
        etag: Some(etag.to_owned()),
        last_modified: None,
    }
}

#[test]
fn a_file_comes_with_what_it_can_be_recognised_by() {
    let server = TestServer::start(|_| {
        Reply::ok("text")
            .header("etag", "\"a\"")
            .header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")
            .header("date", "Sun, 06 Nov 1994 09:00:00 GMT")
    });
    let address = format!("{}/f?x=1", server.origin());
    let client = client();
    let Answered::Body(body) = client.download(download(&address, &[])).unwrap() else {
        panic!("nothing was known");
    };
    assert_eq!(body.validators().etag.as_deref(), Some("\"a\""));
    let time = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(body.validators().last_modified.as_deref(), Some(time));
    assert_eq!(body.date(), Some("Sun, 06 Nov 1994 09:00:00 GMT"));
    let (mut out, last) = (Vec::new(), std::cell::Cell::new((0, None)));
    body.copy_to(&mut out, &|done, total| last.set((done, total)))
        .unwrap();
    assert_eq!((&out[..], last.get()), (&b"text"[..], (4, Some(4))));
    assert_eq!(server.lines(), ["GET /f?x=1"]);
}

// R-CACHE-17
#[test]
fn what_is_known_is_not_sent_again() {
    let server = TestServer::start(|asked: Asked<'_>| {
        let is_known = asked.header("if-none-match") == Some("\"a\", \"b\"");
        let status = if is_known { 304 } else { 200 };
        Reply {
            status,
            ..Reply::ok("").header("etag", "W/\"b\"")
        }
    });
    let address = format!("{}/f", server.origin());
    let known = [tag("\"a\""), tag("\"b\"")];
    let answered = client()
        .download(download(&address, &known))
        .map(|answered| matches!(answered, Answered::Unchanged(1)));
    assert!(answered.unwrap());
    assert_eq!(server.lines(), ["HEAD /f"]);
}

// R-CACHE-17
#[test]
fn servers_that_only_half_understand_conditions_are_understood() {
    // Tags, but no conditions: HEAD is enough.
    let careless = TestServer::start(|_| Reply::ok("text").header("etag", "\"a\""));
    let address = format!("{}/f", careless.origin());
    assert_eq!(
        content(download(&address, &[tag("W/\"a\"")])).unwrap(),
        None
    );
    assert_eq!(careless.lines(), ["HEAD /f"]);
    // No HEAD, and no tag in `304`.
    let terse = TestServer::start(|asked: Asked<'_>| match asked.method() {
        "GET" => Reply::status(304),
        _ => Reply::status(405),
    });
    let address = format!("{}/f", terse.origin());
    assert_eq!(content(download(&address, &[tag("\"a\"")])).unwrap(), None);
    let two = [tag("\"a\""), tag("\"b\"")];
    let error = content(download(&address, &two)).unwrap_err();
    assert!(matches!(error, FetchError::Protocol { .. }), "{error}");
    // Times alone.
    let server = TestServer::start(|asked: Asked<'_>| match asked.header("if-modified-since") {
        Some("yesterday") => Reply::status(304),
        _ => Reply::ok("new"),
    });
    let address = format!("{}/f", server.origin());
    let since = |time: &str| Validators {
        etag: None,
        last_modified: Some(time.to_owned()),
    };
    assert_eq!(
        content(download(&address, &[since("yesterday")])).unwrap(),
        None
    );
    let other = content(download(&address, &[since("before")])).unwrap();
    assert_eq!(other.as_deref(), Some(&b"new"[..]));
    assert_eq!(server.lines(), ["GET /f", "GET /f"]);
}

#[test]
fn redirects_are_followed_and_credentials_stay_at_home() {
    let other = TestServer::start(|asked: Asked<'_>| match asked.header("authorization") {
        None => Reply::ok("there"),
        Some(_) => Reply::status(500),
    });
    let target = format!("{}/there", other.origin());
    let home = TestServer::start(move |asked: Asked<'_>| {
        match (asked.header("authorization"), asked.target()) {
            (Some("Bearer secret"), "/") => Reply::status(302).header("location", "/next"),
            (Some("Bearer secret"), "/next") => Reply::status(307).header("location", &*target),
            (_, "/loop") => Reply::status(301).header("location", "/loop"),
            (_, "/bad") => Reply::status(301).header("location", "ftp://x/y"),
            _ => Reply::status(401),
        }
    });
    let at = |path: &str| format!("{}{path}", home.origin());
    let with_secret = |path: &str| {
        content(Download {
            authorization: Some(Authorization("Bearer secret")),
            ..download(&at(path), &[])
        })
    };
    assert_eq!(with_secret("/").unwrap().as_deref(), Some(&b"there"[..]));
    for path in ["/loop", "/bad"] {
        let error = with_secret(path).unwrap_err();
        assert!(matches!(error, FetchError::Protocol { .. }), "{error}");
    }
    let error = content(download(&at("/"), &[])).unwrap_err();
    assert!(
        matches!(error, FetchError::Status { status: 401, .. }),
        "{error}"
    );
    let shown = format!("{:?}", Authorization("Bearer secret"));
    assert!(!shown.contains("secret"), "{shown}");
}

// R-ADD-6
#[test]
fn other_answers_are_errors() {
    let server = TestServer::start(|_| Reply::status(404));
    let address = format!("{}/f", server.origin());
    let error = content(download(&address, &[])).unwrap_err();
    let expected = format!("could not download `{address}`: invalid response status 404");
    assert_eq!(error.to_string(), expected);
    drop(server);
    let nobody = TestServer::start(|_| Reply::status(404));
    let address = format!("{}/f", nobody.origin());
    let port_of_nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    drop(nobody);
    let error = content(download(&format!("http://{port_of_nobody}/f"), &[])).unwrap_err();
    let FetchError::Unreachable { source, .. } = error else {
        panic!("{error} from {address}");
    };
    assert_eq!(source, TransportError::Refused);
    let error = content(download("http://user@host/f", &[])).unwrap_err();
    assert!(matches!(error, FetchError::Address { .. }), "{error}");
}

/// A server that cuts its first answers short, after so many bytes more each.
fn cutting(cuts: usize, step: u64, ranges: bool, contents: Vec<Vec<u8>>) -> TestServer {
    let asked_before = AtomicUsize::new(0);
    TestServer::start(move |asked: Asked<'_>| {
        let round = asked_before.fetch_add(1, Ordering::SeqCst);
        let content = &contents[round.min(contents.len() - 1)];
        let range = asked.header("range").filter(|_| ranges);
        let start = range.map_or(0, |range| {
            assert_eq!(asked.header("if-range"), Some("\"a\""));
            range[6..].trim_end_matches('-').parse().unwrap()
        });
        let rest = content[start..].to_vec();
        let total = content.len();
        let mut reply = Reply::ok(rest).header("etag", "\"a\"");
        if range.is_some() {
            reply.status = 206;
            let range = format!("bytes {start}-{}/{total}", total - 1);
            reply = reply.header("content-range", range);
        }
        let cut = step * (round as u64 + 1);
        reply.cut_after = (round < cuts).then_some(if range.is_some() { step } else { cut });
        reply
    })
}

#[test]
fn a_cut_connection_is_taken_up_again() {
    let whole = noise(50_000);
    for ranges in [true, false] {
        let server = cutting(3, 40_000, ranges, vec![whole.clone()]);
        let address = format!("{}/f", server.origin());
        let got = content(download(&address, &[])).unwrap();
        assert_eq!(got.as_deref(), Some(&whole[..]), "ranges {ranges}");
        assert_eq!(server.lines().len(), 4);
    }
}

#[test]
fn a_file_that_changes_on_the_way_is_noticed() {
    let (old, mut new) = (noise(50_000), noise(50_000));
    new[7] ^= 1;
    let server = cutting(1, 40_000, false, vec![old, new]);
    let address = format!("{}/f", server.origin());
    let error = content(download(&address, &[])).unwrap_err();
    assert!(matches!(error, FetchError::Changed { .. }), "{error}");
}

#[test]
fn a_server_that_always_breaks_off_is_given_up() {
    let server = cutting(usize::MAX, 0, false, vec![noise(100)]);
    let address = format!("{}/f", server.origin());
    let (client, pauses) = client_with(Options::default());
    let Answered::Body(body) = client.download(download(&address, &[])).unwrap() else {
        panic!("nothing was known");
    };
    let error = body.copy_to(&mut Vec::new(), &|_, _| {}).unwrap_err();
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
    assert_eq!(pauses.lock().unwrap().len(), 4);
}

// R-ADD-6
#[test]
fn an_encoded_body_is_decoded() {
    let whole = noise(30_000);
    let packed = {
        let mut encoder = encoder(Compression::default(), Vec::new()).unwrap();
        encoder.write_all(&whole).unwrap();
        encoder.finish().unwrap()
    };
    let sent = packed.clone();
    let server = TestServer::start(move |asked: Asked<'_>| match asked.target() {
        "/gzip" => Reply::ok(sent.clone()).header("content-encoding", "GZIP"),
        "/x-gzip" => Reply::ok(sent.clone()).header("content-encoding", "x-gzip"),
        _ => Reply::ok("no gzip at all").header("content-encoding", "gzip"),
    });
    let got = |path: &str| content(download(&format!("{}{path}", server.origin()), &[]));
    assert_eq!(got("/gzip").unwrap().as_deref(), Some(&whole[..]));
    assert_eq!(got("/x-gzip").unwrap().as_deref(), Some(&packed[..]));
    let error = got("/broken").unwrap_err();
    assert!(matches!(error, FetchError::Damaged { .. }), "{error}");
}

#[test]
fn what_cannot_be_written_is_this_sides_failure() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let server = TestServer::start(|_| Reply::ok("text"));
    let address = format!("{}/f", server.origin());
    let client = client();
    let Answered::Body(body) = client.download(download(&address, &[])).unwrap() else {
        panic!("nothing was known");
    };
    let error = body.copy_to(&mut Full, &|_, _| {}).unwrap_err();
    assert!(matches!(error, FetchError::Local { .. }), "{error}");
}
