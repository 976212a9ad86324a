#![allow(clippy::unwrap_used)]

use jiff::Timestamp;
use kiln_image::{Changeset, DiffId, Digest, Platform};

use super::*;
use crate::testing::store;
use crate::{
    ActionResult, CacheKey, CompressedBlob, ImageRecord, ManifestRecord, OutputId, Preimage,
    Value as Field,
};

fn everything(_: &Entry) -> bool {
    true
}

/// Takes strays only.
const STRAYS: Policy<'static> = Policy {
    takes: &|entry| entry.kind == EntryKind::Stray,
    limits: NO_LIMITS,
    memory_since: None,
};

const NO_LIMITS: Limits = Limits {
    keep_duration: None,
    keep_storage: None,
    max_used: None,
    min_free: None,
};

fn within(limits: Limits) -> Policy<'static> {
    Policy {
        takes: &everything,
        limits,
        memory_since: None,
    }
}

fn collect(store: &Store, policy: &Policy<'_>) -> Freed {
    let plan = store.collect(policy, Detail::Sizes).unwrap();
    plan.unwrap().freed
}

fn put_layer(store: &Store, name: &str) -> DiffId {
    let layer = DiffId(Digest::of(name.as_bytes()));
    let staging = store.layers().stage().unwrap();
    fs::write(staging.create_fs().unwrap().join("f"), name).unwrap();
    staging.commit(&layer, &Changeset::new(), 1).unwrap();
    layer
}

fn put_image(store: &Store, layers: &[DiffId], blobs: &[Digest]) -> ImageRecord {
    let diff_ids: Vec<String> = layers.iter().map(ToString::to_string).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let layers: Vec<_> = blobs
        .iter()
        .map(|blob| serde_json::json!({"digest": blob}))
        .collect();
    let manifest = serde_json::json!({"layers": layers}).to_string();
    ImageRecord {
        config: store.cas().put(config.to_string().as_bytes()).unwrap(),
        manifest: Some(ManifestRecord {
            digest: store.cas().put(manifest.as_bytes()).unwrap(),
            media_type: String::new(),
            size: manifest.len() as u64,
        }),
        own_manifest: false,
        platform: Platform::new("linux", "amd64", None),
        created_at: Timestamp::UNIX_EPOCH,
    }
}

fn put_record(store: &Store, command: &str, layer: DiffId) -> CacheKey {
    let preimage = Preimage::new("exec").field("argv", Field::List(vec![command.to_owned()]));
    let result = ActionResult {
        output: OutputId::scratch(),
        layer: Some(layer),
        created: Timestamp::UNIX_EPOCH,
        duration_ms: 1,
    };
    store
        .actions()
        .put(&preimage.key(), &result, &preimage)
        .unwrap();
    preimage.key()
}

/// Says that a record was last used so long ago; in the future if negative.
fn used_ago(store: &Store, key: &CacheKey, seconds: i64) {
    let path = store.dir("actions").join(key.0.hex());
    let ago = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    let when = if seconds < 0 { now + ago } else { now - ago };
    fs::File::open(path).unwrap().set_modified(when).unwrap();
}

fn verdict_on(plan: &Plan, key: &CacheKey) -> Verdict {
    let entries = plan.inventory.entries.iter();
    let at = entries
        .map(|entry| &entry.id)
        .position(|id| *id == key.0.hex());
    plan.verdicts[at.unwrap()]
}

#[test]
fn only_what_nothing_refers_to_goes() {
    let (_dir, store) = store();
    let (of_image, of_record, of_none) = (
        put_layer(&store, "image"),
        put_layer(&store, "record"),
        put_layer(&store, "none"),
    );
    let key = put_record(&store, "make", of_record);
    let pulled = store.cas().put(b"a layer's blob").unwrap();
    let stray = store.cas().put(b"a stray blob").unwrap();
    let compressed = store.cas().put(b"compressed").unwrap();
    let blob = CompressedBlob {
        digest: compressed,
        size: 10,
        media_type: String::new(),
        encoder: None,
    };
    store.layers().add_blob(&of_record, &blob).unwrap();
    let image = put_image(&store, &[of_image], &[pulled]);
    store.refs().set(&"app".parse().unwrap(), &image).unwrap();

    let freed = collect(&store, &STRAYS);
    assert_eq!((freed.layers, freed.blobs, freed.records), (1, 1, 0));
    assert!(freed.bytes > 0);
    assert!(store.layers().contains(&of_image) && store.layers().contains(&of_record));
    assert!(!store.layers().contains(&of_none) && !store.cas().contains(&stray));
    assert!(store.cas().contains(&pulled) && store.cas().contains(&compressed));
    assert!(store.actions().get(&key).is_some());
    assert_eq!(collect(&store, &STRAYS), Freed::default());
}

