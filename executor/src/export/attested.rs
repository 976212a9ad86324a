//! Statements about an image, put beside it in an index.

use kiln_image::attestation::{
    self, AttestationForm, Statement, attestation_manifest, indexed_attestation,
};
use kiln_image::image_index::IndexedManifest;
use kiln_image::{Descriptor, Digest};
use kiln_registry::ManifestTree;

use super::ExportOptions;
use crate::Services;
use crate::attest::statement;
use crate::build::Built;
use crate::error::Cause;

/// The manifest of what is said about an image, its blobs in the store; `None` if nothing is.
pub(super) fn attested(
    built: &Built,
    options: &ExportOptions,
    image: &Descriptor,
    services: &Services<'_>,
) -> Result<Option<(IndexedManifest, ManifestTree)>, Cause> {
    let said: Vec<_> = built.said(options.attestations.inline).collect();
    if said.is_empty() {
        return Ok(None);
    }
    let about =
        Digest::try_from(image.digest()).map_err(|error| Cause::Image(error.to_string()))?;
    let cas = services.store.cas();
    let mut texts = Vec::new();
    for said in said {
        let bytes = statement(said, &options.names, &built.platform, about);
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
    let form = match options.attestations.artifact {
        true => AttestationForm::Artifact,
        false => AttestationForm::Image(options.media_types),
    };
    let manifest = attestation_manifest(&statements, image, form)
        .map_err(|error| Cause::Image(error.to_string()))?;
    cas.put(&manifest.config_bytes)?;
    let indexed = indexed_attestation(&manifest, image);
    let blobs = statements.iter().copied().map(attestation::statement_blob);
    let blobs = blobs.chain([manifest.config]);
    let tree = ManifestTree::manifest(manifest.media_type.to_owned(), manifest.bytes, blobs);
    Ok(Some((indexed, tree)))
}
