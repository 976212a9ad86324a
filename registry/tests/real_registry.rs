//! The network tier: a docker-registry for each way of access, and one behind a proxy that damages what goes through.
#![allow(clippy::unwrap_used)]

mod real;

use std::fs;
use std::io::{self, Cursor, Read};
use std::time::Duration;

use kiln_image::media_type::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use kiln_image::{Descriptor, Digest, Reference};
use kiln_registry::{
    BlobSource, Client, Credential, Credentials, ManifestTree, Options, RegistryError, Sleep,
    TransportError,
};
use real::fault_proxy::{Fault, FaultProxy, Plan};
use real::material::{descriptor, layer};
use real::tokens::{Takes, TokenService};
use real::{PASSWORD, RealRegistry, Setup, USER, skopeo};

/// An image in memory.
struct Image {
    tree: ManifestTree,
    blobs: Vec<Vec<u8>>,
}

impl BlobSource for Image {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read>> {
        let digest = Digest::try_from(blob.digest()).map_err(io::Error::other)?;
        let bytes = self.blobs.iter().find(|bytes| Digest::of(bytes) == digest);
        Ok(Box::new(Cursor::new(
            bytes.ok_or(io::ErrorKind::NotFound)?.clone(),
        )))
    }
}

impl Image {
    /// One whose layer has a file named `name`, of about so many megabytes.
    fn of(name: &str, megabytes: usize) -> Self {
        let layer = layer(name, megabytes * 2048 + 4);
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Digest::of(&layer)
        );
        let blobs = vec![config.into_bytes(), layer];
        let described = [(OCI_CONFIG, &blobs[0]), (OCI_LAYER, &blobs[1])]
            .map(|(media_type, bytes)| descriptor(media_type, bytes));
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described[0], "layers": [described[1]],
        });
        let tree = ManifestTree::manifest(OCI_MANIFEST, manifest.to_string().into(), described);
        Image { tree, blobs }
    }

    fn push(&self, client: &Client, to: &Reference) -> Result<Digest, RegistryError> {
        client.push_tree(to, &self.tree, self)
    }

    /// Pulls all of it, and checks it.
    fn pull(&self, client: &Client, from: &Reference) -> Result<(), RegistryError> {
        assert_eq!(client.resolve(from)?.bytes, self.tree.bytes);
        for (blob, bytes) in self.tree.blobs.iter().zip(&self.blobs) {
            let mut out = Vec::new();
            client.pull_blob(from, blob, &mut out, &|_| {})?;
            assert!(out == *bytes, "{}", blob.digest());
        }
        Ok(())
    }
}

fn name(host: &str, rest: &str) -> Reference {
    format!("{host}/{rest}").parse().unwrap()
}

fn client(options: Options) -> Client {
    Client::new(Options {
        sleep: Sleep::new(|_| {}),
        ..options
    })
}

fn with(host: &str, credential: Credential) -> Options {
    Options {
        credentials: Credentials {
            given: [(host.to_owned(), credential)].into(),
            ..Credentials::default()
        },
        ..Options::default()
    }
}

fn user(password: &str) -> Credential {
    Credential::Password {
        username: USER.to_owned(),
        password: password.to_owned(),
    }
}

