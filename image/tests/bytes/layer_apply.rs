//! Layers put below a directory, and what they must not do there.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink as symlink_at};
use std::path::Path;

use kiln_image::contents::DirContents;
use kiln_image::scan::{Owners, scan, scan_upper};
use kiln_image::tar::{
    ApplyError, Devices, UnpackOptions, Whiteouts, add_attributes, apply_changeset,
    hides_all_below, unpack,
};
use kiln_image::{Change, Changeset, ImagePath, Kind, Node};
use tar::EntryType;

use crate::fixture::*;

const OVERLAY: Whiteouts = Whiteouts::Overlay { userxattr: true };

fn options(whiteouts: Whiteouts) -> UnpackOptions {
    match is_root() {
        true => UnpackOptions::privileged(whiteouts),
        false => UnpackOptions::unprivileged(whiteouts),
    }
}

fn unpacked(
    members: &[Member],
    root: &Path,
    whiteouts: Whiteouts,
) -> Result<Changeset, ApplyError> {
    unpack(&tar_of(members)[..], root, &options(whiteouts)).map(|(changeset, _)| changeset)
}

#[test]
fn a_layer_becomes_files_with_their_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let mut special = file(b"content").node().unwrap().clone();
    special.metadata.mode = 0o4750;
    let mut closed = Node::directory(metadata(0o1500));
    closed.metadata.mtime.secs = 1_000_000_000;
    if is_root() {
        (
            special.metadata.uid,
            special.metadata.gid,
            closed.metadata.uid,
        ) = (1000, 1001, 5);
    }
    let owner = fs::metadata(dir.path()).unwrap();
    let fifo = Change::Put(Node::new(metadata(0o622), Kind::Fifo));
    let mut changes = changeset(&[
        ("d", Change::Put(closed)),
        ("d/a", linked(b"same", 0)),
        ("d/b", linked(b"same", 0)),
        ("d/fifo", with_link(fifo.clone(), 1)),
        ("d/fifo-too", with_link(fifo, 1)),
        ("d/link", with_link(symlink("/nowhere"), 2)),
        ("d/link-too", with_link(symlink("/nowhere"), 2)),
        ("f", Change::Put(special)),
    ]);
    if !is_root() {
        changes = changes
            .into_iter()
            .map(|(path, change)| (path, owned_by(change, &owner)))
            .collect();
    }
    let contents = files(&[("d/a", b"same"), ("f", b"content")]);
    let (bytes, summary) = written(&changes, &contents);
    let (found, found_summary) = unpack(&bytes[..], dir.path(), &options(OVERLAY)).unwrap();
    assert_eq!((&found, found_summary), (&changes, summary));

    let mut on_disk = scan(dir.path()).unwrap();
    on_disk = on_disk
        .into_iter()
        .filter(|(path, _)| !path.is_root())
        .collect();
    assert_eq!(on_disk, changes);
    let inode = |name| fs::symlink_metadata(dir.path().join(name)).unwrap().ino();
    assert_eq!(inode("d/a"), inode("d/b"));
    assert_eq!(inode("d/fifo"), inode("d/fifo-too"));
    assert_eq!(inode("d/link"), inode("d/link-too"));
}

#[test]
fn what_a_link_says_of_a_symlink_or_a_fifo_is_said_of_that() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "safe").unwrap();
    let before = fs::metadata(&victim).unwrap().mtime();
    let root = tempfile::tempdir().unwrap();
    let members = [
        link_to("s", EntryType::Symlink, victim.to_str().unwrap()),
        pax(&[("mtime", b"12")]),
        link_to("t", EntryType::Link, "s"),
        member("p", EntryType::Fifo),
        Member {
            mode: 0o600,
            ..link_to("q", EntryType::Link, "p")
        },
    ];
    let (changes, _) = unpack(&tar_of(&members)[..], root.path(), &options(OVERLAY)).unwrap();
    let said = |name: &str| changes.get(&path(name)).unwrap().node().unwrap().clone();
    let there = |name| fs::symlink_metadata(root.path().join(name)).unwrap();
    assert_eq!(said("s"), said("t"));
    assert_eq!(
        (said("s").metadata.mtime.secs, said("s").metadata.mode),
        (12, 0o777)
    );
    assert_eq!([there("s").mtime(), there("t").mtime()], [12; 2]);
    assert_eq!(said("p").metadata.mode, 0o600);
    assert_eq!(there("p").mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(&victim).unwrap().mtime(), before);
}

fn owned_by(mut change: Change, owner: &fs::Metadata) -> Change {
    if let Change::Put(node) = &mut change {
        (node.metadata.uid, node.metadata.gid) = (owner.uid(), owner.gid());
    }
    change
}

