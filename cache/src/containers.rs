//! Containers that ended and are kept: what they changed is a layer of the store.
//!
//! Each has a file under `containers/`, named by its id. The layer, and the image's own layers below it, stay as long as the file does.
//! What a failed RUN left is one, too, so that all that looks into containers looks into it.

use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;
use kiln_image::{DiffId, Digest, Platform, RunConfig};
use serde::{Deserialize, Serialize};

use crate::store::read_file;
use crate::tmp::create_dir;
use crate::{Store, StoreError};

/// The store's containers.
#[derive(Debug, Clone, Copy)]
pub struct Containers<'s> {
    store: &'s Store,
}

/// A container that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// What it is called by kiln: 64 hexadecimal digits.
    pub id: String,
    /// What it is called by people; no two have the same.
    pub name: String,
    /// Digest of the config of the image that it is of; `None` for one of a stage or a step, which has no image.
    #[serde(default)]
    pub image: Option<Digest>,
    /// What that image was called when it was run.
    pub image_name: String,
    /// The image's layers, bottom first.
    pub layers: Vec<DiffId>,
    /// What it changed; `None` if that was nothing.
    pub changes: Option<DiffId>,
    /// The image's, with what was asked for instead.
    pub config: RunConfig,
    /// What was run.
    pub argv: Vec<String>,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Its exit status, as a shell has it.
    pub status: i32,
    /// The platform of its programs; `None` in records of older versions, for this machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The step that failed, if it is what such a step left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<FailedStep>,
}

/// What is known of a RUN that failed, besides how it was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStep {
    /// What names the Dockerfile and its context.
    pub recipe: String,
    /// What names the step from build to build.
    pub step: String,
    /// As progress calls it: `[build 2/4] RUN make`.
    pub name: String,
    /// The host name inside.
    pub hostname: String,
    /// Names and addresses for `/etc/hosts`.
    pub hosts: Vec<(String, String)>,
    /// Whether it had no network.
    pub offline: bool,
    /// Files that were laid over its root filesystem: scripts of heredocs.
    pub files: Vec<StepFile>,
    /// Directories in memory, with the bytes that they may have.
    pub tmpfs: Vec<(String, Option<u64>)>,
    /// What it had and a container of it has not, in words.
    pub lacks: Vec<String>,
}

/// A file that comes with a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFile {
    /// Where it appears, absolute.
    pub path: String,
    /// What it holds.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

impl ContainerRecord {
    /// The layers of its root filesystem, bottom first.
    pub fn all_layers(&self) -> Vec<DiffId> {
        self.layers.iter().copied().chain(self.changes).collect()
    }
}

impl<'s> Containers<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self { store }
    }

    /// Keeps a container. All of it must be in the store.
    pub fn put(&self, container: &ContainerRecord) -> Result<(), StoreError> {
        let json = serde_json::to_vec(container).map_err(|source| StoreError::Serialise {
            what: "a container",
            source: Box::new(source),
        })?;
        let directory = self.store.dir("containers");
        if !directory.exists() {
            match create_dir(&directory) {
                Err(error) if !directory.exists() => return Err(error),
                _ => {}
            }
        }
        self.store
            .write_durably(&[(&self.path(&container.id), &json)])
    }

    /// All containers, the latest first. A damaged record is no container.
    pub fn list(&self) -> Result<Vec<ContainerRecord>, StoreError> {
        let entries = fs::read_dir(self.store.dir("containers"));
        let mut containers: Vec<ContainerRecord> = Vec::new();
        for entry in entries.into_iter().flatten().flatten() {
            let bytes = read_file(&entry.path())?;
            containers.extend(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()));
        }
        containers.sort_by(|one, other| (other.ended, &other.id).cmp(&(one.ended, &one.id)));
        Ok(containers)
    }

    /// Takes a container out of the store. What it changed goes with the next collection.
    pub fn remove(&self, id: &str) -> Result<(), StoreError> {
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn path(&self, id: &str) -> PathBuf {
        self.store.dir("containers").join(id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::testing::store;

    #[test]
    fn containers_are_kept_until_they_are_removed() {
        let (_dir, store) = store();
        let container = |id: &str, ended| ContainerRecord {
            id: id.to_owned(),
            name: format!("name-{id}"),
            image: Some(Digest::of(b"config")),
            image_name: "app".to_owned(),
            layers: vec![DiffId(Digest::of(b"layer"))],
            changes: None,
            config: RunConfig::default(),
            argv: vec!["true".to_owned()],
            started: Timestamp::UNIX_EPOCH,
            ended,
            status: 0,
            platform: None,
            step: None,
        };
        let containers = store.containers();
        assert_eq!(containers.list().unwrap(), []);
        let (old, new) = (
            container("a", Timestamp::UNIX_EPOCH),
            container("b", Timestamp::MAX),
        );
        containers.put(&old).unwrap();
        containers.put(&new).unwrap();
        fs::write(containers.path("c"), "{").unwrap();
        assert_eq!(containers.list().unwrap(), [new.clone(), old.clone()]);
        containers.remove("b").unwrap();
        containers.remove("b").unwrap();
        assert_eq!(containers.list().unwrap(), [old]);
    }
}
