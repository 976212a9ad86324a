//! A layer in the form somebody needs, made from the forms there are.
//!
//! ```text
//!   registry ──pull──▶ blob ──decompress──▶ tar stream ──unpack──▶ fs/ + changeset
//!                        ▲                     ▲   └────read────▶ changeset
//!                        └──────compress───────┤
//!                                  tar file ───┤
//!                          changeset + fs/ ────┘   (layers made here: the same bytes every time)
//! ```
//!
//! Downloading, decompressing and writing go on at once, and layers of one image beside each other. Nothing is made before it is asked for: a base image that no RUN starts from is never unpacked, and one whose
//! steps are all cached is not even pulled. Threads that need the same form make it once.

mod blob;
mod derived;

pub(crate) use derived::{Origin, ReadyLayer};

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::io::{self, BufReader, Read, Write};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use kiln_cache::{BlobWriter, CompressedBlob, Store};
use kiln_image::compress;
use kiln_image::contents::{Contents, DirContents};
use kiln_image::layout::Layout;
use kiln_image::tar::{
    self, ApplyError, Limits, Nothing, TarContents, WriteError, add_attributes, hides_all_below,
};
use kiln_image::{Changeset, Descriptor, DiffId, Digest, Digester, ImagePath, Node, Reference};
use kiln_registry::Client;

use crate::error::{Cause, chain};
use crate::event::{Stream, Task};
use crate::inflight::InFlight;
use crate::locked::locked;
use crate::remote_cache::BucketCache;
use crate::sandbox::{Footing, Removals};
use crate::stream::{Feed, decoded, stream};

/// So many layers are fetched and read at once: enough to keep a network and a few processors busy.
const AT_ONCE: usize = 4;

/// Bytes of a layer that are read at a time.
const PIECE: usize = 256 << 10;

/// Where the layers of one run come from.
pub struct Layers<'a> {
    store: &'a Store,
    registry: &'a Client,
    footing: &'a Footing,
    remote: Mutex<HashMap<DiffId, Remote>>,
    /// The layers of images as their manifests name them, by the digests of these.
    of_images: Mutex<HashMap<Digest, Vec<Remote>>>,
    changesets: Mutex<HashMap<DiffId, Arc<Changeset>>>,
    directories: Mutex<HashMap<DiffId, PathBuf>>,
    /// Whether an unpacked layer hides all that is below it.
    hiding: Mutex<HashMap<DiffId, bool>>,
    contents: Mutex<HashMap<DiffId, Arc<LayerContents>>>,
    in_flight: InFlight<DiffId>,
    /// Layers that should have been had from elsewhere, and were not.
    lost: Mutex<HashSet<DiffId>>,
}

/// A layer that can be had from elsewhere.
#[derive(Clone)]
pub(crate) struct Remote {
    holder: Holder,
    descriptor: Descriptor,
    /// Who asks for it, if that is not the client for images.
    client: Option<Arc<Client>>,
    /// Whether an image came from there with this blob. If not, it may but have its name, or a cache has the layer too.
    is_source: bool,
}

/// Who has a layer.
#[derive(Clone)]
pub(crate) enum Holder {
    /// A registry, as part of this image.
    Registry(Reference),
    /// A layout on this machine.
    Layout(Arc<Layout>),
    /// A bucket, as part of this cache.
    Bucket(Arc<BucketCache>),
}

/// What came of pulling a blob that somebody reads along.
enum Pulled {
    /// The blob that was announced. Whether the layer is in it is another question.
    Whole(CompressedBlob),
    /// The reader had enough before the end.
    Stopped,
}

/// A blob that is written to the store and read along.
struct Arriving<'s> {
    blob: BlobWriter<'s>,
    also: Option<Feed>,
    stopped: bool,
}

impl Write for Arriving<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.blob.write(bytes)?;
        if let Some(also) = &mut self.also
            && let Err(gone) = also.write_all(&bytes[..written])
        {
            self.stopped = true;
            return Err(gone);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.blob.flush()
    }
}

