//! Builds that try to reach what is outside of the image, each as a published hole of a builder has it. What they reach for is in a
//! directory beside the context; afterwards it must be as it was, and nowhere in what was printed or made.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod test_env;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use test_env::{Outcome, TestEnv, files_below};

const SECRET: &str = "of the machine";

/// As many links upwards as no path is deep.
const UP: &str = "/../../../../../../../../../../..";

/// What is outside, and how it was.
struct Outside {
    dir: PathBuf,
    before: Vec<String>,
}

impl Outside {
    fn beside(env: &TestEnv) -> Self {
        let dir = env.work().join("outside");
        fs::create_dir_all(dir.join("d")).unwrap();
        fs::create_dir_all(dir.join("empty-directory")).unwrap();
        fs::write(dir.join("empty-file"), "").unwrap();
        fs::write(dir.join("file"), SECRET).unwrap();
        fs::write(
            dir.join("passwd"),
            format!("stranger:x:4242:4242:{SECRET}:/:\n"),
        )
        .unwrap();
        let before = state(&dir);
        Self { dir, before }
    }

    fn text(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    /// Nothing was changed, printed, or brought into `made`.
    #[track_caller]
    fn is_out_of_reach(&self, outcome: &Outcome, made: &Path) {
        assert_eq!(state(&self.dir), self.before, "{}", outcome.stderr);
        assert_ne!(outcome.code, 70, "{}", outcome.stderr);
        let told = outcome.stdout.contains(SECRET) || outcome.stderr.contains(SECRET);
        assert!(!told, "{}{}", outcome.stdout, outcome.stderr);
        for file in files_below(made) {
            let link = file.is_symlink();
            assert!(link || !holds(&file, SECRET), "{}", file.display());
        }
    }
}

fn state(dir: &Path) -> Vec<String> {
    let mut lines: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let found = entry.unwrap();
            let at = fs::symlink_metadata(found.path()).unwrap();
            let text = fs::read_to_string(found.path()).unwrap_or_default();
            let inner = if at.is_dir() {
                state(&found.path())
            } else {
                Vec::new()
            };
            let (mode, times) = (at.mode(), (at.mtime(), at.mtime_nsec(), at.uid()));
            format!(
                "{:?} {mode:o} {times:?} {text} {inner:?}",
                found.file_name()
            )
        })
        .collect();
    lines.sort();
    lines
}

