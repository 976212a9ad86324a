//! Directories read as changesets.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink as symlink_at};
use std::os::unix::net::UnixListener;
use std::path::Path;

use kiln_image::contents::DirContents;
use kiln_image::record::XATTR;
use kiln_image::scan::{Owners, scan, scan_directory, scan_owned, scan_upper};
use kiln_image::tar::{UnpackOptions, Whiteouts, apply_changeset, write_draft};
use kiln_image::{Change, Changeset, Kind, Metadata, Node, Timestamp, Tree};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use crate::fixture::*;

fn mark(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn node_at(changes: &kiln_image::Changeset, name: &str) -> Node {
    changes.get(&path(name)).unwrap().node().unwrap().clone()
}

#[test]
fn recorded_devices_are_told_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("d")).unwrap();
    for name in ["null", "d/in", "owned"] {
        fs::write(at(name), "").unwrap();
    }
    mark(&at("null"), XATTR, b"0 0 c 1 3");
    mark(&at("d"), XATTR, b"7 7 b 8 0"); // by a program that plays with it
    mark(&at("owned"), XATTR, b"5 6");

    let read = |owners| scan_upper(dir.path(), &owners).unwrap();
    let null = Kind::CharDevice { major: 1, minor: 3 };
    let owner = |node: &Node| (node.metadata.uid, node.metadata.gid);
    for owners in [Owners::Mapped, Owners::Recorded(HashMap::new())] {
        let recorded = owners != Owners::Mapped;
        let draft = read(owners);
        let node = |name: &str| draft.get(&path(name)).unwrap().node().unwrap().clone();
        assert_eq!(node("null").kind, null);
        assert!(node("null").metadata.xattrs.is_empty());
        assert!(node("d").is_directory() && !node("d/in").is_directory());
        assert_eq!(owner(&node("owned")) == (5, 6), recorded);
    }
    let draft = read(Owners::Own);
    let plain = draft.get(&path("null")).unwrap().node().unwrap();
    assert!(matches!(plain.kind, Kind::File { .. }));
}

#[test]
fn access_lists_that_name_others_are_recorded_and_read_back() {
    let list = |mask: u8| -> Vec<u8> {
        let entries = [(1, 6, u32::MAX), (2, 7, 70_000), (4, 4, u32::MAX)];
        let rest = [(16, mask, u32::MAX), (32, 0, u32::MAX)];
        let entry = |(tag, rights, id): (u8, u8, u32)| {
            [&[tag, 0, rights, 0][..], &id.to_le_bytes()].concat()
        };
        let entries = entries.into_iter().chain(rest).flat_map(entry);
        [2, 0, 0, 0].into_iter().chain(entries).collect()
    };
    let (access, default) = ("system.posix_acl_access", "system.posix_acl_default");
    let node = Node::directory(Metadata {
        mode: 0o670,
        uid: 0,
        gid: 0,
        mtime: Timestamp { secs: 1, nanos: 0 },
        xattrs: [access, default].map(|name| (name.into(), list(7))).into(),
    });
    let changes: Changeset = [(path("d"), Change::Put(node.clone()))]
        .into_iter()
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let options = UnpackOptions::recorded(Whiteouts::Ignore);
    let contents = DirContents::open(dir.path()).unwrap();
    apply_changeset(&changes, &contents, dir.path(), &options).unwrap();

    let read = || {
        let draft = scan_owned(dir.path(), &Owners::Recorded(HashMap::new())).unwrap();
        let read = draft.get(&path("d")).unwrap().node().unwrap().clone();
        read.metadata
    };
    assert_eq!(read().xattrs, node.metadata.xattrs);
    // The kernel, which knows of no list, changes the mode alone.
    fs::set_permissions(dir.path().join("d"), fs::Permissions::from_mode(0o640)).unwrap();
    let changed = read();
    assert_eq!(changed.xattrs.get(access.as_bytes()), Some(&list(4)));
    assert_eq!(changed.xattrs.get(default.as_bytes()), Some(&list(7)));
    // In other forms of a store they mean nothing.
    let draft = scan_owned(dir.path(), &Owners::Mapped).unwrap();
    let plain = draft.get(&path("d")).unwrap().node().unwrap();
    assert!(plain.metadata.xattrs.is_empty());
}

#[test]
fn a_plain_directory_is_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("d/e")).unwrap();
    fs::write(at("d/file"), "content").unwrap();
    fs::hard_link(at("d/file"), at("also")).unwrap();
    fs::write(at("empty"), "").unwrap();
    symlink_at("/etc/passwd", at("link")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    mark(&at("d"), "user.note", b"kept");
    mark(&at("d"), "user.overlay.opaque", b"y");

    let changes = scan(dir.path()).unwrap();
    let names: Vec<String> = changes.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(
        names,
        [
            "", "also", "d", "d/e", "d/file", "empty", "fifo", "link", "socket"
        ]
    );
    assert_eq!(
        node_at(&changes, "d/file").kind,
        linked(b"content", 0).node().unwrap().kind
    );
    assert_eq!(
        node_at(&changes, "also").kind,
        node_at(&changes, "d/file").kind
    );
    assert_eq!(
        node_at(&changes, "empty").kind,
        file(b"").node().unwrap().kind
    );
    assert_eq!(
        node_at(&changes, "link").kind,
        Kind::Symlink {
            target: b"/etc/passwd".to_vec()
        }
    );
    assert_eq!(node_at(&changes, "socket").kind, Kind::Socket);
    assert_eq!(node_at(&changes, "fifo").kind, Kind::Fifo);
    let notes = node_at(&changes, "d").metadata.xattrs;
    assert_eq!(
        notes.into_iter().collect::<Vec<_>>(),
        [(b"user.note".to_vec(), b"kept".to_vec())]
    );
    assert!(
        matches!(changes.get(&path("d")), Some(Change::Put(_))),
        "no overlay, no marks"
    );
}

