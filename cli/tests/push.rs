//! `kiln push` and `kiln pull` with rules about registries: what goes where, and what needn't go.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::process::Stdio;

use kiln_registry::testing::{Fault, TestRegistry};
use test_env::TestEnv;

const FILES: [(&str, &str); 2] = [
    ("Dockerfile", "FROM scratch\nCOPY file /\n"),
    ("file", "content"),
];

/// The requests that sent a blob, and those that mounted one.
fn sent_and_mounted(registry: &TestRegistry) -> (usize, usize) {
    let received = registry.received();
    let count = |test: fn(&str) -> bool| received.iter().filter(|r| test(&r.line)).count();
    (
        count(|line| line.starts_with("PUT") && line.contains("/blobs/uploads/")),
        count(|line| line.starts_with("POST") && line.contains("?mount=sha256:")),
    )
}

#[test]
fn what_the_registry_has_in_another_repository_is_not_sent_again() {
    let (env, registry) = (TestEnv::with_files(&FILES), TestRegistry::start());
    let name = |rest: &str| format!("{}/{rest}", registry.host());
    let (first, second) = (name("team/app:1"), name("other/app:2"));
    env.kiln(&["build", "-t", &first, "."]).succeeds();
    let pushed = env.kiln(&["push", &first]).succeeds().stdout;
    assert_eq!(sent_and_mounted(&registry), (2, 0));
    env.kiln(&["push", &first]).succeeds();
    assert_eq!(sent_and_mounted(&registry), (2, 0));
    env.kiln(&["tag", &first, &second]).succeeds();
    let again = env.kiln(&["push", &second]).succeeds().stdout;
    assert_eq!(sent_and_mounted(&registry), (2, 2));
    let digest = |line: &str| line.split('@').nth(1).unwrap().to_owned();
    assert_eq!(digest(&pushed), digest(&again));
    // A name that says the registry has it, which it hasn't: it is sent.
    let other = TestRegistry::start();
    let third = format!("{}/third/app:3", other.host());
    let fourth = format!("{}/fourth/app:4", other.host());
    env.kiln(&["tag", &first, &third]).succeeds();
    env.kiln(&["tag", &first, &fourth]).succeeds();
    env.kiln(&["push", &fourth]).succeeds();
    assert_eq!(sent_and_mounted(&other), (2, 2));
}

#[test]
fn a_build_pushes_every_name_and_sends_no_blob_twice() {
    // R-EXPORT-8
    let (env, registry) = (TestEnv::with_files(&FILES), TestRegistry::start());
    let name = |rest: &str| format!("{}/{rest}", registry.host());
    let (first, second) = (name("team/app:1"), name("other/app:2"));
    let line = ["build", "--push", "-t", &first, "-t", &second, "."];
    env.kiln(&line).succeeds();
    let there = |repository, tag| registry.manifest(repository, tag);
    let manifest = there("team/app", "1").unwrap();
    assert_eq!(there("other/app", "2"), Some(manifest.clone()));
    assert_eq!(sent_and_mounted(&registry).0, 2);
    env.kiln(&line).succeeds();
    let names = format!(
        "--output=type=registry,\"name={first},{}\"",
        name("team/app:3")
    );
    env.kiln(&["build", &names, "."]).succeeds();
    assert_eq!(there("team/app", "3"), Some(manifest));
    assert_eq!(sent_and_mounted(&registry).0, 2);
}

#[test]
fn by_digest_an_image_gets_no_tag_and_need_not_be_stored() {
    // R-EXPORT-8
    let (env, registry) = (TestEnv::with_files(&FILES), TestRegistry::start());
    let output = format!(
        "--output=type=registry,name={}/team/app,push-by-digest=true,store=false",
        registry.host()
    );
    env.kiln(&["build", &output, "--metadata-file=m", "."])
        .succeeds();
    let metadata = std::fs::read(env.work().join("m")).unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap();
    let digest = metadata["containerimage.digest"].as_str().unwrap();
    assert!(registry.manifest("team/app", digest).is_some());
    assert!(registry.manifest("team/app", "latest").is_none());
    let listed = env.kiln(&["images", "-q"]).succeeds().stdout;
    assert_eq!(listed, "");
}

