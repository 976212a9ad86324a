//! What takes space in the store, and for whom.
//!
//! An [`Entry`] is what can be removed on its own: an image, a container, a step's result, a cache mount, the objects of a git
//! remote, a piece that nothing refers to. Entries hold *parts*: layers and blobs. A part may be held by several
//! entries, so its bytes are kept once, with the number of its holders; an entry's `shared` bytes are those that would
//! stay if it alone went. Sizes are what the files take on the disk.
//!
//! How much a layer takes is written beside it once it was measured: an unpacked base image has many thousand files.

use std::collections::hash_map;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use kiln_image::{DiffId, Digest, ImageConfig};
use serde_json::Value;

use crate::key::{CacheKey, Preimage};
use crate::mounts::{file_name, is_held};
use crate::records::Record;
use crate::refs::ManifestRecord;
use crate::{Store, StoreError};

/// Configs and manifests are not larger than this; a larger one keeps nothing.
const LARGEST_DOCUMENT: u64 = 32 * 1024 * 1024;

/// Where what belongs to no entry is.
const BOOKS: [&str; 11] = [
    "version",
    "actions",
    "preimages",
    "steps",
    "refs",
    "containers",
    "remotes/http",
    "stat",
    "builds",
    "locks",
    "tmp",
];

/// Directories in which there are entries; `mounts` has more besides.
const AROUND: [&str; 6] = [
    "",
    "blobs",
    "blobs/sha256",
    "layers",
    "remotes",
    "remotes/git",
];

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// An image.
    Image,
    /// A container that ended.
    Container,
    /// The result of a step.
    Step,
    /// A directory of `RUN --mount=type=cache`.
    CacheMount,
    /// The objects of a git remote.
    Repository,
    /// A layer or blob that nothing refers to.
    Stray,
}

/// Something that takes space and can go on its own.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is called: unique among those of its kind, hexadecimal.
    pub id: String,
    /// What it is.
    pub kind: EntryKind,
    /// Names of an image; what a step did; the id of a cache mount.
    pub description: String,
    /// Bytes it takes on the disk, with what it shares.
    pub size: u64,
    /// How many of them other entries need too.
    pub shared: u64,
    /// When it was made, where that is known.
    pub created: Option<Timestamp>,
    /// When it was last used.
    pub last_used: SystemTime,
    /// Whether a running step, build or container has it.
    pub in_use: bool,
    /// Whether it is an image with a name.
    pub named: bool,
    pub(crate) parts: Vec<usize>,
    pub(crate) own: Own,
}

/// What an entry is made of besides its parts.
#[derive(Debug, Clone)]
pub(crate) enum Own {
    /// A record under `refs/images`.
    Image(Digest),
    /// A record under `containers`.
    Container(String),
    /// A record under `actions`.
    Record(CacheKey),
    /// A directory.
    Directory(PathBuf, u64),
    Nothing,
}

/// Bytes that one or more entries hold.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub what: PartName,
    pub bytes: u64,
    pub holders: u32,
    /// Whether another process relies on it: it stays, whoever holds it.
    pub leased: bool,
}

impl Part {
    /// How many there are that it stays for.
    pub(crate) fn pins(&self) -> u32 {
        self.holders + u32::from(self.leased)
    }
}

/// Which layer, blob or repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PartName {
    Layer(DiffId),
    Blob(Digest),
    /// By the digest of its address. It belongs to no two entries.
    Repository(Digest),
}

/// All that takes space in a store.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// What can go on its own.
    pub entries: Vec<Entry>,
    /// Bytes of records, checksums and history, which belong to no entry.
    pub books: u64,
    pub(crate) parts: Vec<Part>,
    /// Records that lead to another.
    pub(crate) aliases: Vec<(CacheKey, CacheKey)>,
    index: HashMap<PartName, usize>,
    /// Compressed forms of layers, which many entries hold.
    blobs: HashMap<DiffId, Vec<Digest>>,
}

/// How much to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What a collection goes by.
    Sizes,
    /// What people want to read, too: reads what every step's key was made of.
    Descriptions,
}

/// What was found a moment ago, for a look that must not take long.
pub(crate) struct Before<'a> {
    entries: HashMap<(EntryKind, &'a str), &'a Entry>,
    books: u64,
}

/// That a name stands for an image.
struct Claim {
    name: String,
    manifest: Option<ManifestRecord>,
    index: Option<ManifestRecord>,
}

