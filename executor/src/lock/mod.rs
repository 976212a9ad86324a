//! Which images, downloads and commits the names of a Dockerfile stand for, kept in a file: so that it is built from the same
//! things next month, and elsewhere.
//!
//! A build that is held to a [`Lock`] asks for nothing by a tag or branch. What the file does not have is an error, and so is
//! content that is not what it says. The names of the command line's own contexts are no part of it, except images.

mod file;
mod held;
mod record;

use std::collections::BTreeMap;

use kiln_cache::builds::SourceRecord;
use kiln_image::{Digest, Platform, Reference};
use kiln_planner::{GitSource, HttpSource};
use serde::{Deserialize, Serialize};

pub use file::{Change, LockError};
pub(crate) use held::{Hold, Say};
pub use record::lock;

/// What names stand for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lock {
    /// By name of the image, with registry and tag.
    pub images: BTreeMap<String, LockedImage>,
    /// The digest of the content, by address.
    pub downloads: BTreeMap<String, Digest>,
    /// By address of the repository, with the ref behind a `#`; without one for the default branch.
    pub repositories: BTreeMap<String, LockedCommit>,
}

/// What the name of an image stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum LockedImage {
    /// An image of a registry.
    Registry {
        /// Of the index, where there is one, else of the manifest.
        digest: Digest,
        /// The manifest of each platform that was asked for.
        platforms: BTreeMap<String, Digest>,
    },
    /// An image that was made on this machine and has no manifest.
    Store {
        /// The digest of its config.
        id: Digest,
    },
}

/// What the ref of a repository stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedCommit {
    /// The commit.
    pub commit: String,
    /// The annotated tag that names it, by the id of its object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The whole name of the ref.
    #[serde(rename = "ref")]
    pub reference: String,
}

impl Lock {
    /// What the names stood for that a build of the history asked for.
    #[must_use]
    pub fn of(sources: &[SourceRecord]) -> Self {
        let mut lock = Self::default();
        for source in sources.iter().cloned() {
            match source {
                SourceRecord::Image {
                    name,
                    platform,
                    manifest: Some(digest),
                    ..
                } => {
                    let image = LockedImage::Registry {
                        digest,
                        platforms: BTreeMap::new(),
                    };
                    let image = lock.images.entry(name).or_insert(image);
                    if let LockedImage::Registry { platforms, .. } = image {
                        platforms.insert(platform, digest);
                    }
                }
                SourceRecord::Image { name, id, .. } => {
                    lock.images.insert(name, LockedImage::Store { id });
                }
                SourceRecord::Download { address, content } => {
                    lock.downloads.insert(address, content);
                }
                SourceRecord::Repository {
                    address,
                    asked,
                    commit,
                    tag,
                    reference,
                } => {
                    let name =
                        asked.map_or_else(|| address.clone(), |asked| format!("{address}#{asked}"));
                    let commit = LockedCommit {
                        commit,
                        tag,
                        reference,
                    };
                    lock.repositories.insert(name, commit);
                }
            }
        }
        lock
    }
}

impl LockedImage {
    /// The manifest to use on a platform, or the index to choose it from; `None` for an image of the store.
    pub(crate) fn digest_for(&self, platform: &Platform) -> Option<Digest> {
        match self {
            Self::Registry { digest, platforms } => {
                Some(*platforms.get(&platform.to_string()).unwrap_or(digest))
            }
            Self::Store { .. } => None,
        }
    }
}

/// What an image is called in the file.
fn image_name(reference: &Reference) -> String {
    reference.to_string()
}

/// What a download is called there.
pub(crate) fn download_name(source: &HttpSource) -> String {
    source.url.to_string()
}

/// What a ref of a repository is called there.
pub(crate) fn repository_name(source: &GitSource) -> String {
    match &source.reference {
        Some(reference) => format!("{}#{reference}", source.remote),
        None => source.remote.clone(),
    }
}

#[cfg(test)]
mod tests;
