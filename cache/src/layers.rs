//! Layers by diff id, each in as many forms as were asked for.
//!
//! A layer's *changeset* says what it does and is made once. Its *materialisations* are made when somebody needs
//! them: `fs/` for an overlay mount, `tar` and compressed blobs for what leaves the machine. Each appears by one
//! rename, on its own: a layer without `fs/` is no damaged layer.
//!
//! A [`LayerStaging`] is the place to make them in: a directory on the store's own file system, so that an upper
//! directory of a RUN becomes a layer's `fs/` without a byte being copied.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln_image::{Changeset, DiffId, Digest};
use serde::{Deserialize, Serialize};

use crate::cas::VerifiedReader;
use crate::framed::{self, Framed};
use crate::inventory::{self, PartName};
use crate::store::{read_file, sync_parent};
use crate::tar_file::TarFile;
use crate::tmp::{TmpPath, create_dir, remove_all};
use crate::unsynced::{UnsyncedNote, remove_note};
use crate::{Store, StoreError};

/// The forms that are made in a [`LayerStaging`].
const FORMS: [&str; 2] = ["fs", "tar"];

/// The file that says which boot wrote a layer's forms, until they are surely on the disk.
const UNSYNCED: &str = "unsynced";

/// The file with what a layer takes on the disk.
const DISK: &str = "disk";

/// The store's layers.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'s> {
    store: &'s Store,
}

/// What is known about a layer besides its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerMeta {
    /// Size of the uncompressed tar in bytes; `None` until the layer was read or made here.
    pub size: Option<u64>,
    /// The compressed forms that are in the store, by digest.
    pub blobs: Vec<CompressedBlob>,
}

/// One compressed form of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompressedBlob {
    /// Digest of the compressed bytes: the blob's name.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Media type a manifest names it by.
    pub media_type: String,
    /// How it was made, such as `gzip-6`; `None` if it came from elsewhere.
    pub encoder: Option<String>,
}

/// A layer with other bytes that was made of a layer here, such as one with other times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DerivedLayer {
    /// Which it is.
    pub layer: DiffId,
    /// What descriptors of it say besides, by key.
    pub annotations: BTreeMap<String, String>,
}

/// A place to make a layer in. Dropped without [`LayerStaging::commit`], nothing is left of it.
#[derive(Debug)]
pub struct LayerStaging<'s> {
    store: &'s Store,
    tmp: TmpPath,
}

/// A directory in which a layer will be made. Dropped, nothing is left of it.
#[derive(Debug)]
pub struct LayerPlace {
    tmp: TmpPath,
}

