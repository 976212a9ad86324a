//! `cache-mounts=true` of `--cache-to`: what is in cache mounts travels with a cache, and a mount that isn't here yet begins with it.

#![allow(clippy::unwrap_used)]

mod test_env;

use std::fs::File;
use std::path::PathBuf;

use kiln_registry::testing::{BUCKET, KEY_ID, REGION, SECRET, TestBucket, TestRegistry};
use test_env::{Outcome, TestEnv, files_below};

const FILL: &str = "FROM busybox\nRUN --mount=type=cache,id=tools,target=/c echo made > /c/file && chmod 640 /c/file && ln -s file /c/link\n";
/// Fails in a mount that is empty.
const USE: &str = "RUN --mount=type=cache,id=tools,target=/c test \"$(cat /c/link)\" = made && stat -c %a /c/file | grep 640\n";

/// A machine of its own; `None` where no step can run.
fn runner(dockerfile: &str) -> Option<TestEnv> {
    let env = TestEnv::with_files(&[("Dockerfile", dockerfile)]);
    env.import_busybox().then_some(env)
}

fn build(env: &TestEnv, flags: &[&str]) -> Outcome {
    env.kiln(&[&["build", "--progress=plain"], flags, &["."]].concat())
}

/// A registry with the cache of one build.
fn filled() -> Option<(TestRegistry, String)> {
    let registry = TestRegistry::start();
    let cache = format!("type=registry,ref={}/app:cache", registry.host());
    let to = format!("{cache},cache-mounts=true");
    build(&runner(FILL)?, &["--cache-to", &to]).succeeds();
    Some((registry, cache))
}

#[test]
fn sandbox_a_mount_travels_with_a_registry_a_folder_and_a_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, server) = (TestRegistry::start(), TestBucket::start());
    let folder = folder.path().display();
    let bucket = format!(
        "type=s3,bucket={BUCKET},region={REGION},endpoint_url={},use_path_style=true,access_key_id={KEY_ID},secret_access_key={SECRET}",
        server.endpoint()
    );
    let registry = format!("type=registry,ref={}/app:cache", registry.host());
    let places = [
        (registry.clone(), registry),
        (
            format!("type=local,dest={folder}"),
            format!("type=local,src={folder}"),
        ),
        (bucket.clone(), bucket),
    ];
    for (to, from) in places {
        let Some(one) = runner(FILL) else { return };
        for (compression, told) in [("gzip", "1 of 1"), ("gzip", "0 of 1"), ("zstd", "1 of 1")] {
            let to = format!("{to},compression={compression},cache-mounts=true");
            let outcome = build(&one, &["--cache-to", &to]).succeeds();
            let told = format!(" layers sent, {told} cache mounts");
            assert!(outcome.stderr.contains(&told), "{to}: {}", outcome.stderr);
        }
        let Some(two) = runner(&format!("{FILL}{USE}")) else {
            return;
        };
        let outcome = build(&two, &["--cache-from", &from]).succeeds();
        assert!(outcome.stderr.contains("CACHED"), "{}", outcome.stderr);
        let told = "importing cache mount tools";
        assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
        // What is here stays.
        two.write(
            "Dockerfile",
            &format!("{FILL}{USE}RUN --mount=type=cache,id=tools,target=/c true\n"),
        );
        let outcome = build(&two, &["--cache-from", &from]).succeeds();
        assert!(!outcome.stderr.contains(told), "{}", outcome.stderr);
    }
}

#[test]
fn sandbox_a_mount_has_its_own_mode_and_owner_again() {
    // R-MNT-9
    let mounts = [
        ("uid=1000,gid=1000,mode=0700", ":", "700 1000 1000"),
        ("id=changed", "chown 7:8 /c && chmod 1751 /c", "1751 7 8"),
        ("id=plain", ":", "755 0 0"),
    ];
    for (options, change, expected) in mounts {
        let mount = format!("RUN --mount=type=cache,target=/c,{options}");
        let fill = format!("FROM busybox\n{mount} {change}; echo made > /c/file\n");
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().display();
        let to = format!("type=local,dest={folder},cache-mounts=true");
        let Some(one) = runner(&fill) else { return };
        build(&one, &["--cache-to", &to]).succeeds();
        let wanted = format!("{mount} test \"$(stat -c '%a %u %g' /c)\" = '{expected}'\n");
        let Some(two) = runner(&format!("{fill}{wanted}")) else {
            return;
        };
        let from = format!("type=local,src={folder}");
        build(&two, &["--cache-from", &from]).succeeds();
    }
}

