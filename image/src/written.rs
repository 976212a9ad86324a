//! Descriptors as the reference engine writes them: fields in Go's order, annotations sorted. `oci_spec`'s own have
//! theirs in no order, and bytes that change have digests that do.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Descriptor, Platform};

/// What a manifest or index says of a blob.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WrittenDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    urls: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<WrittenPlatform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
}

#[derive(Debug, Serialize)]
struct WrittenPlatform {
    architecture: String,
    os: String,
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    os_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
}

impl From<&Descriptor> for WrittenDescriptor {
    fn from(descriptor: &Descriptor) -> Self {
        let annotations = descriptor.annotations().iter().flatten();
        Self {
            media_type: descriptor.media_type().to_string(),
            digest: descriptor.digest().to_string(),
            size: descriptor.size(),
            urls: descriptor.urls().clone(),
            annotations: annotations
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            platform: None,
            artifact_type: descriptor.artifact_type().as_ref().map(ToString::to_string),
        }
    }
}

impl WrittenDescriptor {
    /// A descriptor with these annotations besides its own, which they outrank, and a platform.
    pub(crate) fn new(
        descriptor: &Descriptor,
        annotations: BTreeMap<String, String>,
        platform: Option<&Platform>,
    ) -> Self {
        let mut written = Self::from(descriptor);
        written.annotations.extend(annotations);
        written.platform = platform.map(WrittenPlatform::from);
        written
    }
}

impl From<&Platform> for WrittenPlatform {
    fn from(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: platform.os_version.clone(),
            variant: platform.variant.clone(),
        }
    }
}