fn names(claims: &[Claim]) -> String {
    let names: Vec<&str> = claims.iter().map(|claim| claim.name.as_str()).collect();
    names.join(", ")
}

/// Config and layers of a manifest.
fn blobs_of(manifest: &Value) -> impl Iterator<Item = Digest> + '_ {
    let config = digest_of(&manifest["config"]);
    entries(&manifest["layers"])
        .filter_map(digest_of)
        .chain(config)
}

fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Whether an index has a manifest for what it says about an image, such as an attestation.
fn is_about_an_image(descriptor: &Value) -> bool {
    descriptor["platform"]["os"] == "unknown"
}

fn digest_of(descriptor: &Value) -> Option<Digest> {
    descriptor["digest"].as_str()?.parse().ok()
}

impl Store {
    /// Takes stock. Hold the store meanwhile: see [`Store::lock_shared`].
    pub fn inventory(&self, detail: Detail) -> Result<Inventory, StoreError> {
        self.onlooker().take_stock(detail, None)
    }

    /// Takes stock as far as that is quick: how large directories are, and what steps did, is taken from before.
    pub(crate) fn inventory_knowing(&self, before: &Before<'_>) -> Result<Inventory, StoreError> {
        self.onlooker().take_stock(Detail::Sizes, Some(before))
    }

    fn take_stock(
        &self,
        detail: Detail,
        before: Option<&Before<'_>>,
    ) -> Result<Inventory, StoreError> {
        // First: what a process made that has ended meanwhile is found below with all that refers to it.
        let leased = self.leased();
        let mut inventory = Inventory::default();
        self.take_images(&mut inventory)?;
        self.take_containers(&mut inventory)?;
        self.take_steps(detail, &mut inventory)?;
        self.take_directories(before, &mut inventory);
        self.take_strays(&mut inventory)?;
        for part in &mut inventory.parts {
            part.leased = leased.contains(&part.what);
        }
        for entry in &mut inventory.entries {
            entry.in_use |= match &entry.own {
                Own::Directory(path, _) if entry.kind == EntryKind::Repository => {
                    let name = Digest::from_hex(&file_name(path));
                    name.is_ok_and(|name| leased.contains(&PartName::Repository(name)))
                }
                Own::Image(config) => leased.contains(&PartName::Blob(*config)),
                Own::Container(_) | Own::Directory(..) => false,
                Own::Record(_) | Own::Nothing => {
                    let mut parts = entry.parts.iter();
                    parts.any(|part| inventory.parts[*part].leased)
                }
            };
            let parts = entry.parts.iter().map(|part| &inventory.parts[*part]);
            entry.size = parts.clone().map(|part| part.bytes).sum::<u64>() + entry.own.bytes();
            let shared = parts.filter(|part| part.holders > 1);
            entry.shared = shared.map(|part| part.bytes).sum();
        }
        match before {
            Some(before) => before.describe(&mut inventory),
            None if detail == Detail::Descriptions => inventory.books = self.books(&inventory),
            None => {}
        }
        Ok(inventory)
    }

    /// What belongs to no entry: records, and the directories that entries are in.
    fn books(&self, inventory: &Inventory) -> u64 {
        let books = BOOKS.iter().map(|name| disk_use(&self.dir(name)));
        let around = AROUND.iter().map(|name| {
            let directory = fs::symlink_metadata(self.dir(name));
            directory.map_or(0, |directory| directory.blocks() * 512)
        });
        let mounts = inventory.entries.iter().filter_map(|entry| {
            let is_mount = entry.kind == EntryKind::CacheMount;
            is_mount.then(|| entry.own.bytes())
        });
        let of_mounts = disk_use(&self.mounts_dir()).saturating_sub(mounts.sum());
        books.chain(around).sum::<u64>() + of_mounts
    }

    fn take_images(&self, inventory: &mut Inventory) -> Result<(), StoreError> {
        let mut claims: BTreeMap<Digest, Vec<Claim>> = BTreeMap::new();
        for (name, images) in self.refs().list()? {
            for image in images.iter() {
                claims.entry(image.config).or_default().push(Claim {
                    name: name.familiar(),
                    manifest: image.manifest.clone(),
                    index: images.index.clone(),
                });
            }
        }
        for image in self.refs().images()? {
            let claims = claims.remove(&image.config).unwrap_or_default();
            let used = self.refs().last_used(&image.config);
            let mut entry = Entry {
                description: names(&claims),
                created: Some(image.created_at),
                named: !claims.is_empty(),
                ..Entry::new(EntryKind::Image, image.config.hex(), used)
            };
            entry.own = Own::Image(image.config);
            self.parts_of_config(image.config, &mut entry, inventory);
            if let Some(manifest) = &image.manifest {
                self.parts_of_manifest(manifest.digest, &mut entry, inventory);
            }
            self.parts_of_claims(&claims, &mut entry, inventory);
            inventory.entries.push(entry);
        }
        // A name whose image record is gone keeps its image all the same.
        for (config, claims) in claims {
            let mut entry = Entry {
                description: names(&claims),
                named: true,
                ..Entry::new(EntryKind::Image, config.hex(), SystemTime::now())
            };
            self.parts_of_config(config, &mut entry, inventory);
            self.parts_of_claims(&claims, &mut entry, inventory);
            inventory.entries.push(entry);
        }
        Ok(())
    }