fn is_unauthorized(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Unauthorized { .. })
}

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_a_registry_with_passwords_lets_its_user_in() {
    let registry = RealRegistry::start(&Setup {
        htpasswd: true,
        ..Setup::default()
    });
    let (image, to) = (Image::of("a", 1), name(&registry.host, "team/app:1"));
    assert!(is_unauthorized(
        &image.push(&client(Options::default()), &to).unwrap_err()
    ));
    let wrong = client(with(&registry.host, user("wrong")));
    assert!(is_unauthorized(&image.push(&wrong, &to).unwrap_err()));
    assert!(is_unauthorized(
        &wrong.log_in(&registry.host, &user("wrong")).unwrap_err()
    ));
    let right = client(with(&registry.host, user(PASSWORD)));
    assert_eq!(right.log_in(&registry.host, &user(PASSWORD)).unwrap(), None);
    image.push(&right, &to).unwrap();
    image.pull(&right, &to).unwrap();
}

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_a_registry_with_tokens_gives_them_by_get_and_by_post() {
    for takes in [Takes::Get, Takes::Post] {
        let service = TokenService::start(takes);
        let registry = RealRegistry::start(&Setup {
            tokens: Some(service.settings()),
            ..Setup::default()
        });
        let (image, to) = (Image::of("a", 1), name(&registry.host, "team/app:1"));
        let right = client(with(&registry.host, user(PASSWORD)));
        image.push(&right, &to).unwrap();
        image.pull(&right, &to).unwrap();
        let wrong = client(Options::default()).log_in(&registry.host, &user("wrong"));
        assert!(is_unauthorized(&wrong.unwrap_err()));
        let kept = right.log_in(&registry.host, &user(PASSWORD)).unwrap();
        match takes {
            Takes::Get => {
                assert_eq!(kept, None);
                // Anybody may pull, and nobody else push.
                let anybody = client(Options::default());
                image.pull(&anybody, &to).unwrap();
                let other = Image::of("b", 1);
                other.push(&anybody, &to).unwrap_err();
            }
            Takes::Post => {
                let token = Credential::IdentityToken("refresh-me".to_owned());
                assert_eq!(kept.as_ref(), Some(&token));
                let by_token = client(with(&registry.host, token));
                Image::of("b", 1).push(&by_token, &to).unwrap();
            }
        }
    }
}

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_a_registry_with_tls_is_trusted_by_its_certificates() {
    let registry = RealRegistry::start(&Setup {
        tls: true,
        client_certificates: true,
        ..Setup::default()
    });
    let (image, to) = (Image::of("a", 1), name(&registry.host, "app:1"));
    let certs = registry.path("certs.d");
    let own = certs.join(&registry.host);
    let options = || Options {
        certificates: vec![certs.clone()],
        ..Options::default()
    };
    let is_tls = |error: &RegistryError| {
        matches!(
            error,
            RegistryError::Unreachable {
                source: TransportError::Tls(_),
                ..
            }
        )
    };
    // Nobody vouches for it.
    let error = image.push(&client(options()), &to).unwrap_err();
    assert!(is_tls(&error), "{error:?}");
    // It vouches for nobody who shows no certificate, and says so by hanging up.
    fs::create_dir_all(&own).unwrap();
    fs::copy(registry.path("ca.crt"), own.join("ca.crt")).unwrap();
    image.push(&client(options()), &to).unwrap_err();
    fs::copy(registry.path("client.crt"), own.join("me.cert")).unwrap();
    fs::copy(registry.path("server.key"), own.join("me.key")).unwrap();
    let error = image.push(&client(options()), &to).unwrap_err();
    assert!(is_tls(&error), "a key of another certificate: {error:?}");
    fs::copy(registry.path("client.key"), own.join("me.key")).unwrap();
    image.push(&client(options()), &to).unwrap();
    image.pull(&client(options()), &to).unwrap();
}

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_a_certificate_that_vouches_for_itself_is_trusted_if_it_is_kept_for_its_host() {
    for (subject, trusted) in [("IP:127.0.0.1", true), ("DNS:other.example", false)] {
        let registry = RealRegistry::start(&Setup {
            self_signed: Some(subject),
            ..Setup::default()
        });
        let (image, to) = (Image::of("a", 1), name(&registry.host, "app:1"));
        let certs = registry.path("certs.d");
        let options = || Options {
            certificates: vec![certs.clone()],
            ..Options::default()
        };
        let why = |error: RegistryError| match error {
            RegistryError::Unreachable { source, .. } => source.to_string(),
            other => panic!("{other}"),
        };
        let error = why(image.push(&client(options()), &to).unwrap_err());
        assert!(error.contains("vouches for itself"), "{error}");
        let own = certs.join(&registry.host);
        fs::create_dir_all(&own).unwrap();
        fs::copy(registry.path("server.crt"), own.join("ca.crt")).unwrap();
        let pushed = image.push(&client(options()), &to);
        if trusted {
            pushed.unwrap();
            image.pull(&client(options()), &to).unwrap();
            continue;
        }
        let told = "TLS: its certificate is not for `127.0.0.1`, but for other.example";
        assert_eq!(why(pushed.unwrap_err()), told);
    }
}

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_a_certificate_that_nobody_vouches_for_will_do_where_asked() {
    let registry = RealRegistry::start(&Setup {
        tls: true,
        ..Setup::default()
    });
    let to = name(&registry.host, "app:1");
    let image = Image::of("a", 1);
    for (tls_verify, expected) in [(None, false), (Some(true), false), (Some(false), true)] {
        let options = Options {
            tls_verify,
            ..Options::default()
        };
        let pushed = image.push(&client(options), &to);
        assert_eq!(pushed.is_ok(), expected, "{tls_verify:?} {pushed:?}");
    }
}

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_an_index_goes_there_and_skopeo_copies_it_and_back() {
    let registry = RealRegistry::start(&Setup::default());
    let client = client(Options::default());
    let (amd, arm) = (Image::of("amd", 1), Image::of("arm", 9));
    let entry = |image: &Image, architecture: &str| {
        serde_json::json!({
            "mediaType": OCI_MANIFEST, "digest": Digest::of(&image.tree.bytes).to_string(),
            "size": image.tree.bytes.len(), "platform": { "architecture": architecture, "os": "linux" },
        })
    };
    let bytes = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry(&amd, "amd64"), entry(&arm, "arm64")],
    });
    let tree = ManifestTree::index(
        OCI_INDEX,
        bytes.to_string().into_bytes(),
        [amd.tree.clone(), arm.tree.clone()],
    );
    let both = Image {
        tree: tree.clone(),
        blobs: [amd.blobs.clone(), arm.blobs.clone()].concat(),
    };
    let to = name(&registry.host, "app:1");
    let digest = client.push_tree(&to, &tree, &both).unwrap();
    assert_eq!(digest, Digest::of(&tree.bytes));
    let raw = skopeo(&[
        "inspect",
        "--raw",
        "--tls-verify=false",
        &format!("docker://{to}"),
    ]);
    assert_eq!(raw.as_bytes(), tree.bytes);

    let layout = format!("oci:{}:x", registry.path("layout").display());
    let back = name(&registry.host, "back:2");
    skopeo(&[
        "copy",
        "--all",
        "--src-tls-verify=false",
        &format!("docker://{to}"),
        &layout,
    ]);
    skopeo(&[
        "copy",
        "--all",
        "--dest-tls-verify=false",
        &layout,
        &format!("docker://{back}"),
    ]);
    assert_eq!(client.resolve(&back).unwrap().bytes, tree.bytes);
    for image in [&amd, &arm] {
        let digest = Digest::of(&image.tree.bytes);
        let by_digest = back.by_digest(digest);
        image.pull(&client, &by_digest).unwrap();
    }
    // Docker's types, as skopeo writes them.
    let docker = name(&registry.host, "docker:1");
    skopeo(&[
        "copy",
        "--format=v2s2",
        "--override-arch=arm64",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &format!("docker://{to}"),
        &format!("docker://{docker}"),
    ]);
    let resolved = client.resolve(&docker).unwrap();
    assert!(
        resolved
            .descriptor
            .media_type()
            .to_string()
            .contains("docker.distribution.manifest.v2"),
        "{:?}",
        resolved.descriptor
    );
}