/// The contents of a layer's files.
pub(crate) enum LayerContents {
    Directory(DirContents),
    Tar(TarContents),
}

impl Contents for LayerContents {
    fn open(&self, path: &ImagePath, node: &Node) -> io::Result<Box<dyn Read + '_>> {
        match self {
            LayerContents::Directory(contents) => contents.open(path, node),
            LayerContents::Tar(contents) => contents.open(path, node),
        }
    }

    fn open_from(
        &self,
        path: &ImagePath,
        node: &Node,
        start: u64,
    ) -> io::Result<Box<dyn Read + '_>> {
        match self {
            LayerContents::Directory(contents) => contents.open_from(path, node, start),
            LayerContents::Tar(contents) => contents.open_from(path, node, start),
        }
    }
}

impl<'a> Layers<'a> {
    /// Layers of `store`, and of images elsewhere that are made known with [`Layers::add_image`].
    pub fn new(store: &'a Store, registry: &'a Client, footing: &'a Footing) -> Self {
        Layers {
            store,
            registry,
            footing,
            remote: Mutex::default(),
            of_images: Mutex::default(),
            changesets: Mutex::default(),
            directories: Mutex::default(),
            hiding: Mutex::default(),
            contents: Mutex::default(),
            in_flight: InFlight::new(),
            lost: Mutex::default(),
        }
    }