    /// A damaged config or manifest keeps what it is and nothing it can't name.
    fn parts_of_config(&self, config: Digest, entry: &mut Entry, inventory: &mut Inventory) {
        self.hold_blob(config, entry, inventory);
        let bytes = self.cas().read(&config, LARGEST_DOCUMENT).ok();
        let config = bytes.and_then(|bytes| ImageConfig::from_json(&bytes).ok());
        let layers = config.and_then(|config| config.rootfs.diff_ids);
        for layer in layers.unwrap_or_default() {
            self.hold_layer(layer, entry, inventory);
        }
    }

    fn parts_of_claims(&self, claims: &[Claim], entry: &mut Entry, inventory: &mut Inventory) {
        for claim in claims {
            for manifest in claim.manifest.iter().chain(&claim.index) {
                self.parts_of_manifest(manifest.digest, entry, inventory);
            }
        }
    }

    /// A manifest with what it names, or an index with what it has besides images, which are entries of their own.
    fn parts_of_manifest(&self, digest: Digest, entry: &mut Entry, inventory: &mut Inventory) {
        self.hold_blob(digest, entry, inventory);
        let bytes = self.cas().read(&digest, LARGEST_DOCUMENT).ok();
        let Some(manifest) = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        else {
            return;
        };
        for blob in blobs_of(&manifest) {
            self.hold_blob(blob, entry, inventory);
        }
        for about in entries(&manifest["manifests"]).filter(|entry| is_about_an_image(entry)) {
            let Some(about) = digest_of(about) else {
                continue;
            };
            self.hold_blob(about, entry, inventory);
            let bytes = self.cas().read(&about, LARGEST_DOCUMENT).ok();
            let about = bytes.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            for blob in about.iter().flat_map(blobs_of) {
                self.hold_blob(blob, entry, inventory);
            }
        }
    }

    fn take_containers(&self, inventory: &mut Inventory) -> Result<(), StoreError> {
        for container in self.containers().list()? {
            let used = written(&self.containers().path(&container.id));
            let mut entry = Entry {
                description: format!("{}: {}", container.name, container.argv.join(" ")),
                created: Some(container.ended),
                ..Entry::new(EntryKind::Container, container.id.clone(), used)
            };
            if let Some(image) = container.image {
                self.hold_blob(image, &mut entry, inventory);
            }
            for layer in container.all_layers() {
                self.hold_layer(layer, &mut entry, inventory);
            }
            entry.own = Own::Container(container.id);
            inventory.entries.push(entry);
        }
        Ok(())
    }

    fn take_steps(&self, detail: Detail, inventory: &mut Inventory) -> Result<(), StoreError> {
        let held = self.held_keys();
        for (key, used) in self.actions().list()? {
            let result = match self.actions().record(&key) {
                Some(Record::Result(result)) => Some(result),
                Some(Record::Alias(target)) => {
                    inventory.aliases.push((key, target));
                    continue;
                }
                None => None, // damaged: goes with the first collection
            };
            let mut entry = Entry {
                created: result.as_ref().map(|result| result.created),
                in_use: held.contains(&key),
                ..Entry::new(EntryKind::Step, key.0.hex(), used)
            };
            entry.own = Own::Record(key);
            if detail == Detail::Descriptions {
                let preimage = self.actions().preimage(&key);
                entry.description = preimage.as_ref().map(Preimage::summary).unwrap_or_default();
            }
            if let Some(layer) = result.and_then(|result| result.layer) {
                self.hold_layer(layer, &mut entry, inventory);
            }
            inventory.entries.push(entry);
        }
        Ok(())
    }

