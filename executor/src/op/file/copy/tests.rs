#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::super::testing::{listing, members, op, path, tree};
use super::*;
use crate::op::file::OwnerError;

const NOW: Timestamp = Timestamp::from_secs(1000);

/// The context of the examples of section 3.11, owned by somebody.
const CONTEXT: &str = "f 640 7:7 @5; d/ 700 7:7 @6; d/x 7:7 @5; d/s/ 755 7:7 @6; d/s/y 7:7 @5; l ->d; lf ->d/x; gone ->nowhere; k/ ; k/l ->../d";

const USERS: &str = "etc/passwd =users; etc/group =groups";

fn read(path: &ImagePath, _: NodeRef<'_>) -> std::io::Result<Vec<u8>> {
    match path.as_bytes() {
        b"etc/passwd" => Ok(b"root:x:0:0::/root:/bin/sh\nme:x:5:6::/home/me:/bin/sh\n".to_vec()),
        b"etc/group" => Ok(b"staff:x:8:me\n".to_vec()),
        _ => Err(std::io::Error::other("not asked for")),
    }
}

fn run(text: &str, from: &str, is_context: bool, dest: &str) -> Result<CopyOutcome, CopyError> {
    let (from, dest) = (tree(from), tree(dest));
    let trees = SourceTrees::from([(
        1,
        SourceTree {
            tree: &from,
            is_context,
        },
    )]);
    copy(
        &op(text),
        &trees,
        &Archives::new(),
        &Destination {
            tree: &dest,
            read: &read,
            created: NOW,
        },
    )
}

/// Copies from the context.
#[track_caller]
fn lands(text: &str, dest: &str, expected: &[&str]) {
    let outcome = run(text, CONTEXT, true, dest).unwrap();
    assert_eq!(
        listing(&outcome.changeset),
        expected,
        "COPY {text} onto `{dest}`"
    );
}

#[track_caller]
fn fails(text: &str, dest: &str, expected: &str) {
    let error = run(text, CONTEXT, true, dest).unwrap_err();
    assert_eq!(error.to_string(), expected, "COPY {text} onto `{dest}`");
}

#[test]
fn the_table_of_outcomes() {
    // R-COPY-11
    lands("f /o", "a", &["o 640 0:0"]);
    lands("f /o/", "a", &["o/ 755 0:0", "o/f 640 0:0"]);
    lands("f /o/.", "a", &["o/ 755 0:0", "o/f 640 0:0"]);
    lands("f /o", "o/ 711 1:1", &["o/ 711 1:1", "o/f 640 0:0"]);
    lands("f /o", "o ->p; p/ 711 1:1", &["p/ 711 1:1", "p/f 640 0:0"]);
    lands("f /o", "o =old", &["o 640 0:0"]);
    lands("f /o", "o ->p/q; p/q =old", &["p/ 755 0:0", "p/q 640 0:0"]);
    lands("f /o", "o ->p/q", &["p/ 755 0:0", "p/q 640 0:0"]);
    lands(
        "d /o",
        "a",
        &["o/ 755 0:0", "o/s/ 755 0:0", "o/s/y 644 0:0", "o/x 644 0:0"],
    );
    lands(
        "d /o",
        "o/ 700 1:1; o/z",
        &["o/ 700 1:1", "o/s/ 755 0:0", "o/s/y 644 0:0", "o/x 644 0:0"],
    );
    fails("d /o", "o =old", "cannot copy to non-directory: `/o`");
    fails(
        "d /o",
        "o/s ->t; t/",
        "cannot copy to non-directory: `/o/s`",
    );
    fails(
        "d /o",
        "o/x/",
        "cannot replace to directory `/o/x` with file",
    );
    fails(
        "f /o/",
        "o/f/",
        "cannot replace to directory `/o/f` with file",
    );
    fails("f /o/", "o =old", "mkdir `/o`: not a directory");
    lands("f d/x /o", "a", &["o 644 0:0"]);
    lands(
        "d f /o",
        "a",
        &[
            "o/ 755 0:0",
            "o/f 640 0:0",
            "o/s/ 755 0:0",
            "o/s/y 644 0:0",
            "o/x 644 0:0",
        ],
    );
    fails("f d /o", "a", "cannot copy to non-directory: `/o`");
}

