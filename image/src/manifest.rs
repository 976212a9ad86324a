//! Image manifests and indexes: read with `oci_spec`'s types, written with the reference engine's bytes (R-MAN-3).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::media_type::{self, MediaTypes};
use crate::written::WrittenDescriptor;
use crate::{Descriptor, ImageIndex, ImageManifest, json};

/// What a registry or a layout may have under an image's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// One image.
    Image(Box<ImageManifest>),
    /// Images for several platforms.
    Index(Box<ImageIndex>),
}

/// Why bytes are not a manifest, or can't become one.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not of the shape its media type promises.
    #[error("could not read a manifest of type `{media_type}`")]
    Read {
        /// The media type it was read as.
        media_type: String,
        /// What the reader says.
        #[source]
        source: serde_json::Error,
    },
    /// A type kiln doesn't know.
    #[error("manifests of type `{media_type}` are not supported")]
    Unsupported {
        /// The media type.
        media_type: String,
    },
    /// It could be taken for a manifest and for an index, or says another type than it was sent with.
    #[error("a manifest of type `{media_type}` has parts of another type")]
    Ambiguous {
        /// The media type.
        media_type: String,
    },
    /// Could not be written.
    #[error("could not write a manifest")]
    Write(#[source] serde_json::Error),
}

/// The manifest of an image, for its digest: `config` and `layers` as given, each as media type, digest, size.
pub fn manifest_json(
    config: &Descriptor,
    layers: &[Descriptor],
    media_types: MediaTypes,
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<u8>, ManifestError> {
    let written = WrittenManifest {
        schema_version: 2,
        media_type: media_types.manifest(),
        config: config.into(),
        layers: layers.iter().map(WrittenDescriptor::from).collect(),
        annotations,
    };
    json::indented(&written).map_err(ManifestError::Write)
}

/// Reads a manifest or index. `media_type` is what it was sent or stored with; when that is empty the content decides.
pub fn parse_manifest(bytes: &[u8], media_type: &str) -> Result<Manifest, ManifestError> {
    let read = |source| ManifestError::Read {
        media_type: media_type.to_owned(),
        source,
    };
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(read)?;
    let named = value
        .get("mediaType")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    let has = |key| {
        value
            .get(key)
            .is_some_and(|part: &serde_json::Value| !part.is_null())
    };
    let given = if media_type.is_empty() {
        named
    } else {
        media_type
    };
    let is_index = match given {
        known if media_type::is_index(known) => true,
        known if media_type::is_manifest(known) => false,
        "" => has("manifests"),
        _ => {
            return Err(ManifestError::Unsupported {
                media_type: given.to_owned(),
            });
        }
    };
    let other_family =
        (media_type::is_index(named) && !is_index) || (media_type::is_manifest(named) && is_index);
    let other_parts = if is_index {
        has("layers") || has("config")
    } else {
        has("manifests")
    };
    if other_family || other_parts {
        return Err(ManifestError::Ambiguous {
            media_type: given.to_owned(),
        });
    }
    if is_index {
        serde_json::from_slice(bytes)
            .map(Manifest::Index)
            .map_err(read)
    } else {
        serde_json::from_slice(bytes)
            .map(Manifest::Image)
            .map_err(read)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenManifest<'a> {
    schema_version: u32,
    media_type: &'static str,
    config: WrittenDescriptor,
    layers: Vec<WrittenDescriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Digest;

    fn descriptor(media_type: &str, content: &[u8]) -> Descriptor {
        Descriptor::new(media_type.into(), content.len() as u64, Digest::of(content))
    }

    #[test]
    fn a_manifest_is_indented_and_ordered() {
        // R-MAN-1, R-MAN-3
        let config = descriptor(media_type::OCI_CONFIG, b"{}");
        let layer = descriptor(media_type::OCI_LAYER_GZIP, b"");
        let annotations = BTreeMap::from([
            ("b".to_owned(), "<".to_owned()),
            ("a".to_owned(), String::new()),
        ]);
        let bytes = manifest_json(&config, &[layer], MediaTypes::Oci, &annotations).unwrap();
        let expected = r#"{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "config": {
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": 2
  },
  "layers": [
    {
      "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
      "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      "size": 0
    }
  ],
  "annotations": {
    "a": "",
    "b": "\u003c"
  }
}"#;
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        let Manifest::Image(read) = parse_manifest(&bytes, media_type::OCI_MANIFEST).unwrap()
        else {
            panic!()
        };
        assert_eq!(read.config(), &config);
        assert!(matches!(parse_manifest(&bytes, ""), Ok(Manifest::Image(_))));
    }

    #[test]
    fn docker_manifests_are_read_too() {
        let config = descriptor(media_type::DOCKER_CONFIG, b"{}");
        let layer = descriptor(media_type::DOCKER_LAYER_GZIP, b"");
        let bytes = manifest_json(
            &config,
            std::slice::from_ref(&layer),
            MediaTypes::Docker,
            &BTreeMap::new(),
        )
        .unwrap();
        let Manifest::Image(read) = parse_manifest(&bytes, media_type::DOCKER_MANIFEST).unwrap()
        else {
            panic!()
        };
        assert_eq!(read.layers(), &[layer]);
        assert_eq!(
            read.layers()[0].media_type().to_string(),
            media_type::DOCKER_LAYER_GZIP
        );
    }

    #[test]
    fn what_can_be_taken_two_ways_is_refused() {
        let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        assert!(matches!(
            parse_manifest(index, media_type::OCI_INDEX),
            Ok(Manifest::Index(_))
        ));
        assert!(matches!(parse_manifest(index, ""), Ok(Manifest::Index(_))));
        assert!(matches!(
            parse_manifest(index, media_type::OCI_MANIFEST),
            Err(ManifestError::Ambiguous { .. })
        ));
        let both = br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        assert!(matches!(
            parse_manifest(both, media_type::OCI_INDEX),
            Err(ManifestError::Ambiguous { .. })
        ));
        let old = br#"{"schemaVersion":1,"fsLayers":[]}"#;
        let refused = parse_manifest(old, media_type::DOCKER_SCHEMA_1_SIGNED);
        assert!(matches!(refused, Err(ManifestError::Unsupported { .. })));
    }
}
