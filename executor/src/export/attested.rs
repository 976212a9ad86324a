//! Statements about an image, put beside it in an index.

use kiln_image::attestation::{
    self, EMPTY_CONFIG, Statement, attestation_manifest_json, empty_config, indexed_attestation,
};
use kiln_image::image_index::IndexedManifest;
use kiln_image::media_type::OCI_MANIFEST;
use kiln_image::{Descriptor, Digest, Reference};
use kiln_registry::ManifestTree;

use crate::Services;
use crate::attest::statement;
use crate::build::Built;
use crate::error::Cause;

/// The manifest of what is said about an image, its blobs in the store; `None` if nothing is.
pub(super) fn attested(
    built: &Built,
    names: &[Reference],
    image: &Descriptor,
    services: &Services<'_>,
) -> Result<Option<(IndexedManifest, ManifestTree)>, Cause> {
    if built.attestations.is_empty() {
        return Ok(None);
    }
    let about =
        Digest::try_from(image.digest()).map_err(|error| Cause::Image(error.to_string()))?;
    let cas = services.store.cas();
    cas.put(EMPTY_CONFIG)?;
    let mut texts = Vec::new();
    for said in &built.attestations {
        let bytes = statement(said, names, &built.platform, about);
        cas.put(&bytes)?;
        texts.push((bytes, said.predicate_type));
    }
    let statements: Vec<Statement<'_>> = texts
        .iter()
        .map(|(bytes, predicate_type)| Statement {
            bytes,
            predicate_type,
        })
        .collect();
    let bytes = attestation_manifest_json(&statements, image)
        .map_err(|error| Cause::Image(error.to_string()))?;
    let indexed = indexed_attestation(&bytes, image);
    let blobs = statements.iter().copied().map(attestation::statement_blob);
    let blobs = blobs.chain([empty_config()]);
    let tree = ManifestTree::manifest(OCI_MANIFEST.to_owned(), bytes, blobs);
    Ok(Some((indexed, tree)))
}