impl<'s> Layers<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self { store }
    }

    /// Whether the layer's content can be had in any form, and what it does is known.
    pub fn contains(&self, layer: &DiffId) -> bool {
        self.used(layer).join("changeset").exists() && self.has_content(layer)
    }

    /// Whether a step's result can be this layer: what it does is known, or can be read from its tar.
    pub fn is_whole(&self, layer: &DiffId) -> bool {
        match self.used(layer).join("changeset").exists() {
            true => self.has_content(layer),
            false => self.has_tar(layer),
        }
    }

    /// Whether the layer's content can be had in any form.
    pub fn has_content(&self, layer: &DiffId) -> bool {
        self.fs_dir(layer).is_some() || self.has_tar(layer)
    }

    /// Whether the layer's tar can be had, compressed or not.
    fn has_tar(&self, layer: &DiffId) -> bool {
        let dir = self.used(layer);
        (dir.join("tar").exists() && self.is_sure(layer, "tar")) || !self.blobs(layer).is_empty()
    }

    /// What the layer does; `None` if that is not known. A damaged form is removed, so that the layer counts as one
    /// that is not there.
    pub fn changeset(&self, layer: &DiffId) -> Result<Option<Changeset>, StoreError> {
        let path = self.used(layer).join("changeset");
        let stored = match framed::read(&path) {
            Framed::Absent => return Ok(None),
            Framed::Whole(bytes) => Changeset::from_bytes(&bytes).ok(),
            Framed::Damaged => None,
        };
        if stored.is_none() {
            remove_all(&path);
        }
        Ok(stored)
    }

    /// Stores what the layer does and the size of its uncompressed tar in bytes.
    pub fn put_changeset(
        &self,
        layer: &DiffId,
        changeset: &Changeset,
        size: u64,
    ) -> Result<(), StoreError> {
        let dir = self.make_dir(layer)?;
        let body = changeset
            .to_bytes()
            .map_err(|source| StoreError::Serialise {
                what: "a changeset",
                source: Box::new(source),
            })?;
        framed::keep(self.store, &dir.join("meta"), &size.to_le_bytes())?;
        framed::keep(self.store, &dir.join("changeset"), &body)
    }

    /// The layer unpacked, with overlayfs's whiteouts in it; `None` if it isn't, or if the machine went down before
    /// it was surely on the disk.
    pub fn fs_dir(&self, layer: &DiffId) -> Option<PathBuf> {
        let fs = self.used(layer).join("fs");
        (fs.is_dir() && self.is_sure(layer, "fs")).then_some(fs)
    }

    /// Takes the unpacked form out of use, for whoever found that its files are not what the changeset says. It stays
    /// beside, where a step that stands on it finds its files still, and goes with the layer.
    pub fn discard_unpacked(&self, layer: &DiffId) -> Result<(), StoreError> {
        let _alone = self.store.lock_layer(layer)?;
        self.store.forget_committed(layer.0);
        let dir = self.dir(layer);
        let (fs, damaged) = (dir.join("fs"), dir.join("damaged"));
        let earlier = self.store.tmp_path()?;
        for (from, to) in [(&damaged, earlier.as_path()), (&fs, &damaged)] {
            match fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("take out of use", from)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The layer's uncompressed tar, verified while it is read; `None` if it isn't kept.
    pub fn tar(&self, layer: &DiffId) -> Result<Option<VerifiedReader>, StoreError> {
        VerifiedReader::open(self.used(layer).join("tar"), layer.0)
    }

    /// The layer's uncompressed tar for reading parts of it, which nobody verifies; `None` if it isn't kept, or if the
    /// machine went down before it was surely on the disk.
    pub fn tar_file(&self, layer: &DiffId) -> Result<Option<File>, StoreError> {
        let path = self.used(layer).join("tar");
        match File::open(&path) {
            Ok(file) => Ok(self.is_sure(layer, "tar").then_some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("open", path)(error)),
        }
    }

    /// The layer's size and compressed forms; `None` if the store knows nothing of it.
    pub fn meta(&self, layer: &DiffId) -> Option<LayerMeta> {
        let body = framed::read(&self.used(layer).join("meta")).whole();
        let size = body.and_then(|bytes| bytes.try_into().ok());
        let size = size.map(u64::from_le_bytes);
        let blobs = self.blobs(layer);
        (size.is_some() || !blobs.is_empty()).then_some(LayerMeta { size, blobs })
    }

    /// Says that a blob of the store is a compressed form of the layer.
    pub fn add_blob(&self, layer: &DiffId, blob: &CompressedBlob) -> Result<(), StoreError> {
        let path = self
            .make_dir(layer)?
            .join(format!("blob-{}", blob.digest.hex()));
        let body = postcard::to_stdvec(blob).map_err(|source| StoreError::Serialise {
            what: "a layer's blob",
            source: Box::new(source),
        })?;
        framed::keep(self.store, &path, &body)
    }

    /// What was made of the layer under this name, if the store has it still.
    pub fn derived(&self, layer: &DiffId, name: &str) -> Option<DerivedLayer> {
        let body = framed::read(&self.used(layer).join(derived_file(name))).whole()?;
        let derived: DerivedLayer = postcard::from_bytes(&body).ok()?;
        self.has_content(&derived.layer).then_some(derived)
    }

    /// Remembers what was made of the layer. `name` says how: the same name is always the same layer.
    pub fn put_derived(
        &self,
        layer: &DiffId,
        name: &str,
        derived: &DerivedLayer,
    ) -> Result<(), StoreError> {
        let path = self.make_dir(layer)?.join(derived_file(name));
        let body = postcard::to_stdvec(derived).map_err(|source| StoreError::Serialise {
            what: "what a layer became",
            source: Box::new(source),
        })?;
        framed::keep(self.store, &path, &body)
    }

    /// A place to make a layer in.
    pub fn stage(&self) -> Result<LayerStaging<'s>, StoreError> {
        self.place().map(|place| self.stage_at(place))
    }

    /// A place that is not used yet.
    pub fn place(&self) -> Result<LayerPlace, StoreError> {
        let tmp = self.store.tmp_path()?;
        tmp.create_dir()?;
        Ok(LayerPlace { tmp })
    }

    /// Uses a place.
    pub fn stage_at(&self, place: LayerPlace) -> LayerStaging<'s> {
        LayerStaging {
            store: self.store,
            tmp: place.tmp,
        }
    }

    /// All layers the store knows something of, in no order.
    pub fn list(&self) -> Result<Vec<DiffId>, StoreError> {
        let directory = self.store.dir("layers");
        let entries = fs::read_dir(&directory).map_err(StoreError::io("list", &directory))?;
        let ids = entries.flatten().filter_map(|entry| {
            let digest = Digest::from_hex(entry.file_name().to_str()?).ok()?;
            Some(DiffId(digest))
        });
        Ok(ids.collect())
    }

    /// Bytes a layer takes on the disk, without its blobs; `None` if there is no such layer. Measured once for each set of
    /// forms: they don't change.
    pub(crate) fn disk_use(&self, layer: &DiffId) -> Option<u64> {
        let dir = self.dir(layer);
        let note = dir.join(DISK);
        let forms = forms_in(&dir)?;
        let noted = framed::read(&note).whole();
        let noted = noted.and_then(|body| postcard::from_bytes::<(Digest, u64)>(&body).ok());
        if let Some((known, bytes)) = noted
            && known == forms
        {
            return Some(bytes);
        }
        // A store that can't be written to is measured each time. Written twice, so that the note counts too.
        let _ = self.note_disk_use(&note, forms, 0);
        let bytes = inventory::disk_use(&dir);
        let _ = self.note_disk_use(&note, forms, bytes);
        Some(bytes)
    }

    fn note_disk_use(&self, note: &Path, forms: Digest, bytes: u64) -> Result<(), StoreError> {
        let body =
            postcard::to_stdvec(&(forms, bytes)).map_err(|source| StoreError::Serialise {
                what: "a layer's size",
                source: Box::new(source),
            })?;
        framed::write(self.store, note, &body)
    }

    /// Whether a tar is all there is to bring to the disk. What a layer does can be read from it again.
    pub(crate) fn is_tar_only(&self, layer: &Digest) -> bool {
        let dir = self.dir(&DiffId(*layer));
        dir.join("tar").exists() && !dir.join("fs").exists()
    }

    /// Brings a layer's tar to the disk.
    pub(crate) fn sync_tar(&self, layer: &Digest) -> Result<(), StoreError> {
        let path = self.dir(&DiffId(*layer)).join("tar");
        let file = File::open(&path).map_err(StoreError::io("open", &path))?;
        file.sync_data().map_err(StoreError::io("sync", &path))?;
        sync_parent(&path)?;
        sync_parent(&self.dir(&DiffId(*layer)))
    }

    /// What says now that the layer isn't surely on the disk.
    pub(crate) fn unsynced_notes(&self, layer: &Digest) -> Vec<UnsyncedNote> {
        let dir = self.dir(&DiffId(*layer));
        let alone = FORMS.map(unsynced_alone);
        let names = alone.iter().map(String::as_str).chain([UNSYNCED]);
        names
            .filter_map(|name| UnsyncedNote::find(dir.join(name)))
            .collect()
    }

    /// Where a layer's forms are that somebody needs.
    fn used(&self, layer: &DiffId) -> PathBuf {
        self.store.rely_on(PartName::Layer(*layer));
        self.dir(layer)
    }

    /// Where a layer's forms are, or would be.
    pub(crate) fn dir(&self, layer: &DiffId) -> PathBuf {
        self.store.dir("layers").join(layer.0.hex())
    }

    /// The compressed forms whose blobs are there.
    fn blobs(&self, layer: &DiffId) -> Vec<CompressedBlob> {
        let entries = fs::read_dir(self.dir(layer))
            .into_iter()
            .flatten()
            .flatten();
        let stored =
            entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"blob-"));
        let mut blobs: Vec<CompressedBlob> = stored
            .filter_map(|entry| postcard::from_bytes(&framed::read(&entry.path()).whole()?).ok())
            .filter(|blob: &CompressedBlob| self.store.cas().size(&blob.digest) == Some(blob.size))
            .collect();
        blobs.sort_by_key(|blob| blob.digest);
        blobs
    }

    /// Whether what is there in this form was surely written: by this boot, or synced by an earlier one.
    fn is_sure(&self, layer: &DiffId, form: &str) -> bool {
        let dir = self.dir(layer);
        let is_sure = |note: &str| self.is_written(layer, &dir.join(note));
        is_sure(UNSYNCED) && is_sure(&unsynced_alone(form))
    }

    /// Whether what a note is about was surely written.
    fn is_written(&self, layer: &DiffId, note: &Path) -> bool {
        match read_file(note) {
            Ok(None) => true,
            Ok(Some(boot)) => {
                let same_boot = !boot.is_empty() && boot == self.store.boot_id().as_bytes();
                if same_boot {
                    self.store.note_used_unsynced(layer.0);
                }
                same_boot || self.store.has_noted_unsynced(&layer.0)
            }
            Err(_) => false,
        }
    }

    fn make_dir(&self, layer: &DiffId) -> Result<PathBuf, StoreError> {
        let dir = self.used(layer);
        match create_dir(&dir) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
            }
            made => made?,
        }
        Ok(dir)
    }

    /// Whether this process has put the layer into the store in these forms, and nothing of it was taken away since.
    fn has_committed(&self, layer: &DiffId, forms: &[&'static str]) -> bool {
        let dir = self.dir(layer);
        let mut files = forms.iter().chain(&["changeset"]);
        self.store.has_committed(layer.0, forms) && files.all(|file| dir.join(file).exists())
    }

    /// Says which boot wrote the forms `made`. One that is there already was written before, and stays as sure as it is.
    fn note_boot(&self, dir: &Path, made: &[(PathBuf, PathBuf)]) -> Result<(), StoreError> {
        let boot = self.store.boot_id().as_bytes();
        let note = |name: &str| self.store.write_file(&dir.join(name), &[boot]);
        let is_made = |form: &&str| made.iter().any(|(_, to)| *to == dir.join(form));
        let alone = FORMS.into_iter().filter(is_made).map(unsynced_alone);
        if FORMS.iter().any(|form| dir.join(form).exists()) {
            return alone.into_iter().try_for_each(|name| note(&name));
        }
        note(UNSYNCED)?;
        alone
            .into_iter()
            .try_for_each(|name| remove_note(&dir.join(name)))
    }

    /// Gives the forms made in `staging` their names. What is there already stays, unless it is what a power loss
    /// left.
    fn publish(&self, layer: &DiffId, staging: &Path) -> Result<(), StoreError> {
        let _alone = self.store.lock_layer(layer)?;
        let dir = self.make_dir(layer)?;
        let sure = FORMS.map(|form| self.is_sure(layer, form));
        for (form, sure) in FORMS.into_iter().zip(sure) {
            let to = dir.join(form);
            if !sure && to.exists() {
                let torn = self.store.tmp_path()?;
                fs::rename(&to, torn.as_path()).map_err(StoreError::io("remove", &to))?;
            }
        }
        let made = FORMS.map(|form| (staging.join(form), dir.join(form)));
        let made = made
            .into_iter()
            .filter(|(from, to)| from.exists() && !to.exists());
        let made: Vec<_> = made.collect();
        // An empty directory is there or it isn't.
        if is_empty_alone(staging) && sure == [true; 2] {
            for (from, to) in made {
                fs::rename(from, &to).map_err(StoreError::io("rename into place", to))?;
            }
            return Ok(());
        }
        if !made.is_empty() {
            self.note_boot(&dir, &made)?;
        }
        for (from, to) in made {
            fs::rename(from, &to).map_err(StoreError::io("rename into place", to))?;
        }
        // Another process may have made it just now and not synced it yet: whoever commits sees to it.
        self.store.note_unsynced(layer.0);
        Ok(())
    }
}

