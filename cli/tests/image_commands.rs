//! The commands about images, over images that need no sandbox to be made.

#![allow(clippy::unwrap_used)]

mod test_env;

use test_env::{TestEnv, files_below};

/// Two images: `team/base:1` with a file, and `app` made of it, with a label and a command.
fn two_images() -> TestEnv {
    let env = TestEnv::with_files(&[
        ("base/Dockerfile", "FROM scratch\nCOPY file /etc/file\n"),
        ("base/file", "of the base"),
        (
            "app/Dockerfile",
            "FROM team/base:1\nCOPY app /app\nLABEL team=blue kind=\"a b\"\nENV A=1 B=\"two words\"\nCMD [\"/app\", \"-v\"]\n",
        ),
        ("app/app", "of the app"),
    ]);
    for (tag, folder, epoch) in [
        ("team/base:1", "base", "1000000000"),
        ("app", "app", "1100000000"),
    ] {
        let mut build = env.command(&["build", "-q", "-t", tag, folder]);
        env.outcome(build.env("SOURCE_DATE_EPOCH", epoch))
            .succeeds();
    }
    env
}

#[test]
fn lists_are_printed_as_asked() {
    let env = two_images();
    let cases: [(&[&str], &str); 9] = [
        (
            &["images", "--format", "{{.Repository}}:{{.Tag}}"],
            "app:latest\nteam/base:1\n",
        ),
        (
            &["images", "--format", "table {{.Repository}}\\t{{.Size}}"],
            "REPOSITORY   SIZE\napp          4.61kB\nteam/base    2.56kB\n",
        ),
        (
            &[
                "history",
                "--format",
                "{{.Size}} {{.CreatedBy}}",
                "team/base:1",
            ],
            "2.56kB COPY file /etc/file # buildkit\n",
        ),
        (
            &[
                "history",
                "-H=false",
                "--format",
                "{{.Size}}",
                "team/base:1",
            ],
            "2560\n",
        ),
        (
            &[
                "inspect",
                "-f",
                "{{.Config.Cmd}} {{json (slice .Config.Env 1)}}",
                "app",
            ],
            "[/app -v] [\"A=1\",\"B=two words\"]\n",
        ),
        (
            &[
                "inspect",
                "-f",
                "{{range .RepoTags}}{{println .}}{{end}}",
                "app",
            ],
            "app:latest\n\n",
        ),
        (
            &[
                "inspect",
                "-f",
                "{{index .Config.Labels \"kind\"}}|{{.Config.User}}|{{.Os}}",
                "app",
            ],
            "a b||linux\n",
        ),
        (
            &[
                "builds",
                "ls",
                "--format",
                "{{.Status}} {{.Name}} {{len .Tags}}",
            ],
            "Completed app:latest 1\nCompleted team/base:1 1\n",
        ),
        (
            &["context", "ls", "--format", "{{.path}} {{.size}}", "base"],
            "Dockerfile 33\nfile 11\n",
        ),
    ];
    for (args, expected) in cases {
        assert_eq!(env.kiln(args).succeeds().stdout, expected, "{args:?}");
    }
    let wrong = env.kiln(&["images", "--format", "{{.Nope}}"]);
    assert!(
        wrong.error().contains("there is no field `Nope`"),
        "{}",
        wrong.stderr
    );
    assert_eq!(wrong.code, 2);
    for (command, format) in [("images", "yaml"), ("cache", "x")] {
        assert_eq!(env.kiln(&[command, "--format", format]).code, 2);
    }
}

