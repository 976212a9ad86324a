//! The file: JSON, sorted, the same bytes for the same lock.

use std::collections::{BTreeMap, BTreeSet};

use kiln_image::Digest;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Lock, LockedCommit, LockedImage};

/// The version that is written.
const VERSION: u32 = 1;

/// Why a lock file can't be used.
#[derive(Debug, Error)]
pub enum LockError {
    /// It isn't what kiln writes.
    #[error("it is no lock file: {0}")]
    Format(#[from] serde_json::Error),
    /// A newer kiln wrote it.
    #[error("it has version {0}, and this kiln reads version {VERSION}")]
    Version(u32),
}

/// A name, and what it stood for and stands for.
pub type Change = (String, Option<String>, Option<String>);

/// The file as it stands there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default)]
    images: BTreeMap<String, LockedImage>,
    #[serde(default)]
    downloads: BTreeMap<String, Digest>,
    #[serde(default)]
    repositories: BTreeMap<String, LockedCommit>,
}

/// Of a file that may be of any version.
#[derive(Deserialize)]
struct AnyVersion {
    version: u32,
}

impl Lock {
    /// Reads the file's text.
    ///
    /// # Errors
    /// If it is damaged or of another version.
    pub fn from_json(text: &[u8]) -> Result<Self, LockError> {
        let AnyVersion { version } = serde_json::from_slice(text)?;
        if version != VERSION {
            return Err(LockError::Version(version));
        }
        let file: File = serde_json::from_slice(text)?;
        Ok(Self {
            images: file.images,
            downloads: file.downloads,
            repositories: file.repositories,
        })
    }

    /// The file's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let file = File {
            version: VERSION,
            images: self.images.clone(),
            downloads: self.downloads.clone(),
            repositories: self.repositories.clone(),
        };
        let text = serde_json::to_string_pretty(&file);
        text.expect("names and digests can be written as JSON") + "\n"
    }

    /// How many names it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.len() + self.downloads.len() + self.repositories.len()
    }

    /// Whether it has no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In what `now` differs, a line for each name.
    #[must_use]
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let changes = self.changes(now).into_iter();
        let line = |(name, before, after): Change| match (before, after) {
            (None, _) => format!("`{name}` is not locked"),
            (_, None) => format!("`{name}` is locked and not used"),
            _ => format!("`{name}` stands for something else"),
        };
        changes.map(line).collect()
    }

    /// The names that don't stand for the same in `now`, with what they stand for in both, shortly.
    #[must_use]
    pub fn changes(&self, now: &Self) -> Vec<Change> {
        let (before, after) = (self.all(), now.all());
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let differs = names
            .into_iter()
            .filter(|name| before.get(*name) != after.get(*name));
        let short = |all: &BTreeMap<String, Vec<String>>, name: &String| {
            all.get(name).and_then(|parts| parts.first().cloned())
        };
        differs
            .map(|name| (name.clone(), short(&before, name), short(&after, name)))
            .collect()
    }

    /// Every name and all that it stands for, the most telling first.
    fn all(&self) -> BTreeMap<String, Vec<String>> {
        let images = self.images.iter().map(|(name, image)| {
            let parts = match image {
                LockedImage::Registry { digest, platforms } => {
                    let platforms = platforms.iter();
                    let platforms = platforms.map(|(name, digest)| format!("{name} {digest}"));
                    std::iter::once(digest.to_string())
                        .chain(platforms)
                        .collect()
                }
                LockedImage::Store { id } => vec![id.to_string()],
            };
            (name.clone(), parts)
        });
        let downloads = self.downloads.iter();
        let downloads = downloads.map(|(name, digest)| (name.clone(), vec![digest.to_string()]));
        let repositories = self.repositories.iter().map(|(name, at)| {
            let tag = at.tag.clone().unwrap_or_default();
            (
                name.clone(),
                vec![at.commit.clone(), at.reference.clone(), tag],
            )
        });
        images.chain(downloads).chain(repositories).collect()
    }
}