    /// The store behind.
    pub fn store(&self) -> &'a Store {
        self.store
    }

    /// Says that `holder` has an image with this manifest and these layers, and whether it came from there.
    pub(crate) fn add_image<'d>(
        &self,
        manifest: Digest,
        holder: &Holder,
        layers: impl Iterator<Item = (DiffId, &'d Descriptor)>,
        is_source: bool,
    ) {
        let mut remotes = Vec::new();
        for (layer, descriptor) in layers {
            let remote = Remote {
                holder: holder.clone(),
                descriptor: descriptor.clone(),
                client: None,
                is_source,
            };
            locked(&self.remote).insert(layer, remote.clone());
            remotes.push(remote);
        }
        locked(&self.of_images).insert(manifest, remotes);
    }

    /// A layer of an image by its place, as the manifest names it.
    pub(crate) fn of_image(&self, manifest: Option<Digest>, at: usize) -> Option<Box<Remote>> {
        let of_images = locked(&self.of_images);
        let remote = of_images.get(&manifest?)?.get(at)?;
        Some(Box::new(remote.clone()))
    }

    fn remote_of(&self, layer: DiffId) -> Option<Remote> {
        locked(&self.remote).get(&layer).cloned()
    }

    /// Says that a cache has the layer, and who asks for it: who is known to have it already goes before.
    pub(crate) fn offer(
        &self,
        layer: DiffId,
        holder: Holder,
        descriptor: &Descriptor,
        client: Option<Arc<Client>>,
    ) {
        let mut remote = locked(&self.remote);
        remote.entry(layer).or_insert_with(|| Remote {
            holder,
            descriptor: descriptor.clone(),
            client,
            is_source: false,
        });
    }

    /// The blob of a layer where the one that `is_meant` is known to have it.
    pub(crate) fn blob_at(
        &self,
        layer: DiffId,
        is_meant: impl Fn(&Holder) -> bool,
    ) -> Option<Descriptor> {
        let remote = self.remote_of(layer)?;
        is_meant(&remote.holder).then_some(remote.descriptor)
    }

    /// A repository of this registry that is known to have the blob of a layer.
    pub(crate) fn repository_with(&self, blob: Digest, registry: &str) -> Option<String> {
        let remote = locked(&self.remote);
        let held = remote
            .values()
            .filter(|remote| digest_of(&remote.descriptor).is_ok_and(|digest| digest == blob));
        held.filter_map(|remote| match &remote.holder {
            Holder::Registry(image) if image.registry() == registry => {
                Some(image.repository().to_owned())
            }
            _ => None,
        })
        .min()
    }

    /// The layers that could not be had from elsewhere since this was asked last.
    pub(crate) fn take_lost(&self) -> HashSet<DiffId> {
        let lost = std::mem::take(&mut *locked(&self.lost));
        for layer in &lost {
            locked(&self.remote).remove(layer);
        }
        lost
    }

    /// Whether one that could not be had is among these.
    pub(crate) fn has_lost(&self, layers: &HashSet<DiffId>) -> bool {
        !locked(&self.lost).is_disjoint(layers)
    }

    /// What the layer does.
    pub(crate) fn changeset(
        &self,
        layer: DiffId,
        task: &Task<'_>,
    ) -> Result<Arc<Changeset>, Cause> {
        if let Some(known) = locked(&self.changesets).get(&layer) {
            return Ok(known.clone());
        }
        self.in_flight.alone(&layer, || {
            if let Some(known) = locked(&self.changesets).get(&layer) {
                return Ok(known.clone());
            }
            let changeset = match self.store.layers().changeset(&layer)? {
                Some(changeset) => changeset,
                None => self.read_changeset(layer, task)?,
            };
            Ok(self.remember(layer, changeset))
        })
    }

    /// A directory with the layer unpacked for overlayfs.
    pub(crate) fn unpacked(&self, layer: DiffId, task: &Task<'_>) -> Result<PathBuf, Cause> {
        if let Some(known) = locked(&self.directories).get(&layer) {
            return Ok(known.clone());
        }
        self.in_flight.alone(&layer, || {
            let directory = match self.store.layers().fs_dir(&layer) {
                Some(directory) => directory,
                None => self.unpack(layer, task)?,
            };
            locked(&self.directories).insert(layer, directory.clone());
            Ok(directory)
        })
    }

    /// Whether a layer that is unpacked in `directory` hides all that is below it.
    pub(crate) fn hides_all_below(&self, layer: DiffId, directory: &Path) -> bool {
        let mut known = locked(&self.hiding);
        *known
            .entry(layer)
            .or_insert_with(|| hides_all_below(directory))
    }

    /// Has all layers unpacked, several at once where they have to be fetched.
    pub(crate) fn unpack_all(&self, layers: &[DiffId], task: &Task<'_>) -> Result<(), Cause> {
        let known = |layer: &DiffId| {
            locked(&self.directories).contains_key(layer)
                || self.store.layers().fs_dir(layer).is_some()
        };
        several_at_once(layers, known, |layer| self.unpacked(layer, task).map(drop))
    }

    /// Has what all layers do known, several at once where they have to be fetched.
    pub(crate) fn learn_all(&self, layers: &[DiffId], task: &Task<'_>) -> Result<(), Cause> {
        let known = |layer: &DiffId| {
            locked(&self.changesets).contains_key(layer) || self.store.layers().contains(layer)
        };
        several_at_once(layers, known, |layer| self.changeset(layer, task).map(drop))
    }

    /// Makes sure that the store has all layers in some form, as [`Layers::fetch`] does.
    pub(crate) fn fetch_all(&self, layers: &[DiffId], task: &Task<'_>) -> Result<(), Cause> {
        let known = |layer: &DiffId| self.store.layers().has_content(layer);
        several_at_once(layers, known, |layer| self.fetch(layer, task))
    }

    /// The content of one of the layer's regular files.
    pub(crate) fn read_file(
        &self,
        layer: DiffId,
        path: &ImagePath,
        node: &Node,
        task: &Task<'_>,
    ) -> Result<Vec<u8>, Cause> {
        self.read_part(layer, path, node, (0, u64::MAX), task)
    }

    /// A part of the content of one of the layer's regular files: where it begins, and how long it is at most, in bytes.
    pub(crate) fn read_part(
        &self,
        layer: DiffId,
        path: &ImagePath,
        node: &Node,
        (start, length): (u64, u64),
        task: &Task<'_>,
    ) -> Result<Vec<u8>, Cause> {
        let contents = self.contents(layer, task)?;
        let unreadable = |error| {
            if is_another_file(&error) {
                return self.unreadable(layer, path);
            }
            Cause::layer("read a file", layer)(error)
        };
        let mut bytes = Vec::new();
        let opened = contents.open_from(path, node, start);
        let mut reader = opened.map_err(unreadable)?.take(length);
        reader.read_to_end(&mut bytes).map_err(unreadable)?;
        Ok(bytes)
    }

    /// The contents of the layer's files: unpacked, or in the tar it was written as here.
    pub(crate) fn contents(
        &self,
        layer: DiffId,
        task: &Task<'_>,
    ) -> Result<Arc<LayerContents>, Cause> {
        if let Some(known) = locked(&self.contents).get(&layer) {
            return Ok(known.clone());
        }
        let contents = match self.in_tar(layer, task)? {
            Some(contents) => LayerContents::Tar(contents),
            None => {
                let directory = self.unpacked(layer, task)?;
                let contents = DirContents::open(&directory);
                LayerContents::Directory(contents.map_err(Cause::file("open", &directory))?)
            }
        };
        let contents = Arc::new(contents);
        locked(&self.contents).insert(layer, contents.clone());
        Ok(contents)
    }

    /// The files of a layer that is not unpacked, in its tar.
    fn in_tar(&self, layer: DiffId, task: &Task<'_>) -> Result<Option<TarContents>, Cause> {
        if self.store.layers().fs_dir(&layer).is_some() {
            return Ok(None);
        }
        let Some(tar) = self.store.layers().tar_file(&layer)? else {
            return Ok(None);
        };
        let changeset = self.changeset(layer, task)?;
        TarContents::of(tar, &changeset).map_err(Cause::layer("read", layer))
    }

    /// The cause behind a file's content that could not be had from the layer. If the file is not what the layer put
    /// there, the form it was read from is taken out of use, so that the next build makes it anew.
    pub(crate) fn unreadable(&self, layer: DiffId, path: &ImagePath) -> Cause {
        locked(&self.directories).remove(&layer);
        locked(&self.hiding).remove(&layer);
        locked(&self.contents).remove(&layer);
        // A tar that is read to its end and found to be another is out of the store.
        if let Ok(Some(mut tar)) = self.store.layers().tar(&layer) {
            let _ = io::copy(&mut tar, &mut io::sink());
        }
        match self.store.layers().discard_unpacked(&layer) {
            Ok(()) => Cause::LayerDamaged {
                layer,
                path: path.clone(),
            },
            Err(error) => error.into(),
        }
    }

    /// Makes sure that the store itself has the layer in some form.
    pub(crate) fn fetch(&self, layer: DiffId, task: &Task<'_>) -> Result<(), Cause> {
        if !self.store.layers().has_content(&layer) {
            self.in_flight.alone(&layer, || self.pull(layer, task))?;
        }
        Ok(())
    }

    /// Writes the layer's uncompressed tar from a form the store has.
    fn write_stored_tar(&self, layer: DiffId, out: &mut dyn Write) -> Result<(), Cause> {
        if let Some(mut file) = self.store.layers().tar(&layer)? {
            return copy(&mut file, out, layer);
        }
        if let Some(blob) = self.stored_blob(layer) {
            let file = self.store.cas().open(&blob.digest)?;
            let mut reader = compress::decoder(file).map_err(Cause::layer("read", layer))?;
            return copy(&mut reader, out, layer);
        }
        self.write_made_tar(layer, out)
    }

    /// Remembers what a layer does, so that it is not read again.
    pub(crate) fn remember(&self, layer: DiffId, changeset: Changeset) -> Arc<Changeset> {
        let changeset = Arc::new(changeset);
        locked(&self.changesets).insert(layer, changeset.clone());
        changeset
    }

    /// The tar of a layer that was made here: a function of its changeset and its unpacked files.
    fn write_made_tar(&self, layer: DiffId, out: &mut dyn Write) -> Result<(), Cause> {
        let directory = self
            .store
            .layers()
            .fs_dir(&layer)
            .ok_or(Cause::LayerLost(layer))?;
        let changeset = self
            .store
            .layers()
            .changeset(&layer)?
            .ok_or(Cause::LayerLost(layer))?;
        let contents = DirContents::open(&directory).map_err(Cause::file("open", &directory))?;
        let written = tar::write_layer(&changeset, &contents, out).map_err(|error| {
            match changed_file(&error) {
                Some(path) => self.unreadable(layer, path),
                None => Cause::layer("write", layer)(error),
            }
        })?;
        if written.diff_id != layer {
            return Err(Cause::LayerLost(layer));
        }
        Ok(())
    }

    fn read_changeset(&self, layer: DiffId, task: &Task<'_>) -> Result<Changeset, Cause> {
        let (changeset, size) = self.with_tar(layer, task, |reader| {
            let (changeset, summary) = tar::read_layer(reader, &Limits::default(), &mut Nothing)
                .map_err(Cause::layer("read", layer))?;
            Ok(((changeset, summary.size), summary.diff_id))
        })?;
        self.store
            .layers()
            .put_changeset(&layer, &changeset, size)?;
        Ok(changeset)
    }

    fn unpack(&self, layer: DiffId, task: &Task<'_>) -> Result<PathBuf, Cause> {
        let options = self.footing.unpack_options(Removals::Mark);
        let known = self.store.layers().changeset(&layer)?;
        let (staging, found, size) = self.with_tar(layer, task, |reader| {
            let staging = self.store.layers().stage()?;
            let directory = staging.create_fs()?;
            let (changeset, summary) =
                tar::unpack(reader, &directory, &options).map_err(Cause::layer("unpack", layer))?;
            Ok(((staging, changeset, summary.size), summary.diff_id))
        })?;
        // What was copied here may have attributes that its tar has not. For all else the tar counts: what is known may be of an older form.
        let changeset = match known {
            Some(known) if known != found => {
                let found = found.with_attributes_of(&known);
                add_attributes(&found, &staging.path().join("fs"), &options)
                    .map_err(Cause::layer("unpack", layer))?;
                found
            }
            _ => found,
        };
        let stays = staging.commit(&layer, &changeset, size)?;
        self.remember(layer, stays.unwrap_or(changeset));
        self.store
            .layers()
            .fs_dir(&layer)
            .ok_or(Cause::LayerLost(layer))
    }

    /// Hands `work` the layer's uncompressed tar, while its blob is downloaded where that is the only way. `work` also says which
    /// layer it was: what it made of another one is not handed back. It may be asked once more.
    fn with_tar<T>(
        &self,
        layer: DiffId,
        task: &Task<'_>,
        mut work: impl FnMut(&mut dyn Read) -> Result<(T, DiffId), Cause>,
    ) -> Result<T, Cause> {
        let (made, found) = if let Some(mut file) = self.store.layers().tar(&layer)? {
            work(&mut file)?
        } else if let Some(blob) = self.stored_blob(layer) {
            decoded(self.store.cas().open(&blob.digest)?, work)?
        } else {
            return self.while_pulled(layer, task, work);
        };
        self.expect(layer, found)?;
        Ok(made)
    }

    /// Hands `work` the layer's uncompressed tar as its blob arrives. What came of it counts only if the blob is the one that was
    /// announced and the layer is in it; only then the blob is known as a form of the layer. Whoever says that it is, a cache
    /// or an image, may be wrong, and other images have the layer too.
    ///
    /// Where it makes no sense, something else may have come: then it is had whole, and read once more if it is what was announced.
    fn while_pulled<T>(
        &self,
        layer: DiffId,
        task: &Task<'_>,
        mut work: impl FnMut(&mut dyn Read) -> Result<(T, DiffId), Cause>,
    ) -> Result<T, Cause> {
        let made = self
            .remote_of(layer)
            .ok_or(Cause::LayerLost(layer))
            .and_then(|remote| self.pull_from(&remote, layer, task, &mut work));
        made.inspect_err(|_| {
            locked(&self.lost).insert(layer);
        })
    }

    fn pull_from<T>(
        &self,
        remote: &Remote,
        layer: DiffId,
        task: &Task<'_>,
        work: &mut impl FnMut(&mut dyn Read) -> Result<(T, DiffId), Cause>,
    ) -> Result<T, Cause> {
        let (mut pulled, mut worked) = self.read_along(remote, layer, task, work);
        let may_be_wrong = match &pulled {
            Ok(Pulled::Stopped) => worked.is_err(),
            Ok(Pulled::Whole(_)) => false,
            Err(cause) => is_worth_another_try(cause),
        };
        if may_be_wrong {
            pulled = self.pull_from_others(remote, layer, task);
            if pulled.is_ok() {
                (pulled, worked) = self.read_along(remote, layer, task, work);
            }
        }
        let made = match (pulled, worked) {
            (Ok(Pulled::Whole(blob)), Ok((made, found))) => {
                self.expect(layer, found).map(|()| (blob, made))
            }
            // Work that gave up stopped the download.
            (Ok(Pulled::Stopped), Ok(_)) => Err(Cause::LayerLost(layer)),
            (Ok(_), Err(cause)) | (Err(cause), _) => Err(cause),
        };
        let (blob, made) = made?;
        self.store.layers().add_blob(&layer, &blob)?;
        Ok(made)
    }

    fn read_along<T>(
        &self,
        remote: &Remote,
        layer: DiffId,
        task: &Task<'_>,
        work: &mut impl FnMut(&mut dyn Read) -> Result<(T, DiffId), Cause>,
    ) -> (Result<Pulled, Cause>, Result<(T, DiffId), Cause>) {
        let (feed, flow) = stream();
        thread::scope(|scope| {
            let pulling = scope.spawn(|| self.pull_blob(remote, layer, Some(feed), task));
            let worked = decoded(flow, work);
            let pulled = pulling.join().unwrap_or_else(|panic| resume_unwind(panic));
            (pulled, worked)
        })
    }

    /// Brings the blob into the store. Mirrors that give something else are left out one after another.
    fn pull_from_others(
        &self,
        remote: &Remote,
        layer: DiffId,
        task: &Task<'_>,
    ) -> Result<Pulled, Cause> {
        loop {
            match self.pull_blob(remote, layer, None, task) {
                Err(cause) if is_worth_another_try(&cause) => {}
                pulled => return pulled,
            }
        }
    }

    fn pull(&self, layer: DiffId, task: &Task<'_>) -> Result<(), Cause> {
        if self.store.layers().has_content(&layer) {
            return Ok(());
        }
        self.while_pulled(layer, task, diff_id_of(layer))
    }

    /// Makes sure that the store has these layers as the very blobs that an image in a registry names, whatever other blobs of them there
    /// are.
    pub(crate) fn fetch_blobs(
        &self,
        image: &Reference,
        layers: &[(DiffId, &Descriptor)],
        task: &Task<'_>,
    ) -> Result<(), Cause> {
        let is_here = |at: &usize| self.has_as(layers[*at].0, layers[*at].1);
        let all: Vec<usize> = (0..layers.len()).collect();
        several_at_once(&all, is_here, |at| {
            let (layer, descriptor) = layers[at];
            let remote = Remote {
                holder: Holder::Registry(image.clone()),
                descriptor: descriptor.clone(),
                client: None,
                is_source: true,
            };
            self.fetch_blob(&remote, layer, task)
        })
    }

    /// Has a layer of a base image as the blob that this names, if whoever it came from still gives it: which other images the store knows
    /// the layer of makes no difference to what is built on it.
    fn fetch_named_blob(&self, layer: DiffId, named: &Remote, task: &Task<'_>) {
        if named.is_source
            && let Err(cause) = self.fetch_blob(named, layer, task)
        {
            let told = format!("not as in the base image: {}\n", chain(&cause));
            task.log(Stream::Stderr, told.as_bytes());
        }
    }

    fn fetch_blob(&self, remote: &Remote, layer: DiffId, task: &Task<'_>) -> Result<(), Cause> {
        self.in_flight
            .alone(&layer, || match self.has_as(layer, &remote.descriptor) {
                true => Ok(()),
                false => self.pull_from(remote, layer, task, &mut diff_id_of(layer)),
            })
    }

    /// Whether the store has the layer as this very blob.
    pub(crate) fn has_as(&self, layer: DiffId, blob: &Descriptor) -> bool {
        let size = digest_of(blob).map(|digest| self.store.cas().size(&digest));
        matches!(size, Ok(Some(size)) if size == blob.size())
            && self.store.layers().has_content(&layer)
    }

    /// Brings the blob that is said to be the layer into the store, and passes it on to `also` on the way.
    fn pull_blob(
        &self,
        remote: &Remote,
        layer: DiffId,
        also: Option<Feed>,
        task: &Task<'_>,
    ) -> Result<Pulled, Cause> {
        let digest = digest_of(&remote.descriptor)?;
        let size = remote.descriptor.size();
        if self.store.cas().size(&digest) == Some(size) {
            if let Some(mut also) = also {
                // Nobody minds if the other side has had enough.
                let _ = io::copy(&mut self.store.cas().open(&digest)?, &mut also);
            }
        } else {
            let mut arriving = Arriving {
                blob: self.store.cas().writer()?,
                also,
                stopped: false,
            };
            let received = self.receive(layer, remote, &mut arriving, task);
            if arriving.stopped {
                return Ok(Pulled::Stopped);
            }
            received?;
            drop(arriving.also); // whoever reads along needn't wait for the disk
            arriving.blob.commit(Some(digest))?;
        }
        Ok(Pulled::Whole(CompressedBlob {
            digest,
            size,
            media_type: remote.descriptor.media_type().to_string(),
            encoder: None,
        }))
    }

    fn receive(
        &self,
        layer: DiffId,
        remote: &Remote,
        out: &mut dyn Write,
        task: &Task<'_>,
    ) -> Result<(), Cause> {
        let descriptor = &remote.descriptor;
        let (part, size) = (descriptor.digest().to_string(), descriptor.size());
        let told = |done| task.progress(&part, done, Some(size));
        let client = remote.client.as_deref().unwrap_or(self.registry);
        match &remote.holder {
            Holder::Registry(image) => client.pull_blob(image, descriptor, out, &told)?,
            Holder::Layout(layout) => {
                let blob = layout.open_blob(descriptor);
                copy(&mut blob.map_err(Cause::layer("read", layer))?, out, layer)?;
                told(size);
            }
            Holder::Bucket(cache) => {
                let digest = digest_of(descriptor)?;
                let bucket = client.bucket(&cache.settings)?;
                bucket.download(&cache.blob_key(&digest), size, &digest, out, &told)?;
            }
        }
        Ok(())
    }

    fn stored_blob(&self, layer: DiffId) -> Option<CompressedBlob> {
        self.store.layers().meta(&layer)?.blobs.into_iter().next()
    }

    fn expect(&self, layer: DiffId, found: DiffId) -> Result<(), Cause> {
        if found == layer {
            return Ok(());
        }
        locked(&self.lost).insert(layer);
        Err(Cause::Image(format!(
            "the content of layer {layer} has diff id {found}: the image's config and its layers don't belong together"
        )))
    }
}