#[test]
fn images_are_filtered_as_docker_does() {
    let env = two_images();
    let id = env.kiln(&["images", "-q", "app"]).succeeds().stdout;
    env.kiln(&["build", "-q", "base", "-f", "app/Dockerfile"])
        .fails(1);
    env.kiln(&["tag", "team/base:1", "app"]).succeeds();
    let listed = |filters: &[&str]| {
        let flags = filters.iter().flat_map(|filter| ["--filter", filter]);
        let args: Vec<_> = ["images", "--format", "{{.Repository}}"]
            .into_iter()
            .chain(flags)
            .collect();
        let mut names: Vec<_> = env
            .kiln(&args)
            .succeeds()
            .stdout
            .lines()
            .map(str::to_owned)
            .collect();
        names.sort();
        names.join(" ")
    };
    let cases: [(&[&str], &str); 12] = [
        (&[], "<none> app team/base"),
        (&["dangling=true"], "<none>"),
        (&["dangling=false"], "app team/base"),
        (&["label=team"], "<none>"),
        (&["label=team=blue", "label=kind"], "<none>"),
        (&["label=team=red"], ""),
        (&["since=app"], "<none>"),
        (&["before=app"], ""),
        (&[&format!("before={}", id.trim())], "app team/base"),
        (&["reference=team/*"], "team/base"),
        (
            &["reference=team/*", "reference=app:latest"],
            "app team/base",
        ),
        (&["reference=*"], "app"),
    ];
    for (filters, expected) in cases {
        assert_eq!(listed(filters), expected, "{filters:?}");
    }
    assert_eq!(env.kiln(&["images", "--filter", "name=x"]).code, 2);
    assert_eq!(env.kiln(&["images", "--filter", "since=nothing"]).code, 1);
    assert_eq!(
        env.kiln(&["images", "-aq"])
            .succeeds()
            .stdout
            .lines()
            .count(),
        2
    );
}

/// An image whose second step hides and deletes what the first one made, on a base with a file.
fn wasteful() -> TestEnv {
    let env = TestEnv::with_files(&[
        (
            "base/Dockerfile",
            "FROM scratch\nCOPY file /etc/file\nADD was.tar /\n",
        ),
        ("base/file", "of the base"),
        (
            "app/Dockerfile",
            "FROM base\nCOPY big /srv/big\nCOPY small /srv/big\nCOPY small /srv/.cache/pip/wheel\nLABEL a=b\n",
        ),
        ("app/big", &"x".repeat(100_000)),
        ("app/small", &"y".repeat(1000)),
    ]);
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    tar.append_data(&mut header, "srv/hidden", &b"old"[..])
        .unwrap();
    std::fs::write(env.work().join("base/was.tar"), tar.into_inner().unwrap()).unwrap();
    env.kiln(&["build", "-q", "-t", "base", "base"]).succeeds();
    env
}

#[test]
fn waste_is_found_and_stops_a_build() {
    let env = wasteful();
    let stopped = env.kiln(&["build", "--fail-if-waste=10%", "-t", "app", "app"]);
    stopped.fails_with(
        5,
        "error[waste]: 98.0% of the image are wasted (100kB of 102kB), more than 10.0%",
    );
    let note = "= note: 100kB /srv/big of layer 3: another is in its place since layer 4 (COPY small /srv/big # buildkit)";
    assert!(stopped.stderr.contains(note), "{}", stopped.stderr);
    assert_eq!(env.kiln(&["images", "-q", "app"]).succeeds().stdout, "");
    env.kiln(&["build", "--fail-if-waste=200k", "-t", "app", "app"])
        .succeeds();

    let told = env.kiln(&["history", "--waste", "app"]).succeeds().stdout;
    assert!(told.contains("4         1kB       0B (0.0%)"), "{told}");
    assert!(
        told.contains("1kB /srv/.cache/pip of layer 5: pip cache left behind"),
        "{told}"
    );
    assert!(told.ends_with("Efficiency 2.0%: 100kB of 102kB are wasted, hidden or deleted by later layers; 0B are there twice, 1kB are caches left behind\n"), "{told}");
    let json = env
        .kiln(&["history", "--waste", "--format", "json", "app"])
        .succeeds()
        .stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["Wasted"], 100_000);
    assert_eq!(json["Layers"][2]["Shadowed"], 100_000);
    assert_eq!(json["Files"][0]["By"], 4);
}

