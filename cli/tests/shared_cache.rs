//! `--cache-to` and `--cache-from`: what one store knows, another finds. Clauses R-CEXP-1 to R-CEXP-7.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::sync::{Mutex, mpsc};

use kiln_registry::testing::{Fault, Reply, TestRegistry, TestServer};
use test_env::runner::{build, cached, runner};
use test_env::{Outcome, TestEnv};

/// Builds with this registry's cache in a new store.
fn rebuilt(registry: &TestRegistry) -> Outcome {
    let from = format!("type=registry,ref={}/app:cache", registry.host());
    build(&runner(), &["--cache-from", &from])
}

/// A registry with the cache of one build.
fn filled(mode: &str) -> TestRegistry {
    let registry = TestRegistry::start();
    let to = format!(
        "type=registry,ref={}/app:cache,mode={mode}",
        registry.host()
    );
    build(&runner(), &["--cache-to", &to]);
    registry
}

#[test]
fn another_machine_finds_every_step() {
    for mode in ["min", "max"] {
        let registry = filled(mode);
        let outcome = rebuilt(&registry);
        assert_eq!(cached(&outcome), 3, "{mode}: {}", outcome.stderr);
    }
}

#[test]
fn the_image_is_the_same_and_whole() {
    let registry = TestRegistry::start();
    let cache = format!("{}/app:cache", registry.host());
    let (one, two) = (runner(), runner());
    build(&one, &["--cache-to", &cache, "--iidfile", "id"]);
    build(&two, &["--cache-from", &cache, "--iidfile", "id"]);
    let id = |env: &TestEnv| std::fs::read_to_string(env.work().join("id")).unwrap();
    assert_eq!(id(&one), id(&two));
    two.kiln(&["build", "-o", "out", "--cache-from", &cache, "."])
        .succeeds();
    let app = std::fs::read_to_string(two.work().join("out/app"));
    assert_eq!(app.unwrap(), "an app");
    // Kept: the registry is not needed any more.
    drop(registry);
    assert_eq!(cached(&build(&two, &[])), 2, "steps whose layers came here");
}

#[test]
fn only_layers_that_are_needed_are_fetched() {
    let registry = filled("max");
    let before = registry.received().len();
    rebuilt(&registry);
    let received = registry.received();
    let blobs = received[before..]
        .iter()
        .filter(|request| request.line.starts_with("GET") && request.line.contains("/blobs/"));
    // The index, the image's two layers, what their keys were made of; not the layer of `tools`.
    assert_eq!(blobs.count(), 4);
}

#[test]
fn a_second_export_sends_no_layer() {
    let registry = TestRegistry::start();
    let to = format!("type=registry,ref={}/app:cache,mode=max", registry.host());
    let env = runner();
    let first = build(&env, &["--cache-to", &to]);
    assert!(
        first.stderr.contains(" 3 of 3 layers sent"),
        "{}",
        first.stderr
    );
    let second = build(&env, &["--cache-to", &to]);
    assert!(
        second.stderr.contains(" 0 of 3 layers sent, 0 bytes"),
        "{}",
        second.stderr
    );
    env.write("app", "another app");
    let third = build(&env, &["--cache-to", &to]);
    assert!(
        third.stderr.contains(" 1 of 3 layers sent"),
        "{}",
        third.stderr
    );
}

#[test]
fn what_is_only_named_again_is_neither_fetched_nor_sent() {
    let registry = filled("max");
    let cache = format!("type=registry,ref={}/app:cache", registry.host());
    let before = registry.received().len();
    let to = format!("{cache},mode=max");
    let outcome = build(&runner(), &["--cache-from", &cache, "--cache-to", &to]);
    assert!(
        outcome.stderr.contains(" 0 of 3 layers sent"),
        "{}",
        outcome.stderr
    );
    let received = registry.received();
    let mut lines = received[before..].iter().map(|request| &request.line);
    let gets = lines
        .clone()
        .filter(|line| line.starts_with("GET") && line.contains("/blobs/"));
    assert_eq!(gets.count(), 4, "as without an export");
    assert!(!lines.any(|line| line.starts_with("PATCH")));
    assert_eq!(cached(&rebuilt(&registry)), 3, "all of it is still there");
}

