//! Image names, and the images that have none.
//!
//! Every image in the store has a file under `refs/images/` named by its config's digest; that is what `kiln images`
//! calls its id. A name is one more file, holding the same record, so a name that moves on to a new image leaves
//! the old one there without a name. Both are roots of collection: an image goes when it is removed, not when its
//! name does.
//!
//! A name's file is the name itself, percent-encoded, or its digest where that would be too long for a file name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use kiln_image::{Digest, Platform, Reference};
use serde::{Deserialize, Serialize};

use crate::store::read_file;
use crate::{Store, StoreError};

/// Longest percent-encoded name used as a file name, in bytes; file systems take 255.
const LONGEST_NAME: usize = 200;

/// The store's images.
#[derive(Debug, Clone, Copy)]
pub struct Refs<'s> {
    store: &'s Store,
}

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Digest of its config: its id. The config is a blob of the store.
    pub config: Digest,
    /// Its manifest, a blob of the store; `None` until it has one.
    pub manifest: Option<ManifestRecord>,
    /// What it runs on.
    pub platform: Platform,
    /// When it came into the store.
    pub created_at: Timestamp,
}

/// What a descriptor says of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRecord {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
}

#[derive(Serialize, Deserialize)]
struct Named {
    name: String,
    image: ImageRecord,
}

impl<'s> Refs<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self { store }
    }

    /// The image with this name.
    pub fn get(&self, name: &Reference) -> Result<Option<ImageRecord>, StoreError> {
        let found = read_json::<Named>(&self.name_path(name))?;
        let wanted = name.to_string();
        Ok(found
            .filter(|found| found.name == wanted)
            .map(|found| found.image))
    }

    /// Gives the image a name; the one that had it stays without. All of the image must be in the store.
    pub fn set(&self, name: &Reference, image: &ImageRecord) -> Result<(), StoreError> {
        self.set_untagged(image)?;
        let named = Named {
            name: name.to_string(),
            image: image.clone(),
        };
        self.write(&self.name_path(name), &named)
    }

    /// Keeps an image without giving it a name.
    pub fn set_untagged(&self, image: &ImageRecord) -> Result<(), StoreError> {
        let path = self.image_path(&image.config);
        match read_json::<ImageRecord>(&path)? {
            // What came first keeps its time, unless the image has a manifest only now.
            Some(known) if known.manifest == image.manifest || image.manifest.is_none() => Ok(()),
            _ => self.write(&path, image),
        }
    }

    /// Takes a name away; the image stays. Returns the image that had it.
    pub fn remove(&self, name: &Reference) -> Result<Option<ImageRecord>, StoreError> {
        let image = self.get(name)?;
        if image.is_some() {
            remove(&self.name_path(name))?;
        }
        Ok(image)
    }

    /// Takes an image out of the store with all its names, which are returned. Its layers go with the next collection,
    /// as far as nothing else has them.
    pub fn remove_image(&self, config: &Digest) -> Result<Vec<Reference>, StoreError> {
        let names = self.names_of(config)?;
        for name in &names {
            remove(&self.name_path(name))?;
        }
        remove(&self.image_path(config))?;
        Ok(names)
    }

    /// All names with their images, sorted by name.
    pub fn list(&self) -> Result<Vec<(Reference, ImageRecord)>, StoreError> {
        let mut named = Vec::new();
        for path in files(&self.store.dir("refs/tags"))? {
            if let Some(found) = read_json::<Named>(&path)?
                && let Ok(name) = found.name.parse::<Reference>()
            {
                named.push((name, found.image));
            }
        }
        named.sort_by_key(|(name, _)| name.to_string());
        Ok(named)
    }

    /// All images, with a name or without, the latest first.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        let mut images = Vec::new();
        for path in files(&self.store.dir("refs/images"))? {
            images.extend(read_json::<ImageRecord>(&path)?);
        }
        images.sort_by_key(|image| (std::cmp::Reverse(image.created_at), image.config));
        Ok(images)
    }

    /// The image with this id.
    pub fn image(&self, config: &Digest) -> Result<Option<ImageRecord>, StoreError> {
        read_json(&self.image_path(config))
    }

    /// The names an image has.
    pub fn names_of(&self, config: &Digest) -> Result<Vec<Reference>, StoreError> {
        let named = self.list()?.into_iter();
        let names = named.filter(|(_, image)| image.config == *config);
        Ok(names.map(|(name, _)| name).collect())
    }

    fn write(&self, path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
        let json = serde_json::to_vec(value).map_err(|source| StoreError::Serialise {
            what: "an image record",
            source: Box::new(source),
        })?;
        if read_file(path)?.is_some_and(|stored| stored == json) {
            return Ok(());
        }
        self.store.write_file(path, &[&json], true)
    }

    fn name_path(&self, name: &Reference) -> PathBuf {
        self.store
            .dir("refs/tags")
            .join(file_name(&name.to_string()))
    }

    fn image_path(&self, config: &Digest) -> PathBuf {
        self.store.dir("refs/images").join(config.hex())
    }
}

/// A name as a file name: no slash, no leading dot, not too long.
fn file_name(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len() + 16);
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => encoded.push(char::from(byte)),
            b'.' if at > 0 => encoded.push('.'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    if encoded.len() > LONGEST_NAME {
        return format!("%%{}", Digest::of(name.as_bytes()).hex());
    }
    encoded
}

/// A record that can't be read as one is no record.
fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, StoreError> {
    let bytes = read_file(path)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(directory).map_err(StoreError::io("list", directory))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
