//! Whatever a changeset says, its tar says too.

use std::collections::{BTreeMap, HashMap};

use kiln_image::tar::{Limits, Nothing, UnpackOptions, Unpacker, Whiteouts, read_layer};
use kiln_image::{Change, Changeset, ImagePath, Kind, Metadata, Node, Timestamp};
use proptest::prelude::*;

use crate::fixture::*;

/// One entry as drawn: a name out of few, so that names meet, what is there, and perhaps which object it is another name of.
type Drawn = (Vec<usize>, Metadata, Option<Kind>, Option<u64>, Vec<u8>);

const NAMES: [&str; 7] = ["a", "b", "b-c", "grüße", ".hidden", "with space\n", LONG];
const LONG: &str =
    "a-name-that-is-long-enough-for-two-of-it-to-need-more-than-the-hundred-bytes-of-ustar";

fn kinds() -> impl Strategy<Value = Option<Kind>> {
    prop_oneof![
        Just(None),
        Just(Some(Kind::Directory)),
        Just(Some(Node::file(b"").kind)),
        "[a-z/.]{1,120}".prop_map(|target| Some(Kind::Symlink {
            target: target.into()
        })),
        (1..300_u32, 0..300_u32).prop_map(|(major, minor)| Some(Kind::CharDevice { major, minor })),
        (0..300_u32, 0..300_u32)
            .prop_map(|(major, minor)| Some(Kind::BlockDevice { major, minor })),
        Just(Some(Kind::Fifo)),
    ]
}

prop_compose! {
    fn metadatas()(
        mode in 0..0o10000_u32,
        uid in prop_oneof![0..3_000_u32, 2_097_150..4_294_967_295_u32],
        gid in prop_oneof![0..3_000_u32, 2_097_150..4_294_967_295_u32],
        secs in prop_oneof![-10_000..10_000_i64, 1_700_000_000..1_700_000_010_i64, 0x1_ffff_fff0..0x2_0000_0010_i64],
        capability in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..24)),
    ) -> Metadata {
        let xattrs = capability.map(|value| (b"security.capability".to_vec(), value)).into_iter().collect();
        Metadata { mode, uid, gid, mtime: Timestamp::from_secs(secs), xattrs }
    }
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let path = proptest::collection::vec(0..NAMES.len(), 1..4);
    let content = proptest::collection::vec(any::<u8>(), 0..1100);
    let link = proptest::option::of(0..3_u64);
    (path, metadatas(), kinds(), link, content)
}

/// Makes a layer of what was drawn: with parents, and with hard links that are the same object.
fn layer(entries: Vec<Drawn>) -> (Changeset, Files) {
    let mut changes: BTreeMap<ImagePath, Change> = BTreeMap::new();
    let mut contents = Files::new();
    let mut linked: HashMap<u64, (Node, Vec<u8>)> = HashMap::new();
    for (names, metadata, kind, link, content) in entries {
        let names: Vec<&str> = names.iter().map(|&name| NAMES[name]).collect();
        let path = path(&names.join("/"));
        let taken = |above: &ImagePath| {
            changes
                .get(above)
                .is_some_and(|change| !is_directory(change))
        };
        if changes.contains_key(&path) || path.ancestors().any(|above| taken(&above)) {
            continue;
        }
        for above in path.ancestors() {
            let implied = || Change::Put(Node::directory(metadata.clone()));
            changes.entry(above).or_insert_with(implied);
        }
        let change = match kind {
            None => Change::Remove,
            Some(Kind::Directory) => Change::Put(Node::directory(metadata)),
            Some(kind) => {
                let mut node = match kind {
                    Kind::File { .. } => Node::file(&content),
                    kind => Node::new(Metadata::with_mode(0o777), kind),
                };
                let mode = match node.kind {
                    Kind::Symlink { .. } => 0o777,
                    _ => metadata.mode,
                };
                node.metadata = Metadata { mode, ..metadata };
                node.link = link;
                let (node, content) = match link {
                    None => (node, content),
                    Some(link) => linked.entry(link).or_insert((node, content)).clone(),
                };
                if let Kind::File { .. } = node.kind {
                    contents.insert(path.clone(), content);
                }
                Change::Put(node)
            }
        };
        changes.insert(path, change);
    }
    (renumbered(changes), contents)
}

fn is_directory(change: &Change) -> bool {
    change.node().is_some_and(Node::is_directory)
}

/// Numbers the groups of hard links as reading does: in order, and none for an object with one name.
fn renumbered(mut changes: BTreeMap<ImagePath, Change>) -> Changeset {
    let group = |change: &Change| change.node()?.link;
    let groups: Vec<u64> = changes.values().filter_map(group).collect();
    let mut numbers: Vec<u64> = Vec::new();
    for change in changes.values_mut() {
        if let Change::Put(Node {
            link: Some(link), ..
        }) = change
        {
            let count = groups.iter().filter(|group| *group == link).count();
            if count > 1 && !numbers.contains(link) {
                numbers.push(*link);
            }
        }
    }
    for change in changes.values_mut() {
        if let Change::Put(Node { link, .. }) = change {
            *link = link
                .and_then(|link| numbers.iter().position(|number| *number == link))
                .map(|at| at as u64);
        }
    }
    changes.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn writing_and_reading_gives_the_same_changeset(entries in proptest::collection::vec(drawn(), 0..12)) {
        let (changes, contents) = layer(entries);
        let (bytes, summary) = written(&changes, &contents);
        prop_assert_eq!(&read(&bytes).unwrap(), &changes);
        prop_assert_eq!(written(&changes, &contents).1, summary);
        // Another reader finds as many entries, sockets and the root aside.
        prop_assert_eq!(names(&bytes).len(), changes.len());
    }

    #[test]
    fn damage_is_never_a_panic_and_never_leaves_the_root(
        entries in proptest::collection::vec(drawn(), 1..6),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (changes, contents) = layer(entries);
        let (mut bytes, _) = written(&changes, &contents);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            mend_checksum(&mut bytes, at / 512 * 512);
        }
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let options = UnpackOptions::unprivileged(Whiteouts::Delete);
        let limits = Limits { size: 1 << 20, ..options.limits };
        drop(read_layer(&bytes[..], &limits, &mut Nothing));
        drop(read_layer(&bytes[..], &limits, &mut Unpacker::open(&root, options).unwrap()));
        prop_assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }
}

/// Makes a header that was changed look whole, so that more than the checksum is tried.
fn mend_checksum(bytes: &mut [u8], start: usize) {
    if bytes.len() < start + 512 || &bytes[start + 257..start + 262] != b"ustar" {
        return;
    }
    bytes[start + 148..start + 156].fill(b' ');
    let sum: u32 = bytes[start..start + 512]
        .iter()
        .map(|&byte| u32::from(byte))
        .sum();
    bytes[start + 148..start + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