#[test]
fn rules_of_the_user_name_mirrors_and_forbid_registries() {
    let (env, mirror) = (TestEnv::with_files(&FILES), TestRegistry::start());
    let there = format!("{}/hub/app:1", mirror.host());
    env.kiln(&["build", "-t", &there, "."]).succeeds();
    env.kiln(&["push", &there]).succeeds();
    let rules = format!(
        "[[registry]]\nlocation = \"images.example\"\n[[registry.mirror]]\nlocation = \"{}/hub\"\n\
         [[registry]]\nlocation = \"bad.example\"\nblocked = true\n",
        mirror.host()
    );
    env.write("../home/.config/kiln/registries.conf", &rules);
    env.kiln(&["pull", "images.example/app:1"]).succeeds();
    env.write("From", "FROM images.example/app:1\nCOPY file /more\n");
    env.kiln(&["build", "--pull", "-f", "From", "-t", "x", "."])
        .succeeds();
    let blocked = env.kiln(&["pull", "bad.example/app"]);
    blocked.fails_with(
        4,
        "error[registry]: could not resolve `bad.example/app:latest`",
    );
    assert!(
        blocked
            .stderr
            .contains("registries.conf` blocks `bad.example`")
    );
}

#[test]
fn what_a_mirror_gets_wrong_comes_from_the_next() {
    let (wrong, right) = (TestRegistry::start(), TestRegistry::start());
    let maker = TestEnv::with_files(&FILES);
    let there = format!("{}/hub/app:1", right.host());
    maker.kiln(&["build", "-t", &there, "."]).succeeds();
    maker.kiln(&["push", &there]).succeeds();
    let (media_type, manifest) = right.manifest("hub/app", "1").unwrap();
    let value: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    for digest in [&value["config"]["digest"], &value["layers"][0]["digest"]] {
        let digest = digest.as_str().unwrap().parse().unwrap();
        wrong.put_blob("hub/app", &right.blob("hub/app", &digest).unwrap());
    }
    wrong.put_manifest("hub/app", "1", &media_type, &manifest);
    let env = TestEnv::with_files(&[
        ("Dockerfile", "FROM images.example/app:1\nCOPY file /more\n"),
        FILES[1],
    ]);
    let mirror =
        |of: &TestRegistry| format!("[[registry.mirror]]\nlocation = \"{}/hub\"\n", of.host());
    let rules = format!(
        "[[registry]]\nlocation = \"images.example\"\n{}{}",
        mirror(&wrong),
        mirror(&right)
    );
    env.write("../home/.config/kiln/registries.conf", &rules);
    env.kiln(&["plan", "."]).succeeds();
    // What is left to be had is the layer.
    wrong.order(Fault::CorruptBlob);
    let built = env.kiln(&["build", "-o", "out", "."]).succeeds();
    let warning = format!("WARNING: mirror `{}`: its content has digest", wrong.host());
    assert!(built.stderr.contains(&warning), "{}", built.stderr);
    assert_eq!(
        std::fs::read(env.work().join("out/file")).unwrap(),
        b"content"
    );
}

#[test]
fn a_pull_that_fails_leaves_its_name_to_what_had_it() {
    let registry = TestRegistry::start();
    let name = format!("{}/team/app:1", registry.host());
    let (here, there) = (TestEnv::with_files(&FILES), TestEnv::new());
    let push = |content: &str| {
        here.write("file", content);
        here.kiln(&["build", "-q", "-t", &name, "."]).succeeds();
        here.kiln(&["push", &name]).succeeds();
        let (_, manifest) = registry.manifest("team/app", "1").unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap().clone();
        let layer = layers.last().unwrap()["digest"].as_str().unwrap();
        layer.parse::<kiln_image::Digest>().unwrap()
    };
    let id = || {
        there
            .kiln(&["images", "-q", "--no-trunc"])
            .succeeds()
            .stdout
    };
    registry.lose_blob(&push("one"));
    assert_eq!(there.kiln(&["pull", &name]).code, 4);
    assert_eq!(id(), "");
    push("one");
    there.kiln(&["pull", &name]).succeeds();
    let before = id();
    registry.lose_blob(&push("two"));
    assert_eq!(there.kiln(&["pull", &name]).code, 4);
    assert_eq!(id(), before);
    push("two");
    there.kiln(&["pull", &name]).succeeds();
    assert_ne!(id(), before);
}