#[test]
fn the_examples_of_the_specification() {
    let all = ["o/ 755 0:0", "o/s/ 755 0:0", "o/s/y 644 0:0", "o/x 644 0:0"];
    lands("d /o", "", &all);
    lands(
        "d f /o/",
        "",
        &[
            "o/ 755 0:0",
            "o/f 640 0:0",
            "o/s/ 755 0:0",
            "o/s/y 644 0:0",
            "o/x 644 0:0",
        ],
    );
    lands("l /o", "", &all);
    // R-COPY-12, R-COPY-13
    lands(
        "[fdl] /o/",
        "",
        &[
            "o/ 755 0:0",
            "o/f 640 0:0",
            "o/s/ 755 0:0",
            "o/s/y 644 0:0",
            "o/x 644 0:0",
        ],
    );
    lands(
        "--parents d/s/y /o/",
        "",
        &[
            "o/ 755 0:0",
            "o/d/ 700 0:0",
            "o/d/s/ 755 0:0",
            "o/d/s/y 644 0:0",
        ],
    );
    lands(
        "--parents ./d/./s/y /o/",
        "",
        &["o/ 755 0:0", "o/s/ 755 0:0", "o/s/y 644 0:0"],
    );
    lands(
        "--parents **/y /o/",
        "",
        &[
            "o/ 755 0:0",
            "o/d/ 700 0:0",
            "o/d/s/ 755 0:0",
            "o/d/s/y 644 0:0",
        ],
    );
    lands("--exclude=s d /o/", "", &["o/ 755 0:0", "o/x 644 0:0"]);
    lands("--exclude=d/s d /o/", "", &all);
    lands(
        "--chmod=u=rw,go= f /p/q",
        "",
        &["p/ 755 0:0", "p/q 600 0:0"],
    );
    lands("--chmod=700 f /p/q", "", &["p/ 700 0:0", "p/q 700 0:0"]);
    lands("zz* /o/", "", &[]);
    lands(
        "--chmod=604 d /e/g",
        "",
        &[
            "e/ 604 0:0",
            "e/g/ 604 0:0",
            "e/g/s/ 604 0:0",
            "e/g/s/y 604 0:0",
            "e/g/x 604 0:0",
        ],
    );
    lands(
        "--chown=9 d /a/b",
        "",
        &[
            "a/ 755 9:9",
            "a/b/ 755 9:9",
            "a/b/s/ 755 9:9",
            "a/b/s/y 644 9:9",
            "a/b/x 644 9:9",
        ],
    );
    lands(
        "d /w",
        "w/ 700 5:6",
        &["w/ 700 5:6", "w/s/ 755 0:0", "w/s/y 644 0:0", "w/x 644 0:0"],
    );
}

#[test]
fn sources_are_found_or_missing() {
    // R-COPY-6
    for written in ["../f", "/f", "./f", "f/"] {
        lands(&format!("{written} /o"), "", &["o 640 0:0"]);
    }
    // R-COPY-7, R-COPY-8
    lands("d/? /o/", "", &["o/ 755 0:0", "o/x 644 0:0", "o/y 644 0:0"]);
    lands(
        "*/[^s] /o/",
        "",
        &["o/ 755 0:0", "o/s/ 755 0:0", "o/s/y 644 0:0", "o/x 644 0:0"],
    );
    lands("d/nope* /o/", "", &[]);
    lands("f/* /o/", "", &[]);
    fails("nope/* /o/", "", "`/nope` is not there");
    fails("nope /o", "", "`/nope` is not there");
    fails("f/x /o", "", "`/f/x` is not there");
    fails("[ /o", "", "syntax error in the pattern `/[`");
    // R-COPY-9
    fails("gone /o", "", "`/gone` is not there");
    fails("go* /o", "", "`/gone` is not there");
}