impl LayerStaging<'_> {
    /// The directory all of it is in, on the store's own file system.
    pub fn path(&self) -> &Path {
        self.tmp.as_path()
    }

    /// See [`LayerPlace::create_fs`].
    pub fn create_fs(&self) -> Result<PathBuf, StoreError> {
        create_fs(self.path())
    }

    /// Creates the file that becomes the layer's uncompressed tar. Its digest must be the diff id.
    pub fn create_tar(&self) -> Result<TarFile, StoreError> {
        let path = self.path().join("tar");
        let file = File::create_new(&path).map_err(StoreError::io("create", path))?;
        Ok(TarFile::new(file))
    }

    /// Puts into the store what the layer does, the size of its uncompressed tar in bytes, and those forms that were
    /// created here. If another process was faster, its forms stay and these are dropped.
    ///
    /// Equal tars make one layer of what need not be quite equal unpacked. Its files may be dated within the same seconds: then the first stays, and
    /// what that does is returned in the place of `changeset`. They may have other attributes, which layers don't have: then the last stays.
    pub fn commit(
        self,
        layer: &DiffId,
        changeset: &Changeset,
        size: u64,
    ) -> Result<Option<Changeset>, StoreError> {
        let layers = self.store.layers();
        self.store.rely_on(PartName::Layer(*layer));
        let made: Vec<_> = FORMS
            .into_iter()
            .filter(|form| self.path().join(form).exists())
            .collect();
        let known = match made.contains(&"fs") && layers.fs_dir(layer).is_some() {
            true => layers.changeset(layer)?,
            false => None,
        };
        let stays = match known {
            Some(known) if known.is_same_but_fractions(changeset) => Some(known),
            Some(_) => {
                layers.discard_unpacked(layer)?;
                None
            }
            None => None,
        };
        if layers.has_committed(layer, &made) {
            return Ok(stays); // steps that change nothing all give the same
        }
        if !made.is_empty() {
            layers.publish(layer, self.path())?;
        }
        layers.put_changeset(layer, stays.as_ref().unwrap_or(changeset), size)?;
        self.store.note_committed(layer.0, &made);
        Ok(stays)
    }
}