#[test]
fn squashing_leaves_one_layer_with_the_same_files() {
    let env = wasteful();
    env.kiln(&["build", "-q", "-t", "app", "app"]).succeeds();
    env.kiln(&[
        "build",
        "-q",
        "--squash",
        "--fail-if-waste=1%",
        "-t",
        "over-base",
        "app",
    ])
    .succeeds();
    env.kiln(&["squash", "-q", "-t", "flat", "app"]).succeeds();
    env.kiln(&["squash", "-q", "--base", "base", "-t", "by-hand", "app"])
        .succeeds();
    let layers = |image: &str| {
        env.kiln(&["inspect", "-f", "{{len .RootFS.Layers}}", image])
            .succeeds()
            .stdout
    };
    let counts = ["app", "over-base", "flat", "by-hand"].map(layers);
    assert_eq!(counts, ["5\n", "3\n", "1\n", "3\n"]);
    for image in ["over-base", "flat", "by-hand"] {
        let different = env
            .kiln(&["diff", "--times", "app", image])
            .succeeds()
            .stdout;
        assert_eq!(different, "", "{image}");
    }
    let format = "{{.Size}} {{.CreatedBy}}{{.Comment}}";
    let history = env
        .kiln(&["history", "-H=false", "--format", format, "over-base"])
        .succeeds()
        .stdout;
    let lines: Vec<&str> = history.lines().collect();
    assert!(
        lines[0].contains(" merge sha256:") && !lines[0].starts_with("0 "),
        "{history}"
    );
    assert!(
        lines[1..5].iter().all(|line| line.starts_with("0 ")),
        "{history}"
    );
    assert_eq!(lines.len(), 7, "{history}");
    let other = env.kiln(&["squash", "--base", "flat", "app"]);
    other.fails_with(2, "error: `app` is not made of `flat`");
}

#[test]
fn squashing_what_has_no_layers_of_its_own_makes_none_and_says_so() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nENV A=1\n")]);
    let output = "type=oci,dest=layout,tar=false";
    env.kiln(&["build", "-q", "--squash", "-o", output, "."])
        .succeeds();
    let config = files_below(&env.work().join("layout/blobs"))
        .iter()
        .filter_map(|blob| serde_json::from_slice(&std::fs::read(blob).unwrap()).ok())
        .find(|blob: &serde_json::Value| blob.get("history").is_some())
        .unwrap();
    let history = config["history"].as_array().unwrap();
    assert_eq!(history.len(), 2);
    assert!(history.iter().all(|entry| entry["empty_layer"] == true));
}

/// A layout of one small image, named `x`, as a folder.
fn layout_folder() -> TestEnv {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let output = "type=oci,dest=layout,tar=false,name=x";
    env.kiln(&["build", "-q", "-o", output, "."]).succeeds();
    env
}

/// Puts a document into the layout; its descriptor.
fn blob(env: &TestEnv, media_type: &str, text: &str) -> serde_json::Value {
    let digest = kiln_image::Digest::of(text.as_bytes());
    env.write(&format!("layout/blobs/sha256/{}", digest.hex()), text);
    serde_json::json!({ "mediaType": media_type, "digest": digest.to_string(), "size": text.len() })
}

fn index(env: &TestEnv) -> serde_json::Value {
    let text = std::fs::read(env.work().join("layout/index.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn folders_are_loaded_as_their_archives_are() {
    let env = layout_folder();
    let loaded = env.kiln(&["load", "-i", "layout"]).succeeds().stdout;
    assert_eq!(loaded, "Loaded image: x:latest\n");
    env.kiln(&["history", "x"]).succeeds();
    // What `docker save` wrote before it wrote layouts.
    env.kiln(&["save", "-o", "x.tar", "x"]).succeeds();
    std::fs::create_dir(env.work().join("old")).unwrap();
    let unpacked = std::process::Command::new("tar")
        .args(["-xf", "x.tar", "-C", "old"])
        .current_dir(env.work())
        .status();
    assert!(unpacked.unwrap().success());
    for name in ["index.json", "oci-layout"] {
        std::fs::remove_file(env.work().join("old").join(name)).unwrap();
    }
    env.kiln(&["rmi", "x"]).succeeds();
    let loaded = env.kiln(&["load", "-i", "old"]).succeeds().stdout;
    assert_eq!(loaded, "Loaded image: x:latest\n");
    std::fs::create_dir(env.work().join("empty")).unwrap();
    assert_eq!(env.kiln(&["load", "-i", "empty"]).code, 1);
}

#[test]
fn what_is_no_image_is_passed_over_by_load() {
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    let env = layout_folder();
    let config = blob(&env, "application/vnd.oci.empty.v1+json", "{}");
    let text = blob(&env, "text/plain", "hello");
    let note = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x-note",
        "config": config, "layers": [text],
    });
    let note = blob(&env, MANIFEST, &note.to_string());
    // What containerd puts beside an image that it has attestations of (`docker save`).
    let statement = blob(&env, "application/vnd.in-toto+json", "{}");
    let config = serde_json::json!({
        "architecture": "unknown", "os": "unknown", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [statement["digest"]] },
    });
    let config_type = "application/vnd.oci.image.config.v1+json";
    let said = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": blob(&env, config_type, &config.to_string()), "layers": [statement],
    });
    let said = blob(&env, MANIFEST, &said.to_string());
    let mut index = index(&env);
    let manifests = index["manifests"].as_array_mut().unwrap();
    manifests.extend([note.clone(), said]);
    env.write("layout/index.json", &index.to_string());
    let loaded = env.kiln(&["load", "-i", "layout"]).succeeds();
    assert_eq!(loaded.stdout, "Loaded image: x:latest\n");
    let passed_over = loaded.stderr.matches("is no image").count();
    assert_eq!(passed_over, 2, "{}", loaded.stderr);
    index["manifests"] = serde_json::json!([note]);
    env.write("layout/index.json", &index.to_string());
    let refused = env.kiln(&["load", "-i", "layout"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("has no image"),
        "{}",
        refused.stderr
    );
}