/// What has to come of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Completes,
    Cut,
    TimesOut,
    Status(u16),
    WrongDigest,
    WrongSize,
}

impl Expected {
    fn is_met_by(self, outcome: &Result<(), RegistryError>) -> bool {
        match (self, outcome) {
            (Expected::Completes, Ok(())) => true,
            (Expected::Cut, Err(RegistryError::Unreachable { source, .. })) => {
                matches!(source, TransportError::Cut(_))
            }
            (Expected::TimesOut, Err(RegistryError::Unreachable { source, .. })) => {
                matches!(source, TransportError::TimedOut(_))
            }
            (Expected::Status(expected), Err(RegistryError::Status { status, .. })) => {
                expected == *status
            }
            (Expected::WrongDigest, Err(RegistryError::DigestMismatch { .. }))
            | (Expected::WrongSize, Err(RegistryError::SizeMismatch { .. })) => true,
            _ => false,
        }
    }
}

/// A registry behind a proxy, and a client that loses patience soon.
fn behind_a_proxy() -> (RealRegistry, FaultProxy, Client) {
    let registry = RealRegistry::start(&Setup::default());
    let proxy = FaultProxy::start(&registry.host);
    let client = client(Options {
        stall_timeout: Duration::from_secs(3),
        ..Options::default()
    });
    (registry, proxy, client)
}

