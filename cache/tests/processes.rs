//! A store under several processes, some of them killed.
//!
//! The processes are this test program run again: with [`STORE`] set, `works_until_killed` is one of them.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use kiln_cache::{
    ActionResult, CacheKey, Detail, EntryKind, Limits, OutputId, Policy, Preimage, Store, Value,
};
use kiln_image::{Changeset, DiffId, Digest, ImagePath, Node};

/// Names the store to a process that works in it.
const STORE: &str = "KILN_CACHE_TEST_STORE";
/// What a worker prints after each thing it has made.
const MADE: &str = "made one more";
/// Workers make the same things over and over.
const THINGS: usize = 5;

fn preimage(thing: usize) -> Preimage {
    Preimage::new("exec").field("argv", Value::Text(format!("make {thing}")))
}

fn layer(thing: usize) -> DiffId {
    DiffId(Digest::of(&[u8::try_from(thing).unwrap()]))
}

fn content(thing: usize) -> Vec<u8> {
    format!("{thing}\n").repeat(10_000).into_bytes()
}

/// Makes a blob, a layer and a record, as a step of a build does.
fn make(store: &Store, thing: usize) {
    let content = content(thing);
    let mut blob = store.cas().writer().unwrap();
    blob.write_all(&content).unwrap();
    blob.commit(Some(Digest::of(&content))).unwrap();

    let key = preimage(thing).key();
    let _alone = store.lock_key(&key).unwrap();
    let staging = store.layers().stage().unwrap();
    fs::write(staging.create_fs().unwrap().join("f"), &content).unwrap();
    let mut changes = Changeset::new();
    changes.put(ImagePath::clean(b"/f"), Node::file(&content));
    staging.commit(&layer(thing), &changes, 1).unwrap();
    let result = ActionResult {
        output: OutputId::scratch().above(&changes),
        layer: Some(layer(thing)),
        created: jiff::Timestamp::UNIX_EPOCH,
        duration_ms: 1,
    };
    store
        .actions()
        .put(&key, &result, &preimage(thing))
        .unwrap();
}

/// Whatever is there is whole; returns how much is there.
fn check(store: &Store) -> usize {
    let made = |thing: &usize| {
        let content = content(*thing);
        let digest = Digest::of(&content);
        if store.cas().contains(&digest) {
            assert_eq!(store.cas().read(&digest, 1 << 20).unwrap(), content);
        }
        let key: CacheKey = preimage(*thing).key();
        let Some(result) = store.actions().get(&key) else {
            return false;
        };
        let fs = store.layers().fs_dir(&result.layer.unwrap()).unwrap();
        assert_eq!(fs::read(fs.join("f")).unwrap(), content);
        true
    };
    (0..THINGS).filter(made).count()
}

#[test]
fn works_until_killed() {
    let Some(root) = std::env::var_os(STORE) else {
        return; // not one of the processes
    };
    let store = Store::open(Path::new(&root)).unwrap();
    for thing in (0..THINGS).cycle() {
        make(&store, thing);
        // Whatever is collected meanwhile.
        let content = content(thing);
        let blob = store.cas().read(&Digest::of(&content), 1 << 20);
        assert_eq!(blob.unwrap(), content);
        let fs = store.layers().fs_dir(&layer(thing)).unwrap();
        assert_eq!(fs::read(fs.join("f")).unwrap(), content);
        println!("{MADE}");
    }
}

fn worker(root: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "works_until_killed", "--nocapture"])
        .env(STORE, root)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets a worker make this many things, then kills it in the middle of the next.
fn kill_after(worker: &mut Child, things: usize) {
    let lines = BufReader::new(worker.stdout.take().unwrap()).lines();
    let made = lines
        .map_while(Result::ok)
        .filter(|line| line.contains(MADE));
    assert_eq!(made.take(things).count(), things, "the worker failed");
    worker.kill().unwrap();
    worker.wait().unwrap();
}

#[test]
fn killed_processes_leave_a_good_store() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    for things in 1..=4 {
        let mut workers = [worker(&root), worker(&root), worker(&root)];
        for worker in &mut workers {
            kill_after(worker, things * 2);
        }
        let store = Store::open(&root).unwrap();
        assert!(check(&store) >= things.min(THINGS));
    }
    let store = Store::open(&root).unwrap();
    assert_eq!(check(&store), THINGS);
    // Their locks died with them; what they left half made goes.
    for thing in 0..THINGS {
        make(&store, thing);
    }
    let held = fs::read_dir(root.join("tmp")).unwrap().count();
    assert_eq!(held, 1, "this process's own");
    let policy = Policy {
        takes: &|entry| matches!(entry.kind, EntryKind::Stray | EntryKind::Image),
        limits: Limits::default(),
        memory_since: None,
    };
    let plan = store.collect(&policy, Detail::Sizes).unwrap();
    let freed = plan.unwrap().freed;
    assert_eq!((freed.layers, freed.blobs), (0, THINGS as u64));
    assert_eq!(check(&store), THINGS);
}

#[test]
fn collections_beside_processes_take_nothing_that_these_rely_on() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let store = Store::open(&root).unwrap();
    let everything = Policy {
        takes: &|_| true,
        limits: Limits::default(),
        memory_since: None,
    };
    let collect = || {
        let plan = store.collect(&everything, Detail::Sizes).unwrap();
        plan.map_or(0, |plan| plan.freed.layers)
    };
    let mut taken = 0;
    for things in 1..=6 {
        let mut workers = [worker(&root), worker(&root), worker(&root)];
        for worker in &mut workers {
            taken += collect();
            kill_after(worker, things * 2);
            taken += collect();
        }
        check(&store);
    }
    taken += collect();
    assert!(taken > 0);
    assert_eq!(check(&store), 0, "nobody relies on anything any more");
}
