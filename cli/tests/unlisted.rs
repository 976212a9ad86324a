//! Images of tools that write files into layers without the directories that those are in: the directories stay as the layers
//! below have them.

#![allow(clippy::unwrap_used)]

mod cases;
mod test_env;

use std::collections::BTreeMap;
use std::fs;

use cases::archive::ArchivedImage;
use kiln_image::Digest;
use serde_json::json;
use tar::{Builder, EntryType, Header};
use test_env::TestEnv;

const DATE: u64 = 1_000_000_000;

/// What is below: a directory for all, one of a group, one whose file goes, and one that is described again above.
const BELOW: [(&str, u32, u64, u64); 7] = [
    ("open/", 0o1777, 5, 6),
    ("open/deep/", 0o2750, 7, 8),
    ("open/gone", 0o644, 0, 0),
    ("only/", 0o700, 9, 9),
    ("only/gone", 0o644, 0, 0),
    ("said/", 0o700, 3, 3),
    ("file", 0o600, 3, 3),
];

/// What is above lists one directory only.
const ABOVE: [(&str, u32, u64, u64); 9] = [
    ("open/deep/f", 0o644, 0, 0),
    ("open/.wh.gone", 0, 0, 0),
    ("only/.wh.gone", 0, 0, 0),
    ("new/dir/f", 0o644, 0, 0),
    ("said/", 0o711, 4, 4),
    ("said/f", 0o644, 0, 0),
    ("file/f", 0o644, 0, 0),
    ("bare/deep/.wh.gone", 0, 0, 0),
    ("bare/too/.wh.gone", 0, 0, 0),
];

fn layer(entries: &[(&str, u32, u64, u64)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, mode, uid, gid) in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(match name.ends_with('/') {
            true => EntryType::Directory,
            false => EntryType::Regular,
        });
        header.set_mode(*mode);
        header.set_uid(*uid);
        header.set_gid(*gid);
        header.set_mtime(DATE);
        header.set_size(0);
        builder
            .append_data(&mut header, name, std::io::empty())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// Puts an image `odd` of these layers into the store.
fn load(env: &TestEnv, layers: &[Vec<u8>]) {
    let mut builder = Builder::new(Vec::new());
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    let names: Vec<String> = (0..layers.len()).map(|at| format!("{at}.tar")).collect();
    for (name, bytes) in names.iter().zip(layers) {
        put(name, bytes);
    }
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|bytes| Digest::of(bytes).to_string())
        .collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Env": ["PATH=/bin"] },
        "history": vec![json!({ "created_by": "odd" }); layers.len()],
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    put("config.json", config.to_string().as_bytes());
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": ["odd:latest"], "Layers": names }]);
    put("manifest.json", manifest.to_string().as_bytes());
    fs::write(env.work().join("odd.tar"), builder.into_inner().unwrap()).unwrap();
    env.kiln(&["load", "-i", "odd.tar"]).succeeds();
}

/// Mode, owner and date of what is in a tar, by name.
fn listing(env: &TestEnv, name: &str) -> BTreeMap<String, String> {
    let file = fs::File::open(env.work().join(name)).unwrap();
    let mut archive = tar::Archive::new(file);
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        let told = format!(
            "{:o} {}:{} {}",
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap()
        );
        found.insert(entry.path().unwrap().display().to_string(), told);
    }
    found
}

#[test]
fn directories_that_a_layer_does_not_list_stay_as_they_are() {
    let env = TestEnv::new();
    load(&env, &[layer(&BELOW), layer(&ABOVE)]);
    env.write("Dockerfile", "FROM odd\nCOPY --from=odd /open /copied/\n");
    env.kiln(&["build", "-o", "type=tar,dest=out.tar", "."])
        .succeeds();
    let found = listing(&env, "out.tar");
    for (path, expected) in [
        ("open/", "1777 5:6 1000000000"),
        ("open/deep/", "2750 7:8 1000000000"),
        ("only/", "700 9:9 1000000000"),
        ("said/", "711 4:4 1000000000"),
        ("new/", "755 0:0 0"),
        ("new/dir/", "755 0:0 0"),
        // What was no directory below is one of nobody's.
        ("file/", "755 0:0 0"),
        // Nothing is there to be removed, but the whiteout has to be somewhere.
        ("bare/", "755 0:0 0"),
        ("bare/deep/", "755 0:0 0"),
        ("copied/deep/", "2750 7:8 1000000000"),
    ] {
        assert_eq!(
            found.get(path).map(String::as_str),
            Some(expected),
            "{path}"
        );
    }
    assert!(!found.keys().any(|path| path.contains("gone")), "{found:?}");
}

