//! Image indexes, written: one name for the images of several platforms, and for what is said about them (R-MAN-6).

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::media_type::MediaTypes;
use crate::written::WrittenDescriptor;
use crate::{Descriptor, ManifestError, Platform, json};

/// One manifest of an index.
#[derive(Debug, Clone)]
pub struct IndexedManifest {
    /// Media type, digest and size.
    pub descriptor: Descriptor,
    /// What its image runs on; `unknown/unknown` for what is no image.
    pub platform: Option<Platform>,
    /// What the index says of it.
    pub annotations: BTreeMap<String, String>,
}

impl Serialize for IndexedManifest {
    /// As a descriptor.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        written(self).serialize(serializer)
    }
}

/// The bytes of an index with these manifests, in this order, indented as manifests are (R-MAN-3).
///
/// # Errors
/// [`ManifestError::Write`], which takes a failure of the serialiser.
pub fn image_index_json(
    manifests: &[IndexedManifest],
    media_types: MediaTypes,
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<u8>, ManifestError> {
    let written = WrittenIndex {
        schema_version: 2,
        media_type: media_types.index(),
        manifests: manifests.iter().map(written).collect(),
        annotations,
    };
    json::indented(&written).map_err(ManifestError::Write)
}

fn written(manifest: &IndexedManifest) -> WrittenDescriptor {
    WrittenDescriptor::new(
        &manifest.descriptor,
        manifest.annotations.clone(),
        manifest.platform.as_ref(),
    )
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenIndex<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<WrittenDescriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::manifest::{Manifest, parse_manifest};
    use crate::{Digest, media_type};

    #[test]
    fn an_index_is_written_as_the_reference_engine_does() {
        // R-MAN-3, R-MAN-6, R-MAN-8; the order of fields is that of Go's ocispec.
        let manifest = IndexedManifest {
            descriptor: Descriptor::new(media_type::OCI_MANIFEST.into(), 0, Digest::of(b"")),
            platform: Some("linux/arm/v7".parse().unwrap()),
            annotations: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        };
        let about = BTreeMap::from([("a".to_owned(), "<".to_owned())]);
        let bytes = image_index_json(&[manifest], MediaTypes::Oci, &about).unwrap();
        let expected = r#"{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.index.v1+json",
  "manifests": [
    {
      "mediaType": "application/vnd.oci.image.manifest.v1+json",
      "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
      "size": 0,
      "annotations": {
        "k": "v"
      },
      "platform": {
        "architecture": "arm",
        "os": "linux",
        "variant": "v7"
      }
    }
  ],
  "annotations": {
    "a": "\u003c"
  }
}"#;
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
        let read = parse_manifest(&bytes, media_type::OCI_INDEX).unwrap();
        let Manifest::Index(read) = read else {
            panic!()
        };
        let platform = read.manifests()[0].platform().as_ref().map(Platform::from);
        assert_eq!(platform, "linux/arm/v7".parse().ok());
    }
}
