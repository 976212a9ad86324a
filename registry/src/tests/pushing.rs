use std::cell::{Cell, RefCell};
use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use kiln_image::media_type::{OCI_INDEX, OCI_MANIFEST};

use super::*;
use crate::testing::{Fault, Reply, TestServer};
use crate::{BlobSource, ManifestTree, Pushed, RegistryError, TransportError};

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
fn a_mount_that_is_denied_becomes_an_upload() {
    let registry = TestRegistry::start();
    registry.order(Fault::Answer {
        method: Some("POST"),
        status: 403,
        retry_after: None,
    });
    assert_eq!(
        push(&client(), &registry, b"bytes", Some("base")).unwrap(),
        Pushed::Uploaded
    );
    assert_eq!(lines(&registry, "POST").len(), 2);
}

#[test]
fn a_mount_that_the_registry_stumbles_over_becomes_an_upload() {
    let server = TestServer::start(|asked| match (asked.method(), asked.target()) {
        ("POST", place) if place.contains("mount=") => Reply::status(500),
        ("POST", _) => Reply::status(202).header("location", "/up"),
        ("PUT", _) => Reply::status(201),
        _ => Reply::status(404),
    });
    let open = || -> io::Result<Box<dyn Read>> { Ok(Box::new(&b"bytes"[..])) };
    let pushed = client().push_blob(
        &named(&server),
        &descriptor(b"bytes"),
        &open,
        Some("base"),
        &|_| {},
    );
    assert_eq!(pushed.unwrap(), Pushed::Uploaded);
}

#[test]
fn a_large_blob_goes_in_one_put_where_nobody_knows_patch() {
    let server = TestServer::start(|asked| match asked.method() {
        "POST" => Reply::status(202).header("location", "/up"),
        "PATCH" => Reply::status(405),
        "PUT" if asked.body.len() == 12_000_000 => Reply::status(201),
        "PUT" => Reply::status(400),
        _ => Reply::status(404),
    });
    let bytes = large();
    let copy = bytes.clone();
    let open = move || -> io::Result<Box<dyn Read>> { Ok(Box::new(Cursor::new(copy.clone()))) };
    let pushed = client().push_blob(&named(&server), &descriptor(&bytes), &open, None, &|_| {});
    assert_eq!(pushed.unwrap(), Pushed::Uploaded);
    let lines = server.lines();
    let sent: Vec<&str> = lines
        .iter()
        .filter(|line| line.starts_with('P'))
        .map(|line| line.split(['?', ' ']).next().unwrap())
        .collect();
    assert_eq!(sent, ["POST", "PATCH", "POST", "PATCH", "POST", "PUT"]);
}

