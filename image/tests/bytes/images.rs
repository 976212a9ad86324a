//! Layouts and archives, as folders and tars.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kiln_image::archive::{Archive, DockerEntry, docker_manifest_json, spool};
use kiln_image::compress::{Compression, encoder};
use kiln_image::layout::{
    Blob, IndexEntry, Layout, LayoutContent, LayoutError, blob_name, index_json, write_directory,
    write_tar,
};
use kiln_image::{Descriptor, Digest, Manifest, Platform, Reference, media_type};
use tar::EntryType;

use crate::fixture::*;

const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux"}"#;
const LAYER: &[u8] = &[0; 1024];

fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type.into(), bytes.len() as u64, Digest::of(bytes))
}

fn manifest() -> Vec<u8> {
    let config = descriptor(media_type::OCI_CONFIG, CONFIG);
    let layer = descriptor(media_type::OCI_LAYER, LAYER);
    let none = std::collections::BTreeMap::new();
    kiln_image::manifest::manifest_json(&config, &[layer.clone(), layer], Default::default(), &none)
        .unwrap()
}

fn entry(manifest: &[u8], names: &[&str]) -> IndexEntry {
    IndexEntry {
        descriptor: descriptor(media_type::OCI_MANIFEST, manifest),
        platform: Some(Platform::new("linux", "arm64", Some("v8"))),
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        created: Some("2023-11-14T22:13:20Z".to_owned()),
        annotations: std::collections::BTreeMap::new(),
    }
}

fn content<'a>(manifest: &'a [u8], names: &[&str]) -> LayoutContent<'a> {
    let names: Vec<Reference> = names.iter().map(|name| name.parse().unwrap()).collect();
    let layer = Digest::of(LAYER);
    let docker = DockerEntry {
        config: Digest::of(CONFIG),
        names: names.clone(),
        layers: vec![layer, layer],
    };
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    LayoutContent {
        index: index_json(&[entry(manifest, &names)]).unwrap(),
        docker_manifest: Some(docker_manifest_json(&[docker]).unwrap()),
        blobs: [LAYER, CONFIG, manifest, LAYER]
            .map(Blob::of_bytes)
            .into_iter()
            .collect(),
        mtime: 1_700_000_000,
    }
}

/// Everything that can be read from an image in a layout.
fn check(layout: &Layout) {
    let (found, name) = layout.images().remove(0);
    assert_eq!(name.unwrap().to_string(), "docker.io/library/app:1");
    let (bytes, parsed) = layout.manifest(&found).unwrap();
    assert_eq!(bytes, manifest());
    let Manifest::Image(image) = parsed else {
        panic!("an image")
    };
    assert_eq!(layout.read_blob(image.config()).unwrap(), CONFIG);
    let mut layer = Vec::new();
    layout
        .open_blob(&image.layers()[0])
        .unwrap()
        .read_to_end(&mut layer)
        .unwrap();
    assert_eq!(layer, LAYER);
}

#[test]
fn an_index_names_its_images() {
    // R-EXPORT-3
    let manifest = manifest();
    let index = index_json(&[entry(&manifest, &["app:1", "127.0.0.1:5000/team/app:2"])]).unwrap();
    let digest = Digest::of(&manifest);
    let size = manifest.len();
    let one = |name: &str, tag: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{size},"annotations":{{"io.containerd.image.name":"{name}","org.opencontainers.image.created":"2023-11-14T22:13:20Z","org.opencontainers.image.ref.name":"{tag}"}},"platform":{{"architecture":"arm64","os":"linux"}}}}"#
        )
    };
    let expected = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{},{}]}}"#,
        one("docker.io/library/app:1", "1"),
        one("127.0.0.1:5000/team/app:2", "2"),
    );
    assert_eq!(String::from_utf8(index).unwrap(), expected);

    let unnamed = String::from_utf8(index_json(&[entry(&manifest, &[])]).unwrap()).unwrap();
    assert!(
        unnamed.contains(
            r#""annotations":{"org.opencontainers.image.created":"2023-11-14T22:13:20Z"}"#
        )
    );
}