    fn take_directories(&self, before: Option<&Before<'_>>, inventory: &mut Inventory) {
        let measure = |kind, id: &str, path: &Path| {
            let known = before.and_then(|before| before.entries.get(&(kind, id)));
            known.map_or_else(|| disk_use(path), |entry| entry.own.bytes())
        };
        for mount in self.mount_dirs() {
            let below = mount.path.strip_prefix(self.mounts_dir());
            let name = below.unwrap_or(&mount.path).as_os_str();
            let id = Digest::of(name.as_encoded_bytes()).hex();
            let bytes = measure(EntryKind::CacheMount, &id, &mount.path);
            inventory.entries.push(Entry {
                description: mount.id,
                in_use: mount.in_use,
                own: Own::Directory(mount.path, bytes),
                ..Entry::new(EntryKind::CacheMount, id, mount.last_used)
            });
        }
        let remotes = fs::read_dir(self.dir("remotes/git"));
        for remote in remotes.into_iter().flatten().flatten() {
            let path = remote.path();
            let Ok(used) = remote.metadata().and_then(|directory| directory.modified()) else {
                continue; // gone meanwhile
            };
            let id = file_name(&path);
            let bytes = measure(EntryKind::Repository, &id, &path);
            inventory.entries.push(Entry {
                description: self.remotes().address_of(&path),
                own: Own::Directory(path.clone(), bytes),
                ..Entry::new(EntryKind::Repository, id, used)
            });
        }
    }

    fn take_strays(&self, inventory: &mut Inventory) -> Result<(), StoreError> {
        for layer in self.layers().list()? {
            if !inventory.index.contains_key(&PartName::Layer(layer)) {
                let path = self.layers().dir(&layer);
                let mut entry = Entry {
                    description: format!("layer {layer}"),
                    ..Entry::new(EntryKind::Stray, layer.0.hex(), written(&path))
                };
                self.hold_layer(layer, &mut entry, inventory);
                inventory.entries.push(entry);
            }
        }
        for (blob, _) in self.cas().list()? {
            if !inventory.index.contains_key(&PartName::Blob(blob)) {
                let path = self.cas().path(&blob);
                let mut entry = Entry {
                    description: format!("blob {blob}"),
                    ..Entry::new(EntryKind::Stray, blob.hex(), written(&path))
                };
                self.hold_blob(blob, &mut entry, inventory);
                inventory.entries.push(entry);
            }
        }
        Ok(())
    }

    /// A layer with its compressed forms.
    fn hold_layer(&self, layer: DiffId, entry: &mut Entry, inventory: &mut Inventory) {
        let measure = || self.layers().disk_use(&layer);
        inventory.hold(PartName::Layer(layer), measure, entry);
        let find = || {
            let meta = self.layers().meta(&layer).into_iter();
            let blobs = meta.flat_map(|meta| meta.blobs);
            blobs.map(|blob| blob.digest).collect()
        };
        let blobs = inventory.blobs.entry(layer).or_insert_with(find);
        for blob in blobs.clone() {
            self.hold_blob(blob, entry, inventory);
        }
    }

    fn hold_blob(&self, blob: Digest, entry: &mut Entry, inventory: &mut Inventory) {
        let measure = || Some(fs::symlink_metadata(self.cas().path(&blob)).ok()?.blocks() * 512);
        inventory.hold(PartName::Blob(blob), measure, entry);
    }

    /// Keys that some process is working on.
    fn held_keys(&self) -> Vec<CacheKey> {
        let locks = fs::read_dir(self.locks_dir()).into_iter().flatten();
        let held = locks.flatten().filter_map(|lock| {
            let name = lock.file_name();
            let key = Digest::from_hex(name.to_str()?.strip_prefix("key-")?).ok()?;
            is_held(&lock.path()).then_some(CacheKey(key))
        });
        held.collect()
    }
}

impl<'a> Before<'a> {
    pub(crate) fn of(inventory: &'a Inventory) -> Self {
        let entries = inventory.entries.iter();
        Self {
            entries: entries
                .map(|entry| ((entry.kind, entry.id.as_str()), entry))
                .collect(),
            books: inventory.books,
        }
    }

    fn describe(&self, inventory: &mut Inventory) {
        inventory.books = self.books;
        for entry in &mut inventory.entries {
            let known = self.entries.get(&(entry.kind, entry.id.as_str()));
            if let Some(known) = known.filter(|_| entry.description.is_empty()) {
                entry.description.clone_from(&known.description);
            }
        }
    }
}

