//! Layers as they are read, hostile ones above all.

use crate::fixture::*;
use kiln_image::tar::{Limits, Nothing, ReadError, read_layer};
use kiln_image::{Change, Changeset, Kind, Metadata, Node, Timestamp};
use tar::EntryType;

fn opaque(metadata: Metadata) -> Change {
    Change::Opaque(Node::directory(metadata))
}

fn read_members(members: &[Member]) -> Result<Changeset, ReadError> {
    read(&tar_of(members))
}

#[test]
fn names_are_made_relative_and_clean() {
    let changes = read_members(&[
        dir("./"),
        dir("./a/"),
        plain("/a//b", b"1"),
        plain("././a/./c", b"2"),
    ]);
    let expected = changeset(&[
        ("", directory()),
        ("a", directory()),
        ("a/b", file(b"1")),
        ("a/c", file(b"2")),
    ]);
    assert_eq!(changes.unwrap(), expected);
}

#[test]
fn names_that_leave_the_root_are_refused() {
    for name in ["..", "../x", "a/../../x", "a/..", "/../etc/passwd"] {
        let error = read_members(&[plain(name, b"")]).unwrap_err();
        assert!(matches!(error, ReadError::Name(_)), "{name}: {error}");
    }
    let error =
        read_members(&[plain("a", b""), link_to("b", EntryType::Link, "../a")]).unwrap_err();
    assert!(matches!(error, ReadError::Name(_)), "{error}");
    let hidden = [pax(&[("path", b"../x")]), plain("ok", b"")];
    assert!(matches!(
        read_members(&hidden).unwrap_err(),
        ReadError::Name(_)
    ));
}