#[test]
fn a_docker_manifest_has_familiar_names() {
    // R-EXPORT-1
    let digest = Digest::of(b"");
    let names = vec![
        "app:1".parse().unwrap(),
        "127.0.0.1:5000/app:2".parse().unwrap(),
    ];
    let json = docker_manifest_json(&[DockerEntry {
        config: digest,
        names,
        layers: vec![digest],
    }])
    .unwrap();
    let blob = blob_name(&digest);
    let expected = format!(
        r#"[{{"Config":"{blob}","RepoTags":["app:1","127.0.0.1:5000/app:2"],"Layers":["{blob}"]}}]"#
    );
    assert_eq!(String::from_utf8(json).unwrap(), expected);
}

#[test]
fn a_tar_has_its_members_sorted_and_dated() {
    // R-EXPORT-2
    let manifest = manifest();
    let bytes = write_tar(&content(&manifest, &["app:1"]), Vec::new()).unwrap();
    let mut expected = [LAYER, CONFIG, &manifest].map(|blob| blob_name(&Digest::of(blob)));
    expected.sort();
    let [first, second, third] = &expected;
    let names = names(&bytes);
    let rest = ["index.json", "manifest.json", "oci-layout"];
    assert_eq!(
        names,
        [
            &["blobs/", "blobs/sha256/", first, second, third][..],
            &rest
        ]
        .concat()
    );
    let mut archive = tar::Archive::new(&bytes[..]);
    for member in archive.entries().unwrap() {
        let header = member.unwrap().header().clone();
        let name = header.path_bytes().into_owned();
        let mode = match (header.entry_type(), name.starts_with(b"blobs/")) {
            (EntryType::Directory, _) => 0o755,
            (_, true) => 0o444,
            (_, false) => 0o644,
        };
        assert_eq!(
            (header.mode().unwrap(), header.mtime().unwrap()),
            (mode, 1_700_000_000)
        );
    }
    assert_eq!(
        write_tar(&content(&manifest, &["app:1"]), Vec::new()).unwrap(),
        bytes
    );
}