#[test]
fn links_are_followed_as_sources_and_kept_below_them() {
    // R-COPY-14
    lands("lf /o/", "", &["o/ 755 0:0", "o/lf 644 0:0"]);
    lands("l/x /o/", "", &["o/ 755 0:0", "o/x 644 0:0"]);
    lands("l/* /o/", "", &["o/ 755 0:0", "o/x 644 0:0", "o/y 644 0:0"]);
    lands("k /o", "", &["o/ 755 0:0", "o/l 777 0:0 ->../d"]);
    lands(
        "f /up/o",
        "up ->../../../p; p/",
        &["p/ 755 0:0", "p/o 640 0:0"],
    );
    lands("f /abs/o", "abs ->/p", &["p/ 755 0:0", "p/o 640 0:0"]);
    let outcome = run("l/x /o", CONTEXT, true, "").unwrap();
    assert_eq!(
        outcome.origins[&path("o")],
        Origin::Input {
            input: 1,
            path: path("d/x")
        }
    );
    let from = "a ->b; b ->a";
    assert!(matches!(
        run("a /o", from, true, ""),
        Err(CopyError::SourceLinks { .. })
    ));
    assert!(matches!(
        run("f /a/x", "f", true, from),
        Err(CopyError::Destination(_))
    ));
}

#[test]
fn owners_times_and_capabilities() {
    let from = "f 4755 3:4 @5 ^capability; d/ 3:4 @6; d/n/ 711 3:4 @7; d/n/x @8";
    let copied = |is_context, text| run(text, from, is_context, "w/ @1").unwrap().changeset;
    // R-COPY-15, R-COPY-20
    let node = |changeset: &Changeset, name: &str| {
        changeset.get(&path(name)).unwrap().node().unwrap().clone()
    };
    let context = copied(true, "f /o");
    assert_eq!(listing(&context), ["o 4755 0:0"]);
    assert!(node(&context, "o").metadata.xattrs.is_empty());
    let stage = copied(false, "f /o");
    assert_eq!(listing(&stage), ["o 4755 3:4"]);
    assert_eq!(node(&stage, "o").metadata.xattrs.len(), 1);
    // R-COPY-16, R-COPY-18
    assert_eq!(
        listing(&copied(false, "d /o")),
        ["o/ 755 0:0", "o/n/ 711 3:4", "o/n/x 644 0:0"]
    );
    let times = |changeset: &Changeset| -> Vec<i64> {
        changeset
            .iter()
            .map(|(_, change)| change.node().unwrap().metadata.mtime.secs)
            .collect()
    };
    assert_eq!(times(&copied(false, "d /o")), [6, 7, 8]);
    assert_eq!(times(&copied(false, "d /w")), [6, 7, 8]);
    assert_eq!(times(&copied(false, "f /p/q")), [1000, 5]);
    assert_eq!(times(&copied(false, "f /w/q")), [1, 5]);
    // R-COPY-18: nested directories take the source's metadata even over existing ones.
    let merged = run("d /w", from, false, "w/n/ 700 1:1; w/n/y")
        .unwrap()
        .changeset;
    assert_eq!(
        listing(&merged),
        ["w/ 755 0:0", "w/n/ 711 3:4", "w/n/x 644 0:0"]
    );
}

#[test]
fn what_is_already_there_makes_no_entry() {
    // R-COPY-21
    let base = "o/ 700 1:1; o/f 640 @5; o/g 640 @4";
    lands("f /o/", base, &[]);
    lands("f /o/g", base, &["o/ 700 1:1", "o/g 640 0:0"]);
    lands("--chmod=600 f /o/", base, &["o/ 700 1:1", "o/f 600 0:0"]);
    let outcome = run("f /o/", CONTEXT, true, base).unwrap();
    assert!(outcome.origins.is_empty());
}

#[test]
fn hard_links_and_special_files() {
    // R-COPY-19
    let from = "d/a #4; d/b #4; d/c #5; d/p !fifo";
    let copied = |text| listing(&run(text, from, true, "").unwrap().changeset);
    assert_eq!(
        copied("d /o"),
        [
            "o/ 755 0:0",
            "o/a 644 0:0 #0",
            "o/b 644 0:0 #0",
            "o/c 644 0:0",
            "o/p 644 0:0"
        ]
    );
    // Each match and each source is a copy of its own.
    assert_eq!(copied("d/? /o/")[1..3], ["o/a 644 0:0", "o/b 644 0:0"]);
    assert_eq!(
        copied("d/a d/b /o/"),
        ["o/ 755 0:0", "o/a 644 0:0", "o/b 644 0:0"]
    );
}