#[test]
fn nothing_is_reached_through_what_is_no_directory() {
    for through in [link_to("d", EntryType::Symlink, "/etc"), plain("d", b"")] {
        let error = read_members(&[through, plain("d/passwd", b"x")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`d/passwd` in the tar is below `d`, which is not a directory"
        );
    }
    let below = [
        link_to("d", EntryType::Symlink, "/"),
        plain("d/x/.wh.y", b""),
    ];
    assert!(matches!(
        read_members(&below).unwrap_err(),
        ReadError::NotADirectory { .. }
    ));
}

#[test]
fn whiteouts_remove_from_lower_layers_only() {
    // R-LAY-5, in both orders
    let whiteout = || plain("d/.wh.x", b"");
    let object = || plain("d/x", b"1");
    let expected = changeset(&[("d", directory()), ("d/x", file(b"1"))]);
    assert_eq!(
        read_members(&[dir("d"), whiteout(), object()]).unwrap(),
        expected
    );
    assert_eq!(
        read_members(&[dir("d"), object(), whiteout()]).unwrap(),
        expected
    );
    let alone = changeset(&[("d", directory()), ("d/x", Change::Remove)]);
    assert_eq!(read_members(&[dir("d"), whiteout()]).unwrap(), alone);
}

#[test]
fn a_directory_with_its_whiteout_hides_what_is_below() {
    // R-LAY-5: the lower directory is removed, this layer's stays.
    let expected = changeset(&[("d", opaque(metadata(0o755))), ("d/x", file(b"1"))]);
    let (whiteout, object) = (|| plain(".wh.d", b""), || plain("d/x", b"1"));
    assert_eq!(
        read_members(&[whiteout(), dir("d"), object()]).unwrap(),
        expected
    );
    assert_eq!(
        read_members(&[dir("d"), object(), whiteout()]).unwrap(),
        expected
    );
}

#[test]
fn opaque_marks_are_honoured_in_any_order() {
    // R-LAY-4
    let expected = changeset(&[("d", opaque(metadata(0o755))), ("d/x", file(b"1"))]);
    let (mark, object) = (|| plain("d/.wh..wh..opq", b""), || plain("d/x", b"1"));
    assert_eq!(
        read_members(&[dir("d"), mark(), object()]).unwrap(),
        expected
    );
    assert_eq!(
        read_members(&[dir("d"), object(), mark()]).unwrap(),
        expected
    );
    let undescribed = changeset(&[("d", opaque(Metadata::directory()))]);
    assert_eq!(read_members(&[mark()]).unwrap(), undescribed);
    let described_later = changeset(&[("d", opaque(metadata(0o755)))]);
    assert_eq!(read_members(&[mark(), dir("d")]).unwrap(), described_later);
}

#[test]
fn whiteouts_of_no_name_are_refused_and_those_of_aufs_skipped() {
    for name in [".wh.", "d/.wh..", "d/.wh..."] {
        let error = read_members(&[dir("d"), plain(name, b"")]).unwrap_err();
        assert!(
            matches!(error, ReadError::Whiteout { .. }),
            "{name}: {error}"
        );
    }
    let aufs = [
        dir(".wh..wh.plnk"),
        plain(".wh..wh.aufs", b""),
        plain("a", b""),
    ];
    assert_eq!(read_members(&aufs).unwrap(), changeset(&[("a", file(b""))]));
}

#[test]
fn a_device_that_overlayfs_takes_for_a_whiteout_is_one() {
    let device = |device| Member {
        device,
        ..member("x", EntryType::Char)
    };
    assert_eq!(
        read_members(&[device((0, 0))]).unwrap(),
        changeset(&[("x", Change::Remove)])
    );
    let null = Kind::CharDevice { major: 1, minor: 3 };
    let null = Change::Put(Node::new(metadata(0o644), null));
    assert_eq!(
        read_members(&[device((1, 3))]).unwrap(),
        changeset(&[("x", null)])
    );
}

#[test]
fn of_parents_that_are_not_listed_nothing_is_said() {
    let changes = read_members(&[plain("a/b/c", b"1"), plain("a/d/.wh.e", b"")]).unwrap();
    let expected = changeset(&[("a/b/c", file(b"1")), ("a/d/e", Change::Remove)]);
    assert_eq!(changes, expected);
    assert_eq!(changes.unlisted(), ["a", "a/b", "a/d"].map(path));
    let described = read_members(&[plain("a/b", b"1"), dir("a")]).unwrap();
    assert_eq!(
        described,
        changeset(&[("a", directory()), ("a/b", file(b"1"))])
    );
    let other = read_members(&[plain("a/b", b"1"), plain("a", b"2")]).unwrap();
    assert_eq!(other, changeset(&[("a", file(b"2"))]));
    // One that hides what is below is known.
    let hiding = read_members(&[plain(".wh.a", b""), plain("a/b", b"1")]).unwrap();
    let expected = [("a", opaque(Metadata::directory())), ("a/b", file(b"1"))];
    assert_eq!(hiding, changeset(&expected));
}

#[test]
fn the_last_of_equal_names_counts() {
    let twice = read_members(&[plain("a", b"1"), plain("a", b"2")]).unwrap();
    assert_eq!(twice, changeset(&[("a", file(b"2"))]));
    let replaced = read_members(&[
        dir("a"),
        dir("a/b"),
        plain("a/b/c", b""),
        plain("a", b"2"),
        plain("a-", b""),
    ]);
    assert_eq!(
        replaced.unwrap(),
        changeset(&[("a", file(b"2")), ("a-", file(b""))])
    );
    let grown = read_members(&[
        link_to("a", EntryType::Symlink, "b"),
        dir("a"),
        plain("a/c", b""),
    ])
    .unwrap();
    assert_eq!(grown, changeset(&[("a", directory()), ("a/c", file(b""))]));
}

#[test]
fn hard_links_are_found_in_the_layer_or_refused() {
    // R-LAY-10
    let linked_twice = read_members(&[
        plain("b", b"1"),
        link_to("a", EntryType::Link, "/b"),
        link_to("c", EntryType::Link, "./a"),
        plain("d", b"1"),
    ]);
    let expected = changeset(&[
        ("a", linked(b"1", 0)),
        ("b", linked(b"1", 0)),
        ("c", linked(b"1", 0)),
        ("d", file(b"1")),
    ]);
    assert_eq!(linked_twice.unwrap(), expected);
    // A group that has lost all names but one is none.
    let replaced = [
        plain("a", b"1"),
        link_to("b", EntryType::Link, "a"),
        plain("a", b"2"),
    ];
    assert_eq!(
        read_members(&replaced).unwrap(),
        changeset(&[("a", file(b"2")), ("b", file(b"1"))])
    );
    let to_symlink = [
        link_to("a", EntryType::Symlink, "x"),
        link_to("b", EntryType::Link, "a"),
    ];
    assert_eq!(
        read_members(&to_symlink).unwrap(),
        changeset(&[
            ("a", with_link(symlink("x"), 0)),
            ("b", with_link(symlink("x"), 0))
        ])
    );
    for members in [
        vec![link_to("a", EntryType::Link, "/etc/passwd")],
        vec![link_to("a", EntryType::Link, "a")],
        vec![dir("d"), link_to("a", EntryType::Link, "d")],
        vec![plain(".wh.x", b""), link_to("a", EntryType::Link, "x")],
        vec![
            dir("d"),
            plain("d/x", b""),
            link_to("d", EntryType::Link, "d/x"),
        ],
        vec![link_to("a", EntryType::Link, "")],
    ] {
        let error = read_members(&members).unwrap_err();
        assert!(matches!(error, ReadError::HardLink { .. }), "{error}");
    }
}

#[test]
fn pax_and_gnu_extensions_are_understood() {
    let long = "l".repeat(300);
    let gnu = |kind, text: &str| Member {
        content: format!("{text}\0").into(),
        ..member("././@LongLink", kind)
    };
    let changes = read_members(&[
        gnu(EntryType::GNULongName, &long),
        gnu(EntryType::GNULongLink, &long),
        link_to("short", EntryType::Symlink, "short"),
        pax(&[
            ("path", b"p\xc3\xa4x"),
            ("mtime", b"12.5"),
            ("uid", b"3000000"),
            ("gid", b"7"),
            ("size", b"3"),
            ("SCHILY.xattr.user.note", b"a=\nb\0"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.whiteout", b"y"),
            ("comment", b"ignored"),
        ]),
        plain("other", b"abc"),
    ]);
    let mut pax_node = file(b"abc").node().unwrap().clone();
    pax_node.metadata.mtime = Timestamp {
        secs: 12,
        nanos: 500_000_000,
    };
    (pax_node.metadata.uid, pax_node.metadata.gid) = (3_000_000, 7);
    pax_node
        .metadata
        .xattrs
        .insert(b"user.note".to_vec(), b"a=\nb\0".to_vec());
    let expected = changeset(&[(&long, symlink(&long)), ("päx", Change::Put(pax_node))]);
    assert_eq!(changes.unwrap(), expected);
}

#[test]
fn what_a_link_says_counts_for_all_names() {
    // As containerd, Docker and podman unpack it.
    let link = Member {
        mode: 0o777,
        ..link_to("b", EntryType::Link, "a")
    };
    let changes = read_members(&[plain("a", b"1"), link, plain("c", b"1")]).unwrap();
    let described = |name: &str| {
        let node = changes.get(&path(name)).unwrap().node().unwrap().clone();
        node.metadata.mode
    };
    assert_eq!([described("a"), described("b")], [0o777, 0o777]);
    assert_ne!(described("c"), 0o777);
}

/// Eight bytes with holes before, between and after them: each form that GNU tar writes.
fn sparse_forms() -> [Vec<Member>; 4] {
    let stored = |content: &[u8]| plain("s", content);
    let of_records = |records: &[(&str, &[u8])], content: &[u8]| {
        let records = [&[("GNU.sparse.name", &b"s"[..])], records].concat();
        vec![pax(&records), plain("stand-in", content)]
    };
    let mut before_content = b"2\n3\n4\n9\n4\n".to_vec();
    before_content.resize(512, 0);
    before_content.extend(b"onetwo!!");
    let old = Member {
        content: b"onetwo!!".to_vec(),
        ..member("s", EntryType::GNUSparse)
    };
    let repeated = [
        ("GNU.sparse.size", &b"20"[..]),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"3"),
        ("GNU.sparse.numbytes", b"4"),
        ("GNU.sparse.offset", b"9"),
        ("GNU.sparse.numbytes", b"4"),
    ];
    [
        vec![old],
        vec![pax(&repeated), stored(b"onetwo!!")],
        of_records(
            &[
                ("GNU.sparse.size", b"20"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.map", b"3,4,9,4"),
            ],
            b"onetwo!!",
        ),
        of_records(
            &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"20"),
            ],
            &before_content,
        ),
    ]
}

