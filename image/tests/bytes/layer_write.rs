//! Layers as they are written: R-LAY-1 to R-LAY-13, seen through another tar reader.

use std::io::{self, Read};

use crate::fixture::*;
use kiln_image::contents::{Contents, NoContents, Opened};
use kiln_image::scan::Draft;
use kiln_image::tar::{TarContents, WriteError, write_draft, write_layer};
use kiln_image::{Change, Changeset, Digest, ImagePath, Kind, Node, Timestamp};
use tar::EntryType;

#[test]
fn no_change_is_the_empty_tar() {
    // R-LAY-12
    let mut bytes = Vec::new();
    let summary = write_layer(&Changeset::new(), &NoContents, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 1024]);
    let expected = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    assert_eq!(summary.diff_id.to_string(), expected);
    assert_eq!(summary.size, 1024);
}

#[test]
fn entries_are_ordered_and_named_as_layers_are() {
    // R-LAY-1: relative names, directories end with a slash, no root. R-LAY-2: the table's last row but one.
    let changes = changeset(&[
        ("", directory()),
        ("w", directory()),
        ("w/.a", file(b"")),
        ("w/.x", Change::Remove),
        ("w/.z", file(b"")),
        ("w/a", file(b"")),
        ("w/b", Change::Remove),
        ("w/c", directory()),
        ("w/c/d", file(b"")),
        ("w/c-d", file(b"")),
    ]);
    let (bytes, _) = written(&changes, &Files::new());
    let expected = [
        "w/", "w/.a", "w/.wh..x", "w/.z", "w/a", "w/.wh.b", "w/c/", "w/c/d", "w/c-d",
    ];
    assert_eq!(names(&bytes), expected);
}

#[test]
fn a_whiteout_is_an_empty_file_of_nobody() {
    // R-LAY-3
    let (bytes, _) = written(&changeset(&[("gone", Change::Remove)]), &Files::new());
    let mut archive = tar::Archive::new(&bytes[..]);
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    let header = entry.header();
    assert_eq!(&*entry.path_bytes(), b".wh.gone");
    assert_eq!(header.entry_type(), EntryType::Regular);
    let fields = [
        header.mode().unwrap().into(),
        header.size().unwrap(),
        header.mtime().unwrap(),
    ];
    assert_eq!(fields, [0, 0, 0]);
    assert_eq!([header.uid().unwrap(), header.gid().unwrap()], [0, 0]);
}

#[test]
fn opaque_directories_must_be_said_name_by_name() {
    // R-LAY-4: `.wh..wh..opq` is never written.
    let node = Node::directory(metadata(0o755));
    let changes = changeset(&[("d", Change::Opaque(node))]);
    let error = write_layer(&changes, &NoContents, io::sink()).unwrap_err();
    assert!(matches!(error, WriteError::Opaque { path } if path.to_string() == "d"));
}

#[test]
fn headers_are_plain_ustar_without_names_of_users() {
    // R-LAY-8: whole seconds, no user or group name, no PAX where ustar will do.
    let mut node = file(b"content").node().unwrap().clone();
    node.metadata.mtime = Timestamp {
        secs: 1_600_000_000,
        nanos: 999_999_999,
    };
    (node.metadata.uid, node.metadata.gid, node.metadata.mode) = (1000, 2_097_151, 0o6755);
    let long = format!("{}/{}", "d".repeat(155), "f".repeat(100));
    let changes = changeset(&[("a", Change::Put(node.clone())), (&long, Change::Put(node))]);
    let contents = files(&[("a", b"content"), (&long, b"content")]);
    let (bytes, _) = written(&changes, &contents);
    assert_eq!(bytes.len(), 2 * (512 + 512) + 1024, "no PAX header");
    assert_eq!(names(&bytes), ["a", &long]);
    let header = tar::Header::from_byte_slice(&bytes[..512]);
    assert_eq!(&bytes[257..265], b"ustar\x0000");
    assert_eq!(header.username_bytes(), Some(&b""[..]));
    assert_eq!(header.groupname_bytes(), Some(&b""[..]));
    assert_eq!(header.mtime().unwrap(), 1_600_000_000);
    assert_eq!(header.mode().unwrap(), 0o6755);
    assert_eq!(
        (header.uid().unwrap(), header.gid().unwrap()),
        (1000, 2_097_151)
    );
}

