//! Image names, and the images that have none.
//!
//! Every image in the store has a file under `refs/images/` named by its config's digest; that is what `kiln images`
//! calls its id. A name is one more file, holding the same record, so a name that moves on to a new image leaves
//! the old one there without a name. Both are roots of collection: an image goes when it is removed, not when its
//! name does.
//!
//! A name may stand for the images of several platforms: those of an index, as far as they are here. One of them is what is
//! meant where nobody says a platform.
//!
//! A name's file is the name itself, percent-encoded, or its digest where that would be too long for a file name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use kiln_image::{Digest, Platform, Reference};
use serde::{Deserialize, Serialize};

use crate::inventory::PartName;
use crate::records::touch;
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
    /// Whether it has that manifest from here, or from an archive: if not, it was pulled with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_manifest: bool,
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

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedImages {
    /// The image that is meant where nobody says a platform.
    pub image: ImageRecord,
    /// Images for other platforms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<ImageRecord>,
    /// The index that they are of, a blob of the store. Not all that it names need be here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<ManifestRecord>,
}

#[derive(Serialize, Deserialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    images: NamedImages,
}

impl<'s> Refs<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self { store }
    }

    /// The images with this name.
    pub fn get(&self, name: &Reference) -> Result<Option<NamedImages>, StoreError> {
        let wanted = name.to_string();
        self.relied_on(|| {
            let found = read_json::<Named>(&self.name_path(name))?;
            let found = found.filter(|found| found.name == wanted);
            Ok(found.map(|found| found.images))
        })
    }

    /// What `read` finds, with all of the images that are in it there until this process ends.
    fn relied_on(
        &self,
        read: impl Fn() -> Result<Option<NamedImages>, StoreError>,
    ) -> Result<Option<NamedImages>, StoreError> {
        let mut found = read()?;
        while let Some(images) = &found {
            for image in images.iter() {
                self.store.rely_on(PartName::Blob(image.config));
            }
            // Before that was noted it may have gone.
            let again = read()?;
            if again == found {
                break;
            }
            found = again;
        }
        Ok(found)
    }

    /// Gives an image a name; what had it stays without. All of the image must be in the store. Naming it as it is
    /// named already writes nothing: a cached build ends here, and a sync would be its longest part.
    pub fn set(&self, name: &Reference, image: &ImageRecord) -> Result<(), StoreError> {
        self.set_all(name, &NamedImages::from(image.clone()))
    }

    /// Gives several images one name, as [`Refs::set`] does.
    pub fn set_all(&self, name: &Reference, images: &NamedImages) -> Result<(), StoreError> {
        let mut records = Vec::new();
        for image in images.iter() {
            records.extend(self.new_record(image)?);
        }
        if !self.get(name)?.is_some_and(|known| known.covers(images)) {
            let named = Named {
                name: name.to_string(),
                images: images.clone(),
            };
            records.push((self.name_path(name), serialised(&named)?));
        }
        let files = records.iter();
        let files = files.map(|(path, json)| (path.as_path(), json.as_slice()));
        self.store.write_durably(&files.collect::<Vec<_>>())
    }

    /// Gives an image of an index a name, beside the other images that the name has of that very index. It becomes the one
    /// that is meant where nobody says a platform, unless another `stays` that.
    pub fn add_of_index(
        &self,
        name: &Reference,
        image: &ImageRecord,
        index: &ManifestRecord,
        stays: impl Fn(&ImageRecord) -> bool,
    ) -> Result<(), StoreError> {
        let _held = self.store.lock_image_name(&name.to_string())?;
        let known = self.get(name)?;
        let same = known.filter(|known| known.index.as_ref() == Some(index));
        let mut images = same.map_or_else(Vec::new, |known| known.iter().cloned().collect());
        images.retain(|known| known.config != image.config);
        let place = usize::from(images.first().is_some_and(stays));
        images.insert(place, image.clone());
        let others = images.split_off(1);
        let image = images.pop().expect("one was put in");
        let index = Some(index.clone());
        self.set_all(
            name,
            &NamedImages {
                image,
                others,
                index,
            },
        )
    }

    /// Keeps an image without giving it a name.
    pub fn set_untagged(&self, image: &ImageRecord) -> Result<(), StoreError> {
        match self.new_record(image)? {
            Some((path, json)) => self.store.write_durably(&[(&path, &json)]),
            None => Ok(()),
        }
    }

    /// The file of an image's record, if there is none that says as much.
    fn new_record(&self, image: &ImageRecord) -> Result<Option<(PathBuf, Vec<u8>)>, StoreError> {
        let path = self.image_path(&image.config);
        match read_json::<ImageRecord>(&path)? {
            Some(known) if known.covers(image) => Ok(None),
            _ => Ok(Some((path, serialised(image)?))),
        }
    }

    /// Takes a name away; the images stay. Returns those that had it.
    pub fn remove(&self, name: &Reference) -> Result<Option<NamedImages>, StoreError> {
        let images = self.get(name)?;
        if images.is_some() {
            remove(&self.name_path(name))?;
        }
        Ok(images)
    }

    /// Takes an image out of the store with all its names, which are returned. A name of further images stays theirs. The
    /// image's layers go with the next collection, as far as nothing else has them.
    pub fn remove_image(&self, config: &Digest) -> Result<Vec<Reference>, StoreError> {
        let mut gone = Vec::new();
        for (name, images) in self.list()? {
            if images.iter().all(|image| image.config != *config) {
                continue;
            }
            match images.without(config) {
                Some(left) => self.set_all(&name, &left)?,
                None => {
                    remove(&self.name_path(&name))?;
                    gone.push(name);
                }
            }
        }
        remove(&self.image_path(config))?;
        Ok(gone)
    }

    /// All names with their images, sorted by name.
    pub fn list(&self) -> Result<Vec<(Reference, NamedImages)>, StoreError> {
        let mut named = Vec::new();
        for path in files(&self.store.dir("refs/tags"))? {
            if let Some(found) = read_json::<Named>(&path)?
                && let Ok(name) = found.name.parse::<Reference>()
            {
                named.push((name, found.images));
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
        self.store.rely_on(PartName::Blob(*config));
        read_json(&self.image_path(config))
    }

    /// Counts the time of an image's last use from now.
    pub fn note_use(&self, config: &Digest) {
        touch(&self.image_path(config));
    }

    /// When an image was last used.
    pub(crate) fn last_used(&self, config: &Digest) -> SystemTime {
        let used = fs::metadata(self.image_path(config)).and_then(|record| record.modified());
        used.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The names an image has.
    pub fn names_of(&self, config: &Digest) -> Result<Vec<Reference>, StoreError> {
        let named = self.list()?.into_iter();
        let has = |images: &NamedImages| images.iter().any(|image| image.config == *config);
        let names = named.filter(|(_, images)| has(images));
        Ok(names.map(|(name, _)| name).collect())
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

impl ImageRecord {
    /// Whether no registry is known to have had it.
    #[must_use]
    pub fn is_made_here(&self) -> bool {
        self.manifest.is_none() || self.own_manifest
    }

    /// Whether a file with this record needn't be written for `image`. What came first keeps its time.
    fn covers(&self, image: &ImageRecord) -> bool {
        let same = (&self.config, &self.platform) == (&image.config, &image.platform);
        same && (image.manifest.is_none() || image.manifest == self.manifest)
    }
}

impl From<ImageRecord> for NamedImages {
    fn from(image: ImageRecord) -> Self {
        Self {
            image,
            others: Vec::new(),
            index: None,
        }
    }
}

impl NamedImages {
    /// All of them, the one that is meant where nobody says a platform first.
    pub fn iter(&self) -> impl Iterator<Item = &ImageRecord> {
        std::iter::once(&self.image).chain(&self.others)
    }

    /// What is left without one of them; `None` if that is nothing.
    fn without(mut self, config: &Digest) -> Option<Self> {
        self.others.retain(|image| image.config != *config);
        if self.image.config == *config {
            let next = (!self.others.is_empty()).then(|| self.others.remove(0));
            self.image = next?;
        }
        Some(self)
    }

    /// Whether a file with these needn't be written for `images`. What came first keeps its time.
    fn covers(&self, images: &NamedImages) -> bool {
        let what =
            |image: &ImageRecord| (image.config, image.platform.clone(), image.manifest.clone());
        self.index == images.index && self.iter().map(what).eq(images.iter().map(what))
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

fn serialised(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|source| StoreError::Serialise {
        what: "an image record",
        source: Box::new(source),
    })
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::testing::store;

    fn image(config: &str) -> ImageRecord {
        ImageRecord {
            config: Digest::of(config.as_bytes()),
            manifest: None,
            own_manifest: false,
            platform: Platform::new("linux", "amd64", None),
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn name(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_that_moves_on_leaves_its_image() {
        let (_dir, store) = store();
        let refs = store.refs();
        let app = name("app");
        assert_eq!(refs.get(&app).unwrap(), None);
        refs.set(&app, &image("one")).unwrap();
        refs.set(&app, &image("two")).unwrap();
        assert_eq!(refs.get(&app).unwrap(), Some(image("two").into()));
        assert_eq!(refs.images().unwrap().len(), 2);
        assert_eq!(refs.names_of(&image("one").config).unwrap(), []);
        assert_eq!(refs.remove(&app).unwrap(), Some(image("two").into()));
        assert_eq!(refs.remove(&app).unwrap(), None);
        assert_eq!(
            refs.image(&image("two").config).unwrap(),
            Some(image("two"))
        );
    }

    #[test]
    fn removing_an_image_removes_its_names() {
        let (_dir, store) = store();
        let refs = store.refs();
        refs.set(&name("b"), &image("one")).unwrap();
        refs.set(&name("a:2"), &image("one")).unwrap();
        refs.set(&name("c"), &image("two")).unwrap();
        let removed = refs.remove_image(&image("one").config).unwrap();
        assert_eq!(removed, [name("a:2"), name("b")]);
        assert_eq!(refs.list().unwrap(), [(name("c"), image("two").into())]);
        assert_eq!(refs.images().unwrap(), [image("two")]);
    }

    #[test]
    fn an_image_named_again_keeps_its_time() {
        let (_dir, store) = store();
        let later = ImageRecord {
            created_at: Timestamp::MAX,
            ..image("one")
        };
        store.refs().set(&name("app"), &image("one")).unwrap();
        store.refs().set(&name("app"), &later).unwrap();
        assert_eq!(
            store.refs().get(&name("app")).unwrap(),
            Some(image("one").into())
        );
    }

    #[test]
    fn a_manifest_made_later_is_kept() {
        let (_dir, store) = store();
        let with = ImageRecord {
            manifest: Some(ManifestRecord {
                digest: Digest::of(b"manifest"),
                media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
                size: 8,
            }),
            ..image("one")
        };
        for record in [&image("one"), &with, &image("one")] {
            store.refs().set_untagged(record).unwrap();
        }
        assert_eq!(store.refs().image(&with.config).unwrap(), Some(with));
    }

    fn manifest(text: &str) -> ManifestRecord {
        ManifestRecord {
            digest: Digest::of(text.as_bytes()),
            media_type: String::new(),
            size: 0,
        }
    }

    fn of_platform(config: &str, platform: &str) -> ImageRecord {
        ImageRecord {
            platform: platform.parse().unwrap(),
            ..image(config)
        }
    }

    #[test]
    fn a_name_has_the_images_of_one_index() {
        let (_dir, store) = store();
        let refs = store.refs();
        let app = name("app");
        let [amd, arm] = [("amd", "linux/amd64"), ("arm", "linux/arm64")]
            .map(|(config, platform)| of_platform(config, platform));
        let index = manifest("index");
        let is_amd = |image: &ImageRecord| image.platform == amd.platform;
        refs.add_of_index(&app, &amd, &index, is_amd).unwrap();
        refs.add_of_index(&app, &arm, &index, is_amd).unwrap();
        let both = NamedImages {
            image: amd.clone(),
            others: vec![arm.clone()],
            index: Some(index.clone()),
        };
        assert_eq!(refs.get(&app).unwrap(), Some(both));
        refs.add_of_index(&app, &arm, &index, |_| false).unwrap();
        let found = refs.get(&app).unwrap().unwrap();
        assert_eq!(
            (&found.image, &found.others[..]),
            (&arm, &[amd.clone()][..])
        );
        assert_eq!(
            refs.names_of(&amd.config).unwrap(),
            std::slice::from_ref(&app)
        );
        assert!(refs.remove_image(&arm.config).unwrap().is_empty());
        assert_eq!(refs.get(&app).unwrap().unwrap().image, amd);
        refs.add_of_index(&app, &arm, &manifest("other"), is_amd)
            .unwrap();
        assert!(refs.get(&app).unwrap().unwrap().others.is_empty());
        assert_eq!(refs.remove_image(&arm.config).unwrap(), [app]);
        assert_eq!(refs.images().unwrap(), [amd]);
    }

    #[test]
    fn a_name_follows_its_image_to_another_manifest() {
        let (_dir, store) = store();
        let with = ImageRecord {
            manifest: Some(manifest("annotated")),
            ..image("one")
        };
        for record in [&image("one"), &with, &image("one")] {
            store.refs().set(&name("app"), record).unwrap();
            let found = store.refs().get(&name("app")).unwrap().unwrap();
            assert_eq!(found.image.manifest, record.manifest);
        }
    }

    #[test]
    fn long_names_and_odd_ones_have_files() {
        let (_dir, store) = store();
        let long = format!("localhost:5000/{}/x:tag", "a".repeat(200));
        for text in ["localhost:5000/a/b.c:v1.0_x-y", "a/b:c", &long] {
            store.refs().set(&name(text), &image(text)).unwrap();
            assert_eq!(
                store.refs().get(&name(text)).unwrap(),
                Some(image(text).into())
            );
        }
        assert_eq!(store.refs().list().unwrap().len(), 3);
    }

    #[test]
    fn different_names_have_different_files() {
        for (left, right) in [("a/b", "a%2Fb"), ("a:b", "a/b"), ("..", "%2E.")] {
            assert_ne!(file_name(left), file_name(right));
        }
        assert_eq!(
            file_name("docker.io/library/a:1"),
            "docker.io%2Flibrary%2Fa%3A1"
        );
        assert_eq!(file_name("."), "%2E");
        assert!(file_name(&"a".repeat(500)).len() < 100);
    }

    #[test]
    fn a_damaged_name_is_no_name() {
        let (_dir, store) = store();
        store.refs().set(&name("app"), &image("one")).unwrap();
        fs::write(store.refs().name_path(&name("app")), "{").unwrap();
        assert_eq!(store.refs().get(&name("app")).unwrap(), None);
        assert!(store.refs().list().unwrap().is_empty());
    }
}