#[test]
fn with_the_least_mode_a_step_that_is_missing_is_done_again() {
    // R-CEXP-1: the layer of `tools` isn't in the cache, and now it is needed.
    let registry = filled("min");
    let env = runner();
    env.write(
        "Dockerfile",
        "FROM scratch AS tools\nCOPY tool /\nFROM scratch\nCOPY --from=tools /tool /other/\n",
    );
    let from = format!("{}/app:cache", registry.host());
    let outcome = build(&env, &["--cache-from", &from, "-o", "out"]);
    assert!(
        env.work().join("out/other/tool").exists(),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_damaged_layer_is_a_miss() {
    for nth in 1..=4 {
        let registry = filled("max");
        for _ in 1..nth {
            registry.order(Fault::CutBlobAfter(1));
        }
        registry.order(Fault::CorruptBlob);
        let env = runner();
        let from = format!("{}/app:cache", registry.host());
        build(
            &env,
            &["--cache-from", &from, "-o", "out", "-o", "type=image"],
        );
        let app = std::fs::read_to_string(env.work().join("out/app")).unwrap();
        assert_eq!(app, "an app");
    }
}

#[test]
fn a_missing_layer_is_a_miss() {
    let registry = filled("max");
    let (_, manifest) = registry.manifest("app", "cache").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    for layer in &manifest["layers"].as_array().unwrap()[1..] {
        registry.lose_blob(&layer["digest"].as_str().unwrap().parse().unwrap());
    }
    let env = runner();
    let from = format!("{}/app:cache", registry.host());
    let outcome = build(&env, &["--cache-from", &from, "-o", "out"]);
    assert!(
        env.work().join("out/bin/tool").exists(),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_cache_that_lost_all_its_layers_is_not_tried_for_each_of_them() {
    let env = TestEnv::new();
    let steps: String = (0..40).map(|at| format!("COPY app /{at}\n")).collect();
    env.write("Dockerfile", &format!("FROM scratch\n{steps}"));
    env.write("app", "an app");
    let registry = TestRegistry::start();
    let cache = format!("{}/app:cache", registry.host());
    build(&env, &["--cache-to", &cache]);
    let (_, manifest) = registry.manifest("app", "cache").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    for layer in &manifest["layers"].as_array().unwrap()[1..] {
        registry.lose_blob(&layer["digest"].as_str().unwrap().parse().unwrap());
    }
    std::fs::remove_dir_all(env.root()).unwrap();
    let outcome = build(&env, &["--cache-from", &cache]);
    let found = outcome.stderr.matches("pulling cached layers").count();
    assert!(found <= 10, "{found} times: {}", outcome.stderr);
}

#[test]
fn a_layer_under_the_name_of_another_is_a_miss() {
    let registry = filled("max");
    let (media_type, manifest) = registry.manifest("app", "cache").unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["layers"].as_array_mut().unwrap()[1..].rotate_left(1);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    registry.put_manifest("app", "cache", &media_type, &manifest);
    let env = runner();
    let from = format!("{}/app:cache", registry.host());
    // Nobody unpacks them for this; what they hold is looked at all the same.
    let outcome = build(&env, &["--cache-from", &from]);
    assert_ne!(cached(&outcome), 3, "{}", outcome.stderr);
    build(&env, &["-o", "out"]);
    let app = std::fs::read_to_string(env.work().join("out/app"));
    assert_eq!(app.unwrap(), "an app");
}

#[test]
fn a_cache_that_is_not_there_is_told_and_done_without() {
    // R-CEXP-7
    let registry = TestRegistry::start();
    let absent = rebuilt(&registry);
    assert!(
        absent.stderr.contains("there is no cache there yet"),
        "{}",
        absent.stderr
    );
    let host = registry.host().to_owned();
    drop(registry);
    let env = runner();
    let flags = ["--cache-from", &format!("{host}/app:cache")];
    let unreachable = build(&env, &flags);
    assert!(
        unreachable
            .stderr
            .contains("warning: going on without this cache")
    );
    // Nothing is asked where the store has everything.
    let known = build(&env, &flags);
    assert!(!known.stderr.contains("warning"), "{}", known.stderr);
}

#[test]
fn a_failing_export_fails_the_build_unless_that_is_not_wanted() {
    // R-CEXP-7
    let registry = TestRegistry::start();
    let host = registry.host().to_owned();
    drop(registry);
    let env = runner();
    let to = format!("type=registry,ref={host}/app:cache");
    env.kiln(&["build", "--cache-to", &to, "."]).fails(4);
    build(&env, &["--cache-to", &format!("{to},ignore-error=true")]);
}

#[test]
fn a_folder_is_a_cache_with_tags() {
    // R-CEXP-4
    let env = runner();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let shown = path.display();
    build(
        &env,
        &["--cache-to", &format!("type=local,dest={shown},mode=max")],
    );
    env.write("app", "another app");
    let second = build(
        &env,
        &[
            "--cache-to",
            &format!("type=local,dest={shown},tag=two,mode=max"),
        ],
    );
    assert!(
        second.stderr.contains(" 1 of 3 layers sent"),
        "{}",
        second.stderr
    );
    let from = |more: &str| {
        let flag = format!("type=local,src={shown}{more}");
        cached(&build(&runner(), &["--cache-from", &flag]))
    };
    assert_eq!((from(""), from(",tag=two"), from(",tag=three")), (3, 2, 0));
    let missing = build(&runner(), &["--cache-from", "type=local,src=nowhere"]);
    assert!(missing.stderr.contains("there is no cache there yet"));
}

/// The files of a folder's blobs.
fn blobs(env: &TestEnv) -> Vec<std::path::PathBuf> {
    test_env::files_below(&env.work().join("cache/blobs"))
}

#[test]
fn a_damaged_layer_in_a_folder_is_mended() {
    let env = runner();
    let to = "type=local,dest=cache,mode=max";
    build(&env, &["--cache-to", to]);
    let is_layer = |path: &&std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        bytes.starts_with(&[0x1f, 0x8b]) && bytes.len() < 200
    };
    let all = blobs(&env);
    let layer = all.iter().find(is_layer).unwrap();
    let good = std::fs::read(layer).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::remove_file(layer).unwrap();
    std::fs::write(layer, &bad).unwrap();
    let outcome = build(&env, &["--cache-to", to]);
    let told = " 1 of 3 layers sent";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
    assert_eq!(std::fs::read(layer).unwrap(), good);
}

#[test]
fn what_no_tag_of_a_folder_leads_to_goes_once_it_is_old() {
    let env = runner();
    let to = |tag: &str| format!("type=local,dest=cache,mode=max,tag={tag}");
    let write = |tag: &str| {
        build(&env, &["--cache-to", &to(tag)]);
    };
    write("one");
    env.write("app", "another app");
    write("two");
    let both = blobs(&env).len();
    write("one");
    env.write("cache/blobs/sha256/other.partial", "half of a blob");
    env.write("cache/blobs/sha256/README", "somebody's");
    let young = blobs(&env).len();
    assert!(young > both, "what was just written stays");
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    for blob in blobs(&env) {
        let file = std::fs::File::open(blob).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    write("one");
    // Three layers, index, preimages and manifest, the same for both tags; and what is no blob.
    let left = blobs(&env).len();
    assert!(left < young && left <= 6 + 3 + 1, "{left} of {young}");
    assert!(env.work().join("cache/blobs/sha256/README").exists());
    for tag in ["one", "two"] {
        let other = runner();
        other.write("app", "another app");
        let from = format!(
            "type=local,src={},tag={tag}",
            env.work().join("cache").display()
        );
        let outcome = build(&other, &["--cache-from", &from]);
        assert_eq!(cached(&outcome), 3, "{tag}: {}", outcome.stderr);
    }
}

#[test]
fn builds_that_write_to_a_folder_at_once_keep_each_others_tags() {
    let env = runner();
    build(&env, &[]);
    let folder = env.work().join("cache");
    let export = |number: usize| {
        let to = format!("type=local,dest={},tag={number}", folder.display());
        env.command(&["build", "-q", "--cache-to", &to, "."])
            .spawn()
            .unwrap()
    };
    let mut builds: Vec<_> = (0..8).map(export).collect();
    assert!(builds.iter_mut().all(|kiln| kiln.wait().unwrap().success()));
    let index = std::fs::read(folder.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 8);
}

#[test]
fn an_image_carries_its_own_cache() {
    // R-CEXP-2
    let registry = TestRegistry::start();
    let name = format!("{}/app:1", registry.host());
    let env = runner();
    env.kiln(&["build", "-t", &name, "--cache-to", "type=inline", "."])
        .succeeds();
    env.kiln(&["push", &name]).succeeds();
    let outcome = build(&runner(), &["--cache-from", &name]);
    assert_eq!(cached(&outcome), 3, "{}", outcome.stderr);
    env.kiln(&["build", "-t", &name, "."]).succeeds();
    env.kiln(&["push", &name]).succeeds();
    let outcome = build(&runner(), &["--cache-from", &name]);
    assert!(
        outcome.stderr.contains("an image without a cache"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn an_image_that_has_a_layer_twice_carries_its_cache() {
    // R-CEXP-2
    let registry = TestRegistry::start();
    let name = format!("{}/twice:1", registry.host());
    let lines = "FROM scratch\nCOPY a /x\nCOPY b /x\nCOPY a /x\n";
    let machine = || TestEnv::with_files(&[("Dockerfile", lines), ("a", "1"), ("b", "22")]);
    let env = machine();
    env.kiln(&["build", "-t", &name, "--cache-to", "type=inline", "."])
        .succeeds();
    env.kiln(&["push", &name]).succeeds();
    let (_, manifest) = registry.manifest("twice", "1").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["layers"][0], manifest["layers"][2]);
    let outcome = build(&machine(), &["--cache-from", &name]);
    assert_eq!(cached(&outcome), 3, "{}", outcome.stderr);
}

#[test]
fn a_miss_is_explained_from_the_cache_of_another_machine() {
    let registry = filled("max");
    let env = runner();
    env.write("app", "changed");
    let from = format!("{}/app:cache", registry.host());
    let plan = env.kiln(&["plan", "--cache-from", &from, "."]).succeeds();
    assert!(plan.stdout.contains("`app`"), "{}", plan.stdout);
    build(&env, &["--cache-from", &from]);
    let explained = env.kiln(&["explain"]).succeeds().stdout;
    let there = "on the machine that exported this, `app` had other content";
    assert!(explained.contains(there), "{explained}");
}

#[test]
fn a_server_that_never_answers_holds_no_build_up() {
    // R-CEXP-7
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let server = TestServer::start(move |_| {
        let _ = held.lock().unwrap().recv(); // until the build has ended
        Reply::status(500)
    });
    let from = server.origin().replace("http://", "") + "/app:cache";
    let outcome = build(&runner(), &["--cache-from", &from]);
    drop(release);
    let told = "warning: going on without this cache until it answers";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
}

#[test]
fn a_cache_that_no_kiln_wrote_is_done_without() {
    type Change = dyn Fn(&mut serde_json::Value);
    let registry = filled("max");
    let (media_type, manifest) = registry.manifest("app", "cache").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let changed = |change: &Change| {
        let mut manifest = manifest.clone();
        change(&mut manifest);
        let manifest = serde_json::to_vec(&manifest).unwrap();
        registry.put_manifest("app", "cache", &media_type, &manifest);
        rebuilt(&registry)
    };
    let cases: [(&str, &Change); 5] = [
        ("a layer of type", &|manifest| {
            manifest["layers"][1]["mediaType"] = "application/x-executable".into();
        }),
        ("has 3 layers and its manifest 2", &|manifest| {
            manifest["layers"].as_array_mut().unwrap().pop();
        }),
        ("more than the", &|manifest| {
            manifest["config"]["size"] = (1_u64 << 40).into();
        }),
        ("going on without", &|manifest| {
            manifest["layers"][1]["digest"] = "sha256:../../x".into();
        }),
        ("going on without", &|manifest| {
            manifest["layers"][1]["digest"] = format!("sha512:{}", "a".repeat(128)).into();
        }),
    ];
    for (said, change) in cases {
        let outcome = changed(change);
        assert!(outcome.stderr.contains(said), "{said}: {}", outcome.stderr);
        assert_eq!(cached(&outcome), 0, "{said}: {}", outcome.stderr);
    }
}