#[test]
fn pax_records_say_what_ustar_cannot() {
    // R-LAY-8
    let mut node = file(b"").node().unwrap().clone();
    node.metadata.uid = 4_000_000;
    node.metadata.mtime = Timestamp::from_secs(-5);
    let long = "n".repeat(101);
    let target = "t".repeat(101);
    let changes = changeset(&[
        ("grüße", file(b"")),
        (&long, symlink(&target)),
        ("ids", Change::Put(node)),
    ]);
    let (bytes, _) = written(&changes, &Files::new());
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut said: Vec<Vec<String>> = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let records = entry.pax_extensions().unwrap().unwrap();
        said.push(
            records
                .map(|record| String::from_utf8_lossy(record.unwrap().key_bytes()).into_owned())
                .collect(),
        );
    }
    let expected: [Vec<String>; 3] = [
        vec!["path".into()],
        vec!["mtime".into(), "uid".into()],
        vec!["linkpath".into(), "path".into()],
    ];
    assert_eq!(names(&bytes), ["grüße", "ids", &long]);
    // Order of a layer: `g`, `i`, `n`.
    assert_eq!(said, expected);
    assert_eq!(read(&bytes).unwrap(), changes);
}

#[test]
fn capabilities_are_the_only_attributes() {
    // R-LAY-9
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut node = file(b"").node().unwrap().clone();
    node.metadata
        .xattrs
        .insert(b"security.capability".to_vec(), capability.to_vec());
    node.metadata
        .xattrs
        .insert(b"user.note".to_vec(), b"x".to_vec());
    let (bytes, _) = written(&changeset(&[("ping", Change::Put(node))]), &Files::new());
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let records: Vec<(String, Vec<u8>)> = (entry.pax_extensions().unwrap().unwrap())
        .map(|record| record.unwrap())
        .map(|record| {
            (
                record.key().unwrap().to_owned(),
                record.value_bytes().to_vec(),
            )
        })
        .collect();
    assert_eq!(
        records,
        [(
            "SCHILY.xattr.security.capability".to_owned(),
            capability.to_vec()
        )]
    );
}

#[test]
fn the_first_of_hard_links_is_the_file() {
    // R-LAY-10
    let changes = changeset(&[
        ("a", linked(b"one", 7)),
        ("d", directory()),
        ("d/b", linked(b"one", 7)),
        ("e", file(b"one")),
        ("l", with_link(symlink("a"), 8)),
        ("m", with_link(symlink("a"), 8)),
    ]);
    let contents = files(&[("a", b"one"), ("e", b"one")]);
    let (bytes, _) = written(&changes, &contents);
    let mut archive = tar::Archive::new(&bytes[..]);
    let entries: Vec<(EntryType, Option<Vec<u8>>, u64)> = (archive.entries().unwrap())
        .map(|entry| {
            let entry = entry.unwrap();
            let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
            (entry.header().entry_type(), link, entry.size())
        })
        .collect();
    let expected = [
        (EntryType::Regular, None, 3),
        (EntryType::Directory, None, 0),
        (EntryType::Link, Some(b"a".to_vec()), 0),
        (EntryType::Regular, None, 3),
        (EntryType::Symlink, Some(b"a".to_vec()), 0),
        (EntryType::Link, Some(b"l".to_vec()), 0),
    ];
    assert_eq!(entries, expected);
}

#[test]
fn special_files_are_kept_and_sockets_are_not() {
    // R-LAY-11
    let special = |kind| Change::Put(Node::new(metadata(0o600), kind));
    let changes = changeset(&[
        (
            "block",
            special(Kind::BlockDevice {
                major: 8,
                minor: 300,
            }),
        ),
        ("char", special(Kind::CharDevice { major: 1, minor: 3 })),
        ("fifo", special(Kind::Fifo)),
        ("link", symlink("/else/where")),
        ("socket", special(Kind::Socket)),
    ]);
    let (bytes, _) = written(&changes, &Files::new());
    assert_eq!(names(&bytes), ["block", "char", "fifo", "link"]);
    let mut archive = tar::Archive::new(&bytes[..]);
    let modes: Vec<u32> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().header().mode().unwrap())
        .collect();
    assert_eq!(modes, [0o600, 0o600, 0o600, 0o777]);
    let block = tar::Header::from_byte_slice(&bytes[..512]);
    assert_eq!(
        (block.device_major().unwrap(), block.device_minor().unwrap()),
        (Some(8), Some(300))
    );
}