#[test]
fn owners_by_name() {
    // R-COPY-22..24: --chown | uid:gid
    let cases = [
        ("1001", "1001:1001"),
        ("1001:", "1001:0"),
        (":50", "0:50"),
        ("root", "0:0"),
        ("me", "5:6"),
        ("me:root", "5:0"),
        ("me:staff", "5:8"),
        ("me:nosuch", "5:6"),
        ("me:9", "5:9"),
        ("9:staff", "9:8"),
        ("nosuch", "0:0"),
        ("nosuch:staff", "0:8"),
    ];
    for (chown, expected) in cases {
        lands(
            &format!("--chown={chown} f /o"),
            USERS,
            &[&format!("o 640 {expected}")],
        );
    }
    lands("--chown=me f /o", "bin/sh", &["o 640 0:0"]);
    // R-COPY-25
    fails("--chown=me f /o", "", "invalid user index: -1");
    fails("--chown=me --link f /o", USERS, "invalid user index: -1");
    lands("--chown=4:5 f /o", "", &["o 640 4:5"]);
    // R-COPY-26
    lands(
        "--chown=4 lf k/l k /w/",
        "w/ 1:1; w/x",
        &[
            "w/ 755 1:1",
            "w/l 777 4:4 ->../d",
            "w/lf 644 4:4",
            "w/s/ 755 4:4",
            "w/s/y 644 4:4",
            "w/x 644 4:4",
        ],
    );
    let unreadable = run(
        "--chown=me f /o",
        "f",
        true,
        "etc/passwd ->users; etc/users",
    );
    assert!(matches!(
        unreadable,
        Err(CopyError::Owner(OwnerError::Read { .. }))
    ));
}

#[test]
fn the_destination_takes_the_time_of_a_directory_but_not_of_a_whole_tree() {
    // R-COPY-18, R-COPY-31
    let time = |text| {
        let outcome = run(text, CONTEXT, true, "").unwrap();
        outcome
            .changeset
            .get(&path("o"))
            .unwrap()
            .node()
            .unwrap()
            .metadata
            .mtime
    };
    assert_eq!(time("d /o"), Timestamp::from_secs(6));
    assert_eq!(time("--parents d/./x /o"), Timestamp::from_secs(6));
    assert_eq!(time(". /o"), NOW);
    assert_eq!(time("--parents d/x /o"), NOW);
}

#[test]
fn modes() {
    // R-COPY-27, R-COPY-28
    lands(
        "--chmod=+x d /o",
        "",
        &["o/ 755 0:0", "o/s/ 755 0:0", "o/s/y 755 0:0", "o/x 755 0:0"],
    );
    lands(
        "--chmod=4711 k /o",
        "",
        &["o/ 711 0:0", "o/l 777 0:0 ->../d"],
    );
    lands(
        "--chmod=600 d /w",
        "w/ 711",
        &["w/ 711 0:0", "w/s/ 600 0:0", "w/s/y 600 0:0", "w/x 600 0:0"],
    );
}

#[test]
fn linked_copies_know_nothing_of_the_base() {
    // R-COPY-29
    let base = "tmp/ 1777; d/ 700; lib ->usr/lib; usr/lib/; same 640 @5";
    lands("--link f /tmp/", base, &["tmp/ 755 0:0", "tmp/f 640 0:0"]);
    lands("--link f /d", base, &["d 640 0:0"]);
    lands("--link f /lib/g", base, &["lib/ 755 0:0", "lib/g 640 0:0"]);
    lands("--link f /same", base, &["same 640 0:0"]);
}