const ALWAYS: u32 = 1000;

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_a_pull_through_faults_completes_or_fails_clearly() {
    use Expected::{Completes, Cut, Status, TimesOut, WrongDigest, WrongSize};
    let (registry, proxy, client) = behind_a_proxy();
    let image = Image::of("app", 12);
    image.push(&client, &name(&registry.host, "app:1")).unwrap();
    let from = name(&proxy.host(), "app:1");
    let elsewhere = format!("http://{}", registry.host);
    let (blob, manifest) = ("/blobs/", "/manifests/");
    for (path, fault, times, expected) in [
        (blob, Fault::CutAnswer(Some(1_000_000)), 1, Completes),
        (blob, Fault::CutAnswer(Some(1_000_000)), 5, Completes),
        (blob, Fault::CutAnswer(Some(0)), ALWAYS, Cut),
        (blob, Fault::CutAnswer(None), 2, Completes),
        (blob, Fault::CutAnswer(None), ALWAYS, Cut),
        (blob, Fault::Status(429, "retry-after: 1\r\n"), 2, Completes),
        (
            blob,
            Fault::Status(429, "retry-after: 1\r\n"),
            ALWAYS,
            Status(429),
        ),
        (blob, Fault::Status(503, ""), 2, Completes),
        (blob, Fault::Status(502, ""), ALWAYS, Status(502)),
        (blob, Fault::Drip(4096), ALWAYS, Completes),
        (blob, Fault::Corrupt, 1, WrongDigest),
        (blob, Fault::Shorter, 1, WrongSize),
        (blob, Fault::TooLong, 1, WrongSize),
        (blob, Fault::Redirect(elsewhere.clone()), ALWAYS, Completes),
        (blob, Fault::Silence, 1, Completes),
        (blob, Fault::Silence, ALWAYS, TimesOut),
        (manifest, Fault::CutAnswer(Some(10)), 1, Completes),
        (manifest, Fault::CutAnswer(None), ALWAYS, Cut),
        (manifest, Fault::Corrupt, 1, WrongDigest),
        (manifest, Fault::Shorter, 1, WrongDigest),
        (manifest, Fault::Status(500, ""), 1, Completes),
        (manifest, Fault::Redirect(elsewhere), 1, Completes),
    ] {
        let plan = Plan {
            method: "GET",
            path,
            fault,
            times,
        };
        proxy.order(Some(plan.clone()));
        let outcome = image.pull(&client, &from);
        assert!(expected.is_met_by(&outcome), "{plan:?}: {outcome:?}");
        proxy.order(None);
        image.pull(&client, &from).unwrap();
    }
}

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_a_push_through_faults_completes_or_fails_clearly() {
    use Expected::{Completes, Cut, Status, TimesOut};
    let (registry, proxy, client) = behind_a_proxy();
    let elsewhere = format!("http://{}", registry.host);
    let (uploads, manifest) = ("/blobs/uploads/", "/manifests/");
    for (index, (method, path, fault, times, expected)) in [
        ("PATCH", uploads, Fault::CutRequest(5_000_000), 1, Completes),
        ("PATCH", uploads, Fault::CutRequest(3_000_000), 3, Completes),
        ("PATCH", uploads, Fault::CutRequest(0), 1, Completes),
        ("PATCH", uploads, Fault::CutRequest(0), ALWAYS, Cut),
        ("PATCH", uploads, Fault::CutAnswer(None), 1, Completes),
        ("PATCH", uploads, Fault::Status(413, ""), 1, Completes),
        ("PATCH", uploads, Fault::Status(503, ""), 2, Completes),
        (
            "PATCH",
            uploads,
            Fault::Status(503, ""),
            ALWAYS,
            Status(503),
        ),
        (
            "PATCH",
            uploads,
            Fault::Redirect(elsewhere.clone()),
            1,
            Completes,
        ),
        ("PATCH", uploads, Fault::Silence, 1, Completes),
        ("PATCH", uploads, Fault::Silence, ALWAYS, TimesOut),
        ("PUT", uploads, Fault::CutAnswer(None), 2, Completes),
        ("PUT", uploads, Fault::CutRequest(20), 1, Completes),
        ("PUT", uploads, Fault::Status(500, ""), 2, Completes),
        (
            "POST",
            uploads,
            Fault::Status(429, "retry-after: 1\r\n"),
            1,
            Completes,
        ),
        ("POST", uploads, Fault::Status(429, ""), ALWAYS, Status(429)),
        ("POST", uploads, Fault::CutAnswer(None), 1, Completes),
        ("HEAD", "/blobs/", Fault::Status(500, ""), 1, Completes),
        (
            "HEAD",
            "/blobs/",
            Fault::Status(500, ""),
            ALWAYS,
            Status(500),
        ),
        ("PUT", manifest, Fault::CutAnswer(None), 1, Completes),
        ("PUT", manifest, Fault::Status(503, ""), 1, Completes),
        ("PUT", manifest, Fault::Status(503, ""), ALWAYS, Status(503)),
    ]
    .into_iter()
    .enumerate()
    {
        let image = Image::of(&format!("app{index}"), 12);
        let to = name(&proxy.host(), &format!("app{index}:1"));
        let plan = Plan {
            method,
            path,
            fault,
            times,
        };
        proxy.order(Some(plan.clone()));
        let outcome = image.push(&client, &to).map(drop);
        assert!(expected.is_met_by(&outcome), "{plan:?}: {outcome:?}");
        proxy.order(None);
        image.push(&client, &to).unwrap();
        let direct = name(&registry.host, &format!("app{index}:1"));
        image.pull(&client, &direct).unwrap();
    }
}

#[test]
#[ignore = "network tier: run by `cargo xtask test`"]
fn network_an_upload_that_the_registry_gave_up_is_begun_anew() {
    let (_registry, proxy, client) = behind_a_proxy();
    proxy.order(Some(Plan {
        method: "PATCH",
        path: "/blobs/uploads/",
        fault: Fault::CutRequest(5_000_000),
        times: 1,
    }));
    let image = Image::of("app", 12);
    image.push(&client, &name(&proxy.host(), "app:1")).unwrap();
    let last = image.blobs[1].len() - 1;
    let sent = proxy.content_ranges();
    // docker-registry 2.8 drops an upload that has more bytes than its last answer said; others go on where it was cut.
    assert_eq!(sent, [format!("0-{last}"), format!("0-{last}")]);
    // What the registry has is not sent again.
    image.push(&client, &name(&proxy.host(), "app:2")).unwrap();
    assert_eq!(proxy.content_ranges(), sent);
}