#[test]
fn an_interrupt_ends_the_wait_for_a_registry_that_says_nothing() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("{}/app:1", silent.local_addr().unwrap());
    let env = TestEnv::new();
    let mut command = env.command(&["pull", &name]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut kiln = command.spawn().unwrap();
    let (connection, _) = silent.accept().unwrap();
    let process = rustix::process::Pid::from_child(&kiln);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    assert_eq!(kiln.wait().unwrap().code(), Some(130));
    drop(connection);
}

#[test]
fn what_helps_a_push_is_not_what_helps_a_pull() {
    let env = TestEnv::with_files(&FILES);
    let name = format!("{}/app:1", test_env::nobody());
    env.kiln(&["build", "-t", &name, "."]).succeeds();
    let told = |command: &str| {
        let outcome = env.kiln(&[command, &name]);
        assert_eq!(outcome.code, 4);
        assert!(outcome.stderr.contains("can't be reached"));
        outcome.stderr
    };
    let help = "check the name and the network";
    let pulled = format!("{help}; an image that is in the store is not asked for\n");
    assert!(told("pull").ends_with(&pulled));
    assert!(told("push").ends_with(&format!("{help}\n")));
}

#[test]
fn one_platform_of_several_is_pushed_alone() {
    let (env, registry) = (TestEnv::with_files(&FILES), TestRegistry::start());
    let name = format!("{}/team/app:1", registry.host());
    let line = [
        "build",
        "-t",
        &name,
        "--platform=linux/amd64,linux/arm64",
        ".",
    ];
    env.kiln(&line).succeeds();
    env.kiln(&["push", "--platform", "linux/arm64", &name])
        .succeeds();
    let (media_type, manifest) = registry.manifest("team/app", "1").unwrap();
    assert_eq!(media_type, "application/vnd.oci.image.manifest.v1+json");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config = registry.blob("team/app", &config.parse().unwrap()).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["architecture"], "arm64");
    assert_eq!(
        env.kiln(&["push", "--platform", "linux/s390x", &name]).code,
        1
    );
    env.kiln(&["push", &name]).succeeds();
    let (media_type, _) = registry.manifest("team/app", "1").unwrap();
    assert_eq!(media_type, "application/vnd.oci.image.index.v1+json");
}

#[test]
fn an_index_within_an_index_and_one_that_says_no_platforms_are_pulled_from() {
    let registry = TestRegistry::start();
    let maker = TestEnv::with_files(&FILES);
    let name = |tag: &str| format!("{}/app:{tag}", registry.host());
    let platforms = "--platform=linux/amd64,linux/arm64";
    maker
        .kiln(&["build", platforms, "-t", &name("1"), "."])
        .succeeds();
    maker.kiln(&["push", &name("1")]).succeeds();
    let (media_type, index) = registry.manifest("app", "1").unwrap();
    let mut unsaid: serde_json::Value = serde_json::from_slice(&index).unwrap();
    for manifest in unsaid["manifests"].as_array_mut().unwrap() {
        manifest.as_object_mut().unwrap().remove("platform");
    }
    let unsaid = unsaid.to_string();
    let inner = registry.put_manifest("app", "unsaid", &media_type, unsaid.as_bytes());
    let outer = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type,
        "manifests": [{ "mediaType": media_type, "digest": inner, "size": unsaid.len() }],
    });
    registry.put_manifest("app", "outer", &media_type, outer.to_string().as_bytes());
    for tag in ["unsaid", "outer"] {
        for architecture in ["arm64", "amd64"] {
            let env = TestEnv::with_files(&FILES);
            let platform = format!("--platform=linux/{architecture}");
            env.kiln(&["pull", &platform, &name(tag)]).succeeds();
            let format = "{{.Architecture}}";
            let found = env.kiln(&["inspect", "-f", format, &name(tag)]).succeeds();
            assert_eq!(found.stdout.trim(), architecture, "{tag}");
        }
        let env = TestEnv::with_files(&FILES);
        let none = env.kiln(&["pull", "--platform=linux/s390x", &name(tag)]);
        let told = "has no image for linux/s390x, only for linux/amd64, linux/arm64";
        assert!(none.stderr.contains(told), "{}", none.stderr);
    }
}