#[test]
fn without_limits_all_goes_but_images_with_names() {
    let (_dir, store) = store();
    let shared = put_layer(&store, "shared");
    let key = put_record(&store, "make", shared);
    let other = put_record(&store, "other", put_layer(&store, "other"));
    store
        .actions()
        .alias(&CacheKey(Digest::of(b"x")), &key)
        .unwrap();
    let named = put_image(&store, &[shared], &[]);
    store.refs().set(&"app".parse().unwrap(), &named).unwrap();
    let nameless = put_image(&store, &[], &[]);
    store.refs().set_untagged(&nameless).unwrap();

    let freed = collect(&store, &within(NO_LIMITS));
    assert_eq!(
        (freed.images, freed.records, freed.layers, freed.blobs),
        (1, 2, 1, 1),
        "both images have the same manifest"
    );
    assert!(store.actions().get(&key).is_none() && store.actions().get(&other).is_none());
    assert!(store.layers().contains(&shared));
    assert!(store.refs().get(&"app".parse().unwrap()).unwrap().is_some());
    assert_eq!(
        store.actions().list().unwrap(),
        [],
        "no alias leads nowhere"
    );
}

#[test]
fn a_named_image_whose_own_record_is_lost_keeps_its_layers() {
    let (_dir, store) = store();
    let layer = put_layer(&store, "layer");
    let image = put_image(&store, &[layer], &[]);
    store.refs().set(&"app".parse().unwrap(), &image).unwrap();
    fs::remove_file(store.dir("refs/images").join(image.config.hex())).unwrap();
    collect(&store, &within(NO_LIMITS));
    assert!(store.layers().contains(&layer) && store.cas().contains(&image.config));
}

#[test]
fn the_least_recently_used_go_until_the_limit_is_kept() {
    let (_dir, store) = store();
    let keys = ["a", "b", "c"].map(|name| put_record(&store, name, put_layer(&store, name)));
    for (key, days) in keys.iter().zip([3, 9, 6]) {
        used_ago(&store, key, days * 86_400);
    }
    let used = store.inventory(Detail::Sizes).unwrap().removable();
    let limits = Limits {
        max_used: Some(used - 1),
        ..NO_LIMITS
    };
    let plan = store
        .plan_collection(&within(limits), Detail::Sizes)
        .unwrap();
    assert_eq!(
        verdict_on(&plan, &keys[1]),
        Verdict::TooMuch {
            used,
            limit: used - 1
        }
    );
    assert_eq!(verdict_on(&plan, &keys[0]), Verdict::Fits);
    assert_eq!(verdict_on(&plan, &keys[2]), Verdict::Fits);
    assert_eq!(store.actions().list().unwrap().len(), 3, "it was a plan");
    assert_eq!(collect(&store, &within(limits)), plan.freed);
    assert!(store.actions().get(&keys[1]).is_none());
    assert!(store.actions().get(&keys[2]).is_some());
}

#[test]
fn what_was_used_lately_stays_whatever_the_limit() {
    let (_dir, store) = store();
    let keys = ["a", "b"].map(|name| put_record(&store, name, put_layer(&store, name)));
    used_ago(&store, &keys[0], 7200);
    let limits = Limits {
        keep_duration: Some(Duration::from_secs(3600)),
        ..NO_LIMITS
    };
    for limits in [
        limits,
        Limits {
            max_used: Some(0),
            ..limits
        },
    ] {
        let plan = store
            .plan_collection(&within(limits), Detail::Sizes)
            .unwrap();
        assert!(verdict_on(&plan, &keys[0]).removes());
        assert!(matches!(verdict_on(&plan, &keys[1]), Verdict::Recent(_)));
    }
}

#[test]
fn a_layer_of_two_goes_with_the_second() {
    let (_dir, store) = store();
    let layer = put_layer(&store, "layer");
    let keys = ["a", "b"].map(|name| put_record(&store, name, layer));
    let inventory = store.inventory(Detail::Sizes).unwrap();
    let [one, two] = &inventory.entries[..] else {
        panic!("two records")
    };
    assert!(one.size > 0 && one.size == one.shared && one.size == two.size);
    assert_eq!(inventory.removable(), one.size, "counted once");
    used_ago(&store, &keys[0], 86_400);
    let first = |entry: &Entry| entry.id == keys[0].0.hex();
    let policy = Policy {
        takes: &first,
        ..within(NO_LIMITS)
    };
    assert_eq!(collect(&store, &policy).bytes, 0);
    assert!(store.actions().get(&keys[1]).is_some());
    assert_eq!(
        collect(&store, &within(NO_LIMITS)).bytes,
        inventory.removable()
    );
}