#[test]
fn a_manifest_is_looked_for_where_nobody_says_that_it_was_made() {
    let manifest = br#"{"schemaVersion":2}"#;
    for (status, absent, is_there) in [(202, 0, true), (200, 2, true), (204, 9, false)] {
        let looks = AtomicU64::new(0);
        let server = TestServer::start(move |asked| match asked.method() {
            "PUT" => Reply::status(status),
            "HEAD" if looks.fetch_add(1, Ordering::SeqCst) < absent => Reply::status(404),
            _ => Reply::status(200),
        });
        let pushed = client().push_manifest(&named(&server), OCI_MANIFEST, manifest);
        match is_there {
            true => assert_eq!(pushed.unwrap(), Digest::of(manifest)),
            false => {
                let error = pushed.unwrap_err().to_string();
                assert!(
                    error.contains("it answered 204 and doesn't have"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_registry_that_cannot_say_whether_it_has_a_manifest_is_asked_again() {
    let manifest = br#"{"schemaVersion":2}"#;
    for (failures, is_there) in [(2, true), (99, false)] {
        let looks = AtomicU64::new(0);
        let server = TestServer::start(move |asked| match asked.method() {
            "PUT" => Reply::status(202),
            _ if looks.fetch_add(1, Ordering::SeqCst) < failures => Reply::status(503),
            _ => Reply::status(200),
        });
        let pushed = client().push_manifest(&named(&server), OCI_MANIFEST, manifest);
        match is_there {
            true => assert_eq!(pushed.unwrap(), Digest::of(manifest)),
            false => assert!(matches!(
                pushed.unwrap_err(),
                RegistryError::Status { status: 503, .. }
            )),
        }
    }
}

/// A name in a registry.
fn named(server: &TestServer) -> Reference {
    let name = server.origin().replace("http://", "") + "/app:1";
    name.parse().unwrap()
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
    // The first one was all, and refused.
    assert_eq!(lines(&registry, "PATCH").len(), 4);
    assert_eq!(seen.borrow().last(), Some(&20_000_000));
}

/// 12 MB, which no registry gets at once.
fn large() -> Vec<u8> {
    noise(3_000_000)
}

/// The ranges that were sent.
fn ranges(registry: &TestRegistry) -> Vec<String> {
    let received = registry.received();
    let ranges = received
        .iter()
        .filter_map(|request| request.headers.get("content-range").cloned());
    ranges.collect()
}

#[test]
fn a_large_blob_that_was_cut_goes_on_where_it_was() {
    let registry = TestRegistry::start();
    registry.order(Fault::CutPatchAfter(5_000_000));
    registry.order(Fault::CutPatchAfter(6_000_000));
    let bytes = large();
    push(&client(), &registry, &bytes, None).unwrap();
    assert_eq!(registry.blob("app", &Digest::of(&bytes)).unwrap(), bytes);
    assert_eq!(
        ranges(&registry),
        ["0-11999999", "5000000-11999999", "11000000-11999999"]
    );
    assert_eq!(lines(&registry, "POST").len(), 1);
}

#[test]
fn a_large_blob_whose_upload_is_forgotten_is_begun_anew() {
    let registry = TestRegistry::start();
    registry.order(Fault::ForgetUpload);
    let bytes = large();
    push(&client(), &registry, &bytes, None).unwrap();
    assert_eq!(registry.blob("app", &Digest::of(&bytes)).unwrap(), bytes);
    assert_eq!(ranges(&registry), ["0-11999999", "0-11999999"]);
    assert_eq!(lines(&registry, "POST").len(), 2);
}

#[test]
fn a_blob_that_arrived_before_the_cut_is_not_sent_again() {
    for bytes in [noise(10), large()] {
        let registry = TestRegistry::start();
        registry.order(Fault::CutUpload);
        push(&client(), &registry, &bytes, None).unwrap();
        assert_eq!(registry.blob("app", &Digest::of(&bytes)).unwrap(), bytes);
        let sent = lines(&registry, "P").len();
        let expected = if bytes.len() < 100 { 2 } else { 3 };
        assert_eq!(sent, expected, "{:?}", lines(&registry, "P"));
    }
}

#[test]
fn a_large_upload_that_never_gets_further_is_given_up() {
    let registry = TestRegistry::start();
    for _ in 0..20 {
        registry.order(Fault::CutPatchAfter(0));
    }
    let error = push(&client(), &registry, &large(), None).unwrap_err();
    assert!(
        matches!(error, RegistryError::Unreachable { .. }),
        "{error}"
    );
    assert_eq!(lines(&registry, "PATCH").len(), 5);
}

#[test]
fn a_large_file_that_changed_is_called_by_its_name() {
    let registry = TestRegistry::start();
    let (bytes, mut changed) = (large(), large());
    changed[11_000_000] ^= 1;
    let expected = Digest::of(&changed);
    let open = move || -> io::Result<Box<dyn Read>> { Ok(Box::new(Cursor::new(changed.clone()))) };
    let error = client()
        .push_blob(
            &reference(&registry, "app:1"),
            &descriptor(&bytes),
            &open,
            None,
            &|_| {},
        )
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { actual, .. } if actual == expected),
        "{error}"
    );
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

/// Blobs in memory, and which of them were opened.
struct Memory {
    blobs: Vec<Vec<u8>>,
    opened: std::sync::Mutex<Vec<String>>,
}

impl Memory {
    fn of(blobs: &[Vec<u8>]) -> Self {
        Memory {
            blobs: blobs.to_vec(),
            opened: std::sync::Mutex::default(),
        }
    }
}

impl BlobSource for Memory {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read>> {
        let digest = blob.digest().to_string();
        self.opened.lock().unwrap().push(digest.clone());
        let bytes = self
            .blobs
            .iter()
            .find(|bytes| Digest::of(bytes).to_string() == digest);
        let bytes = bytes.ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes.clone())))
    }
}

/// A manifest of these blobs, the first of which is the config.
fn manifest_of(blobs: &[Vec<u8>]) -> ManifestTree {
    let described: Vec<Descriptor> = blobs.iter().map(|blob| descriptor(blob)).collect();
    let bytes = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described[0], "layers": described[1..],
    });
    ManifestTree::manifest(OCI_MANIFEST, bytes.to_string().into_bytes(), described)
}

#[test]
fn a_tree_goes_blobs_first_then_children_then_the_index() {
    let registry = TestRegistry::start();
    let blobs: Vec<Vec<u8>> = (1..12).map(|length| noise(length * 100)).collect();
    let (amd, arm) = (manifest_of(&blobs[..8]), manifest_of(&blobs[6..]));
    let listed = |tree: &ManifestTree| {
        let digest = Digest::of(&tree.bytes).to_string();
        serde_json::json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": tree.bytes.len() })
    };
    let bytes = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed(&amd), listed(&arm)],
    });
    let children = [amd, arm].map(|tree| Digest::of(&tree.bytes));
    let index = ManifestTree::index(
        OCI_INDEX,
        bytes.to_string().into_bytes(),
        [manifest_of(&blobs[..8]), manifest_of(&blobs[6..])],
    );
    let source = Memory::of(&blobs);
    let to = reference(&registry, "app:1");
    // The registry takes no manifest before what it names, so success shows the order.
    let digest = client().push_tree(&to, &index, &source).unwrap();
    assert_eq!(digest, Digest::of(&index.bytes));
    assert_eq!(registry.manifest("app", "1").unwrap().1, index.bytes);
    for child in children {
        assert!(registry.manifest("app", &child.to_string()).is_some());
    }
    assert_eq!(source.opened.lock().unwrap().len(), blobs.len());
    // Tags of children would be names that nobody gave.
    let puts = lines(&registry, "PUT /v2/app/manifests/");
    let tagged = puts.iter().filter(|line| !line.contains("sha256:"));
    assert_eq!(tagged.count(), 1);
    // Again: nothing is sent but manifests.
    client().push_tree(&to, &index, &source).unwrap();
    assert_eq!(source.opened.lock().unwrap().len(), blobs.len());
}

