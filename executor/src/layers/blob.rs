//! A layer as a compressed blob.

use kiln_cache::CompressedBlob;
use kiln_image::DiffId;
use kiln_image::compress::{self, Algorithm, Compression};
use kiln_image::media_type::{self, LayerCompression};

use super::{Layers, Remote};
use crate::error::Cause;
use crate::event::Task;

impl Layers<'_> {
    /// The layer compressed: the blob it was pulled as if there is one, else one made with `compression`, once.
    pub(crate) fn blob(
        &self,
        layer: DiffId,
        compression: Compression,
        task: &Task<'_>,
    ) -> Result<CompressedBlob, Cause> {
        let pulled = |blob: &CompressedBlob| blob.encoder.is_none();
        let named = self.remote_of(layer);
        self.blob_as(layer, compression, named.as_ref(), &pulled, task)
    }

    /// The layer compressed: a blob that `suits`, the one that is named before all others, else one made with `compression`, once.
    pub(super) fn blob_as(
        &self,
        layer: DiffId,
        compression: Compression,
        named: Option<&Remote>,
        suits: &dyn Fn(&CompressedBlob) -> bool,
        task: &Task<'_>,
    ) -> Result<CompressedBlob, Cause> {
        self.fetch(layer, task)?;
        self.in_flight.alone(&layer, || {
            let encoder = encoder_name(compression);
            let meta = self.store.layers().meta(&layer);
            let known = meta.map(|meta| meta.blobs).unwrap_or_default();
            let suits =
                |blob: &&CompressedBlob| blob.encoder.as_ref() == Some(&encoder) || suits(blob);
            // Other images may have the layer compressed in another way.
            let rank = |blob: &&CompressedBlob| {
                let is_named = named.is_some_and(|named| named.is(blob));
                (!is_named, blob.encoder.is_some())
            };
            match known.iter().filter(suits).min_by_key(rank) {
                Some(blob) => Ok(blob.clone()),
                None => self.compress(layer, compression, encoder),
            }
        })
    }

    fn compress(
        &self,
        layer: DiffId,
        compression: Compression,
        encoder: String,
    ) -> Result<CompressedBlob, Cause> {
        let writer = self.store.cas().writer()?;
        let mut compressed =
            compress::encoder(compression, writer).map_err(Cause::layer("compress", layer))?;
        self.write_stored_tar(layer, &mut compressed)?;
        let writer = compressed
            .finish()
            .map_err(Cause::layer("compress", layer))?;
        let (digest, size) = writer.commit(None)?;
        let blob = CompressedBlob {
            digest,
            size,
            media_type: media_type(compression).to_owned(),
            encoder: Some(encoder),
        };
        self.store.layers().add_blob(&layer, &blob)?;
        Ok(blob)
    }
}

/// What a blob is compressed with, as far as its media type says.
pub(super) fn algorithm(blob: &CompressedBlob) -> Option<Algorithm> {
    media_type::layer_compression(&blob.media_type).map(|compression| match compression {
        LayerCompression::None => Algorithm::None,
        LayerCompression::Gzip => Algorithm::Gzip,
        LayerCompression::Zstd => Algorithm::Zstd,
    })
}

/// How a blob made here is remembered, so that the same request finds it again. The compressor is part of it: another one
/// gives other bytes.
fn encoder_name(compression: Compression) -> String {
    match compression {
        Compression::None => "none".to_owned(),
        Compression::Gzip { level } => format!("gzip-{level}-libdeflate-mixed"),
        Compression::Zstd { level } => format!("zstd-{level}-w23"),
    }
}

fn media_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => media_type::OCI_LAYER,
        Compression::Gzip { .. } => media_type::OCI_LAYER_GZIP,
        Compression::Zstd { .. } => media_type::OCI_LAYER_ZSTD,
    }
}
