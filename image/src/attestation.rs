//! Attestation manifests: what is said about an image, as an artifact of the registry beside it (R-ATT-1, R-ATT-2).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::image_index::IndexedManifest;
use crate::media_type::{MediaTypes, OCI_MANIFEST};
use crate::written::WrittenDescriptor;
use crate::{Descriptor, Digest, ManifestError, Platform, json};

/// The media type of a statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The annotation of a statement that tells what kind of thing it says.
pub const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// The config of what is no image, all of it.
const EMPTY_CONFIG: &[u8] = b"{}";

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

/// The descriptor of a statement's blob.
#[must_use]
pub fn statement_blob(statement: Statement<'_>) -> Descriptor {
    let digest = Digest::of(statement.bytes).to_oci();
    Descriptor::new(IN_TOTO.into(), statement.bytes.len() as u64, digest)
}

/// What the manifest with statements is (R-ATT-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttestationForm {
    /// An artifact that names the image as its subject.
    Artifact,
    /// An image of no platform, with these media types.
    Image(MediaTypes),
}

/// A manifest with statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationManifest {
    /// Its media type.
    pub media_type: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The descriptor of its config.
    pub config: Descriptor,
    /// The bytes of that.
    pub config_bytes: Vec<u8>,
}

/// The manifest with statements about an image, whose own manifest `subject` describes.
///
/// # Errors
/// [`ManifestError::Write`], which takes a failure of the serialiser.
pub fn attestation_manifest(
    statements: &[Statement<'_>],
    subject: &Descriptor,
    form: AttestationForm,
) -> Result<AttestationManifest, ManifestError> {
    let layers: Vec<_> = statements.iter().map(said).collect();
    let (media_type, config_type, config_bytes) = match form {
        AttestationForm::Artifact => (OCI_MANIFEST, EMPTY_TYPE, EMPTY_CONFIG.to_vec()),
        AttestationForm::Image(types) => (types.manifest(), types.config(), config_of(statements)?),
    };
    let digest = Digest::of(&config_bytes).to_oci();
    let config = Descriptor::new(config_type.into(), config_bytes.len() as u64, digest);
    let is_artifact = form == AttestationForm::Artifact;
    let written = WrittenAttestations {
        schema_version: 2,
        media_type,
        artifact_type: is_artifact.then_some(ARTIFACT_TYPE),
        config: WrittenConfig {
            media_type: config_type,
            digest: config.digest().to_string(),
            size: config_bytes.len(),
            data: is_artifact.then_some("e30="), // those bytes in base 64
        },
        layers,
        subject: is_artifact.then(|| WrittenDescriptor::new(subject, BTreeMap::new(), None)),
    };
    Ok(AttestationManifest {
        media_type,
        bytes: json::indented(&written).map_err(ManifestError::Write)?,
        config,
        config_bytes,
    })
}

fn said(statement: &Statement<'_>) -> WrittenDescriptor {
    let kind = statement.predicate_type.to_owned();
    let said = (PREDICATE_TYPE.to_owned(), kind);
    WrittenDescriptor::new(&statement_blob(*statement), [said].into(), None)
}

/// The config of an image whose layers are statements.
fn config_of(statements: &[Statement<'_>]) -> Result<Vec<u8>, ManifestError> {
    #[derive(Serialize)]
    struct Config {
        architecture: &'static str,
        os: &'static str,
        config: BTreeMap<String, String>,
        rootfs: RootFs,
    }
    #[derive(Serialize)]
    struct RootFs {
        r#type: &'static str,
        diff_ids: Vec<String>,
    }
    let diff_id = |statement: &Statement<'_>| Digest::of(statement.bytes).to_string();
    let rootfs = RootFs {
        r#type: "layers",
        diff_ids: statements.iter().map(diff_id).collect(),
    };
    let config = Config {
        architecture: "unknown",
        os: "unknown",
        config: BTreeMap::new(),
        rootfs,
    };
    json::compact(&config).map_err(ManifestError::Write)
}

/// What an index says of a manifest with statements about the image that `subject` describes.
#[must_use]
pub fn indexed_attestation(
    manifest: &AttestationManifest,
    subject: &Descriptor,
) -> IndexedManifest {
    let digest = Digest::of(&manifest.bytes).to_oci();
    let annotations = [
        (REFERENCE_DIGEST, subject.digest().to_string()),
        (REFERENCE_TYPE, "attestation-manifest".to_owned()),
    ];
    let size = manifest.bytes.len() as u64;
    IndexedManifest {
        descriptor: Descriptor::new(manifest.media_type.into(), size, digest),
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
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'static str>,
    config: WrittenConfig,
    layers: Vec<WrittenDescriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<WrittenDescriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenConfig {
    media_type: &'static str,
    digest: String,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'static str>,
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
        let bytes = attestation_manifest(&[statement], &subject, AttestationForm::Artifact)
            .unwrap()
            .bytes;
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
