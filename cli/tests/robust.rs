//! kiln in the hands of the unlucky and the hostile: damage in the store, odd files, steps that misbehave.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod test_env;

use serde_json::json;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use test_env::{TestEnv, files_below};

/// The stored file of this name that belongs to an unpacked layer.
fn unpacked(env: &TestEnv, name: &str) -> Option<PathBuf> {
    files_below(&env.root().join("layers"))
        .into_iter()
        .find(|path| path.ends_with(format!("fs/{name}")))
}

/// Whether what a step changed is kept as files, for the next to stand on. `chroot` copies, and keeps a tar.
fn layers_are_unpacked(env: &TestEnv) -> bool {
    let unpacked = env.rung_name() != "chroot";
    if !unpacked {
        eprintln!(
            "*** SKIPPED: in `chroot` no layer is unpacked, so none can be damaged like this ***"
        );
    }
    unpacked
}

/// What an image's name stands for must be there after a power loss.
#[test]
fn layers_are_on_the_disk_before_an_image_has_its_name() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    env.kiln(&["build", "-o", "type=tar,dest=root.tar", "."])
        .succeeds();
    let names = env.root().join("refs/images");
    std::fs::remove_dir_all(&names).unwrap();
    std::fs::write(&names, "").unwrap();
    assert_ne!(env.kiln(&["import", "root.tar", "x"]).code, 0);
    let layers = files_below(&env.root().join("layers"));
    assert!(layers.iter().any(|path| path.ends_with("tar")));
    assert!(
        !layers.iter().any(|path| path.ends_with("unsynced")),
        "{layers:?}"
    );
}

#[test]
fn sandbox_a_damaged_layer_is_told_and_made_anew() {
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "FROM busybox AS made\nRUN echo whole > /made\nFROM scratch\nCOPY --from=made /made /copied\n",
    )]);
    if !env.import_busybox() || !layers_are_unpacked(&env) {
        return;
    }
    for damage in ["", "torn!\n"] {
        env.kiln(&["build", "--target", "made", "."]).succeeds();
        let file = unpacked(&env, "made").unwrap();
        std::fs::write(&file, damage).unwrap();
        let to_tar = [
            "build",
            "--target",
            "made",
            "-o",
            "type=tar,dest=out.tar",
            ".",
        ];
        let failed = env.kiln(&to_tar);
        assert_eq!(failed.code, 3, "{}", failed.stderr);
        assert!(
            failed.error().contains("damaged: `/made`"),
            "{}",
            failed.stderr
        );
        assert!(failed.error().contains("help: "), "{}", failed.stderr);
        let again = env.kiln(&to_tar).succeeds();
        assert!(!again.stderr.contains("CACHED"), "{}", again.stderr);
        assert_eq!(
            std::fs::read_to_string(unpacked(&env, "made").unwrap()).unwrap(),
            "whole\n"
        );
    }
}

#[test]
fn sandbox_a_damaged_source_of_a_copy_is_told_and_made_anew() {
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "FROM busybox AS made\nRUN echo whole > /made\nFROM scratch\nCOPY --from=made /made /copied\n",
    )]);
    if !env.import_busybox() || !layers_are_unpacked(&env) {
        return;
    }
    env.kiln(&["build", "--target", "made", "."]).succeeds();
    std::fs::remove_file(unpacked(&env, "made").unwrap()).unwrap();
    let failed = env.kiln(&["build", "."]);
    assert_eq!(failed.code, 3, "{}", failed.stderr);
    assert!(
        failed.error().contains("damaged: `/made`"),
        "{}",
        failed.stderr
    );
    env.kiln(&["build", "."]).succeeds();
}

/// Makes a named pipe in the context.
fn pipe(env: &TestEnv, name: &str) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let path = env.work().join(name);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn pipes_that_nobody_writes_to_are_not_waited_for() {
    let env = TestEnv::new();
    pipe(&env, "Dockerfile");
    let failed = env.kiln(&["build", "."]);
    failed.fails_with(
        3,
        "error: could not read `./Dockerfile`: not a regular file",
    );

    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY . /\n")]);
    pipe(&env, ".dockerignore");
    let failed = env.kiln(&["build", "."]);
    failed.fails_with(
        3,
        "error: could not read `./.dockerignore`: not a regular file",
    );

    // R-COPY-19: one that is copied is copied as a pipe.
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY . /\n")]);
    pipe(&env, "pipe");
    env.kiln(&["build", "."]).succeeds();
}