#[test]
fn paths_are_kept_below_the_destination() {
    // R-COPY-31
    lands(
        "--parents d/s /o",
        "",
        &[
            "o/ 755 0:0",
            "o/d/ 700 0:0",
            "o/d/s/ 755 0:0",
            "o/d/s/y 644 0:0",
        ],
    );
    lands("--parents f /o", "", &["o/ 755 0:0", "o/f 640 0:0"]);
    lands("--parents zz* /o", "", &["o/ 755 0:0"]);
    lands(
        "--parents ./k* /o",
        "",
        &["o/ 755 0:0", "o/k/ 755 0:0", "o/k/l 777 0:0 ->../d"],
    );
    fails("--parents . /o", "", "`/` is not there");
    fails("--parents nope/x /o", "", "`/nope/x` is not there");
    fails(
        "--parents f /o",
        "o =old",
        "cannot copy to non-directory: `/o`",
    );
    // A directory that is passed through keeps its owner; the pivot's time is the destination's, a file is no pivot.
    lands(
        "--parents d/x /o",
        "o/; o/d/ 755 3:4",
        &["o/ 755 0:0", "o/d/ 700 3:4", "o/d/x 644 0:0"],
    );
    lands("--parents [f]/./x /o", "", &["o 640 0:0"]);
    // R-COPY-33
    fails(
        "--parents --exclude=d/s/y d/s/y /o",
        "",
        "`/d/s/y` is not there",
    );
    lands(
        "--parents --exclude=d/s d /o",
        "",
        &["o/ 755 0:0", "o/d/ 700 0:0", "o/d/x 644 0:0"],
    );
}

#[test]
fn excluded_paths() {
    // R-COPY-32, R-COPY-33
    lands("--exclude=f f /o", "", &["o 640 0:0"]);
    lands(
        "--exclude=/s d /o",
        "",
        &["o/ 755 0:0", "o/s/ 755 0:0", "o/s/y 644 0:0", "o/x 644 0:0"],
    );
    lands(
        "--exclude=**/y d /o",
        "",
        &["o/ 755 0:0", "o/s/ 755 0:0", "o/x 644 0:0"],
    );
    lands("--exclude=* d /o", "", &["o/ 755 0:0"]);
    lands(
        "--exclude=* --exclude=!s/y d /o",
        "",
        &["o/ 755 0:0", "o/s/ 755 0:0", "o/s/y 644 0:0"],
    );
    fails("--exclude=[ d /o", "", "invalid excludepatterns");
}

#[test]
fn inline_files() {
    // R-HD-14
    lands("<<F /o/", "", &["o/ 755 0:0", "o/F 644 0:0"]);
    lands("--chown=3 --chmod=700 <<F /o", "", &["o 700 3:3"]);
    let outcome = run("<<F /o", CONTEXT, true, "").unwrap();
    assert_eq!(
        outcome.origins[&path("o")],
        Origin::Inline(b"inline".to_vec())
    );
}

#[test]
fn archives_are_unpacked_into_the_destination() {
    // R-ADD-3, R-ADD-4
    let members = members("./ 700; b/ 700 3:4; b/x 4755 3:4; b/h #1; b/i #1; lib/y; old; in/to/f");
    let (from, dest) = (
        tree("a.tar; f"),
        tree("o/lib ->../../real; o/real/; o/old/z; real/"),
    );
    let trees = SourceTrees::from([(
        1,
        SourceTree {
            tree: &from,
            is_context: true,
        },
    )]);
    let archives = Archives::from([((1, path("a.tar")), &members[..])]);
    let destination = Destination {
        tree: &dest,
        read: &read,
        created: NOW,
    };
    let add = |text| copy(&op(text), &trees, &archives, &destination);
    let outcome = add("--chmod=777 f a.tar /o").unwrap();
    let expected = [
        "o/ 755 0:0",
        "o/b/ 700 3:4",
        "o/b/h 644 0:0 #0",
        "o/b/i 644 0:0 #0",
        "o/b/x 4755 3:4",
        "o/f 777 0:0",
        "o/in/ 755 0:0",
        "o/in/to/ 755 0:0",
        "o/in/to/f 644 0:0",
        "o/old 644 0:0",
        "o/real/ 755 0:0",
        "o/real/y 644 0:0",
    ];
    assert_eq!(listing(&outcome.changeset), expected);
    let origin = Origin::Archive {
        input: 1,
        archive: path("a.tar"),
        content: members
            .iter()
            .position(|one| one.path == path("lib/y"))
            .unwrap() as u64,
    };
    assert_eq!(outcome.origins[&path("o/real/y")], origin);
    assert_eq!(
        listing(&add("--chown=9 a.tar /n").unwrap().changeset)[..2],
        ["n/ 755 9:9", "n/b/ 700 9:9"]
    );
    // Directories that are no members are nobody's to own.
    let owned = listing(&add("--chown=9 a.tar /n").unwrap().changeset);
    let made: Vec<_> = owned
        .iter()
        .filter(|line| line.starts_with("n/in"))
        .collect();
    assert_eq!(
        made,
        ["n/in/ 755 0:0", "n/in/to/ 755 0:0", "n/in/to/f 644 9:9"]
    );
    let error = add("a.tar /o/old/z").unwrap_err().to_string();
    assert_eq!(error, "mkdir `/o/old/z`: not a directory");
}

