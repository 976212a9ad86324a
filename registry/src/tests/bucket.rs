//! Objects of buckets, against the server of [`crate::testing`], which checks signatures.

use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::*;
use crate::testing::{BUCKET, KEY_ID, REGION, Reply, SECRET, TestBucket, TestServer, failure};
use crate::{
    AccessKey, Bucket, BucketError, BucketSettings, ContainerToken, KeyLender, Refusal, Upload,
};

fn settings(server: &TestBucket) -> BucketSettings {
    BucketSettings {
        name: BUCKET.to_owned(),
        region: REGION.to_owned(),
        endpoint: Some(server.endpoint()),
        path_style: true,
        access_key: Some(AccessKey {
            id: KEY_ID.to_owned(),
            secret: SECRET.to_owned(),
            session_token: None,
        }),
        lenders: Vec::new(),
    }
}

fn write(bucket: &Bucket<'_>, key: &str, bytes: &[u8]) -> Result<u64, BucketError> {
    let told = AtomicU64::new(0);
    let open = |from: u64| -> io::Result<Box<dyn Read>> {
        let from = usize::try_from(from).unwrap();
        Ok(Box::new(Cursor::new(bytes[from..].to_vec())))
    };
    let upload = Upload {
        key,
        size: bytes.len() as u64,
        digest: Digest::of(bytes),
        open: &open,
        progress: &|sent| {
            told.fetch_max(sent, Ordering::SeqCst);
        },
    };
    bucket.upload(&upload).map(|()| told.into_inner())
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", chain(cause)));
    format!("{error}{}", cause.unwrap_or_default())
}

#[test]
fn objects_are_written_found_and_read() {
    let server = TestBucket::start();
    let client = client();
    let bucket = client.bucket(&settings(&server)).unwrap();
    let key = "a b/+blobs/sha256:0é";
    assert_eq!(bucket.find(key).unwrap(), None);
    assert_eq!(bucket.read(key, 10).unwrap(), None);
    assert_eq!(write(&bucket, key, b"content").unwrap(), 7);
    assert_eq!(server.object(key).unwrap(), b"content");
    assert_eq!(bucket.find(key).unwrap().unwrap().size, Some(7));
    assert_eq!(bucket.read(key, 7).unwrap().unwrap(), b"content");
    let refusal = bucket.read(key, 6).unwrap_err().why;
    assert!(matches!(*refusal, Refusal::TooLarge { limit: 6 }));
    assert_eq!(write(&bucket, "empty", b"").unwrap(), 0);
    assert_eq!(server.object("empty").unwrap(), b"");
    assert_eq!(server.refused(), Vec::<String>::new());
}

#[test]
fn large_objects_are_sent_in_parts_and_given_up_if_one_fails() {
    let server = TestBucket::start();
    let client = client();
    let mut bucket = client.bucket(&settings(&server)).unwrap();
    (bucket.sizes.whole, bucket.sizes.part) = (1000, 300);
    let bytes = noise(500);
    assert_eq!(write(&bucket, "k", &bytes).unwrap(), 2000);
    assert_eq!(server.object("k").unwrap(), bytes);
    let parts = server
        .lines()
        .iter()
        .filter(|line| line.starts_with("PUT"))
        .count();
    assert_eq!((parts, server.open_uploads()), (7, 0));

    let puts = AtomicUsize::new(0);
    server.fail(move |asked| {
        let third = asked.method() == "PUT" && puts.fetch_add(1, Ordering::SeqCst) == 2;
        third.then(|| failure(400, "EntityTooSmall", "no"))
    });
    let error = write(&bucket, "other", &bytes).unwrap_err();
    assert!(
        chain(&error).contains("EntityTooSmall: no"),
        "{}",
        chain(&error)
    );
    assert_eq!((server.object("other"), server.open_uploads()), (None, 0));
}

#[test]
fn an_upload_whose_end_is_a_failure_with_a_good_status_has_failed() {
    let server = TestBucket::start();
    let client = client();
    let mut bucket = client.bucket(&settings(&server)).unwrap();
    (bucket.sizes.whole, bucket.sizes.part) = (10, 10);
    server.fail(|asked| {
        let is_end = asked.method() == "POST" && asked.target().contains("uploadId=");
        is_end.then(|| Reply {
            status: 200,
            ..failure(200, "InternalError", "try again")
        })
    });
    let error = write(&bucket, "k", &noise(10)).unwrap_err();
    assert!(chain(&error).contains("InternalError"), "{}", chain(&error));
    assert_eq!((server.object("k"), server.open_uploads()), (None, 0));
}

#[test]
fn what_is_not_what_its_digest_says_does_not_stay_there() {
    let server = TestBucket::start();
    let client = client();
    let mut bucket = client.bucket(&settings(&server)).unwrap();
    for whole in [1000, 1] {
        bucket.sizes.whole = whole;
        let open = |from: u64| -> io::Result<Box<dyn Read>> {
            Ok(Box::new(io::repeat(7).take(100 - from)))
        };
        let upload = Upload {
            key: "k",
            size: 100,
            digest: Digest::of(b"other"),
            open: &open,
            progress: &|_| (),
        };
        let refusal = bucket.upload(&upload).unwrap_err().why;
        assert!(matches!(*refusal, Refusal::Digest { .. }), "{refusal}");
        assert_eq!((server.object("k"), server.open_uploads()), (None, 0));
    }
}