/// Writes the table of holes into the header of the only member, and mends its checksum.
fn with_old_table(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut field =
        |at: usize, text: &str| bytes[at..at + text.len()].copy_from_slice(text.as_bytes());
    for (at, text) in [(386, "3"), (398, "4"), (410, "9"), (422, "4"), (483, "24")] {
        let octal = u64::from_str_radix(text, if at == 483 { 8 } else { 10 }).unwrap();
        field(at, &format!("{octal:011o} "));
    }
    field(148, "        ");
    let sum: u32 = bytes[..512].iter().map(|&byte| u32::from(byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}

#[test]
fn sparse_files_are_read_with_their_holes() {
    let whole = b"\0\0\0onet\0\0wo!!\0\0\0\0\0\0\0";
    for (at, members) in sparse_forms().into_iter().enumerate() {
        let mut bytes = tar_of(&members);
        if at == 0 {
            bytes = with_old_table(bytes);
        }
        let expected = changeset(&[("s", file(whole))]);
        assert_eq!(read(&bytes).unwrap(), expected, "form {at}");
        // A file that is nearly nothing but holes is refused before it takes any space.
        let limits = Limits {
            holes: 11,
            ..Limits::default()
        };
        let refused = read_layer(&bytes[..], &limits, &mut Nothing);
        assert!(matches!(refused, Err(ReadError::TooLarge { limit: 11 })));
    }
}

#[test]
fn what_kiln_does_not_read_is_refused_by_name() {
    let error =
        read_members(&[pax(&[("GNU.sparse.major", b"2")]), plain("holes", b"")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the tar has a malformed table of holes for `holes`"
    );
    let odd = read_members(&[member("odd", EntryType::new(b'Q'))]).unwrap_err();
    assert_eq!(
        odd.to_string(),
        "`odd` in the tar: members of type `Q` are not supported"
    );
}

#[test]
fn a_cut_tar_is_refused_wherever_it_is_cut() {
    let whole = tar_of(&[
        pax(&[("path", b"name")]),
        plain("f", &[7; 2000]),
        plain("g", b"x"),
    ]);
    // At a member's border a tar may end without its end mark.
    let borders = [0, 1024 + 512 + 2048, whole.len() - 1024];
    for length in 0..whole.len() - 1024 {
        if borders.contains(&length) {
            continue;
        }
        let error = read(&whole[..length]).unwrap_err();
        assert!(
            matches!(error, ReadError::Truncated { .. }),
            "cut at {length}: {error}"
        );
    }
    for length in borders {
        assert!(read(&whole[..length]).is_ok(), "cut at {length}");
    }
}

#[test]
fn a_damaged_header_is_refused() {
    let mut bytes = tar_of(&[plain("f", b"x")]);
    bytes[0] ^= 1;
    assert!(matches!(
        read(&bytes).unwrap_err(),
        ReadError::Checksum { offset: 0 }
    ));
    assert!(matches!(
        read(&[b'x'; 512]).unwrap_err(),
        ReadError::Checksum { offset: 0 }
    ));
    let bad_id = [pax(&[("uid", b"-1")]), plain("f", b"")];
    assert!(matches!(
        read_members(&bad_id).unwrap_err(),
        ReadError::Field { field: "uid", .. }
    ));
    let no_id = [pax(&[("gid", b"4294967295")]), plain("f", b"")];
    assert!(matches!(
        read_members(&no_id).unwrap_err(),
        ReadError::Field { field: "gid", .. }
    ));
}

#[test]
fn sizes_that_are_not_there_cost_nothing() {
    let mut huge = plain("huge", b"").header();
    huge.set_size(0o777_7777_7777);
    huge.set_cksum();
    let error = read(huge.as_bytes()).unwrap_err();
    assert!(matches!(error, ReadError::Truncated { .. }), "{error}");

    let claimed = [pax(&[("size", b"18446744073709551615")]), plain("f", b"")];
    assert!(matches!(
        read_members(&claimed).unwrap_err(),
        ReadError::Truncated { .. }
    ));

    let mut records = member("pax", EntryType::XHeader).header();
    records.set_size(1 << 40);
    records.set_cksum();
    let error = read(records.as_bytes()).unwrap_err();
    assert!(matches!(error, ReadError::HeaderTooLong { .. }), "{error}");
}

#[test]
fn limits_hold() {
    let limits = Limits {
        entries: 2,
        name: 20,
        header: 600,
        size: 10_000,
        holes: 50_000,
    };
    let check =
        |members: &[Member]| read_layer(&tar_of(members)[..], &limits, &mut Nothing).map(drop);
    assert!(check(&[plain("a", b""), plain("b", b"")]).is_ok());
    let many = check(&[plain("a", b""), plain("b", b""), plain("c", b"")]);
    assert!(matches!(many, Err(ReadError::TooManyEntries { limit: 2 })));
    let long = check(&[plain(&"n".repeat(21), b"")]);
    assert!(matches!(
        long,
        Err(ReadError::NameTooLong { limit: 20, .. })
    ));
    let large = check(&[plain("a", &[1; 20_000])]);
    assert!(matches!(large, Err(ReadError::TooLarge { limit: 10_000 })));
    // Two headers that are small enough each.
    let value = [b'v'; 400];
    let headers = check(&[
        pax(&[("x", &value)]),
        pax(&[("y", &value)]),
        plain("a", b""),
    ]);
    assert!(matches!(
        headers,
        Err(ReadError::HeaderTooLong { limit: 600, .. })
    ));
    let endless = read_layer(std::io::repeat(0), &limits, &mut Nothing);
    assert!(matches!(
        endless,
        Err(ReadError::TooLarge { limit: 10_000 })
    ));
}

#[test]
fn what_follows_the_end_belongs_to_the_diff_id() {
    let mut bytes = tar_of(&[plain("a", b"1")]);
    bytes.extend_from_slice(&[0; 8192]);
    bytes.extend_from_slice(b"trailing");
    assert_eq!(read(&bytes).unwrap(), changeset(&[("a", file(b"1"))]));
}