#[test]
fn members_of_archives_come_one_after_the_other_and_stay_below_the_destination() {
    // R-ADD-4
    let unpacked = |text: &str, dest: &str| {
        let members = members(text);
        let (from, dest) = (tree("a.tar"), tree(dest));
        let source = SourceTree {
            tree: &from,
            is_context: true,
        };
        let archives = Archives::from([((1, path("a.tar")), &members[..])]);
        let destination = Destination {
            tree: &dest,
            read: &read,
            created: NOW,
        };
        let trees = SourceTrees::from([(1, source)]);
        copy(&op("--chmod=700 a.tar /o"), &trees, &archives, &destination)
            .map(|outcome| listing(&outcome.changeset))
            .map_err(|error| error.to_string())
    };
    let lands = |text: &str, dest: &str, expected: &[&str]| {
        assert_eq!(
            unpacked(text, dest).unwrap(),
            expected,
            "{text} onto `{dest}`"
        );
    };
    lands("e/x; e", "a", &["o/ 755 0:0", "o/e 644 0:0"]);
    lands(
        "e; e/; e/x",
        "a",
        &["o/ 755 0:0", "o/e/ 755 0:0", "o/e/x 644 0:0"],
    );
    lands(
        "l ->z; z/; l/x",
        "a",
        &[
            "o/ 755 0:0",
            "o/l 777 0:0 ->z",
            "o/z/ 755 0:0",
            "o/z/x 644 0:0",
        ],
    );
    let up = ["o/ 755 0:0", "o/up 777 0:0 ->../../etc"];
    let refused = "cannot unpack `up/x`: what it is in is not a directory";
    lands("up ->../../etc", "etc/", &up);
    assert_eq!(
        unpacked("up ->../../etc; up/x", "etc/").unwrap_err(),
        refused
    );
    assert_eq!(unpacked("up ->/etc; up/x", "etc/").unwrap_err(), refused);
    assert_eq!(unpacked("up ->up; up/x", "a").unwrap_err(), refused);
    assert_eq!(unpacked("up; up/x", "a").unwrap_err(), refused);
}

proptest! {
    #[test]
    fn every_file_has_an_origin_and_every_parent_an_entry(
        text in prop::sample::select(vec!["d /o", "* /o/", "f /o", "--parents **/* /q", "d/x f d/s /w", "--link * /w/"]),
        dest in prop::sample::select(vec!["", "o/ 700; o/x/", "o =x", "o ->w; w/s/", "w ->o; o/s ->../o", "q/d; w/f"]),
    ) {
        let from = CONTEXT.replace("gone ->nowhere", "");
        let Ok(CopyOutcome { changeset, origins }) = run(text, &from, true, dest) else { return Ok(()) };
        for (path, change) in &changeset {
            let is_file = matches!(change.node().map(|node| &node.kind), Some(Kind::File { .. }));
            prop_assert_eq!(is_file, origins.contains_key(path));
            prop_assert!(path.ancestors().all(|above| changeset.get(&above).is_some()));
        }
        prop_assert!(origins.keys().all(|path| changeset.get(path).is_some()));
    }
}