#[test]
fn an_image_of_a_layout_is_pushed_with_its_own_manifest() {
    let registry = TestRegistry::start();
    let name = format!("{}/app:1", registry.host());
    let maker = TestEnv::with_files(&FILES);
    for (compression, is_kept) in [("zstd", true), ("gzip", true), ("uncompressed", false)] {
        let output = format!("type=oci,dest=image.tar,name={name},compression={compression}");
        let metadata = ["--metadata-file", "metadata.json"];
        let flags = ["build", "--annotation", "a=b", "-o", &output];
        let build = [&flags[..], &metadata, &["."]].concat();
        maker.kiln(&build).succeeds();
        let metadata = std::fs::read(maker.work().join("metadata.json")).unwrap();
        let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap();
        let digest = metadata["containerimage.digest"].as_str().unwrap();
        let env = TestEnv::with_files(&FILES);
        let archive = maker.work().join("image.tar");
        env.kiln(&["load", "-i", archive.to_str().unwrap()])
            .succeeds();
        let pushed = env.kiln(&["push", &name]).succeeds().stdout;
        let same = pushed.trim().ends_with(digest);
        // A layer that nobody has compressed yet is compressed for a registry.
        assert_eq!(same, is_kept, "{compression}: {pushed} {digest}");
    }
}

/// The blobs of a manifest's layers.
fn layer_digests(registry: &TestRegistry, repository: &str, tag: &str) -> Vec<String> {
    let (_, manifest) = registry.manifest(repository, tag).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    let digest = |layer: &serde_json::Value| layer["digest"].as_str().unwrap().to_owned();
    layers.iter().map(digest).collect()
}

/// Pushes an image as `app:gzip` and `app:zstd`: the same layers, compressed in two ways.
fn push_in_two_ways(registry: &TestRegistry) -> [String; 2] {
    let maker = TestEnv::with_files(&FILES);
    ["gzip", "zstd"].map(|compression| {
        let name = format!("{}/app:{compression}", registry.host());
        let output = format!(
            "--output=type=registry,name={name},compression={compression},force-compression=true"
        );
        maker.kiln(&["build", &output, "."]).succeeds();
        name
    })
}

#[test]
fn images_with_the_same_layers_compressed_in_two_ways_are_pushed_and_saved_as_they_came() {
    let registry = TestRegistry::start();
    let names = push_in_two_ways(&registry);
    let manifest = |repository: &str, tag: &str| registry.manifest(repository, tag).unwrap();
    assert_ne!(manifest("app", "gzip"), manifest("app", "zstd"));
    for order in [[0, 1], [1, 0]] {
        let env = TestEnv::new();
        for at in order {
            env.kiln(&["pull", &names[at]]).succeeds();
        }
        // Nothing of it is to be had again, nor under these names.
        let other = TestRegistry::start();
        for tag in ["gzip", "zstd"] {
            let here = format!("{}/app:{tag}", registry.host());
            let there = format!("{}/copy:{tag}", other.host());
            env.kiln(&["tag", &here, &there]).succeeds();
            env.kiln(&["push", &there]).succeeds();
            assert_eq!(
                other.manifest("copy", tag).unwrap(),
                manifest("app", tag),
                "{tag}, {order:?}"
            );
        }
        // In one archive, and from there into another store.
        let save = ["save", "-o", "both.tar", &names[0], &names[1]];
        env.kiln(&save).succeeds();
        let loaded = TestEnv::new();
        let archive = env.work().join("both.tar");
        loaded
            .kiln(&["load", "-i", archive.to_str().unwrap()])
            .succeeds();
        let last = TestRegistry::start();
        for (name, tag) in names.iter().zip(["gzip", "zstd"]) {
            let there = format!("{}/copy:{tag}", last.host());
            loaded.kiln(&["tag", name, &there]).succeeds();
            loaded.kiln(&["push", &there]).succeeds();
            assert_eq!(last.manifest("copy", tag).unwrap(), manifest("app", tag));
        }
    }
}