fn holds(file: &Path, needle: &str) -> bool {
    let bytes = fs::read(file).unwrap_or_default();
    bytes
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

/// A member of a layer, of whatever name, linking to wherever.
fn member(
    tar: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    name: &str,
    link: &str,
    text: &str,
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(text.len() as u64);
    let old = header.as_old_mut();
    let copy = |to: &mut [u8], text: &str| to[..text.len()].copy_from_slice(text.as_bytes());
    copy(&mut old.name, name);
    copy(&mut old.linkname, link);
    header.set_cksum();
    tar.append(&header, text.as_bytes()).unwrap();
}

/// Layers as hostile as a base image can be: through links, upwards, with whiteouts that mean a directory itself or the one above.
fn hostile_layers(outside: &str) -> Vec<Vec<u8>> {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let short = "outside"; // a name in an old header has 100 bytes
    let mut layers = Vec::new();
    for link in [outside.to_owned(), format!("../../../../../..{outside}")] {
        if link.len() >= 100 {
            continue;
        }
        let bad: [&[(tar::EntryType, &str, &str)]; 9] = [
            &[(Regular, "out/made", ""), (Regular, "out/file", "")],
            &[(Link, "stolen", "out/file"), (Regular, "stolen", "")],
            &[(Directory, "out/d/new", ""), (Symlink, "out/d/link", "x")],
            &[
                (Regular, "out/.wh.empty-file", ""),
                (Regular, "out/.wh.d", ""),
            ],
            &[(Regular, "out/.wh..wh..opq", "")],
            &[(Directory, "out", ""), (Regular, "out/made", "")],
            &[
                (Regular, "out/.wh..", ""),
                (Regular, ".wh..", ""),
                (Regular, ".wh...", ""),
            ],
            &[(Regular, ".wh.", ""), (Regular, "d/.wh.../x", "")],
            &[(Regular, ".wh..wh.plnk", ""), (Regular, ".wh.out/made", "")],
        ];
        for entries in bad {
            let mut tar = tar::Builder::new(Vec::new());
            member(&mut tar, Symlink, "out", &link, "");
            for (kind, name, target) in entries {
                let text = if *kind == Regular && !name.contains(".wh.") {
                    "of the image"
                } else {
                    ""
                };
                member(&mut tar, *kind, name, target, text);
            }
            layers.push(tar.into_inner().unwrap());
        }
        for name in [
            format!("../{short}/made"),
            format!("{link}/made"),
            format!("d/../../{short}/file"),
        ] {
            if name.len() < 100 {
                let mut tar = tar::Builder::new(Vec::new());
                member(&mut tar, Regular, &name, "", "of the image");
                layers.push(tar.into_inner().unwrap());
                let mut tar = tar::Builder::new(Vec::new());
                member(&mut tar, Link, "stolen", &name.replace("made", "file"), "");
                layers.push(tar.into_inner().unwrap());
            }
        }
    }
    layers
}

/// kaniko's links, tar-split's and the like (CVE-2018-15664, CVE-2021-41089 among them): layers that go through links and upwards, read,
/// copied from, and written over each other into a folder.
#[test]
fn layers_lead_out_of_nothing() {
    let env = TestEnv::new();
    let outside = Outside::beside(&env);
    fs::create_dir(env.work().join("ctx")).unwrap();
    for (number, layer) in hostile_layers(outside.text()).iter().enumerate() {
        fs::write(env.work().join("layer.tar"), layer).unwrap();
        let imported = env.kiln(&["import", "layer.tar", "hostile"]);
        outside.is_out_of_reach(&imported, &env.work().join("ctx"));
        if imported.code != 0 {
            continue;
        }
        for dockerfile in [
            "FROM hostile\n",
            "FROM scratch\nCOPY --from=hostile / /\n",
            "FROM scratch\nCOPY --from=hostile /out /o\nCOPY --from=hostile /out/ /o/\n",
            "FROM hostile\nCOPY . /out/\nWORKDIR /out/w\n",
        ] {
            env.write("ctx/Dockerfile", dockerfile);
            let out = format!("out-{number}");
            // The same folder each time: what one left there is in the way of the next.
            let built = env.kiln(&["build", "--progress=plain", "-o", &out, "ctx"]);
            outside.is_out_of_reach(&built, &env.work().join(&out));
        }
    }
}

/// CVE-2018-15664, CVE-2019-14271 (docker cp): an output over a folder that has links where the image has directories.
#[test]
fn an_output_follows_no_link_of_its_folder() {
    let env = TestEnv::new();
    let outside = Outside::beside(&env);
    env.write("ctx/a/file", "of the image");
    env.write("ctx/a/made", "of the image");
    env.write(
        "ctx/Dockerfile",
        "FROM scratch\nCOPY a /a/\nCOPY a/file /b\n",
    );
    for target in [outside.text(), "../outside"] {
        let out = env.work().join("out");
        let _ = fs::remove_dir_all(&out);
        fs::create_dir(&out).unwrap();
        symlink(target, out.join("a")).unwrap();
        symlink(format!("{target}/file"), out.join("b")).unwrap();
        let built = env.kiln(&["build", "--progress=plain", "-o", "out", "ctx"]);
        outside.is_out_of_reach(&built, &out.join("none"));
    }
}

/// kaniko: COPY, ADD and WORKDIR to where a RUN before has put links.
#[test]
fn sandbox_copies_land_inside_whatever_a_step_left() {
    let env = TestEnv::new();
    let outside = Outside::beside(&env);
    if !env.import_busybox() {
        return;
    }
    let text = outside.text();
    env.write("ctx/f", "of the image");
    let mut tar = tar::Builder::new(Vec::new());
    member(
        &mut tar,
        tar::EntryType::Regular,
        "made",
        "",
        "of the image",
    );
    fs::write(env.work().join("ctx/t.tar"), tar.into_inner().unwrap()).unwrap();
    env.write(
        "ctx/Dockerfile",
        &format!(
            "FROM busybox AS s\nRUN ln -s {text} /a && ln -s {UP}{text} /b && ln -s {text}/file /c && ln -s /proc/self/root{text} /e\n\
             COPY f /a/made\nCOPY f /b/made2\nCOPY f /c\nADD t.tar /a/\nADD t.tar /b/x/\nWORKDIR /a/w/x\nCOPY f .\n\
             RUN cat /a/made /b/made2 /c && touch /a/file2 && ls /b/w/x/f\n\
             FROM busybox\nCOPY --from=s /a /a/\nCOPY --from=s /c /c\nCOPY --from=s /b/made /d\n"
        ),
    );
    let built = env.kiln(&["build", "--progress=plain", "-o", "out", "ctx"]);
    outside.is_out_of_reach(&built, &env.work().join("out"));
    built.succeeds();
}

/// CVE-2024-1753 (Buildah, Podman): the source of a bind or a cache is a link to `/` or further up, which stays the stage's.
#[test]
fn sandbox_sources_of_mounts_stay_in_their_stage() {
    let env = TestEnv::new();
    let outside = Outside::beside(&env);
    if !env.import_busybox() {
        return;
    }
    let text = outside.text();
    for link in [
        "/",
        UP,
        text,
        &format!("{UP}{text}"),
        "/proc/self/root",
        "/proc/1/cwd",
    ] {
        for mount in ["type=bind,rw", "type=bind", "type=cache,id=x"] {
            env.write(
                "ctx/Dockerfile",
                &format!(
                    "FROM busybox AS s\nRUN ln -s {link} /l\nFROM busybox\n\
                     RUN --mount={mount},from=s,source=/l,target=/m cat /m/file /m{text}/file; echo x >/m/made; echo x >/m{text}/made; true\n"
                ),
            );
            let built = env.kiln(&["build", "--progress=plain", "ctx"]);
            outside.is_out_of_reach(&built, &env.work().join("none"));
        }
    }
}

/// CVE-2024-9675 (Buildah): the id of a cache is a path upwards. CVE-2024-23651: links in a cache lead mounts of the next step.
#[test]
fn sandbox_caches_are_found_nowhere_else() {
    let env = TestEnv::new();
    let outside = Outside::beside(&env);
    if !env.import_busybox() {
        return;
    }
    let text = outside.text();
    for id in [
        "..",
        "../../../../../outside",
        &format!("{UP}{text}"),
        text,
        "/",
        ".",
    ] {
        let step = |command: &str| format!("RUN --mount=type=cache,id={id},target=/c {command}\n");
        let dockerfile = format!(
            "FROM busybox\n{}{}{}{}",
            step(&format!(
                "cat /c/file; touch /c/made && ln -sf {text} /c/x && ln -sf {UP}{text} /c/y"
            )),
            format_args!(
                "RUN --mount=type=cache,id={id},target=/c --mount=type=tmpfs,target=/c/x/empty-directory --mount=type=bind,target=/c/y/d cat /c/x/file /c/y/file; true\n"
            ),
            format_args!(
                "RUN --mount=type=cache,id={id},target=/c --mount=type=cache,id=other,target=/c/x/empty-directory rm -rf /c/x/empty-directory /c/y/empty-file; true\n"
            ),
            format_args!(
                "WORKDIR /c/x/w\n{}",
                step("test -e /c/made && rm -rf /c/* && rmdir /c || true")
            ),
        );
        env.write("ctx/Dockerfile", &dockerfile);
        let built = env.kiln(&["build", "--no-cache", "--progress=plain", "ctx"]);
        outside.is_out_of_reach(&built, &env.work().join("none"));
        built.succeeds();
    }
}

/// CVE-2024-9407 (Buildah): options of mounts that are another tool's reach the kernel. CVE-2024-23653 (BuildKit): rights that nobody
/// allowed, asked for by a Dockerfile or by a base image.
#[test]
fn what_nobody_allowed_is_refused() {
    let env = TestEnv::new();
    for instruction in [
        "RUN --mount=type=bind,target=/m,bind-propagation=shared true",
        "RUN --mount=type=bind,target=/m,propagation=rshared true",
        "RUN --mount=type=bind,target=/m,suid,dev true",
        "RUN --mount=type=bind,target=/m,O=lowerdir=/ true",
        "RUN --mount=type=tmpfs,target=/m,source=/ true",
        "RUN --mount=type=devpts,target=/m true",
        "RUN --security=insecure true",
        "RUN --network=host true",
        "RUN --device=vendor/class true",
    ] {
        env.write("ctx/Dockerfile", &format!("FROM scratch\n{instruction}\n"));
        let built = env.kiln(&["build", "--progress=plain", "ctx"]);
        assert!(
            [1, 2].contains(&built.code),
            "{instruction}: {} {}",
            built.code,
            built.stderr
        );
        assert!(
            !built.stderr.contains("executable file not found"),
            "{instruction}: it ran"
        );
    }
}

/// CVE-2024-9676 (Podman, Buildah): files of the image that kiln reads are links to the machine's.
#[test]
fn sandbox_users_are_those_of_the_image() {
    let env = TestEnv::new();
    let outside = Outside::beside(&env);
    if !env.import_busybox() {
        return;
    }
    let text = outside.text();
    for link in [
        format!("{text}/passwd"),
        format!("{UP}{text}/passwd"),
        format!("/proc/self/root{text}/passwd"),
    ] {
        for instruction in [
            "USER stranger\nRUN id",
            "COPY --chown=stranger f /",
            "WORKDIR /x\nUSER stranger\nRUN id\n",
        ] {
            env.write("ctx/f", "");
            env.write(
                "ctx/Dockerfile",
                &format!("FROM busybox\nRUN ln -sf {link} /etc/passwd && ln -sf {link} /etc/group\n{instruction}\n"),
            );
            let built = env.kiln(&["build", "--progress=plain", "ctx"]);
            outside.is_out_of_reach(&built, &env.work().join("none"));
            // Without a file of users COPY takes the name for root's.
            assert!(
                built.code == 1 || instruction.starts_with("COPY"),
                "{}",
                built.stderr
            );
            assert!(!built.stderr.contains("4242"), "{}", built.stderr);
        }
    }
}

/// Archives and layouts whose parts are named by paths out of them, or are links.
#[test]
fn archives_are_made_of_their_own_files() {
    let env = TestEnv::new();
    let outside = Outside::beside(&env);
    let text = outside.text();
    let manifest = |config: &str, layer: &str| {
        format!(r#"[{{"Config":"{config}","RepoTags":["x:1"],"Layers":["{layer}"]}}]"#)
    };
    let config = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}"#;
    let odd = [
        "",
        "[]",
        "[null]",
        "{}",
        "[{}]",
        "null",
        "[[[[[[",
        r#"[{"Config":null,"Layers":null}]"#,
        r#"[{"Config":1,"Layers":[1]}]"#,
    ];
    let mut manifests: Vec<String> = odd.map(str::to_owned).to_vec();
    for path in [
        format!("{text}/file"),
        format!("../../../../../..{text}/file"),
        "link".into(),
        "hard".into(),
    ] {
        manifests.push(manifest("config.json", &path));
        manifests.push(manifest(&path, "layer.tar"));
    }
    for manifest in manifests {
        let mut tar = tar::Builder::new(Vec::new());
        let mut link = tar::Header::new_gnu();
        link.set_size(0);
        link.set_entry_type(tar::EntryType::Symlink);
        tar.append_link(&mut link, "link", format!("{text}/file"))
            .unwrap();
        link.set_entry_type(tar::EntryType::Link);
        tar.append_link(&mut link, "hard", format!("{text}/file"))
            .unwrap();
        for (name, content) in [
            ("config.json", config),
            ("manifest.json", &manifest),
            ("layer.tar", ""),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, content.as_bytes())
                .unwrap();
        }
        fs::write(env.work().join("image.tar"), tar.into_inner().unwrap()).unwrap();
        let loaded = env.kiln(&["load", "-i", "image.tar"]);
        outside.is_out_of_reach(&loaded, &env.work().join("none"));
        assert!(loaded.code != 0 || manifest == "[]", "{manifest}");
    }
    for digest in [
        format!("sha256:../../../../../../../..{text}/file"),
        "sha256:../../file".into(),
        "sha256:".into(),
        "../x:00".into(),
    ] {
        env.write("layout/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        env.write(
            "layout/index.json",
            &format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":14,"digest":"{digest}"}}]}}"#),
        );
        env.write("ctx/Dockerfile", "FROM base\n");
        let built = env.kiln(&[
            "build",
            "--progress=plain",
            "--build-context",
            "base=oci-layout://layout",
            "ctx",
        ]);
        outside.is_out_of_reach(&built, &env.work().join("none"));
        assert_ne!(built.code, 0, "{digest}");
    }
}