/// Reads a layer's tar for nothing but the diff id that it really has.
fn diff_id_of(layer: DiffId) -> impl FnMut(&mut dyn Read) -> Result<((), DiffId), Cause> {
    move |tar| {
        let mut digester = Digester::new();
        io::copy(tar, &mut digester).map_err(Cause::layer("read", layer))?;
        Ok(((), DiffId(digester.finish())))
    }
}

fn is_worth_another_try(cause: &Cause) -> bool {
    matches!(cause, Cause::Registry(error) if error.is_worth_another_try())
}

/// The file that is not what the changeset says, if that is why no tar could be written.
pub(crate) fn changed_file(error: &WriteError) -> Option<&ImagePath> {
    match error {
        WriteError::ContentChanged { path, .. } => Some(path),
        WriteError::Content { path, source } if is_another_file(source) => Some(path),
        _ => None,
    }
}

/// The file that is not what the changeset says, if that is why a tree could not be written.
pub(crate) fn changed_source(error: &ApplyError) -> Option<&ImagePath> {
    match error {
        ApplyError::ContentChanged { path } => Some(path),
        ApplyError::Content { path, source } if is_another_file(source) => Some(path),
        _ => None,
    }
}

/// Whether opening a file failed because it is gone, or something else is there.
pub(crate) fn is_another_file(error: &io::Error) -> bool {
    use io::ErrorKind;
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    // A link now; or what it is in was moved away from below the directory that is read, while the kernel was on the way.
    matches!(errno, Some(Errno::LOOP | Errno::XDEV))
        || matches!(
            error.kind(),
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput
        )
}