#[test]
fn nothing_is_written_through_a_symlink() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "safe").unwrap();
    let target = outside.path().to_str().unwrap();

    // Within one layer it is refused.
    let root = tempfile::tempdir().unwrap();
    let hostile = [
        link_to("d", EntryType::Symlink, target),
        plain("d/victim", b"owned"),
    ];
    assert!(unpacked(&hostile, root.path(), OVERLAY).is_err());

    // From the layer below, or put there by someone else: replaced where it stands.
    for whiteouts in [OVERLAY, Whiteouts::Delete, Whiteouts::Ignore] {
        let root = tempfile::tempdir().unwrap();
        symlink_at(outside.path(), root.path().join("d")).unwrap();
        symlink_at(outside.path().join("victim"), root.path().join("f")).unwrap();
        let members = [dir("d"), plain("d/victim", b"new"), plain("f", b"new")];
        unpacked(&members, root.path(), whiteouts).unwrap();
        assert_eq!(
            fs::read_to_string(root.path().join("d/victim")).unwrap(),
            "new"
        );
        assert!(
            fs::symlink_metadata(root.path().join("f"))
                .unwrap()
                .is_file()
        );
    }

    // Whiteouts don't reach out either.
    let root = tempfile::tempdir().unwrap();
    symlink_at(outside.path(), root.path().join("d")).unwrap();
    unpacked(
        &[plain("d/.wh.victim", b""), plain("d/.wh..wh..opq", b"")],
        root.path(),
        Whiteouts::Delete,
    )
    .unwrap();
    assert_eq!(
        fs::read_to_string(outside.path().join("victim")).unwrap(),
        "safe"
    );
}

