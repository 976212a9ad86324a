//! Collection: removing what nothing refers to any more.
//!
//! Two things keep a layer: an image under `refs/`, through its config's diff ids, and a record under `actions/` that
//! is young enough. A blob is kept by an image (its config, its manifest and what that names) or as a compressed
//! form of a kept layer. All else goes. Collection holds the store alone, so it never takes something away from a
//! build that has looked it up; while builds are running it doesn't happen, and nothing waits for it.
//!
//! It is mark and sweep over directory listings: no reference counts that could be wrong.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kiln_image::{DiffId, Digest, ImageConfig};
use serde_json::Value;

use crate::locks::StoreLock;
use crate::refs::ImageRecord;
use crate::tmp;
use crate::{Store, StoreError};

/// Configs and manifests are not larger than this; a larger one keeps nothing.
const LARGEST_DOCUMENT: u64 = 32 * 1024 * 1024;

/// What a collection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Records last used before this moment go; `None` keeps all of them.
    pub records_used_since: Option<SystemTime>,
    /// Images without a name go too.
    pub untagged_images: bool,
}

/// What a collection took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freed {
    /// Images without a name.
    pub images: u64,
    /// Cache records.
    pub records: u64,
    /// Layers, whatever forms they had.
    pub layers: u64,
    /// Blobs.
    pub blobs: u64,
    /// Space all of them took on the disk, in bytes.
    pub bytes: u64,
}

/// What stays.
#[derive(Debug, Default)]
struct Live {
    layers: HashSet<DiffId>,
    blobs: HashSet<Digest>,
}

impl Store {
    /// Removes what nothing refers to. `None` if the store is in use: then another time will do.
    pub fn collect(&self, policy: &Policy) -> Result<Option<Freed>, StoreError> {
        match self.try_lock_exclusive()? {
            Some(lock) => self.collect_holding(&lock, policy).map(Some),
            None => Ok(None),
        }
    }

    /// Removes what nothing refers to, for one who holds the store alone already.
    fn collect_holding(&self, _alone: &StoreLock, policy: &Policy) -> Result<Freed, StoreError> {
        let mut freed = Freed::default();
        if policy.untagged_images {
            self.drop_untagged(&mut freed)?;
        }
        self.drop_old_records(policy.records_used_since, &mut freed)?;
        let live = self.mark()?;
        self.sweep(&live, &mut freed)?;
        tmp::sweep(&self.dir("tmp"));
        Ok(freed)
    }

    fn drop_untagged(&self, freed: &mut Freed) -> Result<(), StoreError> {
        let named: HashSet<Digest> = self
            .refs()
            .list()?
            .into_iter()
            .map(|(_, image)| image.config)
            .collect();
        for image in self.refs().images()? {
            if !named.contains(&image.config) {
                self.refs().remove_image(&image.config)?;
                freed.images += 1;
            }
        }
        Ok(())
    }

    fn drop_old_records(
        &self,
        since: Option<SystemTime>,
        freed: &mut Freed,
    ) -> Result<(), StoreError> {
        let Some(since) = since else {
            return Ok(());
        };
        for (key, used) in self.actions().list()? {
            if used < since {
                self.actions().remove(&key)?;
                freed.records += 1;
            }
        }
        // What only makes builds faster or explains them: not worth counting.
        drop_old_files(&self.dir("steps"), since)?;
        drop_old_files(&self.dir("stat"), since)?;
        self.drop_old_remotes(since, freed)
    }

    /// Repositories are as old as their last fetch.
    fn drop_old_remotes(&self, since: SystemTime, freed: &mut Freed) -> Result<(), StoreError> {
        drop_old_files(&self.dir("remotes/http"), since)?;
        for path in old_entries(&self.dir("remotes/git"), since) {
            freed.bytes += disk_use(&path);
            let hidden = self.tmp_path()?;
            fs::rename(&path, hidden.as_path()).map_err(StoreError::io("remove", path))?;
        }
        Ok(())
    }

    fn mark(&self) -> Result<Live, StoreError> {
        let mut live = Live::default();
        for image in self.refs().images()? {
            self.mark_image(&image, &mut live);
        }
        for (_, image) in self.refs().list()? {
            self.mark_image(&image, &mut live);
        }
        for (key, _) in self.actions().list()? {
            live.layers.extend(self.actions().layer(&key));
        }
        for layer in &live.layers {
            let meta = self.layers().meta(layer);
            let blobs = meta.into_iter().flat_map(|meta| meta.blobs);
            live.blobs.extend(blobs.map(|blob| blob.digest));
        }
        Ok(live)
    }

