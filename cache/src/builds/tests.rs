#![allow(clippy::unwrap_used)]

use jiff::Timestamp;

use super::*;
use crate::testing::store;

fn header(context: &str) -> BuildHeader {
    BuildHeader {
        id: Builds::new_id(),
        recipe: RecipeId::of(context, "Dockerfile"),
        kiln: "0".to_owned(),
        started: Timestamp::UNIX_EPOCH,
        context: context.to_owned(),
        dockerfile: "Dockerfile".to_owned(),
        target: None,
        tags: Vec::new(),
    }
}

fn record(header: BuildHeader) -> BuildRecord {
    BuildRecord {
        header,
        invocation: None,
        ended: Timestamp::UNIX_EPOCH,
        outcome: BuildOutcome::Canceled,
        graph: None,
        others: Vec::new(),
    }
}

#[test]
fn a_history_that_was_removed_begins_anew_and_no_name_of_a_file_stops_it() {
    let (_dir, store) = store();
    std::fs::remove_dir(store.builds_dir()).unwrap();
    let builds = store.builds();
    builds.put(&record(header("/a")), None).unwrap();
    let last = format!("{}-aaaaaaaaaaaa-bbbbbbbbbbbb.log", u64::MAX);
    std::fs::write(store.builds_dir().join(last), "").unwrap();
    builds.put(&record(header("/a")), None).unwrap();
    assert_eq!(builds.list().unwrap().len(), 3);
}

#[test]
fn the_last_build_of_a_recipe_is_found() {
    let (_dir, store) = store();
    let builds = store.builds();
    let [a1, b, a2] = ["/a", "/b", "/a"].map(|context| record(header(context)));
    for record in [&a1, &b, &a2] {
        builds.put(record, None).unwrap();
    }
    let recipe = RecipeId::of("/a", "Dockerfile");
    assert_eq!(builds.last(&recipe, 9), [a2.clone(), a1.clone()]);
    assert_eq!(builds.last(&recipe, 1).len(), 1);
    let entries = builds.list().unwrap();
    let ids: Vec<BuildId> = entries.iter().map(BuildEntry::id).collect();
    let expected = [&a1, &b, &a2].map(|record| record.header.id.clone());
    assert_eq!(ids, expected);
    assert_eq!(builds.before(&entries[2], 9), [a1]);
    builds.remove(&entries[2]).unwrap();
    assert_eq!(builds.list().unwrap().len(), 2);
}

#[test]
fn a_log_tells_of_a_build_that_was_killed() {
    let (_dir, store) = store();
    let builds = store.builds();
    let header = header("/a");
    let mut log = builds.begin(&header).unwrap();
    let line = LogEntry::Line {
        at: Timestamp::UNIX_EPOCH,
        vertex: 3,
        stream: 1,
        text: "hello\n".to_owned(),
    };
    log.add(&line).unwrap();
    log.flush().unwrap();
    let entry = builds.list().unwrap().remove(0);
    assert_eq!(
        builds.read(&entry),
        Some(KnownBuild::Running(header.clone()))
    );
    builds.remove(&entry).unwrap();
    assert_eq!(builds.list().unwrap().len(), 1, "it is running");
    drop(log);
    assert_eq!(
        builds.read(&entry),
        Some(KnownBuild::Killed(header.clone()))
    );
    // Torn while it was written.
    let path = builds.path(&entry, "log");
    let mut torn = fs::read(&path).unwrap();
    torn.extend_from_slice(b"{\"line\":");
    fs::write(&path, torn).unwrap();
    let read: Vec<LogEntry> = builds.log(&entry).unwrap().unwrap().collect();
    assert_eq!(read, [LogEntry::Begun(header), line]);
}

#[test]
fn the_log_and_the_record_are_one_build() {
    let (_dir, store) = store();
    let builds = store.builds();
    let record = record(header("/a"));
    let log = builds.begin(&record.header).unwrap();
    builds.put(&record, Some(&log)).unwrap();
    let entries = builds.list().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(
        builds.read(&entries[0]),
        Some(KnownBuild::Ended(Box::new(record)))
    );
}

#[test]
fn only_so_many_are_kept() {
    let (_dir, store) = store();
    let builds = store.builds();
    for _ in 0..MOST_BUILDS + 3 {
        builds.put(&record(header("/a")), None).unwrap();
    }
    let entries = builds.list().unwrap();
    assert_eq!((entries.len(), entries[0].number), (MOST_BUILDS, 4));
}

#[test]
fn a_damaged_one_was_never_there() {
    let (_dir, store) = store();
    let builds = store.builds();
    let record = record(header("/a"));
    builds.put(&record, None).unwrap();
    let entry = builds.list().unwrap().remove(0);
    let path = builds.path(&entry, "build");
    let whole = fs::read(&path).unwrap();
    for end in [0, 1, 40, whole.len() - 1] {
        fs::write(&path, &whole[..end]).unwrap();
        assert_eq!(builds.read(&entry), None, "cut at {end}");
        assert!(builds.last(&record.header.recipe, 9).is_empty());
    }
    fs::write(store.builds_dir().join("notes.txt"), "").unwrap();
    assert_eq!(builds.list().unwrap().len(), 1);
}