#[test]
fn a_cut_download_goes_on_and_a_wrong_one_is_refused() {
    let server = TestBucket::start();
    let client = client();
    let bucket = client.bucket(&settings(&server)).unwrap();
    let bytes = noise(1000);
    server.put("k", &bytes);
    let (whole, first) = (bytes.clone(), AtomicUsize::new(0));
    server.fail(move |asked| {
        let cut = asked.header("range").is_none() && first.fetch_add(1, Ordering::SeqCst) == 0;
        cut.then(|| Reply {
            cut_after: Some(1500),
            ..Reply::ok(whole.clone())
        })
    });
    let mut out = Vec::new();
    let digest = Digest::of(&bytes);
    bucket
        .download("k", 4000, &digest, &mut out, &|_| ())
        .unwrap();
    assert_eq!(out, bytes);
    for (size, digest) in [(4000, Digest::of(b"x")), (3999, digest), (4001, digest)] {
        let refused = bucket.download("k", size, &digest, &mut Vec::new(), &|_| ());
        assert!(refused.is_err(), "{size} {digest}");
    }
}

#[test]
fn an_object_is_renewed_without_being_sent() {
    let server = TestBucket::start();
    let client = client();
    let mut bucket = client.bucket(&settings(&server)).unwrap();
    let bytes = noise(100);
    for copy in [1000, 150] {
        bucket.sizes.copy = copy;
        server.put("blobs/sha256:1 2", &bytes);
        assert!(!server.is_new("blobs/sha256:1 2"));
        bucket.touch("blobs/sha256:1 2", 400).unwrap();
        assert!(server.is_new("blobs/sha256:1 2"));
        assert_eq!(server.object("blobs/sha256:1 2").unwrap(), bytes);
    }
    assert_eq!(server.refused(), Vec::<String>::new());
}

#[test]
fn refusals_name_bucket_and_key_and_never_a_secret() {
    let server = TestBucket::start();
    let client = client();
    let mut wrong = settings(&server);
    let key = wrong.access_key.as_mut().unwrap();
    (key.secret, key.session_token) = ("WRONGSECRET".into(), Some("WRONGTOKEN".into()));
    assert!(!format!("{wrong:?}").contains("WRONG"));
    let bucket = client.bucket(&wrong).unwrap();
    let denied = bucket.read("k", 10).unwrap_err();
    let text = format!("{} {denied:?} {bucket:?}", chain(&denied));
    assert!(
        text.contains("could not read `k` in bucket `cache`"),
        "{text}"
    );
    assert!(text.contains("denies it: SignatureDoesNotMatch"), "{text}");
    for secret in ["WRONG", "X-Amz-Signature", KEY_ID] {
        assert!(!text.contains(secret), "{text}");
    }
    let anonymous = client
        .bucket(&BucketSettings {
            access_key: None,
            ..settings(&server)
        })
        .unwrap();
    let text = chain(&anonymous.put("k", b"").unwrap_err());
    assert!(text.contains("no access key was given"), "{text}");
}

#[test]
fn failures_that_pass_are_tried_again_and_others_are_told() {
    let server = TestBucket::start();
    let (client, pauses) = client_with(Options {
        retries: 2,
        ..Options::default()
    });
    let bucket = client.bucket(&settings(&server)).unwrap();
    let asked = AtomicUsize::new(0);
    server.fail(move |_| {
        (asked.fetch_add(1, Ordering::SeqCst) < 2).then(|| failure(503, "SlowDown", ""))
    });
    bucket.put("k", b"x").unwrap();
    assert_eq!(pauses.lock().unwrap().len(), 2);
    server.fail(|_| Some(failure(500, "InternalError", "")));
    let text = chain(&bucket.put("k", b"x").unwrap_err());
    assert!(text.contains("answered 500: InternalError"), "{text}");
    server.fail(|_| Some(Reply::status(301).header("x-amz-bucket-region", "eu-west-9")));
    let text = chain(&bucket.put("k", b"x").unwrap_err());
    assert!(text.contains("in the region `eu-west-9`"), "{text}");
    server.fail(|_| Some(Reply::ok("x").header("location", "http://elsewhere/")));
    let elsewhere = BucketSettings {
        name: "none".into(),
        ..settings(&server)
    };
    server.fail(|_| None);
    let text = chain(&client.bucket(&elsewhere).unwrap().read("k", 1).unwrap_err());
    assert!(text.contains("NoSuchBucket"), "{text}");
}