#[test]
fn what_is_built_on_an_image_has_its_layers_as_they_are_there() {
    let registry = TestRegistry::start();
    let names = push_in_two_ways(&registry);
    for (first, base, tag) in [
        (&names[0], &names[1], "zstd"),
        (&names[1], &names[0], "gzip"),
    ] {
        let env = TestEnv::with_files(&[("more", "more")]);
        env.kiln(&["pull", first]).succeeds();
        env.write("Dockerfile", &format!("FROM {base}\nCOPY more /\n"));
        let built = format!("{}/built:{tag}", registry.host());
        env.kiln(&["build", "--push", "-t", &built, "."]).succeeds();
        let layers = layer_digests(&registry, "built", tag);
        assert_eq!(layers[..1], layer_digests(&registry, "app", tag)[..]);
    }
}

#[test]
fn a_layer_that_a_base_image_has_twice_in_other_compression_stays_so() {
    let registry = TestRegistry::start();
    push_in_two_ways(&registry);
    let manifest = |tag: &str| {
        let (media_type, bytes) = registry.manifest("app", tag).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        (media_type, value)
    };
    let ((media_type, mut both), (_, zstd)) = (manifest("gzip"), manifest("zstd"));
    let config = both["config"]["digest"].as_str().unwrap().parse().unwrap();
    let config = registry.blob("app", &config).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    for list in ["/rootfs/diff_ids", "/history"] {
        let list = config.pointer_mut(list).unwrap().as_array_mut().unwrap();
        list.push(list.last().unwrap().clone());
    }
    let config = config.to_string();
    let digest = registry.put_blob("app", config.as_bytes()).to_string();
    both["config"]["digest"] = digest.into();
    both["config"]["size"] = config.len().into();
    let layers = both["layers"].as_array_mut().unwrap();
    layers.push(zstd["layers"][0].clone());
    registry.put_manifest("app", "both", &media_type, both.to_string().as_bytes());
    let env = TestEnv::with_files(&[("more", "more")]);
    let base = format!("{}/app:both", registry.host());
    env.write("Dockerfile", &format!("FROM {base}\nCOPY more /\n"));
    let built = format!("{}/built:1", registry.host());
    env.kiln(&["build", "--push", "-t", &built, "."]).succeeds();
    let layers = layer_digests(&registry, "built", "1");
    assert_eq!(layers[..2], layer_digests(&registry, "app", "both")[..]);
}

#[test]
fn an_image_that_is_only_partly_here_is_pushed_from_where_it_came() {
    let registry = TestRegistry::start();
    let [name, zstd] = push_in_two_ways(&registry);
    let env = TestEnv::new();
    env.kiln(&["pull", &zstd]).succeeds();
    env.write("Dockerfile", &format!("FROM {name}\nLABEL a=b\n"));
    env.kiln(&["build", "-t", "x", "."]).succeeds();
    // Only its metadata is here, and another blob of its layer.
    let other = TestRegistry::start();
    let there = format!("{}/copy:1", other.host());
    env.kiln(&["tag", &name, &there]).succeeds();
    env.kiln(&["push", &there]).succeeds();
    let manifest = registry.manifest("app", "gzip");
    assert_eq!(other.manifest("copy", "1"), manifest);
    // Where it can't be had any more, the image goes all the same, and it is told why it has another manifest.
    let env = TestEnv::new();
    env.kiln(&["pull", &zstd]).succeeds();
    env.write("Dockerfile", &format!("FROM {name}\nLABEL a=b\n"));
    env.kiln(&["build", "-t", "x", "."]).succeeds();
    let blob = &layer_digests(&registry, "app", "gzip")[0];
    registry.lose_blob(&blob.parse().unwrap());
    let other = TestRegistry::start();
    let there = format!("{}/copy:1", other.host());
    env.kiln(&["tag", &name, &there]).succeeds();
    let pushed = env.kiln(&["push", &there]).succeeds();
    let told = "not with the manifest it was pulled with: could not pull";
    assert!(pushed.stderr.contains(told), "{}", pushed.stderr);
    assert!(other.manifest("copy", "1").is_some());
    assert_ne!(other.manifest("copy", "1"), manifest);
}