#[test]
fn sandbox_a_flood_of_output_is_clipped_and_its_end_shown() {
    // R-RT-19
    let flood = "FROM busybox\nRUN busybox yes | head -n 3000000; echo why it failed; exit 3\n";
    let env = TestEnv::with_files(&[("Dockerfile", flood)]);
    if !env.import_busybox() {
        return;
    }
    let failed = env.kiln(&["build", "--progress=plain", "."]);
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.len() < 4 << 20, "{}", failed.stderr.len());
    for shown in ["[output clipped, log limit ", " why it failed\n"] {
        assert!(failed.stderr.contains(shown), "{shown}");
    }
}

/// Starts a build and returns when a line of its progress has `text`.
fn started(env: &TestEnv, text: &str) -> Child {
    let mut command = env.command(&["build", "--progress=plain", "."]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(text)));
    std::thread::spawn(move || lines.count());
    child
}

#[test]
fn sandbox_who_waits_for_anothers_step_can_be_stopped() {
    let step = "FROM busybox\nRUN echo begun; sleep 1000\n";
    let env = TestEnv::with_files(&[("Dockerfile", step)]);
    if !env.import_busybox() {
        return;
    }
    let mut working = started(&env, " begun");
    let mut waiting = started(&env, "RUN echo begun");
    let asked = Instant::now();
    for (child, code) in [(&mut waiting, 130), (&mut working, 143)] {
        let signal = if code == 130 { "-INT" } else { "-TERM" };
        let mut kill = Command::new("kill");
        assert!(
            kill.args([signal, &child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
    assert!(asked.elapsed().as_secs() < 500, "{:?}", asked.elapsed());
    assert_eq!(
        std::fs::read_dir(env.root().join("tmp")).unwrap().count(),
        0
    );
}

#[test]
fn sandbox_more_layers_than_the_kernel_stacks_are_refused_in_words() {
    let copies: String = (0..501)
        .map(|number| format!("COPY f /f{number}\n"))
        .collect();
    let env = TestEnv::with_files(&[
        ("Dockerfile", &format!("FROM busybox\n{copies}RUN true\n")),
        ("f", "x"),
    ]);
    if !env.import_busybox() {
        return;
    }
    if env.rung_name() == "chroot" {
        // A copy has no limit.
        env.kiln(&["build", "."]).succeeds();
        return;
    }
    env.kiln(&["build", "."]).fails_with(
        1,
        "error[too-many-layers]: 502 layers are too many for a RUN to stand on: the kernel stacks 500",
    );
}

#[test]
fn sandbox_a_store_may_have_a_path_of_odd_characters() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM busybox\nRUN echo x > /x\n")]);
    if !env.import_busybox() {
        return;
    }
    let root = env.work().join("a:b,c d%e");
    std::fs::rename(env.root(), &root).unwrap();
    let mut build = env.command(&["build", "."]);
    env.outcome(build.env("KILN_ROOT", &root)).succeeds();
}

#[test]
fn exported_files_are_no_newer_than_the_fixed_date() {
    // R-SDE-2
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY . /\n"), ("old", "")]);
    let old = std::fs::File::options()
        .write(true)
        .open(env.work().join("old"))
        .unwrap();
    old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(7))
        .unwrap();
    let mut build = env.command(&["build", "-o", "type=tar,dest=/dev/stdout", "."]);
    let output = build.env("SOURCE_DATE_EPOCH", "1000").output().unwrap();
    let mut tar = tar::Archive::new(&output.stdout[..]);
    let times: Vec<_> = tar
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            (path, entry.header().mtime().unwrap())
        })
        .collect();
    assert_eq!(
        times,
        [("Dockerfile".to_owned(), 1000), ("old".to_owned(), 7)]
    );
}

