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

use std::collections::BTreeMap;

use jiff::Timestamp;
use kiln_image::{DiffId, Digest};
use serde::{Deserialize, Serialize};

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

/// What is known of steps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheIndex {
    /// Results by key.
    pub records: BTreeMap<CacheKey, ActionResult>,
    /// Keys whose result is under another.
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
}

/// What keys were made of. The steps they belong to are named without the Dockerfile, which is elsewhere on another machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Preimages(pub BTreeMap<CacheKey, Preimage>);

impl CacheIndex {
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

    #[test]
    fn an_index_survives_the_way() {
        let mut index = CacheIndex::default();
        index.records.insert(key("a"), result());
        index.aliases.insert(key("b"), key("a"));
        index.aliases.insert(key("c"), key("lost"));
        index.aliases.insert(key("d"), key("d"));
        index.layers.push(DiffId(Digest::of(b"layer")));
        index.mounts.push(SavedMount {
            id: "/root/.cache".to_owned(),
            variant: "0123456789abcdef".to_owned(),
            blob: Digest::of(b"blob"),
            size: 512,
            used: Timestamp::UNIX_EPOCH,
        });
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
}