#[test]
fn a_file_named_like_a_whiteout_keeps_its_name() {
    // R-LAY-13
    let (bytes, _) = written(&changeset(&[(".wh.x", file(b""))]), &Files::new());
    assert_eq!(names(&bytes), [".wh.x"]);
    assert_eq!(read(&bytes).unwrap(), changeset(&[("x", Change::Remove)]));
}

#[test]
fn a_file_that_changed_is_noticed() {
    let changes = changeset(&[("f", file(b"expected"))]);
    for (content, found) in [
        (&b"exp"[..], "3 bytes"),
        (b"", "0 bytes"),
        (b"expected and more", "at least 17 bytes"),
        (b"EXPECTED", "sha256:"),
    ] {
        let error = write_layer(&changes, &files(&[("f", content)]), io::sink()).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("`f` changed while it was read"),
            "{message}"
        );
        assert!(message.contains(&format!("found {found}")), "{message}");
    }
    let error = write_layer(&changes, &NoContents, io::sink()).unwrap_err();
    assert_eq!(error.to_string(), "could not read `f`");
}

/// Counts how often each file is opened.
struct Counting(Files, std::sync::Mutex<Vec<String>>);

impl Contents for Counting {
    fn open(&self, path: &ImagePath, node: &Node) -> io::Result<Box<dyn Read + '_>> {
        self.1.lock().unwrap().push(path.to_string());
        self.0.open(path, node)
    }
}

fn without_digest((path, mut change): (ImagePath, Change)) -> (ImagePath, Change) {
    if let Change::Put(Node {
        kind: Kind::File { digest, .. },
        ..
    }) = &mut change
    {
        *digest = Digest::from_bytes([0; 32]);
    }
    (path, change)
}

#[test]
fn a_draft_gets_its_digests_in_one_reading() {
    let known = changeset(&[
        ("a", linked(b"one", 0)),
        ("b", linked(b"one", 0)),
        ("c", file(b"three")),
        ("d", symlink("c")),
        ("e", Change::Remove),
        ("empty", file(b"")),
    ]);
    let contents = files(&[("a", b"one"), ("c", b"three")]);
    let draft: Draft = known.clone().into_iter().map(without_digest).collect();
    let counting = Counting(contents.clone(), std::sync::Mutex::default());
    let mut bytes = Vec::new();
    let (changes, summary) = write_draft(draft, &counting, &mut bytes).unwrap();
    assert_eq!(changes, known);
    assert_eq!((bytes, summary), written(&known, &contents));
    assert_eq!(*counting.1.lock().unwrap(), ["a", "c"]);
}

/// Enough for several threads: many small files, one that takes several chunks, links across runs.
fn large() -> (Changeset, Files) {
    let mut changes = vec![("d".to_owned(), directory())];
    let mut contents = Vec::new();
    for number in 0..3000_usize {
        let content = vec![number as u8; 1 + (number * 37) % 2500];
        let name = format!("d/{number:04}");
        changes.push((name.clone(), file(&content)));
        contents.push((name, content));
    }
    let big: Vec<u8> = (0..(3 << 20) + 17)
        .map(|at: usize| (at / 251) as u8)
        .collect();
    changes.push(("d/a-first".to_owned(), linked(&big, 0)));
    changes.push(("e-second".to_owned(), linked(&big, 0)));
    contents.push(("d/a-first".to_owned(), big));
    let changes = changes
        .iter()
        .map(|(name, change)| (path(name), change.clone()));
    let contents = contents
        .into_iter()
        .map(|(name, content)| (path(&name), content));
    (changes.collect(), contents.collect())
}

#[test]
fn a_large_layer_is_in_order_and_whole() {
    // R-LAY-2
    let (changes, contents) = large();
    let (bytes, _) = written(&changes, &contents);
    assert_eq!(names(&bytes).len(), changes.len());
    assert!(read(&bytes).unwrap() == changes);
    let draft: Draft = changes.clone().into_iter().map(without_digest).collect();
    let mut again = Vec::new();
    let (found, _) = write_draft(draft, &contents, &mut again).unwrap();
    assert!(found == changes && again == bytes);
}

