//! Records as they travel: what a cache in a registry or a folder says.
//!
//! ```text
//! manifest (an OCI image manifest, so that every registry takes it)
//!   config       application/vnd.kiln.cache.config.v1+json        [`CacheIndex`]: key -> result, and which layer is which
//!   layers[0]    application/vnd.kiln.cache.preimages.v1+gzip     [`Preimages`]: what the keys were made of
//!   layers[1..]  application/vnd.oci.image.layer.v1.tar+…         the layers, in the order of the index
//!   …            application/vnd.kiln.cache.mount.v1.tar          cache mounts ([`SavedMount`]), compressed as the layers are
//! ```
//!
//! A build reads manifest and config, which are small. Layers are fetched when somebody needs them, and the preimages when
//! a miss is to be explained or a hit is kept in the store. A record may name a layer that is not there (`mode=min`): what its
//! step came to is known all the same, and that is all a step needs whose result is only copied from.
//!
//! In an image's config (`type=inline`) the same index stands under [`INLINE`], preimages included; its layers are the image's.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use kiln_image::{DiffId, Digest};
use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::key::{CacheKey, Preimage};
use crate::records::{ActionResult, Record};
use crate::{ActionCache, StoreError};

/// Media type of a [`CacheIndex`].
pub const INDEX_TYPE: &str = "application/vnd.kiln.cache.config.v1+json";
/// Media type of [`Preimages`], compressed with gzip.
pub const PREIMAGES_TYPE: &str = "application/vnd.kiln.cache.preimages.v1+gzip";
/// Media type of what a cache mount has in it.
pub const MOUNT_TYPE: &str = "application/vnd.kiln.cache.mount.v1.tar";
/// The key of an image's config under which its records are.
pub const INLINE: &str = "dev.kiln.cache.v1";

/// An alias leads to a result, or to one alias more; never further.
const LONGEST_CHAIN: usize = 4;

/// Most records, most aliases and most cache mounts of one cache. No fleet of builds comes near.
const MOST: usize = 1 << 20;

/// Longest id of a cache mount, in bytes.
const LONGEST_ID: usize = 4096;

/// Hexadecimal digits of [`SavedMount::variant`].
const VARIANT_DIGITS: usize = 16;

/// What is wrong with an index that could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// More than any build needs.
    #[error("its index has {count} {what}, more than the {MOST} that are read")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
    },
    /// A layer stands for two blobs.
    #[error("its index has layer {0} twice")]
    Layer(DiffId),
    /// A directory stands for two blobs.
    #[error("its index has a directory of the cache mount `{0}` twice")]
    Mount(String),
    /// A cache mount that no step can have.
    #[error("its index has a cache mount that no step can have")]
    NoMount,
}

/// What is known of steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheIndex {
    /// Results by key.
    #[serde(deserialize_with = "each_once")]
    pub records: BTreeMap<CacheKey, ActionResult>,
    /// Keys whose result is under another.
    #[serde(deserialize_with = "each_once")]
    pub aliases: BTreeMap<CacheKey, CacheKey>,
    /// The layers that come with it, in the manifest's order.
    pub layers: Vec<DiffId>,
    /// The cache mounts that come with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<SavedMount>,
    /// What the keys were made of, where that is not a blob of its own.
    #[serde(default, skip_serializing_if = "Preimages::is_empty")]
    pub preimages: Preimages,
}

/// A directory of `RUN --mount=type=cache` as it travels. It is in no key, and whoever can't have it begins with an empty one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMount {
    /// The mount's id.
    pub id: String,
    /// Which of the id's directories: sixteen hexadecimal digits that stand for mode, owner and first content.
    pub variant: String,
    /// The tar of what is in it, perhaps compressed.
    pub blob: Digest,
    /// Size of that tar without compression, in bytes.
    pub size: u64,
    /// When a step used it last.
    pub used: Timestamp,
    /// The directory itself, for which the tar has no entry.
    #[serde(default)]
    pub directory: MountDirectory,
}

/// Mode and owner of a cache mount's own directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountDirectory {
    /// Permissions, as chmod(2) takes them.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// As a mount begins for which nothing else is said (R-MNT-9).
impl Default for MountDirectory {
    fn default() -> Self {
        Self {
            mode: 0o755,
            uid: 0,
            gid: 0,
        }
    }
}

/// What keys were made of. The steps they belong to are named without the Dockerfile, which is elsewhere on another machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Preimages(pub BTreeMap<CacheKey, Preimage>);

