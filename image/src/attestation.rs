//! Attestation manifests: what is said about an image, as an artifact of the registry beside it (R-ATT-1, R-ATT-2).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::image_index::IndexedManifest;
use crate::media_type::OCI_MANIFEST;
use crate::written::WrittenDescriptor;
use crate::{Descriptor, Digest, ManifestError, Platform, json};

/// The media type of a statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The annotation of a statement that tells what kind of thing it says.
pub const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// The config of what is no image, all of it.
pub const EMPTY_CONFIG: &[u8] = b"{}";

const ARTIFACT_TYPE: &str = "application/vnd.docker.attestation.manifest.v1+json";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// A statement: its blob, and what kind of thing it says.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// The blob's bytes.
    pub bytes: &'a [u8],
    /// As in the statement.
    pub predicate_type: &'a str,
}

/// The descriptor of [`EMPTY_CONFIG`].
#[must_use]
pub fn empty_config() -> Descriptor {
    let digest = Digest::of(EMPTY_CONFIG).to_oci();
    Descriptor::new(EMPTY_TYPE.into(), EMPTY_CONFIG.len() as u64, digest)
}

/// The descriptor of a statement's blob.
#[must_use]
pub fn statement_blob(statement: Statement<'_>) -> Descriptor {
    let digest = Digest::of(statement.bytes).to_oci();
    Descriptor::new(IN_TOTO.into(), statement.bytes.len() as u64, digest)
}

/// The bytes of the manifest with statements about an image, whose own manifest `subject` describes.
///
/// # Errors
/// [`ManifestError::Write`], which takes a failure of the serialiser.
pub fn attestation_manifest_json(
    statements: &[Statement<'_>],
    subject: &Descriptor,
) -> Result<Vec<u8>, ManifestError> {
    let layer = |statement: &Statement<'_>| {
        let said = (
            PREDICATE_TYPE.to_owned(),
            statement.predicate_type.to_owned(),
        );
        WrittenDescriptor::new(&statement_blob(*statement), [said].into(), None)
    };
    let written = WrittenAttestations {
        schema_version: 2,
        media_type: OCI_MANIFEST,
        artifact_type: ARTIFACT_TYPE,
        config: WrittenEmpty {
            media_type: EMPTY_TYPE,
            digest: Digest::of(EMPTY_CONFIG).to_string(),
            size: EMPTY_CONFIG.len(),
            data: "e30=", // those bytes in base 64
        },
        layers: statements.iter().map(layer).collect(),
        subject: WrittenDescriptor::new(subject, BTreeMap::new(), None),
    };
    json::indented(&written).map_err(ManifestError::Write)
}

/// What an index says of a manifest with statements about the image that `subject` describes.
#[must_use]
pub fn indexed_attestation(manifest: &[u8], subject: &Descriptor) -> IndexedManifest {
    let digest = Digest::of(manifest).to_oci();
    let annotations = [
        (REFERENCE_DIGEST, subject.digest().to_string()),
        (REFERENCE_TYPE, "attestation-manifest".to_owned()),
    ];
    IndexedManifest {
        descriptor: Descriptor::new(OCI_MANIFEST.into(), manifest.len() as u64, digest),
        platform: Some(Platform::new("unknown", "unknown", None)),
        annotations: annotations
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenAttestations {
    schema_version: u32,
    media_type: &'static str,
    artifact_type: &'static str,
    config: WrittenEmpty,
    layers: Vec<WrittenDescriptor>,
    subject: WrittenDescriptor,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenEmpty {
    media_type: &'static str,
    digest: String,
    size: usize,
    data: &'static str,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_manifest_is_written_as_the_reference_engine_does() {
        // R-ATT-2
        let subject = Descriptor::new(OCI_MANIFEST.into(), 7, Digest::of(b"").to_oci());
        let statement = Statement {
            bytes: b"{}",
            predicate_type: "https://slsa.dev/provenance/v1",
        };
        let bytes = attestation_manifest_json(&[statement], &subject).unwrap();
        let expected = r#"{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "artifactType": "application/vnd.docker.attestation.manifest.v1+json",
  "config": {
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": 2,
    "data": "e30="
  },
  "layers": [
    {
      "mediaType": "application/vnd.in-toto+json",
      "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
      "size": 2,
      "annotations": {
        "in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"
      }
    }
  ],
  "subject": {
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "size": 7
  }
}"#;
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}
