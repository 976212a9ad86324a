//! `kiln cache`: what is listed, what goes, what stays, and why.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod test_env;

use serde_json::Value;
use test_env::{Outcome, TestEnv};

const DOCKERFILE: &str = "FROM scratch AS a\nCOPY one /\nFROM scratch\nCOPY one /\nCOPY two /\n";

fn built() -> TestEnv {
    let env = TestEnv::with_files(&[("Dockerfile", DOCKERFILE), ("one", "1"), ("two", "2")]);
    env.kiln(&["build", "-t", "x", "."]).succeeds();
    env
}

fn rows(outcome: &Outcome) -> Vec<Value> {
    let lines = outcome.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn listed(env: &TestEnv, more: &[&str]) -> Vec<Value> {
    let args = [&["cache", "ls", "--format", "json"], more].concat();
    rows(&env.kiln(&args).succeeds())
}

fn described(row: &Value) -> &str {
    row["Description"].as_str().unwrap()
}

#[test]
fn every_step_and_image_is_listed_with_its_size() {
    let env = built();
    let steps = listed(&env, &["--filter", "type=step"]);
    let mut told: Vec<_> = steps.iter().map(described).collect();
    told.sort_unstable();
    assert_eq!(told, ["COPY one /", "COPY two /"]);
    for step in &steps {
        assert!(step["Size"].as_u64() > Some(0));
        assert_eq!(step["Size"], step["Shared"], "the image has the layer too");
        assert_eq!(step["InUse"], false);
    }
    let images = listed(&env, &["--filter", "type=image"]);
    assert_eq!(described(&images[0]), "x:latest");
    assert_eq!(images[0]["Named"], true);
    let filtered = listed(&env, &["--filter", "description=COPY o*"]);
    assert_eq!(filtered.len(), 1);
    assert!(listed(&env, &["--filter", "until=1h"]).is_empty());
    env.kiln(&["cache", "ls", "--filter", "colour=red"])
        .fails(2);
}

#[test]
fn sizes_add_up_to_what_the_store_takes() {
    let env = built();
    env.kiln(&["cache", "du"]).succeeds(); // notes sizes
    let told = rows(&env.kiln(&["cache", "du", "--format", "json"]).succeeds());
    let total = told.last().unwrap();
    assert_eq!(total["Type"], "total");
    let parts = &told[..told.len() - 1];
    let sum: u64 = parts.iter().map(|row| row["Size"].as_u64().unwrap()).sum();
    assert_eq!(total["Size"], sum);
    // All but the few directories that hold the rest.
    let on_disk = test_env::disk_use(&env.root());
    let told = total["Size"].as_u64().unwrap();
    assert!(
        told <= on_disk && on_disk - told < 64 << 10,
        "{told} of {on_disk}"
    );
}

#[test]
fn a_dry_run_removes_nothing_and_says_why() {
    let env = built();
    let args = [
        "cache",
        "gc",
        "--keep-duration",
        "1h",
        "--format",
        "json",
        "-n",
    ];
    let plan = rows(&env.kiln(&args).succeeds());
    let reasons: Vec<_> = plan
        .iter()
        .map(|row| row["Reason"].as_str().unwrap())
        .collect();
    assert!(reasons.contains(&"it has a name"), "{reasons:?}");
    assert!(
        reasons.iter().any(|reason| reason.starts_with("used ")),
        "{reasons:?}"
    );
    let plan = env
        .kiln(&["cache", "gc", "--max-used", "0", "--dry-run"])
        .succeeds();
    assert!(plan.stdout.contains("Would remove"), "{}", plan.stdout);
    assert_eq!(listed(&env, &["--filter", "type=step"]).len(), 2);
}

#[test]
fn collection_keeps_images_with_names_and_they_stay_whole() {
    let env = built();
    env.kiln(&["cache", "gc", "--max-used", "0"]).succeeds();
    // Their layers are the image's, so nothing is gained by forgetting the steps, and the limit is kept already.
    assert_eq!(listed(&env, &["--filter", "type=step"]).len(), 2);
    env.kiln(&["prune", "--all"]).succeeds();
    assert!(listed(&env, &["--filter", "type=step"]).is_empty());
    env.kiln(&["save", "-o", "x.tar", "x"]).succeeds();
}

#[test]
fn a_step_is_removed_by_id_and_then_done_again() {
    let env = built();
    let steps = listed(&env, &["--filter", "description=COPY two*"]);
    let id = steps[0]["ID"].as_str().unwrap().to_owned();
    let removed = env.kiln(&["cache", "rm", &id[..12]]).succeeds();
    assert!(
        removed.stdout.contains("1 cache records"),
        "{}",
        removed.stdout
    );
    let again = env.kiln(&["build", "."]).succeeds();
    assert_eq!(
        again.stderr.matches(" CACHED\n").count(),
        1,
        "{}",
        again.stderr
    );
    env.kiln(&["cache", "rm", "0000"]).fails(1);
    let image = &listed(&env, &["--filter", "type=image"])[0];
    let refused = env
        .kiln(&["cache", "rm", image["ID"].as_str().unwrap()])
        .fails(2);
    assert!(refused.stderr.contains("kiln rmi"), "{}", refused.stderr);
}

#[test]
fn a_build_keeps_the_cache_within_its_limits() {
    let env = TestEnv::with_files(&[("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "1")]);
    let build = ["build", "--gc", "max-used=0,min-free=0,keep-storage=0", "."];
    env.kiln(&build).succeeds();
    assert_eq!(
        listed(&env, &["--filter", "type=step"]).len(),
        1,
        "used just now"
    );
    env.write("a", "2");
    let second = env.kiln(&build).succeeds();
    assert!(second.stderr.contains("removed "), "{}", second.stderr);
    let steps = listed(&env, &["--filter", "type=step"]);
    assert_eq!(steps.len(), 1, "only what the second build used");
    env.write("a", "3");
    env.kiln(&["build", "--gc", "off", "."]).succeeds();
    assert_eq!(listed(&env, &["--filter", "type=step"]).len(), 2);
    env.kiln(&["build", "--gc", "sometimes", "."]).fails(2);
    let mut wrong = env.command(&["build", "."]);
    env.outcome(wrong.env("KILN_GC", "a=b")).fails(2);
}

#[test]
fn sandbox_cache_mounts_are_listed_by_id_and_removed() {
    let env = TestEnv::with_files(&[(
        "Dockerfile",
        "FROM busybox\nRUN --mount=type=cache,id=go,target=/c echo x >> /c/f; cp /c/f /seen\n",
    )]);
    if !env.import_busybox() {
        return;
    }
    env.kiln(&["build", "."]).succeeds();
    let mounts = listed(&env, &["--filter", "type=cache-mount"]);
    assert_eq!(described(&mounts[0]), "go");
    let id = mounts[0]["ID"].as_str().unwrap();
    env.kiln(&["cache", "rm", id]).succeeds();
    assert!(listed(&env, &["--filter", "type=cache-mount"]).is_empty());
    env.kiln(&["build", "--no-cache-filter", "x", "."])
        .succeeds();
}

#[test]
fn sandbox_a_full_disk_is_told_and_leaves_the_store_good() {
    let env = TestEnv::with_files(&[
        ("Dockerfile", "FROM scratch\nCOPY small /\n"),
        ("small", "1"),
    ]);
    // In a mount namespace of its own, so that nobody sees the file system.
    let large = vec![b'x'; 6 << 20];
    std::fs::write(env.work().join("large"), large).unwrap();
    env.write(
        "Dockerfile.large",
        "FROM scratch\nCOPY small /\nCOPY large /\n",
    );
    std::fs::create_dir_all(env.root()).unwrap();
    let script = "mount -t tmpfs -o size=4m,mode=700 none \"$KILN_ROOT\" || exit 77
        $0 build -q -t x . || exit 10
        $0 build --progress=plain -f Dockerfile.large . && exit 11
        $0 build --progress=plain . 2>&1 | grep -q CACHED || exit 12
        $0 save -o x.tar x || exit 13
        echo whole";
    let command = env.command(&[]);
    let kiln = command.get_program().to_owned();
    let mut unshared = std::process::Command::new("unshare");
    unshared.args(["-m", "sh", "-c", script]).arg(kiln);
    unshared.env_clear();
    unshared.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    unshared.current_dir(env.work());
    let outcome = env.outcome(&mut unshared);
    if outcome.code == 77 || outcome.stderr.contains("unshare failed") {
        eprintln!("skipped: this test mounts a file system");
        return;
    }
    assert_eq!(
        (outcome.code, outcome.stdout.ends_with("whole\n")),
        (0, true),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("the disk is full"),
        "{}",
        outcome.stderr
    );
}