#[test]
fn files_are_found_in_the_tar_that_was_made_of_their_layer() {
    let (mut changes, contents) = large();
    changes.insert(path("w"), Change::Remove);
    changes.insert(path(&"n".repeat(300)), file(b""));
    let (bytes, _) = written(&changes, &contents);
    let stored = |bytes: &[u8]| {
        let mut tar = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut tar, bytes).unwrap();
        tar
    };
    let found = TarContents::of(stored(&bytes), &changes).unwrap().unwrap();
    for name in ["d/0000", "d/2999", "d/a-first", "e-second"] {
        let node = changes.get(&path(name)).unwrap().node().unwrap();
        let mut content = Vec::new();
        let mut reader = found.open(&path(name), node).unwrap();
        reader.read_to_end(&mut content).unwrap();
        assert!(Digest::of(&content) == digest_of(node), "{name}");
    }
    let (again, _) = written_from(&changes, &found);
    assert!(again == bytes);
    // Another layer's tar, one cut short, one that goes on.
    changes.insert(path("d"), Change::Put(Node::directory(metadata(0o700))));
    assert!(TarContents::of(stored(&bytes), &changes).unwrap().is_none());
    changes.insert(path("d"), directory());
    for other in [
        &bytes[..bytes.len() - 512],
        &[&bytes[..], &[0; 512]].concat(),
    ] {
        assert!(TarContents::of(stored(other), &changes).unwrap().is_none());
    }
}

fn digest_of(node: &Node) -> Digest {
    match node.kind {
        Kind::File { digest, .. } => digest,
        _ => unreachable!("it is a file"),
    }
}

#[test]
fn the_first_file_of_a_large_layer_that_changed_is_told() {
    let (changes, mut contents) = large();
    for (name, more) in [("d/0100", 1), ("d/0500", 0), ("d/a-first", 9)] {
        let content = contents.get_mut(&path(name)).unwrap();
        content.push(0);
        content.truncate(content.len() + more - 1);
    }
    let last = contents.remove(&path("d/2999"));
    let error = write_layer(&changes, &contents, io::sink()).unwrap_err();
    assert!(last.is_some());
    assert!(
        matches!(&error, WriteError::ContentChanged { path, .. } if path.to_string() == "d/0100"),
        "{error}"
    );
}

#[test]
fn a_large_layer_that_nobody_takes_ends() {
    struct Full(usize);
    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (changes, contents) = large();
    for room in [0, 1 << 20, 5 << 20] {
        let error = write_layer(&changes, &contents, Full(room)).unwrap_err();
        assert!(matches!(error, WriteError::Output(_)), "{error}");
    }
}

/// Vouches for what it opens.
struct Vouching(Files);

impl Contents for Vouching {
    fn open(&self, path: &ImagePath, node: &Node) -> io::Result<Box<dyn Read + '_>> {
        self.0.open(path, node)
    }

    fn open_vouched(&self, path: &ImagePath, node: &Node) -> io::Result<Opened<'_>> {
        Ok(Opened {
            content: self.open(path, node)?,
            is_vouched: true,
        })
    }
}

#[test]
fn what_somebody_vouches_for_is_hashed_only_if_its_digest_is_wanted() {
    let changes = changeset(&[("f", file(b"known"))]);
    let contents = Vouching(files(&[("f", b"other")]));
    assert!(write_layer(&changes, &contents, io::sink()).is_ok());
    let draft = changes.into_iter().map(without_digest).collect();
    let (found, _) = write_draft(draft, &contents, io::sink()).unwrap();
    assert_eq!(found, changeset(&[("f", file(b"other"))]));
    let longer = Vouching(files(&[("f", b"longer")]));
    assert!(write_layer(&found, &longer, io::sink()).is_err());
}

#[test]
fn the_bytes_of_a_layer_are_pinned() {
    let changes = changeset(&[
        ("bin", directory()),
        ("bin/tool", linked(b"#!/bin/sh\n", 0)),
        ("bin/tool-2", linked(b"#!/bin/sh\n", 0)),
        ("etc", directory()),
        ("etc/motd", Change::Remove),
        ("größe", file(b"5")),
        ("tmp", symlink("var/tmp")),
    ]);
    let (_, summary) = written(
        &changes,
        &files(&[("bin/tool", b"#!/bin/sh\n"), ("größe", b"5")]),
    );
    let expected = "sha256:d16b42f8904c877af5f1fd37a4346c10df89d10e5f2e4239333b7964fda4af09";
    assert_eq!(summary.diff_id.to_string(), expected);
}