impl Inventory {
    /// Bytes of all that is there, each counted once.
    pub fn total(&self) -> u64 {
        let own = self.entries.iter().map(|entry| entry.own.bytes());
        let parts = self.parts.iter().map(|part| part.bytes);
        own.chain(parts).sum::<u64>() + self.books
    }

    /// Bytes of entries of each kind, each byte with the first kind that has it: so they add up to the total. Then the
    /// bytes of these that would be given back if all of the kind went that may go.
    pub fn by_kind(&self) -> Vec<(EntryKind, usize, u64, u64)> {
        let mut sorted: Vec<&Entry> = self.entries.iter().collect();
        sorted.sort_by_key(|entry| (!entry.named, entry.kind));
        let mut counted = vec![false; self.parts.len()];
        let mut kinds: Vec<(EntryKind, usize, u64, u64)> = Vec::new();
        for entry in sorted {
            if kinds.iter().all(|(kind, ..)| *kind != entry.kind) {
                kinds.push((entry.kind, 0, 0, 0));
            }
            let (mut bytes, mut kept) = (entry.own.bytes(), 0);
            for at in &entry.parts {
                if !std::mem::replace(&mut counted[*at], true) {
                    let part = &self.parts[*at];
                    bytes += part.bytes;
                    kept += if part.leased { part.bytes } else { 0 };
                }
            }
            let known = kinds.iter_mut().find(|(kind, ..)| *kind == entry.kind);
            let (_, count, size, removable) = known.expect("added above");
            *count += 1;
            *size += bytes;
            if !entry.named && !entry.in_use {
                *removable += bytes - kept;
            }
        }
        kinds.sort_by_key(|(kind, ..)| *kind);
        kinds
    }

    /// Bytes that a collection may take: all but what images with a name or other processes need.
    pub fn removable(&self) -> u64 {
        let kept = self.kept();
        let parts = self.parts.iter().zip(kept);
        let parts = parts.filter(|(_, held)| !held).map(|(part, _)| part.bytes);
        let own = self.entries.iter().map(|entry| entry.own.bytes());
        parts.chain(own).sum()
    }

    /// For each part, whether an image with a name or another process needs it.
    pub(crate) fn kept(&self) -> Vec<bool> {
        let mut held: Vec<bool> = self.parts.iter().map(|part| part.leased).collect();
        for entry in self.entries.iter().filter(|entry| entry.named) {
            for part in &entry.parts {
                held[*part] = true;
            }
        }
        held
    }

    /// Notes that `entry` holds a part, which takes what `measure` finds; `None` if it is not there.
    fn hold(&mut self, what: PartName, measure: impl FnOnce() -> Option<u64>, entry: &mut Entry) {
        let at = match self.index.entry(what) {
            hash_map::Entry::Occupied(known) => *known.get(),
            hash_map::Entry::Vacant(new) => {
                let Some(bytes) = measure() else {
                    return;
                };
                self.parts.push(Part {
                    what,
                    bytes,
                    holders: 0,
                    leased: false,
                });
                *new.insert(self.parts.len() - 1)
            }
        };
        if !entry.parts.contains(&at) {
            entry.parts.push(at);
            self.parts[at].holders += 1;
        }
    }
}

impl Entry {
    fn new(kind: EntryKind, id: String, last_used: SystemTime) -> Self {
        Self {
            id,
            kind,
            description: String::new(),
            size: 0,
            shared: 0,
            created: None,
            last_used,
            in_use: false,
            named: false,
            parts: Vec::new(),
            own: Own::Nothing,
        }
    }
}

impl Own {
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Directory(_, bytes) => *bytes,
            Self::Image(_) | Self::Container(_) | Self::Record(_) | Self::Nothing => 0,
        }
    }
}

impl EntryKind {
    /// As it is written in lists and filters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Container => "container",
            Self::Step => "step",
            Self::CacheMount => "cache-mount",
            Self::Repository => "git",
            Self::Stray => "unreferenced",
        }
    }
}

/// Space a file or directory takes, in bytes; a file with several names in it counts once.
pub(crate) fn disk_use(path: &Path) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let entries = walkdir::WalkDir::new(path).into_iter().flatten();
    let metadata = entries.filter_map(|entry| entry.metadata().ok());
    let counted = metadata.filter(|metadata| {
        metadata.is_dir() || metadata.nlink() < 2 || seen.insert((metadata.dev(), metadata.ino()))
    });
    counted.map(|metadata| metadata.blocks() * 512).sum()
}

fn written(path: &Path) -> SystemTime {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.unwrap_or(SystemTime::UNIX_EPOCH)
}