/// Programs of images and caches that run as root whoever starts them: in the store they are nobody's but kiln's. The folder of the store
/// is there before, open to all, as a volume is.
#[test]
fn sandbox_setuid_programs_in_the_store_are_out_of_reach() {
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let env = TestEnv::new();
    let setpriv = Path::new("/usr/bin/setpriv");
    if !fs::metadata(env.work()).is_ok_and(|found| found.uid() == 0) || !setpriv.exists() {
        eprintln!("*** SKIPPED: needs root and setpriv ***");
        return;
    }
    fs::create_dir(env.root()).unwrap();
    open(&env.root());
    open(env.root().parent().unwrap());
    if !env.import_busybox() {
        return;
    }
    env.write(
        "ctx/Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,target=/c cp /bin/busybox /s && chmod 4755 /s && cp -p /s /c/s\nRUN cp -p /s /t && false\n",
    );
    let built = env.kiln(&["build", "ctx"]);
    assert_eq!(built.code, 1, "{}", built.stderr); // and what failed is kept, too
    let mut found = files_below(&env.root());
    found.retain(|file| fs::symlink_metadata(file).unwrap().mode() & 0o4000 != 0);
    assert!(!found.is_empty(), "{}", built.stderr); // a cache, and layers where they are stacked
    let mut nobody = Command::new(setpriv);
    nobody.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "sh",
        "-c",
    ]);
    nobody.args(["for file; do cat \"$file\" >/dev/null && echo read; \"$file\" true && echo ran; done; ls \"$0\""]);
    let tried = nobody.arg(env.root()).args(&found).output().unwrap();
    assert!(tried.stdout.is_empty(), "{tried:?}");
    assert_eq!(tried.status.code(), Some(2), "{tried:?}"); // of ls
}

/// A secret is nowhere on the disk once kiln was killed while a step had it.
#[test]
fn sandbox_secrets_are_gone_with_kiln() {
    const VALUE: &str = "s3cret-7f9a1c52e8";
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    env.write("secret", VALUE);
    env.write(
        "ctx/Dockerfile",
        "FROM busybox\nRUN --mount=type=secret,id=s --mount=type=secret,id=s,env=VALUE --mount=type=secret,id=s,target=/etc/deep/s,mode=0444 \
         test \"$(cat /run/secrets/s)\" = \"$VALUE\" && echo re''ady && sleep 1000\n",
    );
    let mut command = env.command(&[
        "build",
        "--progress=plain",
        "--secret",
        "id=s,src=secret",
        "ctx",
    ]);
    let mut kiln = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(kiln.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the build ended");
    }
    kiln.kill().unwrap();
    kiln.wait().unwrap();
    let _ = lines.read_to_end(&mut Vec::new()); // until the step is gone, too
    if env.rung_name() == "chroot" {
        // In files for as long as the step runs: what is left of them goes when the store is used again.
        env.kiln(&["prune"]).succeeds();
    }
    let left: Vec<_> = files_below(&env.root())
        .into_iter()
        .filter(|file| holds(file, VALUE))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