/// Configs that other tools, or nobody, would write. Each gives an image or an error in words.
#[test]
fn sandbox_a_base_whose_config_is_malformed_is_told() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM busybox\n")]);
    if !env.import_busybox() {
        return;
    }
    env.kiln(&["build", "-o", "type=docker,dest=base.tar", "."])
        .succeeds();
    env.write("Dockerfile", "FROM bad\nRUN true\n");
    let long = "x".repeat(300_000);
    let fields = [
        ("User", json!(5)),
        ("User", json!("no\0body")),
        ("User", json!("nobody:nogroup:x")),
        ("User", json!("4294967296")),
        ("User", json!("-1")),
        ("User", json!(long)),
        ("Env", json!("A=1")),
        ("Env", json!([1])),
        ("Env", json!(["NOTHING", "=x", "", "A=\0", "PATH"])),
        ("Env", json!([format!("A={long}")])),
        ("WorkingDir", json!(7)),
        ("WorkingDir", json!("../../relative")),
        ("WorkingDir", json!("/a\0b")),
        ("WorkingDir", json!(format!("/{long}"))),
        ("Cmd", json!("x")),
        ("Entrypoint", json!({})),
        ("Shell", json!([])),
        ("Shell", json!(["\0"])),
        ("OnBuild", json!(["NONSENSE"])),
        ("OnBuild", json!([1])),
        ("OnBuild", json!(["FROM x", "RUN \0", ""])),
        ("ExposedPorts", json!([])),
        ("Labels", json!({"a": 1})),
        ("Healthcheck", json!({"Interval": -1, "Retries": 1e40})),
        ("StopSignal", json!(9)),
        ("Volumes", json!(7)),
    ];
    let whole = [
        ("architecture", json!(5)),
        ("os", json!(null)),
        ("created", json!("yesterday")),
        ("history", json!({})),
        ("history", json!([{"empty_layer": "x"}])),
        ("config", json!([1])),
        ("rootfs", json!(null)),
        (
            "rootfs",
            json!({"type": "layers", "diff_ids": ["sha256:zz"]}),
        ),
        ("rootfs", json!({"type": "layers", "diff_ids": []})),
        ("rootfs", json!({"type": "layers", "diff_ids": -1})),
    ];
    let inner = fields.map(|(name, value)| ("config", json!({name: value})));
    for (name, value) in inner.into_iter().chain(whole) {
        rewrite_config(&env, name, &value);
        let loaded = env.kiln(&["load", "-i", "bad.tar"]);
        let ended = match loaded.code {
            0 => env.kiln(&["build", "."]),
            _ => loaded,
        };
        let what = format!("{name}: {:.80}", value.to_string());
        assert!((0..=4).contains(&ended.code), "{what}: {ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{what}: {ended:?}");
        assert!(
            ended.code == 0 || ended.stderr.contains("error"),
            "{what}: {ended:?}"
        );
    }
}

/// `base.tar` as `bad.tar`, with a field of its config exchanged and another name.
fn rewrite_config(env: &TestEnv, field: &str, value: &serde_json::Value) {
    let file = std::fs::File::open(env.work().join("base.tar")).unwrap();
    let mut members = Vec::new();
    for entry in tar::Archive::new(file).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        members.push((
            entry.path().unwrap().into_owned(),
            entry.header().clone(),
            bytes,
        ));
    }
    let is_manifest = |path: &std::path::Path| path.ends_with("manifest.json");
    let manifest = members
        .iter_mut()
        .find(|(path, ..)| is_manifest(path))
        .unwrap();
    let mut list: serde_json::Value = serde_json::from_slice(&manifest.2).unwrap();
    let config = list[0]["Config"].as_str().unwrap().to_owned();
    list[0]["RepoTags"] = json!(["bad:latest"]);
    list[0]["Config"] = json!("config.json");
    manifest.2 = serde_json::to_vec(&list).unwrap();
    let found = members
        .iter()
        .find(|(path, ..)| path.ends_with(&config))
        .unwrap();
    let mut changed: serde_json::Value = serde_json::from_slice(&found.2).unwrap();
    changed[field] = value.clone();
    let header = manifest_header(&members);
    members.push((
        "config.json".into(),
        header,
        serde_json::to_vec(&changed).unwrap(),
    ));
    let keeps = |path: &std::path::Path| {
        !path.ends_with("repositories")
            && !path.ends_with("index.json")
            && !path.ends_with("oci-layout")
    };
    let mut archive = tar::Builder::new(Vec::new());
    for (path, mut header, bytes) in members.into_iter().filter(|(path, ..)| keeps(path)) {
        header.set_size(bytes.len() as u64);
        match header.link_name().unwrap() {
            Some(link) => archive
                .append_link(&mut header.clone(), &path, link)
                .unwrap(),
            None => archive.append_data(&mut header, &path, &bytes[..]).unwrap(),
        }
    }
    std::fs::write(env.work().join("bad.tar"), archive.into_inner().unwrap()).unwrap();
}

/// A header for a file like the manifest.
fn manifest_header(members: &[(std::path::PathBuf, tar::Header, Vec<u8>)]) -> tar::Header {
    let found = members
        .iter()
        .find(|(path, ..)| path.ends_with("manifest.json"));
    found.unwrap().1.clone()
}