#[test]
fn a_bucket_is_in_the_host_unless_that_cannot_be() {
    let client = client();
    let mut settings = BucketSettings {
        name: "b".into(),
        region: "eu-west-1".into(),
        endpoint: None,
        path_style: false,
        access_key: None,
        lenders: Vec::new(),
    };
    let base = |settings: &BucketSettings| {
        let bucket = client.bucket(settings).unwrap();
        bucket.place.base_url().to_string()
    };
    assert_eq!(base(&settings), "https://b.s3.eu-west-1.amazonaws.com/");
    settings.path_style = true;
    assert_eq!(base(&settings), "https://s3.eu-west-1.amazonaws.com/b/");
    settings.path_style = false;
    for (endpoint, expected) in [
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/b/"),
        ("http://[::1]:9000", "http://[::1]:9000/b/"),
        (
            "https://s3.example.com:9000",
            "https://b.s3.example.com:9000/",
        ),
    ] {
        settings.endpoint = Some(endpoint.into());
        assert_eq!(base(&settings), expected);
    }
    for wrong in ["s3.example.com", "ftp://x", "https://user:secret@x", ""] {
        settings.endpoint = Some(wrong.into());
        let text = chain(&client.bucket(&settings).unwrap_err());
        assert!(!text.contains("secret"), "{text}");
    }
}

/// What a service of Amazon's says that lends the key of the test server.
fn key_as_json() -> String {
    format!(
        r#"{{"AccessKeyId":"{KEY_ID}","SecretAccessKey":"{SECRET}","Token":"T","Expiration":"2100-01-01T00:00:00Z"}}"#
    )
}

#[test]
fn keys_are_lent_by_a_token_a_container_or_a_machine() {
    let server = TestBucket::start();
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "a.b-c\n").unwrap();
    let lending = TestServer::start(|asked| {
        let body = String::from_utf8_lossy(asked.body).into_owned();
        match (asked.method(), asked.target()) {
            ("POST", "/")
                if body.contains("WebIdentityToken=a.b-c") && body.contains("RoleArn=arn%3Ax") =>
            {
                Reply::ok(format!(
                    "<R><Credentials><AccessKeyId>{KEY_ID}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>T</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></R>"
                ))
            }
            ("GET", "/key") if asked.header("authorization") == Some("a.b-c") => {
                Reply::ok(key_as_json())
            }
            ("PUT", "/latest/api/token") => Reply::ok("session"),
            ("GET", path) if asked.header("x-aws-ec2-metadata-token") == Some("session") => {
                match path.strip_prefix("/latest/meta-data/iam/security-credentials/") {
                    Some("") => Reply::ok("role\n"),
                    Some("role") => Reply::ok(key_as_json()),
                    _ => Reply::status(404),
                }
            }
            _ => Reply::status(403),
        }
    });
    let nobody = KeyLender::Machine {
        endpoint: "http://127.0.0.1:1".to_owned(),
    };
    let lenders = [
        KeyLender::WebIdentity {
            role: "arn:x".to_owned(),
            token_file: token_file.clone(),
            session: "kiln".to_owned(),
            endpoint: lending.origin() + "/",
        },
        KeyLender::Container {
            url: lending.origin() + "/key",
            token: Some(ContainerToken::File(token_file)),
        },
        KeyLender::Machine {
            endpoint: lending.origin(),
        },
    ];
    for lender in lenders {
        let client = client();
        let settings = BucketSettings {
            access_key: None,
            lenders: vec![nobody.clone(), lender],
            ..settings(&server)
        };
        for _ in 0..2 {
            let bucket = client.bucket(&settings).unwrap();
            bucket.put("k", b"x").unwrap();
            assert_eq!(bucket.read("k", 1).unwrap().unwrap(), b"x");
        }
        assert!((1..=3).contains(&lending.lines().len()), "asked once");
    }
    assert_eq!(server.refused(), Vec::<String>::new());
}

#[test]
fn a_key_that_should_be_lent_and_is_not_is_an_error() {
    let server = TestBucket::start();
    let lending = TestServer::start(|_| {
        let said =
            "<ErrorResponse><Error><Code>InvalidIdentityToken</Code></Error></ErrorResponse>";
        Reply {
            status: 400,
            ..Reply::ok(said)
        }
    });
    let web = |file: &str, endpoint: String| KeyLender::WebIdentity {
        role: "arn:x".to_owned(),
        token_file: file.into(),
        session: "kiln".to_owned(),
        endpoint,
    };
    let container = |url: &str| KeyLender::Container {
        url: url.to_owned(),
        token: Some(ContainerToken::Text("TOPSECRET".to_owned())),
    };
    for (lender, said) in [
        (
            web("/dev/null", lending.origin() + "/"),
            "answered 400 (InvalidIdentityToken)",
        ),
        (web("/none", lending.origin() + "/"), "can't read `/none`"),
        (
            container("http://example.com/key"),
            "neither nearby nor https",
        ),
        (container("http://127.0.0.1:1/"), "can't be reached"),
        (container("nonsense"), "no address"),
    ] {
        let settings = BucketSettings {
            access_key: None,
            lenders: vec![lender],
            ..settings(&server)
        };
        let text = format!(
            "{settings:?} {}",
            chain(&client().bucket(&settings).unwrap_err())
        );
        assert!(text.contains("no key could be had: "), "{text}");
        assert!(text.contains(said), "{text}");
        assert!(!text.contains("TOPSECRET"), "{text}");
    }
}