#[test]
fn a_layout_is_read_from_either_form() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = manifest();
    let content = content(&manifest, &["app:1"]);
    let (tar, folder) = (dir.path().join("image.tar"), dir.path().join("image"));
    write_tar(&content, File::create(&tar).unwrap()).unwrap();
    write_directory(&content, &folder).unwrap();
    // Writing again over what is there is no problem.
    write_directory(&content, &folder).unwrap();
    check(&Layout::open(&tar).unwrap());
    check(&Layout::open(&folder).unwrap());
    let modes = |name: &str| {
        fs::metadata(folder.join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(
        [modes(&blob_name(&Digest::of(LAYER))), modes("index.json")],
        [0o444, 0o644]
    );
    for archive in [&tar, &folder] {
        assert!(matches!(
            Archive::open(archive).unwrap(),
            Archive::Layout(_)
        ));
    }
}

#[test]
fn a_blob_that_is_not_what_it_should_be_is_refused() {
    let manifest = manifest();
    let wrong = |bytes: &'static [u8]| {
        let open = move || -> std::io::Result<Box<dyn Read + Send>> { Ok(Box::new(bytes)) };
        let blob = Blob {
            digest: Digest::of(LAYER),
            size: 1024,
            is_vouched: false,
            open: Box::new(open),
        };
        LayoutContent {
            blobs: vec![blob],
            ..content(&manifest, &["app:1"])
        }
    };
    let dir = tempfile::tempdir().unwrap();
    for bytes in [&b"short"[..], &[1; 1024], &[0; 1025]] {
        for error in [
            write_tar(&wrong(bytes), std::io::sink()).unwrap_err(),
            write_directory(&wrong(bytes), dir.path()).unwrap_err(),
        ] {
            let damaged = matches!(
                error,
                LayoutError::Mismatch { .. } | LayoutError::Length { .. }
            );
            assert!(damaged, "{error:?}");
        }
    }
    assert!(!dir.path().join("index.json").exists());
    assert_eq!(
        fs::read_dir(dir.path().join("blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_damaged_layout_is_refused_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = manifest();
    write_directory(&content(&manifest, &["app:1"]), dir.path()).unwrap();
    let replace = |bytes: &[u8], other: &[u8]| {
        let path = dir.path().join(blob_name(&Digest::of(bytes)));
        fs::remove_file(&path).unwrap();
        fs::write(path, other).unwrap();
    };
    replace(CONFIG, &[b' '; CONFIG.len()]);
    replace(LAYER, &[0; 1000]);
    let layout = Layout::open(dir.path()).unwrap();
    let config = layout
        .read_blob(&descriptor(media_type::OCI_CONFIG, CONFIG))
        .unwrap_err();
    assert!(matches!(config, LayoutError::Mismatch { .. }));
    let mut layer = layout
        .open_blob(&descriptor(media_type::OCI_LAYER, LAYER))
        .unwrap();
    let error = layer.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(
        error.to_string().contains("it has 1000 bytes, not 1024"),
        "{error}"
    );
    let absent = layout
        .read_blob(&descriptor(media_type::OCI_CONFIG, b"absent"))
        .unwrap_err();
    assert!(matches!(absent, LayoutError::Missing { .. }));
}

#[test]
fn an_archive_of_the_old_form_is_read() {
    let id = "0a".repeat(32);
    let manifest = format!(
        r#"[{{"Config":"{id}.json","RepoTags":["app:1","not A reference"],"Layers":["one/layer.tar","two/layer.tar"]}},{{"Config":"{id}.json","RepoTags":null,"Layers":null}}]"#
    );
    let bytes = tar_of(&[
        plain(&format!("{id}.json"), CONFIG),
        dir("one"),
        plain("one/VERSION", b"1.0"),
        plain("one/layer.tar", LAYER),
        link_to("two/layer.tar", EntryType::Symlink, "../one/layer.tar"),
        plain("manifest.json", manifest.as_bytes()),
    ]);
    // `docker save | gzip` is common: it is spooled to a file first.
    let mut gzip = encoder(Compression::default(), Vec::new()).unwrap();
    gzip.write_all(&bytes).unwrap();
    let gzip = gzip.finish().unwrap();
    let file = tempfile::tempfile().unwrap();
    assert_eq!(spool(&gzip[..], &file).unwrap(), bytes.len() as u64);
    let Archive::Docker(archive) = Archive::from_file(file).unwrap() else {
        panic!("the old form")
    };
    let [image, other] = archive.images() else {
        panic!("two images")
    };
    assert_eq!(image.names(), ["app:1".parse().unwrap()]);
    assert_eq!(archive.config(image).unwrap(), CONFIG);
    assert_eq!((image.layer_count(), other.layer_count()), (2, 0));
    for index in 0..2 {
        let mut layer = Vec::new();
        archive
            .layer(image, index)
            .unwrap()
            .read_to_end(&mut layer)
            .unwrap();
        assert_eq!(layer, LAYER);
    }
    assert!(archive.layer(image, 2).is_err());
}

#[test]
fn what_is_no_image_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let write = |bytes: &[u8]| {
        let path = dir.path().join("archive");
        fs::write(&path, bytes).unwrap();
        path
    };
    let open = |path: &Path| Archive::open(path).unwrap_err();
    assert!(matches!(
        open(&dir.path().join("absent")),
        LayoutError::Open { .. }
    ));
    assert!(matches!(open(dir.path()), LayoutError::NoImage));
    assert!(matches!(open(&write(b"")), LayoutError::NoImage));
    assert!(matches!(open(&write(&[b'x'; 4096])), LayoutError::Tar(_)));
    assert!(matches!(
        open(&write(&[0x1f, 0x8b, 8, 0])),
        LayoutError::Compressed
    ));
    let json = tar_of(&[plain("manifest.json", b"{}")]);
    assert!(matches!(open(&write(&json)), LayoutError::Json { .. }));
    let version = [
        plain("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#),
        plain("index.json", b"{}"),
    ];
    assert!(matches!(
        open(&write(&tar_of(&version))),
        LayoutError::Version { .. }
    ));
    let circle = [
        link_to("manifest.json", EntryType::Symlink, "other"),
        link_to("other", EntryType::Symlink, "manifest.json"),
    ];
    assert!(matches!(
        open(&write(&tar_of(&circle))),
        LayoutError::NoImage
    ));
    let mut cut = plain("manifest.json", b"").header();
    cut.set_size(1 << 33);
    cut.set_cksum();
    assert!(matches!(open(&write(cut.as_bytes())), LayoutError::Tar(_)));
    let escape = tar_of(&[plain("../manifest.json", b"[]")]);
    assert!(matches!(open(&write(&escape)), LayoutError::Tar(_)));
}