#[test]
fn a_step_whose_layer_an_image_needs_anyway_stays() {
    let (_dir, store) = store();
    let layer = put_layer(&store, "layer");
    let keys = [
        put_record(&store, "a", layer),
        put_record(&store, "b", put_layer(&store, "b")),
    ];
    let named = put_image(&store, &[layer], &[]);
    store.refs().set(&"app".parse().unwrap(), &named).unwrap();
    let limits = Limits {
        max_used: Some(0),
        ..NO_LIMITS
    };
    let plan = store
        .plan_collection(&within(limits), Detail::Sizes)
        .unwrap();
    assert_eq!(verdict_on(&plan, &keys[0]), Verdict::Fits);
    assert!(verdict_on(&plan, &keys[1]).removes());
}

#[test]
fn space_is_counted_down_to_the_reserve() {
    let limits = |keep_storage, max_used, min_free| Limits {
        keep_duration: None,
        keep_storage,
        max_used,
        min_free,
    };
    // used, free -> allowed
    let cases = [
        (limits(None, None, None), 100, 50, 0),
        (limits(Some(30), None, None), 100, 50, 30),
        (limits(None, Some(70), None), 100, 50, 70),
        (limits(None, None, Some(40)), 100, 50, u64::MAX),
        (limits(None, None, Some(60)), 100, 50, 90),
        (limits(None, Some(70), Some(60)), 100, 50, 70),
        (limits(Some(95), Some(70), Some(60)), 100, 50, 95),
        (limits(None, None, Some(500)), 100, 50, 0),
    ];
    for (limits, used, free, allowed) in cases {
        assert_eq!(limits.allowed(used, free), allowed, "{limits:?}");
    }
}

#[test]
fn what_was_used_in_the_future_ages_from_now_on() {
    let (_dir, store) = store();
    let key = put_record(&store, "a", put_layer(&store, "a"));
    used_ago(&store, &key, -1_000_000);
    let keep = Limits {
        keep_duration: Some(Duration::from_secs(3600)),
        ..NO_LIMITS
    };
    let plan = store
        .collect(&within(keep), Detail::Sizes)
        .unwrap()
        .unwrap();
    assert_eq!(verdict_on(&plan, &key), Verdict::Recent(Duration::ZERO));
    let (_, used) = store.actions().list().unwrap()[0];
    assert!(used <= SystemTime::now());
}

#[test]
fn what_another_process_relies_on_stays() {
    let (_dir, store) = store();
    let (layer, unused) = (put_layer(&store, "layer"), put_layer(&store, "unused"));
    let key = put_record(&store, "a", put_layer(&store, "a"));
    let blob = store.cas().put(b"blob").unwrap();
    let other = Store::open(store.root()).unwrap();
    assert!(other.layers().has_content(&layer));
    assert!(other.cas().contains(&blob));
    assert!(other.actions().get(&key).is_some());
    let plan = store.collect(&within(NO_LIMITS), Detail::Sizes).unwrap();
    assert_eq!(plan.unwrap().freed.layers, 1);
    assert!(store.layers().contains(&layer) && store.cas().contains(&blob));
    assert!(!store.layers().contains(&unused));
    assert!(store.actions().get(&key).is_some());
    drop(other);
    let freed = collect(&store, &within(NO_LIMITS));
    assert_eq!((freed.layers, freed.blobs, freed.records), (2, 1, 1));
}

#[test]
fn what_is_only_counted_is_not_relied_on() {
    let (_dir, store) = store();
    put_record(&store, "a", put_layer(&store, "a"));
    let other = Store::open(store.root()).unwrap();
    other.inventory(Detail::Descriptions).unwrap();
    other
        .plan_collection(&within(NO_LIMITS), Detail::Sizes)
        .unwrap();
    assert_eq!(collect(&store, &within(NO_LIMITS)).layers, 1);
}

#[test]
fn an_image_on_a_layer_that_is_in_use_goes_without_it() {
    let (_dir, store) = store();
    let (base, own) = (put_layer(&store, "base"), put_layer(&store, "own"));
    let image = put_image(&store, &[base, own], &[]);
    store.refs().set_untagged(&image).unwrap();
    let other = Store::open(store.root()).unwrap();
    assert!(other.layers().fs_dir(&base).is_some());
    let freed = collect(&store, &within(NO_LIMITS));
    assert_eq!((freed.images, freed.layers), (1, 1));
    assert!(store.layers().contains(&base) && !store.layers().contains(&own));
}