impl LayerPlace {
    /// Makes the directory that becomes the layer's unpacked form; an overlay's upper directory. Its mode is 0755,
    /// whatever the umask: an overlay shows it as the mode of `/`.
    pub fn create_fs(&self) -> Result<PathBuf, StoreError> {
        create_fs(self.tmp.as_path())
    }

    /// Makes an overlay's work directory. It is no part of the layer.
    pub fn create_work(&self) -> Result<PathBuf, StoreError> {
        let path = self.tmp.as_path().join("work");
        create_dir(&path)?;
        Ok(path)
    }
}

/// The file that says the same as [`UNSYNCED`] of one form, made when another was there.
fn unsynced_alone(form: &str) -> String {
    format!("{UNSYNCED}-{form}")
}

fn derived_file(name: &str) -> String {
    format!("derived-{name}")
}

fn create_fs(place: &Path) -> Result<PathBuf, StoreError> {
    let path = place.join("fs");
    create_dir(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .map_err(StoreError::io("set the mode of", &path))?;
    Ok(path)
}

/// Whether a directory without anything in it is all that was made.
fn is_empty_alone(staging: &Path) -> bool {
    let mut entries = fs::read_dir(staging.join("fs")).into_iter().flatten();
    !staging.join("tar").exists() && staging.join("fs").exists() && entries.next().is_none()
}

/// A digest of the names in a layer's directory; `None` if there is no directory.
fn forms_in(dir: &Path) -> Option<Digest> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.retain(|name| name != DISK);
    names.sort();
    let names: Vec<&[u8]> = names.iter().map(|name| name.as_encoded_bytes()).collect();
    Some(Digest::of(&names.join(&b'/')))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};

    use kiln_image::{ImagePath, Node};

    use super::*;
    use crate::testing::store;

    fn changes() -> Changeset {
        let mut changes = Changeset::new();
        changes.put(ImagePath::clean(b"/f"), Node::file(b"x"));
        changes
    }

    fn layer() -> DiffId {
        DiffId(Digest::of(b"tar"))
    }

    /// Commits the layer with an unpacked form in which `f` holds `content`.
    fn commit_fs(store: &Store, content: &str) {
        let staging = store.layers().stage().unwrap();
        let fs = staging.create_fs().unwrap();
        fs::create_dir(staging.path().join("work")).unwrap();
        fs::write(fs.join("f"), content).unwrap();
        staging.commit(&layer(), &changes(), 1024).unwrap();
    }

    #[test]
    fn a_layer_has_the_forms_it_was_given() {
        let (_dir, store) = store();
        let layers = store.layers();
        assert!(!layers.contains(&layer()));
        assert_eq!(layers.meta(&layer()), None);
        commit_fs(&store, "x");
        assert!(layers.contains(&layer()));
        let fs = layers.fs_dir(&layer()).unwrap();
        assert_eq!(fs::read(fs.join("f")).unwrap(), b"x");
        assert!(!fs.join("../work").exists());
        assert_eq!(layers.changeset(&layer()).unwrap(), Some(changes()));
        assert!(layers.tar(&layer()).unwrap().is_none());
        assert_eq!(layers.meta(&layer()).unwrap().size, Some(1024));
        assert_eq!(layers.list().unwrap(), [layer()]);
        let bytes = layers.disk_use(&layer());
        assert!(bytes.is_some_and(|bytes| bytes >= 4096));
        assert_eq!(layers.disk_use(&layer()), bytes, "noted");
    }

    #[test]
    fn a_tar_is_verified_by_the_diff_id() {
        let (_dir, store) = store();
        let staging = store.layers().stage().unwrap();
        staging.create_tar().unwrap().write_all(b"tar").unwrap();
        staging.commit(&layer(), &changes(), 3).unwrap();
        let mut read = Vec::new();
        store
            .layers()
            .tar(&layer())
            .unwrap()
            .unwrap()
            .read_to_end(&mut read)
            .unwrap();
        assert_eq!(read, b"tar");
        fs::write(store.layers().dir(&layer()).join("tar"), b"rat").unwrap();
        let mut damaged = store.layers().tar(&layer()).unwrap().unwrap();
        assert!(damaged.read_to_end(&mut read).is_err());
        assert!(store.layers().tar(&layer()).unwrap().is_none());
        assert!(!store.layers().contains(&layer()));
    }

    #[test]
    fn of_equal_layers_the_files_and_what_is_known_of_them_are_of_one() {
        let (_dir, store) = store();
        let commit = |nanos, attribute: &[u8]| {
            let mut node = Node::file(b"x");
            node.metadata.mtime = kiln_image::Timestamp { secs: 1, nanos };
            node.metadata
                .xattrs
                .insert(b"user.a".to_vec(), attribute.to_vec());
            let mut changes = Changeset::new();
            changes.put(ImagePath::clean(b"/f"), node);
            let staging = store.layers().stage().unwrap();
            let fs = staging.create_fs().unwrap();
            fs::write(fs.join("f"), format!("{nanos}")).unwrap();
            let stays = staging.commit(&layer(), &changes, 1024).unwrap();
            let counts = stays.unwrap_or(changes);
            assert_eq!(store.layers().changeset(&layer()).unwrap(), Some(counts));
            fs::read_to_string(store.layers().fs_dir(&layer()).unwrap().join("f")).unwrap()
        };
        assert_eq!(commit(1, b"one"), "1");
        assert_eq!(commit(2, b"one"), "1");
        assert_eq!(commit(3, b"two"), "3");
        assert_eq!(commit(4, b"two"), "3");
    }

    #[test]
    fn a_damaged_unpacked_form_is_made_anew() {
        let (_dir, store) = store();
        for content in ["first", "second", "third"] {
            commit_fs(&store, content);
            let fs = store.layers().fs_dir(&layer()).unwrap();
            assert_eq!(fs::read(fs.join("f")).unwrap(), content.as_bytes());
            store.layers().discard_unpacked(&layer()).unwrap();
            assert!(!store.layers().contains(&layer()));
        }
        store.layers().discard_unpacked(&layer()).unwrap();
    }

    #[test]
    fn a_damaged_changeset_makes_the_layer_a_miss() {
        let (_dir, store) = store();
        commit_fs(&store, "x");
        fs::write(store.layers().dir(&layer()).join("changeset"), "torn").unwrap();
        assert_eq!(store.layers().changeset(&layer()).unwrap(), None);
        assert!(!store.layers().contains(&layer()));
    }

    #[test]
    fn what_comes_while_the_rest_is_synced_is_synced_after_it() {
        let (_dir, store) = store();
        let unsynced = store.layers().dir(&layer()).join("unsynced");
        commit_fs(&store, "x");
        store.begin_sync().unwrap();
        store.finish_sync().unwrap();
        assert!(!unsynced.exists());
        store.layers().discard_unpacked(&layer()).unwrap();
        commit_fs(&store, "y");
        let begun = store.take_unsynced();
        // As a boot that has no name: what is being synced was surely written here.
        fs::write(&unsynced, "").unwrap();
        assert!(store.layers().fs_dir(&layer()).is_some());
        store.note_unsynced(layer().0);
        store.sync_layers(begun).unwrap();
        assert!(unsynced.exists());
        store.sync().unwrap();
        assert!(!unsynced.exists());
    }

    #[test]
    fn what_a_killed_process_left_is_synced_by_who_uses_it() {
        let (_dir, store) = store();
        let unsynced = store.layers().dir(&layer()).join("unsynced");
        commit_fs(&store, "x");
        let next = Store::open(store.root()).unwrap();
        next.sync().unwrap();
        assert!(unsynced.exists());
        assert!(next.layers().contains(&layer()));
        next.sync().unwrap();
        assert!(!unsynced.exists());
    }

    #[test]
    fn what_another_process_put_there_during_a_sync_is_not_sure_by_it() {
        let (_dir, store) = store();
        let dir = store.layers().dir(&layer());
        commit_fs(&store, "x");
        let before = store.layers().unsynced_notes(&layer().0);
        let other = Store::open(store.root()).unwrap();
        let staging = other.layers().stage().unwrap();
        staging.create_tar().unwrap().write_all(b"x").unwrap();
        staging.commit(&layer(), &changes(), 1).unwrap();
        store
            .write_file(&dir.join("unsynced"), &[b"replaced"])
            .unwrap();
        for note in before {
            note.remove().unwrap();
        }
        assert!(dir.join("unsynced").exists() && dir.join("unsynced-tar").exists());
    }

    #[test]
    fn a_form_that_is_on_the_disk_stays_when_the_machine_goes_down_while_another_is_made() {
        let (_dir, store) = store();
        let dir = store.layers().dir(&layer());
        let commit_tar = |store: &Store| {
            let staging = store.layers().stage().unwrap();
            let mut tar = staging.create_tar().unwrap();
            tar.write_all(b"x").unwrap();
            drop(tar);
            staging.commit(&layer(), &changes(), 1).unwrap();
        };
        let reboot = || {
            for note in ["unsynced", "unsynced-fs", "unsynced-tar"] {
                if dir.join(note).exists() {
                    fs::write(dir.join(note), "another boot").unwrap();
                }
            }
            Store::open(store.root()).unwrap()
        };
        commit_tar(&store);
        store.sync().unwrap();
        commit_fs(&store, "torn");
        let after = reboot();
        assert!(after.layers().fs_dir(&layer()).is_none());
        assert!(after.layers().has_content(&layer()));
        commit_fs(&after, "whole");
        let unpacked = after.layers().fs_dir(&layer()).unwrap();
        assert_eq!(fs::read(unpacked.join("f")).unwrap(), b"whole");
        after.sync().unwrap();
        let after = reboot();
        assert!(after.layers().fs_dir(&layer()).is_some() && dir.join("tar").exists());
    }

    #[test]
    fn of_two_unpacked_forms_the_first_stays() {
        let (_dir, store) = store();
        commit_fs(&store, "first");
        let other = Store::open(store.root()).unwrap();
        commit_fs(&other, "second");
        let fs = store.layers().fs_dir(&layer()).unwrap();
        assert_eq!(fs::read(fs.join("f")).unwrap(), b"first");
    }

    #[test]
    fn many_threads_commit_the_same_layer() {
        let (_dir, store) = store();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let store = Store::open(store.root()).unwrap();
                    commit_fs(&store, "x");
                    let fs = store.layers().fs_dir(&layer()).unwrap();
                    assert_eq!(fs::read(fs.join("f")).unwrap(), b"x");
                });
            }
        });
        let left = fs::read_dir(store.dir("tmp")).unwrap().count();
        assert_eq!(left, 0, "nothing is left in tmp");
    }

    #[test]
    fn what_another_boot_left_unsynced_is_made_again() {
        let (_dir, store) = store();
        commit_fs(&store, "torn");
        let unsynced = store.layers().dir(&layer()).join("unsynced");
        fs::write(&unsynced, "another boot").unwrap();
        let store = Store::open(store.root()).unwrap();
        assert!(!store.layers().contains(&layer()));
        commit_fs(&store, "good");
        let fs = store.layers().fs_dir(&layer()).unwrap();
        assert_eq!(fs::read(fs.join("f")).unwrap(), b"good");
        store.sync().unwrap();
        assert!(!unsynced.exists());
        assert!(store.layers().contains(&layer()));
    }

    #[test]
    fn a_damaged_changeset_is_no_changeset() {
        let (_dir, store) = store();
        store
            .layers()
            .put_changeset(&layer(), &changes(), 1)
            .unwrap();
        let path = store.layers().dir(&layer()).join("changeset");
        let bytes = fs::read(&path).unwrap();
        for damaged in [&bytes[..bytes.len() - 1], &bytes[..10], b""] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(store.layers().changeset(&layer()).unwrap(), None);
        }
    }

    #[test]
    fn a_compressed_form_counts_while_its_blob_is_there() {
        let (_dir, store) = store();
        let digest = store.cas().put(b"compressed").unwrap();
        let blob = CompressedBlob {
            digest,
            size: 10,
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
            encoder: None,
        };
        store.layers().add_blob(&layer(), &blob).unwrap();
        let meta = store.layers().meta(&layer()).unwrap();
        assert_eq!((meta.size, meta.blobs), (None, vec![blob]));
        assert!(store.layers().has_content(&layer()));
        assert!(
            !store.layers().contains(&layer()),
            "what it does isn't known yet"
        );
        assert!(store.layers().is_whole(&layer()), "but can be read");
        store
            .layers()
            .put_changeset(&layer(), &changes(), 1)
            .unwrap();
        assert!(store.layers().contains(&layer()));
        store.cas().remove(&digest).unwrap();
        assert!(!store.layers().contains(&layer()));
    }
}