#[test]
fn an_index_within_an_index_is_the_inner_one() {
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let env = layout_folder();
    let mut outer = index(&env);
    let entry = outer["manifests"][0].clone();
    let mut inner = entry.clone();
    inner.as_object_mut().unwrap().remove("annotations");
    let mut document = serde_json::json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": [inner],
    });
    for _ in 0..2 {
        let wrapped = blob(&env, INDEX, &document.to_string());
        document["manifests"] = serde_json::json!([wrapped]);
    }
    outer["manifests"] = document["manifests"].clone();
    outer["manifests"][0]["annotations"] = entry["annotations"].clone();
    env.write("layout/index.json", &outer.to_string());
    let loaded = env.kiln(&["load", "-i", "layout"]).succeeds().stdout;
    assert_eq!(loaded, "Loaded image: x:latest\n");
    env.kiln(&["save", "-o", "again.tar", "x"]).succeeds();
    env.write("on/Dockerfile", "FROM base\n");
    let base = "base=oci-layout://layout:latest";
    env.kiln(&["build", "--build-context", base, "on"])
        .succeeds();
}

#[test]
fn a_tar_is_imported_from_its_address() {
    use kiln_registry::testing::{Reply, TestServer};
    let env = layout_folder();
    env.kiln(&["load", "-i", "layout"]).succeeds();
    env.kiln(&["export", "-o", "x.tar", "x"]).succeeds();
    let tar = std::fs::read(env.work().join("x.tar")).unwrap();
    let server = TestServer::start(move |asked| match asked.target() {
        "/root.tar?token=hunter2" => Reply::ok(tar.clone()),
        _ => Reply::status(404),
    });
    let address = |rest: &str| format!("{}/{rest}", server.origin());
    let from = address("root.tar?token=hunter2");
    env.kiln(&["import", &from, "again"]).succeeds();
    let history = env.kiln(&["history", "again"]).succeeds().stdout;
    assert!(history.contains("Imported from http://"), "{history}");
    assert!(!history.contains("hunter2"), "{history}");
    env.kiln(&["export", "-o", "again.tar", "again"]).succeeds();
    let same = |name: &str| std::fs::read(env.work().join(name)).unwrap();
    assert!(same("x.tar") == same("again.tar"));
    assert_eq!(env.kiln(&["import", &address("missing.tar")]).code, 4);
    let login = from.replace("http://", "http://me:hunter2@");
    let refused = env.kiln(&["import", &login]);
    assert_eq!(refused.code, 2);
    assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
}

#[test]
fn of_a_flag_that_is_given_again_the_last_counts() {
    let env = layout_folder();
    env.kiln(&["load", "-q", "-q", "-i", "nowhere", "-i", "layout"])
        .succeeds();
    let listed = ["images", "--format", "json", "--format", "{{.Repository}}"];
    assert_eq!(env.kiln(&listed).succeeds().stdout, "x\n");
    // What may be repeated is all taken.
    let build = ["build", "-t", "a", "-t", "b", "."];
    env.kiln(&build).succeeds();
    for name in ["a", "b"] {
        env.kiln(&["inspect", name]).succeeds();
    }
}