#[test]
fn an_image_that_is_about_to_be_used_stays_whole() {
    let (_dir, store) = store();
    let layer = put_layer(&store, "layer");
    let image = put_image(&store, &[layer], &[]);
    store.refs().set_untagged(&image).unwrap();
    let other = Store::open(store.root()).unwrap();
    assert!(other.refs().image(&image.config).unwrap().is_some());
    collect(&store, &within(NO_LIMITS));
    assert!(store.layers().contains(&layer));
    drop(other);
    collect(&store, &within(NO_LIMITS));
    assert!(!store.layers().contains(&layer));
}

#[test]
fn an_evicted_step_can_still_be_explained() {
    let (_dir, store) = store();
    let preimage = Preimage::new("exec").of_step("app 1/2");
    let result = ActionResult {
        output: OutputId::scratch(),
        layer: Some(put_layer(&store, "a")),
        created: Timestamp::UNIX_EPOCH,
        duration_ms: 1,
    };
    let key = preimage.key();
    store.actions().put(&key, &result, &preimage).unwrap();
    collect(&store, &within(NO_LIMITS));
    assert_eq!(store.actions().preimage(&key), Some(preimage.clone()));
    let forgetful = Policy {
        memory_since: Some(SystemTime::now() + Duration::from_secs(5)),
        ..within(NO_LIMITS)
    };
    collect(&store, &forgetful);
    assert_eq!(store.actions().preimage(&key), None);
}

#[test]
fn a_held_step_and_a_held_mount_stay() {
    let (_dir, store) = store();
    let key = put_record(&store, "a", put_layer(&store, "a"));
    let mount = store.mounts_dir().join("id/variant-0");
    fs::create_dir_all(&mount).unwrap();
    let lock = fs::File::create(mount.with_extension("lock")).unwrap();
    store
        .note_mount_use(mount.parent().unwrap(), "go", &lock)
        .unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
    let working = store.lock_key(&key).unwrap();
    let plan = store
        .plan_collection(&within(NO_LIMITS), Detail::Descriptions)
        .unwrap();
    assert_eq!(plan.verdicts, [Verdict::InUse; 2]);
    assert_eq!(plan.inventory.entries[1].description, "go");
    drop((working, lock));
    assert_eq!(collect(&store, &within(NO_LIMITS)).mounts, 1);
    assert!(!mount.exists());
}

#[test]
fn all_that_is_there_is_counted_once() {
    let (_dir, store) = store();
    let layer = put_layer(&store, "layer");
    let blob = store.cas().put(b"blob").unwrap();
    put_record(&store, "a", layer);
    store
        .refs()
        .set_untagged(&put_image(&store, &[layer], &[blob]))
        .unwrap();
    let mount = store.mounts_dir().join("id/variant-0");
    fs::create_dir_all(&mount).unwrap();
    fs::write(mount.join("f"), "cached").unwrap();
    let lock = fs::File::create(mount.with_extension("lock")).unwrap();
    let caches = mount.parent().unwrap();
    store.note_mount_use(caches, "go", &lock).unwrap();
    store.remotes().repository("https://r.test/x").unwrap();
    // Measured once before: what a layer takes is noted beside it.
    store.inventory(Detail::Descriptions).unwrap();
    let inventory = store.inventory(Detail::Descriptions).unwrap();
    assert_eq!(inventory.total(), crate::inventory::disk_use(store.root()));
}

#[test]
fn what_takes_long_to_find_out_is_known_before_builds_wait() {
    let (_dir, store) = store();
    let key = put_record(&store, "make", put_layer(&store, "made"));
    let mount = store.mounts_dir().join("id/variant-0");
    fs::create_dir_all(&mount).unwrap();
    let before = store.inventory(Detail::Descriptions).unwrap();
    let size = |inventory: &Inventory| {
        let mut entries = inventory.entries.iter();
        let mount = entries.find(|entry| entry.kind == EntryKind::CacheMount);
        mount.unwrap().size
    };
    fs::write(mount.join("f"), vec![7; 1 << 20]).unwrap();
    let plan = store.collect_knowing(&before, &STRAYS).unwrap().unwrap();
    assert_eq!(size(&plan.inventory), size(&before), "not measured again");
    assert_eq!(plan.inventory.books, before.books);
    let is_step = |entry: &&Entry| entry.id == key.0.hex();
    let step = plan.inventory.entries.iter().find(is_step).unwrap();
    assert!(step.description.contains("make"), "{}", step.description);
    let plan = store.collect(&STRAYS, Detail::Sizes).unwrap().unwrap();
    assert!(size(&plan.inventory) > 1 << 20);
}