#[test]
fn layers_that_may_not_be_distributed_stay_where_they_are() {
    let registry = TestRegistry::start();
    let blobs = [noise(1), noise(2)];
    let mut tree = manifest_of(&blobs);
    tree.bytes = b"{}".to_vec();
    tree.blobs[1].set_media_type(MediaType::from(
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ));
    let source = Memory::of(&blobs);
    client()
        .push_tree(&reference(&registry, "app:1"), &tree, &source)
        .unwrap();
    assert_eq!(
        *source.opened.lock().unwrap(),
        [Digest::of(&blobs[0]).to_string()]
    );
}

#[test]
fn a_blob_that_fails_ends_the_push_before_any_manifest() {
    let registry = TestRegistry::start();
    let blobs: Vec<Vec<u8>> = (1..9).map(noise).collect();
    let source = Memory::of(&blobs[..4]);
    let error = client()
        .push_tree(
            &reference(&registry, "app:1"),
            &manifest_of(&blobs),
            &source,
        )
        .unwrap_err();
    assert!(matches!(error, RegistryError::Local { .. }), "{error}");
    assert!(lines(&registry, "PUT /v2/app/manifests/").is_empty());
}

/// A registry that agrees to uploads and then reads nothing of them.
fn deaf() -> std::net::SocketAddr {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = |connection: std::net::TcpStream| {
        let mut reader = BufReader::new(&connection);
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
            let first = std::mem::take(&mut line);
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                line.clear();
            }
            line.clear();
            let answer = match first.split(' ').next() {
                Some("POST") => "202 Accepted\r\nlocation: /up",
                Some("HEAD") => "404 Not Found",
                Some("GET") => "200 OK",
                _ => loop {
                    std::thread::park();
                },
            };
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
            (&connection).write_all(answer.as_bytes()).unwrap();
        }
    };
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || serve(connection));
        }
    });
    address
}

#[test]
fn a_registry_that_does_not_listen_ends_a_push() {
    let (client, _) = client_with(Options {
        stall_timeout: Duration::from_secs(1),
        ..Options::default()
    });
    let bytes = noise(8_000_000);
    let blob = descriptor(&bytes);
    let open = move || -> io::Result<Box<dyn Read>> { Ok(Box::new(Cursor::new(bytes.clone()))) };
    let to = format!("{}/app:1", deaf()).parse().unwrap();
    let error = client
        .push_blob(&to, &blob, &open, None, &|_| {})
        .unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::Unreachable {
                source: TransportError::TimedOut(_),
                ..
            }
        ),
        "{error:?}"
    );
}

/// A registry that takes `each` bytes of what it is sent at a time, and says so.
fn nibbler(each: u64) -> TestServer {
    TestServer::start(move |asked| match asked.method() {
        "POST" => Reply::status(202).header("location", "/up"),
        "PATCH" => {
            let range = asked.header("content-range").unwrap();
            let (from, last) = range.split_once('-').unwrap();
            let (from, last): (u64, u64) = (from.parse().unwrap(), last.parse().unwrap());
            Reply::status(202)
                .header("location", "/up")
                .header("range", format!("0-{}", (from + each - 1).min(last)))
        }
        "PUT" => Reply::status(201),
        "HEAD" => Reply::status(404),
        _ => Reply::status(200),
    })
}

#[test]
fn a_registry_that_takes_some_at_a_time_gets_all_and_one_that_nibbles_is_given_up() {
    let bytes = large();
    let push_to = |server: &TestServer| {
        let copy = bytes.clone();
        let open = move || -> io::Result<Box<dyn Read>> { Ok(Box::new(Cursor::new(copy.clone()))) };
        client().push_blob(&named(server), &descriptor(&bytes), &open, None, &|_| {})
    };
    let slow = nibbler(1_000_000);
    assert_eq!(push_to(&slow).unwrap(), Pushed::Uploaded);
    let patches = slow.lines();
    let patches = patches.iter().filter(|line| line.starts_with("PATCH"));
    assert_eq!(patches.count(), 12);
    let never = nibbler(2);
    let error = push_to(&never).unwrap_err();
    let told = "it was sent 12000000 bytes, and says that it has 10";
    assert!(error.to_string().contains(told), "{error}");
}