impl CacheIndex {
    /// Looks for what no kiln writes. Digests are checked when they are read; a record whose layer isn't there says only what its
    /// step came to; an alias that leads nowhere, or in a circle, is a miss.
    pub fn check(&self) -> Result<(), IndexError> {
        let counts = [
            ("records", self.records.len()),
            ("aliases", self.aliases.len()),
            ("cache mounts", self.mounts.len()),
        ];
        if let Some((what, count)) = counts.into_iter().find(|(_, count)| *count > MOST) {
            return Err(IndexError::TooMany { what, count });
        }
        let mut seen = HashSet::new();
        if let Some(twice) = self.layers.iter().find(|layer| !seen.insert(**layer)) {
            return Err(IndexError::Layer(*twice));
        }
        let mut seen = HashSet::new();
        for mount in &self.mounts {
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            let is_variant =
                mount.variant.len() == VARIANT_DIGITS && mount.variant.bytes().all(is_digit);
            if !is_variant || mount.id.is_empty() || mount.id.len() > LONGEST_ID {
                return Err(IndexError::NoMount);
            }
            if !seen.insert((&mount.id, &mount.variant)) {
                return Err(IndexError::Mount(mount.id.clone()));
            }
        }
        Ok(())
    }

    /// The result under a key, and the key that it is recorded under itself.
    pub fn find(&self, key: &CacheKey) -> Option<(CacheKey, &ActionResult)> {
        let mut key = *key;
        for _ in 0..LONGEST_CHAIN {
            if let Some(result) = self.records.get(&key) {
                return Some((key, result));
            }
            key = *self.aliases.get(&key)?;
        }
        None
    }
}

impl Preimages {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what a key was made of.
    pub fn add(&mut self, key: CacheKey, mut preimage: Preimage) {
        preimage.step = preimage.step.as_deref().map(place_in_file);
        self.0.insert(key, preimage);
    }
}

/// A map in which no key is twice: which of two was meant nobody can tell.
fn each_once<'de, D: Deserializer<'de>, V: DeserializeOwned>(
    deserializer: D,
) -> Result<BTreeMap<CacheKey, V>, D::Error> {
    struct EachOnce<V>(PhantomData<V>);
    impl<'de, V: DeserializeOwned> Visitor<'de> for EachOnce<V> {
        type Value = BTreeMap<CacheKey, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map by key")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = access.next_entry()? {
                if map.insert(key, value).is_some() {
                    return Err(A::Error::custom("a key is there twice"));
                }
            }
            Ok(map)
        }
    }
    deserializer.deserialize_map(EachOnce(PhantomData))
}

/// A step's name without that of its Dockerfile.
fn place_in_file(step: &str) -> String {
    match step.rfind(" [") {
        Some(at) => step[at + 1..].to_owned(),
        None => step.to_owned(),
    }
}