#[test]
fn an_upper_directory_says_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["opaque", "merged", "xattr-style"] {
        fs::create_dir(at(name)).unwrap();
    }
    mark(&at("opaque"), "user.overlay.opaque", b"y");
    mark(&at("xattr-style"), "user.overlay.opaque", b"x");
    mark(&at("merged"), "user.overlay.impure", b"y");
    fs::write(at("xattr-style/gone"), "").unwrap();
    mark(&at("xattr-style/gone"), "user.overlay.whiteout", b"");
    fs::write(at("merged/new"), "1").unwrap();
    mark(&at("merged/new"), "user.overlay.origin", b"\0\x01");
    let device = rustix::fs::makedev(0, 0);
    rustix::fs::mknodat(
        CWD,
        at("merged/gone"),
        FileType::CharacterDevice,
        Mode::empty(),
        device,
    )
    .unwrap();

    let draft = scan_upper(dir.path(), &Owners::Mapped).unwrap();
    let said: Vec<(String, &str)> = draft
        .iter()
        .map(|(path, change)| {
            let what = match change {
                Change::Put(_) => "put",
                Change::Opaque(_) => "opaque",
                Change::Remove => "remove",
            };
            (path.to_string(), what)
        })
        .collect();
    let expected = [
        ("", "put"),
        ("merged", "put"),
        ("merged/gone", "remove"),
        ("merged/new", "put"),
        ("opaque", "opaque"),
        ("xattr-style", "put"),
        ("xattr-style/gone", "remove"),
    ];
    assert_eq!(said, expected.map(|(path, what)| (path.to_owned(), what)));
    let attributes = draft
        .iter()
        .filter_map(|(_, change)| change.node())
        .map(|node| node.metadata.xattrs.len());
    assert_eq!(attributes.sum::<usize>(), 0);

    // Without a user namespace the marks are trusted attributes, and these are what a program wrote.
    let draft = scan_upper(dir.path(), &Owners::Own).unwrap();
    let said = |name: &str| draft.get(&path(name)).unwrap();
    assert!(matches!(said("opaque"), Change::Put(_)));
    assert!(matches!(said("xattr-style/gone"), Change::Put(_)));
    assert!(matches!(said("merged/gone"), Change::Remove));
}

#[test]
fn what_a_run_did_becomes_its_layer() {
    // The table of 7.3, as an upper directory over a lower tree.
    let old = Timestamp::from_secs(1_700_000_000);
    let lower = changeset(&[
        ("d", directory()),
        ("d/b", file(b"b")),
        ("same", file(b"same")),
        ("differs", file(b"1234")),
        ("w", directory()),
        ("w/x", file(b"")),
    ]);
    let tree = Tree::of(&lower);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("d")).unwrap();
    mark(&at("d"), "user.overlay.opaque", b"y");
    fs::write(at("d/c"), "c").unwrap();
    fs::create_dir(at("w")).unwrap();
    fs::write(at("same"), "same").unwrap();
    fs::write(at("differs"), "4321").unwrap();
    let contents = DirContents::open(dir.path()).unwrap();
    let mut draft = scan_upper(dir.path(), &Owners::Mapped).unwrap();
    draft.retain(|path, _| path.as_bytes() != b"unwanted");
    // Everything as it is below but for content: root needs no part in this test.
    let draft = draft
        .iter()
        .map(|(path, change)| {
            let mut change = change.clone();
            if let Change::Put(node) | Change::Opaque(node) = &mut change {
                let mode = if node.is_directory() { 0o755 } else { 0o644 };
                node.metadata = kiln_image::Metadata {
                    mtime: old,
                    ..metadata(mode)
                };
            }
            (path.clone(), change)
        })
        .collect::<kiln_image::scan::Draft>();
    let draft = draft.normalise(&tree, &contents).unwrap();
    let mut bytes = Vec::new();
    let (changes, _) = write_draft(draft, &contents, &mut bytes).unwrap();
    // R-LAY-4, R-LAY-7
    assert_eq!(names(&bytes), ["d/", "d/.wh.b", "d/c", "differs"]);
    assert_eq!(read(&bytes).unwrap(), changes);
}

#[test]
fn a_deep_tree_needs_no_depth() {
    let dir = tempfile::tempdir().unwrap();
    let mut deep = dir.path().to_owned();
    (0..1500).for_each(|_| deep.push("d"));
    fs::create_dir_all(&deep).unwrap();
    let draft = scan_directory(dir.path()).unwrap();
    assert_eq!(draft.iter().count(), 1501);
}