#[test]
fn sandbox_a_machine_that_had_no_use_for_a_mount_passes_it_on() {
    let Some((_registry, cache)) = filled() else {
        return;
    };
    let other = TestRegistry::start();
    let there = format!("type=registry,ref={}/other:cache", other.host());
    for to in [&cache, &there] {
        let Some(two) = runner(FILL) else { return };
        let to = format!("{to},cache-mounts=true");
        let outcome = build(&two, &["--cache-from", &cache, "--cache-to", &to]).succeeds();
        assert!(
            outcome.stderr.contains("of 1 cache mounts"),
            "{}",
            outcome.stderr
        );
        assert!(!outcome.stderr.contains("importing cache mount tools"));
    }
    for from in [&cache, &there] {
        let Some(three) = runner(&format!("{FILL}{USE}")) else {
            return;
        };
        build(&three, &["--cache-from", from]).succeeds();
    }
}

#[test]
fn sandbox_a_mount_that_is_lost_begins_empty() {
    let Some((registry, cache)) = filled() else {
        return;
    };
    let (_, manifest) = registry.manifest("app", "cache").unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let mut blobs = manifest["layers"].as_array().unwrap().iter();
    let blob = blobs.find(|blob| blob["mediaType"] == "application/vnd.kiln.cache.mount.v1.tar");
    let digest = blob.unwrap()["digest"].as_str().unwrap();
    registry.lose_blob(&digest.parse().unwrap());
    let lines = "RUN --mount=type=cache,id=tools,target=/c test -z \"$(ls /c)\"\n";
    let Some(two) = runner(&format!("{FILL}{lines}")) else {
        return;
    };
    let outcome = build(&two, &["--cache-from", &cache]).succeeds();
    let told = "warning: the cache mount begins empty: the cache has lost it";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
}

#[test]
fn sandbox_a_mount_that_a_step_is_writing_to_stays_here() {
    let Some(env) = runner(FILL) else { return };
    build(&env, &[]).succeeds();
    let files = files_below(&env.root().join("mounts"));
    let is_lock = |path: &&PathBuf| path.extension().is_some_and(|end| end == "lock");
    let lock = files.iter().find(is_lock).unwrap();
    let held = File::open(lock).unwrap();
    held.lock_shared().unwrap(); // as a step of another build does
    let folder = env.work().join("cache");
    let to = format!("type=local,dest={},cache-mounts=true", folder.display());
    let outcome = build(&env, &["--cache-to", &to]).succeeds();
    let told = "warning: cache mount tools is left out: a step of another build is using it";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
    drop(held);
    let outcome = build(&env, &["--cache-to", &to]).succeeds();
    assert!(
        outcome.stderr.contains("1 of 1 cache mounts"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn sandbox_without_cache_a_mount_begins_empty() {
    // R-CACHE-24
    let Some((_registry, cache)) = filled() else {
        return;
    };
    let lines = "FROM busybox\nRUN --mount=type=cache,id=tools,target=/c test -z \"$(ls /c)\"\n";
    let Some(two) = runner(lines) else { return };
    build(&two, &["--no-cache", "--cache-from", &cache]).succeeds();
}

#[test]
fn sandbox_a_mount_with_a_secret_in_it_stays_here() {
    let lines = "FROM busybox\nRUN --mount=type=secret,id=token --mount=type=cache,target=/c cp /run/secrets/token /c/\n";
    let Some(env) = runner(lines) else { return };
    env.write("token", "a-secret-of-mine\n");
    let folder = env.work().join("cache");
    let to = format!("type=local,dest={},cache-mounts=true", folder.display());
    let secret = ["--secret", "id=token,src=token", "--cache-to", &to];
    let outcome = build(&env, &secret).succeeds();
    let told = "warning: cache mount /c is left out: it has the value of a secret in it";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
    // A line of it is no better.
    env.write("token", "[default]\npassword=a-secret-of-mine\n");
    env.write(
        "Dockerfile",
        &lines.replace(
            "cp /run/secrets/token /c/",
            "sed -n 2p /run/secrets/token > /c/token",
        ),
    );
    let outcome = build(&env, &secret).succeeds();
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
}
