//! Layers that an output has in the place of those that were built: with clamped times (R-SDE-3), or as eStargz (R-MAN-5).
//!
//! Each is a layer of its own with another diff id, so the image that has it has another config. What was made of a layer
//! is remembered beside it.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread;

use kiln_cache::{CompressedBlob, DerivedLayer};
use kiln_image::compress::{
    Compression, Estargz, EstargzError, LayerFormat, TOC_DIGEST, UNCOMPRESSED_SIZE, write_estargz,
};
use kiln_image::tar::write_layer;
use kiln_image::{DiffId, DigestReader, Timestamp, media_type};

use super::{Layers, Remote, blob, changed_file};
use crate::error::Cause;
use crate::event::Task;
use crate::stream::stream;

/// Where a layer of an image comes from.
#[derive(Clone)]
pub(crate) enum Origin {
    /// The base image, as its manifest names the layer if it has one: it keeps its form unless another one is forced.
    Base(Option<Box<Remote>>),
    /// This build.
    Made,
}

/// A layer as an output has it.
#[derive(Debug, Clone)]
pub(crate) struct ReadyLayer {
    /// Its diff id.
    pub layer: DiffId,
    /// The blob.
    pub blob: CompressedBlob,
    /// What its descriptor says besides.
    pub annotations: BTreeMap<String, String>,
}

impl Layers<'_> {
    /// The layer in the form that an output asks for.
    pub(crate) fn ready(
        &self,
        layer: DiffId,
        origin: Origin,
        format: LayerFormat,
        task: &Task<'_>,
    ) -> Result<ReadyLayer, Cause> {
        let (keeps, named) = match origin {
            Origin::Base(named) => (!format.force, named),
            Origin::Made => (false, None),
        };
        let named = named.map(|named| *named);
        let named = named.or_else(|| self.remote_of(layer));
        let named = named.as_ref();
        if let Compression::Gzip { level } = format.compression
            && format.estargz
            && !keeps
        {
            return self.estargz(layer, level, task);
        }
        let wanted = format.compression.algorithm();
        let is_pulled = |found: &CompressedBlob| found.encoder.is_none();
        let is_wanted = |found: &CompressedBlob| {
            let is_table = !table_annotations(named, found).is_empty();
            blob::algorithm(found) == Some(wanted) && !is_table
        };
        let suits = |found: &CompressedBlob| match keeps {
            true => is_pulled(found) || named.is_some_and(|named| named.is(found)),
            false => is_pulled(found) && is_wanted(found),
        };
        if let (true, Some(named)) = (keeps, named) {
            self.fetch_named_blob(layer, named, task);
        }
        let blob = self.blob_as(layer, format.compression, named, &suits, task)?;
        Ok(ReadyLayer {
            annotations: table_annotations(named, &blob),
            layer,
            blob,
        })
    }

    /// The layer with no object newer than `latest`: the layer itself if it has none.
    pub(crate) fn not_after(
        &self,
        layer: DiffId,
        latest: Timestamp,
        task: &Task<'_>,
    ) -> Result<DiffId, Cause> {
        let name = format!("not-after-{}", latest.secs);
        if let Some(known) = self.store.layers().derived(&layer, &name) {
            return Ok(known.layer);
        }
        let changeset = self.changeset(layer, task)?;
        let clamped = changeset.not_after(latest);
        if clamped == *changeset {
            return Ok(layer);
        }
        let contents = self.contents(layer, task)?;
        let staging = self.store.layers().stage()?;
        let mut file = staging.create_tar()?;
        let written = write_layer(&clamped, &*contents, &mut file).map_err(|error| {
            match changed_file(&error) {
                Some(path) => self.unreadable(layer, path),
                None => Cause::layer("write", layer)(error),
            }
        })?;
        std::io::Write::flush(&mut file).map_err(Cause::layer("write", layer))?;
        drop(file);
        staging.commit(&written.diff_id, &clamped, written.size)?;
        self.remember(written.diff_id, clamped);
        let derived = DerivedLayer {
            layer: written.diff_id,
            annotations: BTreeMap::new(),
        };
        self.store.layers().put_derived(&layer, &name, &derived)?;
        Ok(derived.layer)
    }

    fn estargz(&self, layer: DiffId, level: u32, task: &Task<'_>) -> Result<ReadyLayer, Cause> {
        let name = format!("estargz-{level}-libdeflate-mixed");
        if let Some(known) = self.store.layers().derived(&layer, &name)
            && let Some(blob) = self.blob_made_by(known.layer, &name)
        {
            return Ok(ReadyLayer {
                layer: known.layer,
                blob,
                annotations: known.annotations,
            });
        }
        self.fetch(layer, task)?;
        let (blob, written) = self.write_estargz(layer, level, &name)?;
        let derived = DerivedLayer {
            layer: written.tar.diff_id,
            annotations: BTreeMap::from([
                (TOC_DIGEST.to_owned(), written.toc.to_string()),
                (UNCOMPRESSED_SIZE.to_owned(), written.tar.size.to_string()),
            ]),
        };
        self.store.layers().add_blob(&derived.layer, &blob)?;
        self.store.layers().put_derived(&layer, &name, &derived)?;
        Ok(ReadyLayer {
            layer: derived.layer,
            blob,
            annotations: derived.annotations,
        })
    }

    fn write_estargz(
        &self,
        layer: DiffId,
        level: u32,
        encoder: &str,
    ) -> Result<(CompressedBlob, Estargz), Cause> {
        let writer = self.store.cas().writer()?;
        let (mut feed, flow) = stream();
        let mut tar = DigestReader::new(flow);
        let (read, made) = thread::scope(|scope| {
            let reading = scope.spawn(move || self.write_stored_tar(layer, &mut feed));
            let made = write_estargz(&mut tar, level, writer);
            let (flow, found, _) = tar.finish();
            drop(flow); // whoever writes to it needn't wait
            let read = reading.join().unwrap_or_else(|panic| resume_unwind(panic));
            (read.map(|()| DiffId(found)), made)
        });
        let (writer, written) = match (read, made) {
            // A blob that can't be written stops the reading.
            (_, Err(error @ EstargzError::Output(_))) => {
                return Err(Cause::layer("compress", layer)(error));
            }
            (Err(cause), _) => return Err(cause),
            (Ok(_), Err(error)) => return Err(Cause::layer("compress", layer)(error)),
            (Ok(found), Ok(made)) => {
                self.expect(layer, found)?;
                made
            }
        };
        let (digest, size) = writer.commit(None)?;
        let blob = CompressedBlob {
            digest,
            size,
            media_type: media_type::OCI_LAYER_GZIP.to_owned(),
            encoder: Some(encoder.to_owned()),
        };
        Ok((blob, written))
    }

    fn blob_made_by(&self, layer: DiffId, encoder: &str) -> Option<CompressedBlob> {
        let meta = self.store.layers().meta(&layer)?;
        let made = |blob: &CompressedBlob| blob.encoder.as_deref() == Some(encoder);
        meta.blobs.into_iter().find(made)
    }
}

/// What the image that names the blob says about its table of contents, if it has one.
fn table_annotations(named: Option<&Remote>, blob: &CompressedBlob) -> BTreeMap<String, String> {
    let Some(named) = named.filter(|named| named.is(blob)) else {
        return BTreeMap::new();
    };
    let annotations = named.descriptor.annotations().iter().flatten();
    annotations
        .filter(|(key, _)| [TOC_DIGEST, UNCOMPRESSED_SIZE].contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
