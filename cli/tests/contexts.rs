//! Contexts that are not a folder: tars and Dockerfiles on stdin, downloads, and named contexts of layouts. What a named folder does
//! is in `testdata/build`.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::io::{Read, Write};
use std::net::TcpListener;

use kiln_image::compress::{Compression, encoder};
use tar::{Builder, EntryType, Header};
use test_env::{Outcome, TestEnv, files_below};

/// A member of a tar: its name, its kind, where it links to, its content, its owner.
struct Member<'a> {
    name: &'a str,
    kind: EntryType,
    link: &'a str,
    content: &'a str,
    owner: u64,
}

/// A file of root.
fn file<'a>(name: &'a str, content: &'a str) -> Member<'a> {
    Member {
        name,
        kind: EntryType::Regular,
        link: "",
        content,
        owner: 0,
    }
}

fn link<'a>(kind: EntryType, name: &'a str, link: &'a str) -> Member<'a> {
    Member {
        kind,
        link,
        ..file(name, "")
    }
}

/// A tar of these members, whose names are written as they are.
fn tar_of(members: &[Member<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for member in members {
        let mut header = Header::new_gnu();
        header.set_entry_type(member.kind);
        header.set_mode(if member.kind == EntryType::Directory {
            0o755
        } else {
            0o644
        });
        header.set_uid(member.owner);
        header.set_gid(member.owner);
        header.as_old_mut().name[..member.name.len()].copy_from_slice(member.name.as_bytes());
        header.as_old_mut().linkname[..member.link.len()].copy_from_slice(member.link.as_bytes());
        header.set_size(member.content.len() as u64);
        header.set_cksum();
        builder.append(&header, member.content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Builds with `context` on stdin; what the image holds, as `name content`, one line a file.
fn files_of(env: &TestEnv, args: &[&str], context: &[u8]) -> String {
    let mut all = vec!["build", "--progress=plain", "-o", "type=tar,dest=out.tar"];
    all.extend(args);
    env.kiln_with_stdin(&all, context).succeeds();
    listing(env)
}

fn listing(env: &TestEnv) -> String {
    let bytes = std::fs::read(env.work().join("out.tar")).unwrap();
    let mut lines = Vec::new();
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let owner = entry.header().uid().unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        if !entry.header().entry_type().is_dir() {
            lines.push(format!("{owner} {name} {content}"));
        }
    }
    lines.join("\n")
}

fn cached(outcome: &Outcome) -> usize {
    outcome.stderr.matches("CACHED").count()
}

const COPY_ALL: &str = "FROM scratch\nCOPY . /\n";

#[test]
fn a_tar_on_stdin_is_the_context() {
    // R-CLI-2, R-CTX-8, R-IGN-2: no ignore file counts, and owners are the archive's
    let env = TestEnv::new();
    let mut owned = file("d/f", "f");
    owned.owner = 7;
    let tar = tar_of(&[
        file("./Dockerfile", COPY_ALL),
        file(".dockerignore", "d"),
        owned,
    ]);
    let expected = format!("0 .dockerignore d\n0 Dockerfile {COPY_ALL}\n7 d/f f");
    assert_eq!(files_of(&env, &["-"], &tar), expected);
    for compression in [Compression::default(), Compression::Zstd { level: 3 }] {
        let mut packed = encoder(compression, Vec::new()).unwrap();
        packed.write_all(&tar).unwrap();
        assert_eq!(files_of(&env, &["-"], &packed.finish().unwrap()), expected);
    }
    let left = files_below(&env.root().join("tmp"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_dockerfile_of_a_tar_is_within_it() {
    // R-CLI-3, R-CTX-9
    let env = TestEnv::new();
    env.write("sub/Other", "FROM nowhere.invalid/x\n");
    let tar = tar_of(&[
        file("dockerfile", "FROM scratch\nCOPY dockerfile /lower\n"),
        file("sub/Other", "FROM scratch\nCOPY sub/Other /other\n"),
        link(EntryType::Symlink, "l", "/sub/Other"),
    ]);
    assert!(files_of(&env, &["-"], &tar).starts_with("0 lower"));
    assert!(files_of(&env, &["-f", "sub/Other", "-"], &tar).starts_with("0 other"));
    assert!(files_of(&env, &["-f", "l", "-"], &tar).starts_with("0 other"));
    let missing = env.kiln_with_stdin(&["build", "-f", "sub/None", "-"], &tar);
    missing.fails_with(2, "error[dockerfile-not-found]: there is no `sub/None`");
    let nothing = env.kiln_with_stdin(&["build", "-"], &tar_of(&[file("f", "f")]));
    nothing.fails_with(2, "error[dockerfile-not-found]: there is no `Dockerfile`");
}

#[test]
fn text_on_stdin_is_the_dockerfile() {
    // R-CLI-2
    let env = TestEnv::new();
    let inline = b"FROM scratch\nCOPY <<E /f\nx\nE\n";
    assert_eq!(files_of(&env, &["-"], inline), "0 f x\n");
    let copies = env.kiln_with_stdin(&["build", "-"], b"FROM scratch\nCOPY f /\n");
    copies.fails_with(
        1,
        "error[copy-source-not-found]: `f` is not in the build context",
    );
    env.write("ctx/f", "f");
    env.write("ctx/g", "g");
    env.write("ctx/.dockerignore", "g\n.dockerignore");
    let with_folder = files_of(&env, &["-f", "-", "ctx"], COPY_ALL.as_bytes());
    assert_eq!(with_folder, "0 f f");
    let both = env.kiln_with_stdin(&["build", "-f", "-", "-"], b"FROM scratch\n");
    both.fails_with(
        2,
        "error: stdin cannot be both the context and the Dockerfile",
    );
    let ambiguous = env.kiln_with_stdin(&["build", "-f", "x", "-"], b"FROM scratch\n");
    assert_eq!(ambiguous.code, 2, "{}", ambiguous.stderr);
}

#[test]
fn a_tar_and_a_folder_with_the_same_content_have_the_same_keys() {
    // R-CACHE-2, R-CACHE-11
    let env = TestEnv::new();
    let dockerfile = "FROM scratch\nCOPY d /d\nCOPY f /f\nADD f /g\n";
    env.write("ctx/Dockerfile", dockerfile);
    env.write("ctx/d/x", "x");
    env.write("ctx/f", "f");
    for path in files_below(&env.work().join("ctx")) {
        set_mode(&path, 0o644);
    }
    set_mode(&env.work().join("ctx/d"), 0o755);
    let folder = env.kiln(&["build", "--progress=plain", "ctx"]).succeeds();
    assert_eq!(cached(&folder), 0, "{}", folder.stderr);
    let tar = tar_of(&[
        file("f", "old"),
        file("Dockerfile", dockerfile),
        link(EntryType::Directory, "d/", ""),
        file("d/x", "x"),
        file("f", "f"),
    ]);
    let args = ["build", "--progress=plain", "-"];
    let same = env.kiln_with_stdin(&args, &tar).succeeds();
    assert_eq!(cached(&same), 3, "{}", same.stderr);
    let named = env.kiln(&["build", "--progress=plain", "ctx"]).succeeds();
    assert_eq!(cached(&named), 3, "{}", named.stderr);
}

fn set_mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn hostile_tars_are_refused_or_harmless() {
    let env = TestEnv::new();
    let refused = [
        (vec![link(EntryType::Link, "h", "/etc/passwd")], "hard link"),
        (vec![link(EntryType::Link, "h", "../x")], "hard link"),
        (vec![link(EntryType::new(b'Q'), "s", "")], "not supported"),
        (
            vec![file("f", "f"), file("f/below", "x")],
            "not a directory",
        ),
    ];
    for (members, expected) in refused {
        let outcome = env.kiln_with_stdin(&["build", "-"], &tar_of(&members));
        assert_eq!(outcome.code, 2, "{}", outcome.stderr);
        assert!(outcome.error().contains(expected), "{}", outcome.stderr);
        assert!(
            outcome.error().contains("could not read the context `-`"),
            "{}",
            outcome.stderr
        );
    }
    let whole = tar_of(&[file("Dockerfile", COPY_ALL)]);
    let cut = env.kiln_with_stdin(&["build", "-"], &whole[..520]);
    assert_eq!(cut.code, 2, "{}", cut.stderr);
    assert!(cut.error().contains("ends within `Dockerfile`"));
    let not_a_tar = env.kiln_with_stdin(&["build", "-"], b"\x1f\x8b\x08 is no gzip");
    assert_eq!(not_a_tar.code, 2, "{}", not_a_tar.stderr);
    // What leads out leads to what is in the context by that name, or nowhere.
    let links = tar_of(&[
        file("Dockerfile", "FROM scratch\nCOPY l/passwd /p\n"),
        link(EntryType::Symlink, "l", "/etc"),
        file("etc/passwd", "mine"),
        link(EntryType::Symlink, "up", "../../../.."),
    ]);
    assert_eq!(files_of(&env, &["-"], &links), "0 p mine");
    let up = tar_of(&[
        file("Dockerfile", "FROM scratch\nCOPY up /p\n"),
        file("a/../../../up", "mine"),
    ]);
    assert_eq!(files_of(&env, &["-"], &up), "0 p mine");
    assert!(!env.work().join("up").exists());
    let out = tar_of(&[
        file("Dockerfile", "FROM scratch\nCOPY up/etc/hostname /p\n"),
        link(EntryType::Symlink, "up", "../../../.."),
    ]);
    let nowhere = env.kiln_with_stdin(&["build", "-"], &out);
    assert_eq!(nowhere.code, 1, "{}", nowhere.stderr);
}

#[test]
fn checks_and_plans_take_every_context() {
    let env = TestEnv::new();
    let dockerfile = "FROM base AS Upper\nCOPY f /\n";
    let tar = tar_of(&[file("Dockerfile", dockerfile), file("f", "f")]);
    env.write("base/x", "x");
    let context = ["--build-context", "base=base", "-"];
    let with = |command: &[&'static str]| [command, &context].concat();
    let plan = env.kiln_with_stdin(&with(&["plan"]), &tar).succeeds();
    assert!(plan.stdout.contains("[context base]"), "{}", plan.stdout);
    let check = env.kiln_with_stdin(&with(&["check", "--offline"]), &tar);
    assert!(check.stdout.contains("StageNameCasing"), "{}", check.stdout);
    let outline = with(&["build", "--call=outline"]);
    env.kiln_with_stdin(&outline, &tar).succeeds();
    let fixed = env.kiln_with_stdin(&with(&["check", "--offline", "--fix"]), &tar);
    assert_eq!(fixed.code, 2, "{}", fixed.stderr);
}

#[test]
fn a_layout_is_a_base_by_tag_and_by_digest() {
    // R-CTX-1, R-CTX-7
    let env = TestEnv::new();
    env.write("made/Dockerfile", "FROM scratch\nCOPY f /f\nLABEL l=1\n");
    env.write("made/f", "f");
    let output = "type=oci,dest=layout.tar";
    env.kiln(&["build", "-t", "made:v1", "-o", output, "made"])
        .succeeds();
    env.write("ctx/Dockerfile", "FROM base\nCOPY --from=base:2 /f /g\n");
    let layout = env.work().join("layout");
    let archive = std::fs::read(env.work().join("layout.tar")).unwrap();
    tar::Archive::new(&archive[..]).unpack(&layout).unwrap();
    let index = std::fs::read_to_string(layout.join("index.json")).unwrap();
    let digest = index.split("\"digest\":\"").nth(1).unwrap();
    let digest = digest.split('"').next().unwrap();
    // Another store, so that nothing is there already.
    let other = TestEnv::new();
    let path = layout.display();
    let build = |base: &str| {
        let base = format!("base=oci-layout://{path}{base}");
        let again = format!("base:2=oci-layout://{path}:v1");
        let context = env.work().join("ctx");
        other.kiln(&[
            "build",
            "--progress=plain",
            "--build-context",
            &base,
            "--build-context",
            &again,
            "-o",
            "type=tar,dest=out.tar",
            &context.to_string_lossy(),
        ])
    };
    // One image alone is found by any tag.
    for base in [":v1", "", &format!("@{digest}"), &format!(":x@{digest}")] {
        build(base).succeeds();
        assert_eq!(listing(&other), "0 f f\n0 g f", "{base}");
    }
    let none = build(&format!("@sha256:{}", "0".repeat(64)));
    assert!(none.error().contains("there is no image sha256:0"));
}

#[test]
fn downloads_are_contexts() {
    // R-CTX-1, R-CTX-8, R-CLI-3
    let env = TestEnv::new();
    let tar = tar_of(&[
        file("Dockerfile", "FROM scratch\nCOPY f /f\n"),
        file("f", "f"),
        file("sub/Other", "FROM scratch\nCOPY f /other\n"),
    ]);
    let archive = serve(tar);
    let text = serve(b"FROM scratch\nCOPY . /c/\n".to_vec());
    let build = |args: &[&str]| {
        let all = ["build", "--progress=plain", "-o", "type=tar,dest=out.tar"];
        env.kiln(&[&all[..], args].concat()).succeeds();
        listing(&env)
    };
    assert_eq!(build(&[&archive]), "0 f f");
    assert_eq!(build(&["-f", "sub/Other", &archive]), "0 other f");
    let lone = serve(b"FROM scratch\nCOPY nope /\n".to_vec());
    let missing = env.kiln(&["build", &lone]);
    missing.fails_with(
        1,
        "error[copy-source-not-found]: `nope` is not in the build context",
    );
    // The Dockerfile is the only file of its context.
    assert_eq!(build(&[&text]), "0 c/context FROM scratch\nCOPY . /c/\n");
    env.write("ctx/f", "mine");
    assert_eq!(build(&["-f", &text, "ctx"]), "0 c/f mine");
    // A named one is not unpacked.
    env.write("ctx/Dockerfile", "FROM scratch\nCOPY --from=web / /w/\n");
    let named = format!("web={text}");
    let named = build(&["--build-context", &named, "ctx"]);
    assert_eq!(named, "0 w/context FROM scratch\nCOPY . /c/\n");
}

/// Serves these bytes to whoever asks, until the test ends. Returns the URL.
fn serve(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n")
                && stream.read(&mut byte).is_ok_and(|read| read == 1)
            {
                request.push(byte[0]);
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                bytes.len()
            );
            let _ = stream.write_all(head.as_bytes());
            if !request.starts_with(b"HEAD") {
                let _ = stream.write_all(&bytes);
            }
        }
    });
    url
}

#[test]
fn a_build_context_flag_that_names_nothing_is_refused() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\n"), ("f", "f")]);
    for flag in ["x", "x=", "Up=.", "x=nowhere", "x=f", "x=target:y"] {
        let outcome = env.kiln(&["build", "--build-context", flag, "."]);
        assert_eq!(outcome.code, 2, "{flag}: {}", outcome.stderr);
    }
}
