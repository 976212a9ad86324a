//! Images handed to the store, or written as layouts and archives: alone, or in an index.

use std::collections::BTreeMap;

use kiln_cache::NamedImages;
use kiln_image::compress::LayerFormat;
use kiln_image::image_index::{IndexedManifest, image_index_json};
use kiln_image::layout::CREATED;
use kiln_image::media_type::MediaTypes;
use kiln_image::{Descriptor, DiffId, Digest, Platform};
use kiln_registry::ManifestTree;

use super::annotations::Level;
use super::attested::attested;
use super::{Destination, ExportOptions, Exported, ImageSink, Push, form};
use crate::Services;
use crate::error::Cause;
use crate::event::Task;
use crate::images::{
    self, ArchiveEntry, ArchiveOutput, StoredImage, leaf, new_manifest, put_manifest, write_archive,
};
use crate::product::Product;

/// Gives the images to the store and to registries. For the store alone an image waits for its manifest until somebody needs
/// it, unless it is to say something.
pub(super) fn hand_over(
    product: &Product,
    sink: ImageSink,
    options: &ExportOptions,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<Exported, Cause> {
    let needs_manifest = product.is_index(options.attestations.inline)
        || !options.annotations.0.is_empty()
        || options.wants_manifest
        || options.format != LayerFormat::default()
        || options.media_types != MediaTypes::default()
        || sink.push.is_some();
    let ready = match needs_manifest {
        true => Some(Ready::of(product, options, services, task)?),
        false => None,
    };
    let exported = match (&ready, sink.store) {
        (Some(ready), true) => {
            keep(ready.put(services)?, sink, options, services, task)?;
            ready.exported()
        }
        (Some(ready), false) => ready.exported(),
        (None, _) => {
            let image = form::image_of(product.first(), options, services, task)?;
            let ids = vec![image.record.config];
            keep(image.record.into(), sink, options, services, task)?;
            Exported {
                manifest: None,
                ids,
            }
        }
    };
    if let (Some(push), Some(ready)) = (sink.push, &ready) {
        for name in &options.names {
            let reference = match push {
                Push::ByName => name.clone(),
                Push::ByDigest => name.by_digest(Digest::of(&ready.tree.bytes)),
            };
            images::send_tree(services, &reference, &ready.tree, task)?;
        }
    }
    Ok(exported)
}

/// Gives the store's names to images.
fn keep(
    named: NamedImages,
    sink: ImageSink,
    options: &ExportOptions,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<(), Cause> {
    for image in named.iter() {
        let config = images::stored_config(services.store, image);
        let config = config.map_err(|error| *error.cause)?;
        services.layers.fetch_all(config.diff_ids(), task)?;
        if sink.unpack {
            services.layers.unpack_all(config.diff_ids(), task)?;
        }
    }
    services.store.sync()?;
    let refs = services.store.refs();
    // What is known by its digest has no tag.
    if sink.push != Some(Push::ByDigest) {
        for name in &options.names {
            refs.set_all(name, &named)?;
        }
    }
    // Which names have done, if there are any.
    named
        .iter()
        .try_for_each(|image| Ok(refs.set_untagged(image)?))
}

/// Writes a layout, with `docker` one that `docker load` takes.
pub(super) fn archive(
    product: &Product,
    to: &Destination,
    docker: bool,
    options: &ExportOptions,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<Exported, Cause> {
    let mut ready = Ready::of(product, options, services, task)?;
    let exported = ready.exported();
    ready.leave_out(&options.known_layers);
    let annotations = ready.annotations.clone();
    let entry = ArchiveEntry {
        names: options.names.clone(),
        platform: ready.platform(),
        created: ready
            .created()
            .filter(|_| !annotations.contains_key(CREATED)),
        annotations,
        docker: docker.then(|| ready.ids()[0]),
        tree: ready.tree,
    };
    let epoch = product.first().source_date_epoch.unwrap_or(0);
    let entries = [entry];
    match to {
        Destination::Directory(path) => {
            write_archive(services, &entries, epoch, ArchiveOutput::Directory(path))?;
        }
        file_or_stdout => file_or_stdout.write(|out| {
            let output = ArchiveOutput::Stream(Box::new(out));
            write_archive(services, &entries, epoch, output)
        })?,
    }
    Ok(exported)
}

/// A product as it is sent or written, all its blobs in the store.
struct Ready {
    images: Vec<StoredImage>,
    /// The manifest of the only image, or the index with theirs.
    tree: ManifestTree,
    /// What is said beside the digest of that.
    annotations: BTreeMap<String, String>,
}

impl Ready {
    fn of(
        product: &Product,
        options: &ExportOptions,
        services: &Services<'_>,
        task: &Task<'_>,
    ) -> Result<Ready, Cause> {
        let mut images = Vec::new();
        let mut manifests = Vec::new();
        let mut children = Vec::new();
        let mut attestations = Vec::new();
        for built in &product.images {
            let platform = Some(&built.platform);
            let (image, layers) = form::compressed(built, options, services, task)?;
            let said = options.annotations.at(Level::Manifest, platform);
            let manifest = new_manifest(&image, &layers, options.media_types, &said)?;
            let described = descriptor(&manifest.media_type, &manifest.bytes);
            attestations.extend(attested(built, options, &described, services)?);
            manifests.push(IndexedManifest {
                descriptor: described,
                platform: platform.cloned(),
                annotations: options.annotations.at(Level::ManifestDescriptor, platform),
            });
            children.push(leaf(manifest));
            images.push(image);
        }
        if !product.is_index(options.attestations.inline) {
            return Ok(Ready {
                images,
                tree: children.pop().expect("a product has an image"),
                annotations: manifests.pop().expect("there too").annotations,
            });
        }
        // After all images (R-MAN-6).
        for (indexed, tree) in attestations {
            manifests.push(indexed);
            children.push(tree);
        }
        let said = options.annotations.at(Level::Index, None);
        let bytes = image_index_json(&manifests, options.media_types, &said)
            .map_err(|error| Cause::Image(error.to_string()))?;
        Ok(Ready {
            images,
            tree: ManifestTree::index(options.media_types.index(), bytes, children),
            annotations: options.annotations.at(Level::IndexDescriptor, None),
        })
    }

    fn is_index(&self) -> bool {
        !self.tree.children.is_empty()
    }

    /// What a manifest's descriptor says its image runs on; that of an index says nothing.
    fn platform(&self) -> Option<Platform> {
        let image = self.images.first().filter(|_| !self.is_index());
        image.map(|image| image.config.platform())
    }

    /// Puts manifests and index into the store, and gives what names are to stand for: all images, first that for this machine
    /// if there is one.
    fn put(&self, services: &Services<'_>) -> Result<NamedImages, Cause> {
        let put =
            |tree: &ManifestTree| put_manifest(services, tree.media_type.clone(), &tree.bytes);
        let (index, manifests) = match self.is_index() {
            true => (Some(put(&self.tree)?), &self.tree.children[..]),
            false => (None, std::slice::from_ref(&self.tree)),
        };
        let mut records = Vec::new();
        for attestation in manifests.iter().skip(self.images.len()) {
            put(attestation)?;
        }
        for (image, manifest) in self.images.iter().zip(manifests) {
            let mut record = image.record.clone();
            record.manifest = Some(put(manifest)?);
            record.own_manifest = true;
            records.push(record);
        }
        let host = Platform::host();
        records.sort_by_key(|record| !host.matches(&record.platform)); // stable
        let mut records = records.into_iter();
        Ok(NamedImages {
            image: records.next().expect("a product has an image"),
            others: records.collect(),
            index,
        })
    }

    fn exported(&self) -> Exported {
        Exported {
            manifest: Some(IndexedManifest {
                descriptor: descriptor(&self.tree.media_type, &self.tree.bytes),
                platform: self.platform(),
                annotations: self.dated_annotations(),
            }),
            ids: self.ids(),
        }
    }

    /// The date of the newest image.
    fn created(&self) -> Option<String> {
        let images = self.images.iter();
        images
            .filter_map(|image| image.config.created.clone())
            .max()
    }

    /// What is said beside its digest, with its date.
    fn dated_annotations(&self) -> BTreeMap<String, String> {
        let mut said = self.annotations.clone();
        if let (Some(created), false) = (self.created(), said.contains_key(CREATED)) {
            said.insert(CREATED.to_owned(), created);
        }
        said
    }

    /// Leaves out the blobs of the lowest layers as far as one of these lists begins with the same layers.
    fn leave_out(&mut self, known: &[Vec<DiffId>]) {
        let Some(image) = self.images.first().filter(|_| !self.is_index()) else {
            return;
        };
        let layers = image.config.diff_ids();
        let common = |list: &Vec<DiffId>| {
            let pairs = list.iter().zip(layers);
            pairs.take_while(|(one, other)| one == other).count()
        };
        let count = known.iter().map(common).max().unwrap_or(0);
        // Layers come first among a manifest's blobs.
        self.tree.blobs.drain(..count);
    }

    /// The digests of the images' configs; a product has at least one.
    fn ids(&self) -> Vec<Digest> {
        let ids = self.images.iter().map(|image| image.record.config);
        ids.collect()
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    let digest = Digest::of(bytes).to_oci();
    Descriptor::new(media_type.into(), bytes.len() as u64, digest)
}