/// Each step looks, and changes something; what it changes and what it makes anew counts for the next.
const STEPS: &str = r#"FROM odd
RUN test "$(stat -c '%u:%g %a %Y' /open)" = "5:6 1777 1000000000" && test "$(stat -c '%u:%g %a %Y' /open/deep)" = "7:8 2750 1000000000" \
 && test "$(stat -c '%u:%g %a' /only)" = "9:9 700" && test "$(stat -c '%u:%g %a' /said)" = "4:4 711" \
 && test "$(stat -c '%u:%g %a' /new/dir)" = "0:0 755" && test "$(stat -c '%u:%g %a' /file)" = "0:0 755" && test ! -e /open/gone && test -f /open/deep/f
RUN true
RUN rmdir /bare/deep && touch -d @1000000000 /bare
RUN test ! -e /bare/deep && rmdir /bare/too /bare
RUN test ! -e /bare
RUN touch /open/deep/g && touch -d @1000000000 /open/deep/g /open/deep
RUN chmod 700 /open/deep && touch -d @1000000000 /open
RUN test "$(stat -c '%u:%g %a' /open/deep)" = "7:8 700" && test "$(stat -c '%u:%g %a' /open)" = "5:6 1777" \
 && rm -r /open/deep && mkdir /open/deep && touch -d @1000000000 /open/deep /open
RUN test "$(stat -c '%u:%g %a' /open/deep)" = "0:0 755" && test ! -e /open/deep/f
USER 100
RUN touch /open/mine
"#;

#[test]
fn sandbox_directories_that_a_layer_does_not_list_stay_as_they_are_on_all_rungs() {
    let env = TestEnv::new();
    let told = env.kiln(&["doctor", "--format", "json"]).succeeds().stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let rungs = told["rungs"].as_array().unwrap().iter();
    let mut first: Option<(String, String)> = None;
    for rung in rungs.filter(|rung| rung["works"] == true) {
        let rung = rung["name"].as_str().unwrap();
        let env = TestEnv::on_rung(rung);
        if !env.import_busybox() {
            return;
        }
        let root = fs::read(env.work().join("busybox.tar")).unwrap();
        load(&env, &[root, layer(&BELOW), layer(&ABOVE)]);
        env.write("Dockerfile", STEPS);
        env.kiln(&["build", "-o", "type=docker,dest=out.tar", "."])
            .succeeds();
        let layers = ArchivedImage::read(&env.work().join("out.tar")).layers();
        match &first {
            None => {
                assert!(layers.contains("1777 5:6"), "{layers}");
                first = Some((rung.to_owned(), layers));
            }
            Some((other, expected)) => assert_eq!(&layers, expected, "{rung} and {other}"),
        }
        let look = ["run", "--rm", "odd", "stat", "-c", "%u:%g %a", "/open/deep"];
        assert_eq!(env.kiln(&look).succeeds().stdout, "7:8 2750\n", "{rung}");
    }
}

/// As many as the kernel stacks: there is no room for a layer of directories on top.
#[test]
fn sandbox_directories_that_are_not_listed_need_no_layer_more_than_there_can_be() {
    let env = TestEnv::new();
    if !env.import_busybox() {
        return;
    }
    let root = fs::read(env.work().join("busybox.tar")).unwrap();
    let mut layers = vec![root, layer(&BELOW), layer(&ABOVE)];
    let further = |number: usize| layer(&[(&format!("more-{number}"), 0o644, 0, 0)]);
    layers.extend((layers.len()..500).map(further));
    load(&env, &layers);
    let steps = r#"FROM odd
RUN test "$(stat -c '%u:%g %a %Y' /open/deep)" = "7:8 2750 1000000000" && touch -d @1000000000 /open/deep/g /open/deep
"#;
    env.write("Dockerfile", steps);
    env.kiln(&["build", "-o", "type=docker,dest=out.tar", "."])
        .succeeds();
    let layers = ArchivedImage::read(&env.work().join("out.tar")).layers();
    let made = layers.rsplit("RUN ").next().unwrap();
    assert!(
        made.contains("2750 7:8 open/deep/\n") && !made.contains("only"),
        "{made}"
    );
}