/// Does `work` for the layers that are not `known`, a few at a time, and starts nothing new after a failure.
fn several_at_once<L: Copy + Eq + Hash + Sync>(
    layers: &[L],
    known: impl Fn(&L) -> bool,
    work: impl Fn(L) -> Result<(), Cause> + Sync,
) -> Result<(), Cause> {
    let unknown = layers.iter().copied().filter(|layer| !known(layer));
    let unknown: HashSet<L> = unknown.collect();
    let todo = Mutex::new(layers.iter().filter(|layer| unknown.contains(layer)));
    let failure = Mutex::new(None);
    let take_turns = || {
        while locked(&failure).is_none() {
            let Some(layer) = locked(&todo).next() else {
                break;
            };
            if let Err(cause) = work(*layer) {
                locked(&failure).get_or_insert(cause);
            }
        }
    };
    match unknown.len() {
        0 => {}
        1 => take_turns(),
        several => thread::scope(|scope| {
            for _ in 0..several.min(AT_ONCE) {
                scope.spawn(take_turns);
            }
        }),
    }
    let failure = failure.into_inner();
    match failure.unwrap_or_else(PoisonError::into_inner) {
        Some(cause) => Err(cause),
        None => Ok(()),
    }
}

impl Remote {
    /// Whether this is the blob that is named.
    fn is(&self, blob: &CompressedBlob) -> bool {
        matches!(digest_of(&self.descriptor), Ok(digest) if digest == blob.digest)
    }
}

/// The digest a descriptor names; only sha256 is used.
pub(crate) fn digest_of(descriptor: &Descriptor) -> Result<Digest, Cause> {
    let text = descriptor.digest().to_string();
    text.parse()
        .map_err(|error| Cause::Image(format!("can't use this image: {error}")))
}

fn copy(reader: &mut dyn Read, out: &mut dyn Write, layer: DiffId) -> Result<(), Cause> {
    io::copy(&mut BufReader::with_capacity(PIECE, reader), out)
        .map(|_| ())
        .map_err(Cause::layer("write", layer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_exchanged_is_told_from_one_that_cannot_be_read() {
        let failed = |errno: rustix::io::Errno| io::Error::from(errno);
        for exchanged in [
            rustix::io::Errno::NOENT,
            rustix::io::Errno::LOOP,
            rustix::io::Errno::XDEV,
        ] {
            assert!(is_another_file(&failed(exchanged)), "{exchanged}");
        }
        for unreadable in [rustix::io::Errno::ACCESS, rustix::io::Errno::IO] {
            assert!(!is_another_file(&failed(unreadable)), "{unreadable}");
        }
    }
}