impl ActionCache<'_> {
    /// The key that aliases lead to from this one, and the result recorded there, whether or not its layer is here.
    pub fn recorded(&self, key: &CacheKey) -> (CacheKey, Option<ActionResult>) {
        let mut key = *key;
        for _ in 0..LONGEST_CHAIN {
            match self.record(&key) {
                Some(Record::Result(result)) => return (key, Some(result)),
                Some(Record::Alias(next)) => key = next,
                None => break,
            }
        }
        (key, None)
    }

    /// Keeps a result that was found elsewhere, under the key asked for and its own. Its layer must be in the store.
    pub fn keep(
        &self,
        asked: &CacheKey,
        found: &CacheKey,
        result: &ActionResult,
        preimage: Option<&Preimage>,
    ) -> Result<(), StoreError> {
        match preimage {
            Some(preimage) => self.put(found, result, preimage)?,
            None => self.put_result(found, result)?,
        }
        self.alias(asked, found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::OutputId;

    fn key(text: &str) -> CacheKey {
        CacheKey(Digest::of(text.as_bytes()))
    }

    fn result() -> ActionResult {
        ActionResult {
            output: OutputId::scratch(),
            layer: Some(DiffId(Digest::of(b"layer"))),
            created: Timestamp::UNIX_EPOCH,
            duration_ms: 7,
        }
    }

    fn mount() -> SavedMount {
        SavedMount {
            id: "/c".to_owned(),
            variant: "0123456789abcdef".to_owned(),
            blob: Digest::of(b"blob"),
            size: 512,
            used: Timestamp::UNIX_EPOCH,
            directory: MountDirectory::default(),
        }
    }

    #[test]
    fn an_index_survives_the_way() {
        let mut index = CacheIndex::default();
        index.records.insert(key("a"), result());
        index.aliases.insert(key("b"), key("a"));
        index.aliases.insert(key("c"), key("lost"));
        index.aliases.insert(key("d"), key("d"));
        index.layers.push(DiffId(Digest::of(b"layer")));
        index.mounts.push(mount());
        let preimage = Preimage::new("exec").of_step("/home/me/app Dockerfile [build 1/3");
        index.preimages.add(key("a"), preimage);
        let json = serde_json::to_vec(&index).unwrap();
        let back: CacheIndex = serde_json::from_slice(&json).unwrap();
        assert_eq!(back, index);
        assert_eq!(back.find(&key("b")), Some((key("a"), &result())));
        assert_eq!(back.find(&key("c")), None);
        assert_eq!(back.find(&key("d")), None, "a circle");
        let placed = &back.preimages.0[&key("a")];
        assert_eq!(placed.step.as_deref(), Some("[build 1/3"));
    }

    fn valid() -> CacheIndex {
        let mut index = CacheIndex::default();
        index.records.insert(key("a"), result());
        index.aliases.insert(key("b"), key("a"));
        index.layers.push(DiffId(Digest::of(b"layer")));
        index.mounts.push(mount());
        index
    }

    #[test]
    fn what_no_kiln_writes_is_refused() {
        let with = |mount: SavedMount| CacheIndex {
            mounts: vec![mount],
            ..valid()
        };
        let mut twice = valid();
        twice.layers.push(twice.layers[0]);
        let mut mounted_twice = valid();
        mounted_twice.mounts.push(mount());
        let variants = [
            "",
            "../../../../etc/x",
            "0123456789ABCDEF",
            "0123456789abcdef0",
        ];
        let variants = variants.map(|variant| {
            let variant = variant.to_owned();
            (with(SavedMount { variant, ..mount() }), "no step can have")
        });
        let ids = [String::new(), "x".repeat(LONGEST_ID + 1)];
        let ids = ids.map(|id| (with(SavedMount { id, ..mount() }), "no step can have"));
        let others = [(twice, "twice"), (mounted_twice, "`/c` twice")];
        for (index, said) in others.into_iter().chain(variants).chain(ids) {
            let refused = index.check().unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
        }
        assert_eq!(valid().check(), Ok(()));
    }

    #[test]
    fn documents_that_make_no_sense_are_refused() {
        let hex = "a".repeat(64);
        let result = r#"{"output":"sha256:HEX","layer":"sha256:HEX","created":"2026-01-01T00:00:00Z","duration_ms":1}"#;
        let result = result.replace("HEX", &hex);
        let record = format!("\"sha256:{hex}\":{result}");
        let index = |records: &str, aliases: &str, layers: &str| {
            format!(r#"{{"records":{{{records}}},"aliases":{{{aliases}}},"layers":[{layers}]}}"#)
        };
        let read = |text: &str| serde_json::from_str::<CacheIndex>(text);
        read(&index(&record, "", "")).unwrap();
        let alias = format!("\"sha256:{hex}\":\"sha256:{hex}\"");
        let cases = [
            index(&format!("{record},{record}"), "", ""),
            index("", &format!("{alias},{alias}"), ""),
            index(&record.replace(&hex, &hex[1..]), "", ""),
            index(&record.replace(&hex, &"g".repeat(64)), "", ""),
            index(&record.replace("sha256", "sha512"), "", ""),
            index(&record.replace("2026", "later"), "", ""),
            index(&record.replace(":1}", ":-1}"), "", ""),
            index("", "", "\"../../layer\""),
            index("", "", "7"),
            "[]".to_owned(),
            "{}".to_owned(),
            "[".repeat(100_000),
        ];
        for text in cases {
            let shown: String = text.chars().take(200).collect();
            assert!(read(&text).is_err(), "{shown}");
        }
    }

    proptest::proptest! {
        /// Whatever became of an index on the way, it is refused or can be used.
        #[test]
        fn a_damaged_index_is_harmless(changes in proptest::collection::vec((0usize..4096, 0u8..=255), 1..6)) {
            let mut json = serde_json::to_vec(&valid()).unwrap();
            for (at, byte) in changes {
                let at = at % json.len();
                json[at] = byte;
            }
            if let Ok(index) = serde_json::from_slice::<CacheIndex>(&json) {
                let _ = index.check();
                let _ = index.find(&key("b"));
            }
        }
    }
}
