//! `kiln build` and what can be done with its results, without running anything in a sandbox except in `sandbox_*`.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::process::Stdio;

use test_env::TestEnv;

/// A context that needs no base image.
fn scratch() -> TestEnv {
    TestEnv::with_files(&[
        (
            "Dockerfile",
            "FROM scratch\nCOPY a dir/ /data/\nENV GREETING=hello\nCMD [\"/data/a\"]\n",
        ),
        ("a", "content of a"),
        ("dir/b", "content of b"),
    ])
}

/// The names in a tar, in order.
fn members(tar: &std::path::Path) -> Vec<String> {
    let mut tar = tar::Archive::new(std::fs::File::open(tar).unwrap());
    tar.entries()
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

#[test]
fn the_second_build_is_cached_and_gives_the_same_image() {
    let env = scratch();
    let first = env
        .kiln(&["build", "-t", "x", "--iidfile", "id1", "."])
        .succeeds();
    assert!(
        first.stdout.is_empty(),
        "results alone go to stdout: {}",
        first.stdout
    );
    let second = env
        .kiln(&["build", "-t", "x", "--iidfile", "id2", "."])
        .succeeds();
    assert!(second.stderr.contains(" CACHED\n"), "{}", second.stderr);
    let id = |name| std::fs::read_to_string(env.work().join(name)).unwrap();
    assert_eq!(id("id1"), id("id2"));
    // R-EXPORT-10: no newline.
    assert_eq!(id("id1").len(), "sha256:".len() + 64);
}

#[test]
fn a_copy_gives_the_same_image_however_often_its_files_are_read() {
    let build = |env: &TestEnv| {
        // Times are a part of layers.
        for name in ["a", "dir/b", "dir"] {
            let file = std::fs::File::open(env.work().join(name)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let args = ["build", "-q", "--build-arg", "SOURCE_DATE_EPOCH=1", "."];
        env.kiln(&args).succeeds().stdout
    };
    // In a new store the files are read once. Where the step was done before they are read for the key first; then
    // again for the layer, with no second hash for those that are older than the first reading.
    let (new, known) = (scratch(), scratch());
    let once = build(&new);
    std::fs::write(known.work().join("dir/b"), "another content").unwrap();
    let other = build(&known);
    std::fs::write(known.work().join("dir/b"), "content of b").unwrap();
    let twice = build(&known);
    assert_ne!(once, other);
    assert_eq!(once, twice);
    assert_eq!(build(&new), once);
}

#[test]
fn a_stage_is_copied_from_where_it_is_and_made_anew_if_that_is_damaged() {
    let env = scratch();
    let build = |dest: &str| {
        let dockerfile =
            format!("FROM scratch AS one\nCOPY a /a\nFROM scratch\nCOPY --from=one /a {dest}\n");
        env.write("Dockerfile", &dockerfile);
        env.kiln(&["build", "-o", "type=tar,dest=out.tar", "."])
    };
    let stored = |name: &str| {
        let layers = std::fs::read_dir(env.root().join("layers")).unwrap();
        let files = layers.map(|layer| layer.unwrap().path().join(name));
        files
            .filter(|file| file.exists())
            .collect::<Vec<std::path::PathBuf>>()
    };
    build("/b").succeeds();
    assert!(stored("fs").is_empty(), "nothing has to be unpacked");
    for tar in stored("tar") {
        let mut bytes = std::fs::read(&tar).unwrap();
        bytes[512] ^= 1;
        std::fs::write(&tar, bytes).unwrap();
    }
    assert_ne!(build("/c").code, 0);
    build("/c").succeeds();
    assert_eq!(members(&env.work().join("out.tar")), ["c"]);
}

#[test]
fn quiet_prints_the_id_alone() {
    let env = scratch();
    let outcome = env
        .kiln(&["build", "-q", "--iidfile", "id", "."])
        .succeeds();
    assert_eq!(outcome.stderr, "");
    assert_eq!(
        outcome.stdout,
        std::fs::read_to_string(env.work().join("id")).unwrap() + "\n"
    );
}

#[test]
fn plain_progress_numbers_the_steps() {
    // R-PROG-1, R-PROG-3
    let outcome = scratch()
        .kiln(&["build", "--progress=plain", "."])
        .succeeds();
    assert!(
        outcome
            .stderr
            .starts_with("#1 [internal] load build definition from Dockerfile\n#1 DONE"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("COPY a dir/ /data/\n"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn rawjson_is_json_on_every_line() {
    // R-PROG-5
    let outcome = scratch()
        .kiln(&["build", "--progress=rawjson", "."])
        .succeeds();
    assert!(outcome.stderr.lines().count() > 2, "{}", outcome.stderr);
    for line in outcome.stderr.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn outputs_are_made_from_one_build() {
    // R-EXPORT-1, 5, 6, 7, 11
    let env = scratch();
    let line = [
        "build",
        "-t",
        "x:1",
        "-o",
        "type=oci,dest=oci.tar",
        "-o",
        "type=docker,dest=docker.tar",
        "-o",
        "files",
        "-o",
        "type=tar,dest=root.tar",
        "--metadata-file",
        "meta.json",
        ".",
    ];
    env.kiln(&line).succeeds();
    let work = env.work();
    assert_eq!(
        std::fs::read_to_string(work.join("files/data/b")).unwrap(),
        "content of b"
    );
    assert!(members(&work.join("oci.tar")).contains(&"oci-layout".to_owned()));
    assert!(members(&work.join("docker.tar")).contains(&"manifest.json".to_owned()));
    assert!(
        members(&work.join("root.tar"))
            .iter()
            .any(|name| name.trim_start_matches("./") == "data/a")
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&std::fs::read(work.join("meta.json")).unwrap()).unwrap();
    assert!(
        metadata["containerimage.digest"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    assert_eq!(metadata["image.name"], "docker.io/library/x:1");
    // Only what was asked for: nothing was put into the store.
    assert_eq!(env.kiln(&["images", "-q"]).succeeds().stdout, "");
}

#[test]
fn an_archive_on_stdout_is_the_archive_alone() {
    let env = scratch();
    let mut command = env.command(&["build", "-o", "-", "."]);
    let output = command.output().unwrap();
    assert!(output.status.success());
    std::fs::write(env.work().join("out.tar"), &output.stdout).unwrap();
    assert!(
        members(&env.work().join("out.tar"))
            .iter()
            .any(|name| name.trim_start_matches("./") == "data/b")
    );
}

#[test]
fn a_dockerfile_can_come_from_stdin() {
    // R-CLI-2
    let env = scratch();
    env.kiln_with_stdin(&["build", "-t", "s1", "-"], b"FROM scratch\nLABEL a=b\n")
        .succeeds();
    env.kiln_with_stdin(
        &["build", "-t", "s2", "-f", "-", "."],
        b"FROM scratch\nCOPY a /\n",
    )
    .succeeds();
    let outcome = env.kiln_with_stdin(&["build", "-"], b"FROM scratch\nCOPY a /\n");
    assert_eq!(outcome.code, 1, "the context is empty: {}", outcome.stderr);
}

#[test]
fn ignored_files_are_not_there_for_copy() {
    let env = scratch();
    env.write(".dockerignore", "dir\n");
    let outcome = env.kiln(&["build", "."]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(
        outcome.error().contains(".dockerignore"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn build_args_and_labels_reach_the_config() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nARG V\nARG W\nENV V=$V W=$W\n")]);
    let mut command = env.command(&[
        "build",
        "-t",
        "x",
        "--build-arg",
        "V=1",
        "--build-arg",
        "W",
        "--label",
        "l=m",
        ".",
    ]);
    env.outcome(command.env("W", "from-outside")).succeeds();
    let inspected = env
        .kiln(&["inspect", "--format", "json", "x"])
        .succeeds()
        .stdout;
    let images: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let image = &images[0];
    let env_list = image["Config"]["Env"].as_array().unwrap();
    assert!(
        env_list.iter().any(|entry| entry == "V=1")
            && env_list.iter().any(|entry| entry == "W=from-outside")
    );
    assert_eq!(image["Config"]["Labels"]["l"], "m");
}

#[test]
fn images_are_listed_tagged_and_removed() {
    let env = scratch();
    let id = env
        .kiln(&["build", "-q", "-t", "first", "."])
        .succeeds()
        .stdout;
    let short = &id["sha256:".len()..][..12];
    env.kiln(&["tag", "first", "127.0.0.1:5000/second:2"])
        .succeeds();
    let list = env.kiln(&["images"]).succeeds().stdout;
    let lines: Vec<Vec<_>> = list
        .lines()
        .map(|line| line.split_whitespace().take(3).collect())
        .collect();
    assert_eq!(lines[0], ["REPOSITORY", "TAG", "IMAGE"]);
    assert!(lines.contains(&vec!["first", "latest", short]), "{list}");
    assert!(
        lines.contains(&vec!["127.0.0.1:5000/second", "2", short]),
        "{list}"
    );
    assert_eq!(
        env.kiln(&["images", "-q"]).succeeds().stdout,
        format!("{short}\n")
    );
    let json = env
        .kiln(&["images", "--format", "json", "first"])
        .succeeds()
        .stdout;
    let row: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&row["Repository"], &row["Tag"], &row["ID"]),
        (&"first".into(), &"latest".into(), &short.into())
    );

    env.kiln(&["rmi", "first"]).succeeds();
    env.kiln(&["inspect", short]).succeeds();
    let gone = env.kiln(&["rmi", short]).succeeds().stdout;
    assert!(gone.contains("Deleted: sha256:"), "{gone}");
    assert_eq!(env.kiln(&["images", "-q"]).succeeds().stdout, "");
}

#[test]
fn history_is_newest_first() {
    let env = scratch();
    env.kiln(&["build", "-t", "x", "."]).succeeds();
    let json = env
        .kiln(&["history", "--format", "json", "x"])
        .succeeds()
        .stdout;
    let rows: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let commands: Vec<_> = rows
        .iter()
        .map(|row| row["CreatedBy"].as_str().unwrap())
        .collect();
    assert_eq!(
        commands,
        [
            "CMD [\"/data/a\"]",
            "ENV GREETING=hello",
            "COPY a dir/ /data/ # buildkit"
        ]
    );
    assert!(
        env.kiln(&["history", "x"])
            .succeeds()
            .stdout
            .starts_with("IMAGE ")
    );
}

#[test]
fn save_and_load_keep_the_image() {
    let env = scratch();
    let id = env.kiln(&["build", "-q", "-t", "x", "."]).succeeds().stdout;
    env.kiln(&["save", "-o", "x.tar", "x"]).succeeds();
    env.kiln(&["load", "--root", "other", "-i", "x.tar"])
        .succeeds();
    let loaded = env
        .kiln(&["images", "--root", "other", "--no-trunc", "-q"])
        .succeeds()
        .stdout;
    assert_eq!(loaded, id);
}

#[test]
fn a_closed_pipe_is_silent() {
    let env = scratch();
    env.kiln(&["build", "-t", "x", "."]).succeeds();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let outcome = env
        .command(&["images"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&outcome.stderr), "");
    assert_eq!(outcome.status.code(), Some(0));
}

#[test]
fn help_and_version_are_results() {
    let env = TestEnv::new();
    assert!(
        env.kiln(&["--version"])
            .succeeds()
            .stdout
            .starts_with("kiln ")
    );
    let help = env.kiln(&["build", "--help"]).succeeds().stdout;
    for flag in [
        "--tag",
        "--build-arg",
        "--iidfile",
        "--metadata-file",
        "--output",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
}

#[test]
fn patterns_are_relative_to_the_context_wherever_the_dockerfile_is() {
    // R-IGN-12, R-CLI-3
    let env = TestEnv::with_files(&[
        ("elsewhere/Dockerfile", "FROM scratch\nCOPY . /\n"),
        ("ctx/.dockerignore", "a\nelsewhere\n"),
        ("ctx/a", "ignored"),
        ("ctx/d/a", "kept"),
        ("ctx/b", "kept"),
    ]);
    env.kiln(&["build", "-f", "elsewhere/Dockerfile", "-o", "files", "ctx"])
        .succeeds();
    let is_there = |name: &str| env.work().join("files").join(name).exists();
    assert!(is_there("b") && is_there("d/a") && !is_there("a"));
}

#[test]
fn each_folder_obeys_the_ignore_file_in_it_and_an_archive_none() {
    // R-IGN-2
    let env = TestEnv::with_files(&[
        ("Dockerfile", "FROM scratch\nCOPY --from=other . /\n"),
        (".dockerignore", "a"),
        ("other/.dockerignore", "b"),
        ("other/a", ""),
        ("other/b", ""),
    ]);
    let names = |folder: &str| {
        let entries = std::fs::read_dir(env.work().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let line = ["build", "--build-context", "other=other", "-o", "out", "."];
    env.kiln(&line).succeeds();
    assert_eq!(names("out"), [".dockerignore", "a"]);

    let mut tar = tar::Builder::new(Vec::new());
    let files = [
        ("Dockerfile", "FROM scratch\nCOPY . /\n"),
        (".dockerignore", "a"),
        ("a", ""),
    ];
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    let bytes = tar.into_inner().unwrap();
    let line = ["build", "-o", "from-archive", "-"];
    env.kiln_with_stdin(&line, &bytes).succeeds();
    assert_eq!(names("from-archive"), [".dockerignore", "Dockerfile", "a"]);
}