    /// A damaged config or manifest keeps what it is and nothing it can't name.
    fn mark_image(&self, image: &ImageRecord, live: &mut Live) {
        live.blobs.insert(image.config);
        if let Ok(bytes) = self.cas().read(&image.config, LARGEST_DOCUMENT)
            && let Ok(config) = ImageConfig::from_json(&bytes)
        {
            live.layers
                .extend(config.rootfs.diff_ids.into_iter().flatten());
        }
        let Some(manifest) = &image.manifest else {
            return;
        };
        live.blobs.insert(manifest.digest);
        if let Ok(bytes) = self.cas().read(&manifest.digest, LARGEST_DOCUMENT)
            && let Ok(manifest) = serde_json::from_slice::<Value>(&bytes)
        {
            let layers = manifest["layers"].as_array().into_iter().flatten();
            let digests =
                layers.filter_map(|layer| layer["digest"].as_str()?.parse::<Digest>().ok());
            live.blobs.extend(digests);
        }
    }

    fn sweep(&self, live: &Live, freed: &mut Freed) -> Result<(), StoreError> {
        for layer in self.layers().list()? {
            if !live.layers.contains(&layer) {
                freed.bytes += disk_use(&self.layers().dir(&layer));
                freed.layers += 1;
                self.layers().remove(&layer)?;
            }
        }
        for (blob, size) in self.cas().list()? {
            if !live.blobs.contains(&blob) {
                self.cas().remove(&blob)?;
                freed.blobs += 1;
                freed.bytes += size;
            }
        }
        Ok(())
    }
}

fn drop_old_files(directory: &Path, since: SystemTime) -> Result<(), StoreError> {
    for path in old_entries(directory, since) {
        fs::remove_file(&path).map_err(StoreError::io("remove", path))?;
    }
    Ok(())
}

/// What is in a directory and was not written since; nothing if there is no such directory.
fn old_entries(directory: &Path, since: SystemTime) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_old = |entry: &fs::DirEntry| {
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        written.is_ok_and(|written| written < since)
    };
    entries.filter(is_old).map(|entry| entry.path()).collect()
}

/// Space a directory takes, in bytes; hard-linked files count once for each name.
fn disk_use(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = walkdir::WalkDir::new(directory).into_iter().flatten();
    let blocks = entries.filter_map(|entry| fs::symlink_metadata(entry.path()).ok());
    blocks.map(|metadata| metadata.blocks() * 512).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use jiff::Timestamp;
    use kiln_image::{Changeset, Platform};

    use super::*;
    use crate::testing::store;
    use crate::{ActionResult, CompressedBlob, ManifestRecord, OutputId, Preimage, Value as Field};

    const ALL: Policy = Policy {
        records_used_since: None,
        untagged_images: false,
    };

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
            platform: Platform::new("linux", "amd64", None),
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn put_record(store: &Store, command: &str, layer: DiffId) -> crate::CacheKey {
        let preimage = Preimage::new("exec").field("argv", Field::Text(command.to_owned()));
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

        let freed = store.collect(&ALL).unwrap().unwrap();
        assert_eq!((freed.layers, freed.blobs, freed.records), (1, 1, 0));
        assert!(freed.bytes > 0);
        assert!(store.layers().contains(&of_image) && store.layers().contains(&of_record));
        assert!(!store.layers().contains(&of_none) && !store.cas().contains(&stray));
        assert!(store.cas().contains(&pulled) && store.cas().contains(&compressed));
        assert!(store.actions().get(&key).is_some());
        assert_eq!(store.collect(&ALL).unwrap(), Some(Freed::default()));
    }

    #[test]
    fn old_records_and_nameless_images_go_when_asked() {
        let (_dir, store) = store();
        let layer = put_layer(&store, "layer");
        let key = put_record(&store, "make", layer);
        let image = put_image(&store, &[], &[]);
        store.refs().set_untagged(&image).unwrap();
        assert_eq!(store.collect(&ALL).unwrap(), Some(Freed::default()));
        let all = Policy {
            records_used_since: Some(SystemTime::now() + std::time::Duration::from_secs(9)),
            untagged_images: true,
        };
        let freed = store.collect(&all).unwrap().unwrap();
        assert_eq!(
            (freed.images, freed.records, freed.layers, freed.blobs),
            (1, 1, 1, 2)
        );
        assert!(store.actions().get(&key).is_none());
    }

    #[test]
    fn nothing_goes_while_the_store_is_in_use() {
        let (_dir, store) = store();
        let layer = put_layer(&store, "layer");
        let in_use = store.lock_shared().unwrap();
        assert_eq!(store.collect(&ALL).unwrap(), None);
        assert!(store.layers().contains(&layer));
        drop(in_use);
        assert_eq!(store.collect(&ALL).unwrap().unwrap().layers, 1);
    }
}