#[test]
fn whiteouts_for_an_overlay_are_its_own_marks() {
    let root = tempfile::tempdir().unwrap();
    let members = [
        dir("d"),
        plain("d/.wh.gone", b""),
        dir("o"),
        plain("o/.wh..wh..opq", b""),
        plain("o/x", b""),
    ];
    unpacked(&members, root.path(), OVERLAY).unwrap();
    let gone = fs::symlink_metadata(root.path().join("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device());
    assert_eq!(gone.rdev(), 0);
    let mut value = [0; 8];
    match rustix::fs::getxattr(root.path().join("o"), "user.overlay.opaque", &mut value[..]) {
        Ok(length) => assert_eq!(&value[..length], b"y"),
        Err(errno) => panic!("the file system of the temporary folder has no attributes: {errno}"),
    }
}

#[test]
fn a_layer_cannot_set_marks_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let marks: [(&str, &[u8]); 2] = [
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.kept", b"1"),
    ];
    let changes = unpacked(&[pax(&marks), dir("d")], root.path(), OVERLAY).unwrap();
    let node = changes.get(&path("d")).unwrap().node().unwrap();
    assert_eq!(
        node.metadata.xattrs.keys().collect::<Vec<_>>(),
        [b"user.kept"]
    );
    let opaque = rustix::fs::getxattr(
        root.path().join("d"),
        "user.overlay.opaque",
        &mut [0; 8][..],
    );
    assert_eq!(opaque, Err(rustix::io::Errno::NODATA));
}

#[test]
fn deleting_leaves_what_the_layer_has() {
    // R-LAY-4, R-LAY-5 over a merged root
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    for name in ["d/sub", "o/sub/deep", "gone/below"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for name in [
        "d/x",
        "d/y",
        "o/old",
        "o/sub/old",
        "gone/below/file",
        "type/was-file",
    ] {
        if let Some(above) = at(name).parent() {
            fs::create_dir_all(above).unwrap();
        }
        fs::write(at(name), "lower").unwrap();
    }
    let members = [
        dir("d"),
        plain("d/.wh.x", b""),
        dir("o"),
        dir("o/sub"),
        plain("o/sub/new", b"upper"),
        plain("o/.wh..wh..opq", b""),
        plain(".wh.gone", b""),
        plain(".wh.never-was", b""),
        plain("type", b"now a file"),
    ];
    unpacked(&members, root.path(), Whiteouts::Delete).unwrap();
    for (name, there) in [
        ("d/x", false),
        ("d/y", true),
        ("d/sub", true),
        ("o/old", false),
        ("o/sub/old", false),
        ("o/sub/deep", false),
        ("o/sub/new", true),
        ("gone", false),
    ] {
        assert_eq!(at(name).exists(), there, "{name}");
    }
    assert_eq!(fs::read(at("type")).unwrap(), b"now a file");
}

#[test]
fn a_changeset_with_contents_is_applied_like_its_tar() {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("d")).unwrap();
    fs::write(source.path().join("d/a"), "one").unwrap();
    fs::hard_link(source.path().join("d/a"), source.path().join("d/b")).unwrap();
    fs::set_permissions(source.path().join("d/a"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink_at("a", source.path().join("d/c")).unwrap();
    fs::hard_link(source.path().join("d/c"), source.path().join("e")).unwrap();
    let changes = scan(source.path()).unwrap();

    let root = tempfile::tempdir().unwrap();
    let contents = DirContents::open(source.path()).unwrap();
    apply_changeset(&changes, &contents, root.path(), &options(OVERLAY)).unwrap();
    assert_eq!(scan(root.path()).unwrap(), changes);
    let link = |name: &str| changes.get(&path(name)).unwrap().node().unwrap().link;
    assert_eq!([link("d/a"), link("d/b")], [Some(0); 2]);
    assert_eq!([link("d/c"), link("e")], [Some(1); 2]);

    fs::write(source.path().join("d/a"), "two").unwrap();
    let again = tempfile::tempdir().unwrap();
    let error = apply_changeset(&changes, &contents, again.path(), &options(OVERLAY)).unwrap_err();
    assert_eq!(error.to_string(), "`d/a` changed while it was read");
}

#[test]
fn attributes_that_tars_lack_are_added() {
    // R-LAY-9
    let root = tempfile::tempdir().unwrap();
    let members = [dir("d"), plain("d/f", b"x"), plain("g", b"")];
    let changes = unpacked(&members, root.path(), OVERLAY).unwrap();
    let noted = |(path, change): (&ImagePath, &Change)| {
        let mut change = change.clone();
        if let Change::Put(node) = &mut change
            && !path.to_string().starts_with('g')
        {
            node.metadata
                .xattrs
                .insert(b"user.note".to_vec(), b"1".to_vec());
        }
        (path.clone(), change)
    };
    let changes: Changeset = changes.iter().map(noted).collect();
    add_attributes(&changes, root.path(), &options(OVERLAY)).unwrap();
    let found = scan(root.path()).unwrap();
    for name in ["d", "d/f", "g"] {
        assert_eq!(found.get(&path(name)), changes.get(&path(name)), "{name}");
    }
}

#[test]
fn devices_need_asking_for() {
    let null = Member {
        device: (1, 3),
        ..member("null", EntryType::Char)
    };
    let members = [
        null,
        link_to("zero", EntryType::Link, "null"),
        plain("f", b""),
    ];
    let root = tempfile::tempdir().unwrap();
    let without = UnpackOptions::unprivileged(OVERLAY);
    let (changes, _) = unpack(&tar_of(&members)[..], root.path(), &without).unwrap();
    assert_eq!(changes.len(), 3, "the changeset has them all the same");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);

    // Where they can't be made they are recorded, and read back.
    let root = tempfile::tempdir().unwrap();
    let recording = UnpackOptions {
        devices: Devices::Record,
        ..options(OVERLAY)
    };
    let (changes, _) = unpack(&tar_of(&members)[..], root.path(), &recording).unwrap();
    assert!(root.path().join("null").metadata().unwrap().is_file());
    if is_root() {
        let found = scan_upper(root.path(), &Owners::Mapped).unwrap();
        let device = |name: &str| found.get(&path(name)).unwrap().node().unwrap().kind.clone();
        let null = Kind::CharDevice { major: 1, minor: 3 };
        assert_eq!([device("null"), device("zero")], [null.clone(), null]);
        assert_eq!(found.iter().count(), changes.len() + 1);
    }
}

#[test]
fn a_layer_that_hides_all_below_it_says_so() {
    // R-LAY-4
    let root = tempfile::tempdir().unwrap();
    unpacked(&[plain("f", b"")], root.path(), OVERLAY).unwrap();
    assert!(!hides_all_below(root.path()));
    if is_root() {
        unpacked(&[plain(".wh..wh..opq", b"")], root.path(), OVERLAY).unwrap();
        assert!(hides_all_below(root.path()));
    }
}

#[test]
fn directories_of_which_nothing_is_said_stay_as_they_are() {
    let lower = tempfile::tempdir().unwrap();
    fs::create_dir(lower.path().join("there")).unwrap();
    fs::set_permissions(
        lower.path().join("there"),
        fs::Permissions::from_mode(0o1700),
    )
    .unwrap();
    fs::write(lower.path().join("file"), "x").unwrap();
    let source = tempfile::tempdir().unwrap();
    let contents = DirContents::open(source.path()).unwrap();
    let empty = || Change::Put(Node::file(b""));
    let changes = changeset(&[
        ("file/f", empty()),
        ("new/deep/f", empty()),
        ("there/f", empty()),
    ]);
    apply_changeset(
        &changes,
        &contents,
        lower.path(),
        &options(Whiteouts::Delete),
    )
    .unwrap();
    let mode = |name: &str| fs::metadata(lower.path().join(name)).unwrap().mode() & 0o7777;
    let found = ["there", "new", "new/deep", "file"].map(mode);
    assert_eq!(found, [0o1700, 0o755, 0o755, 0o755]);
    assert!(lower.path().join("file/f").is_file());

    // A layer that is unpacked alone has nothing that it could keep.
    let alone = tempfile::tempdir().unwrap();
    unpacked(&[plain("a/b/c", b"1")], alone.path(), OVERLAY).unwrap();
    let mode = |name: &str| fs::metadata(alone.path().join(name)).unwrap().mode() & 0o7777;
    assert_eq!(["a", "a/b"].map(mode), [0o755; 2]);
}
