//! Registries that don't know of referrers: a manifest with a `subject` is listed in an index under a tag made of the subject's
//! digest, as the distribution specification asks of clients ("Referrers Tag Schema").

use kiln_image::media_type::{self, is_index};
use kiln_image::{Digest, Reference};
use serde_json::{Map, Value, json};

use crate::attempt::{Act, Attempt};
use crate::error::RegistryError;
use crate::session::{Session, protocol};
use crate::{pull, push};

/// Lists a manifest that was pushed to the repository of `image`, if it has a subject and is not listed.
pub(crate) fn note(
    session: &Session,
    image: &Reference,
    media_type: &str,
    bytes: &[u8],
) -> Result<(), RegistryError> {
    let Ok(manifest) = serde_json::from_slice::<Value>(bytes) else {
        return Ok(());
    };
    let subject = manifest.pointer("/subject/digest").and_then(Value::as_str);
    let Some((subject, tag)) = subject.and_then(|digest| Some((digest, tag_of(digest)?))) else {
        return Ok(());
    };
    let list = image
        .with_tag(&tag)
        .expect("a digest with a dash in place of its colon is a tag");
    let at = Attempt::new(Act::Resolve, &list);
    let registry = session.to_push(&at, &list)?;
    let mut index = match pull::manifest_from(session, &at, &registry, &list) {
        Ok(found) if is_index(found.descriptor.media_type().as_ref()) => {
            serde_json::from_slice(&found.bytes).unwrap_or(Value::Null)
        }
        Ok(_) => Value::Null,
        Err(RegistryError::NotFound { .. }) => json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [],
        }),
        Err(error) => return Err(error),
    };
    let Some(listed) = index.get_mut("manifests").and_then(Value::as_array_mut) else {
        let problem = format!("the tag `{tag}` is not the list of what refers to {subject}");
        return Err(protocol(&at, at.registry(), problem));
    };
    let digest = Digest::of(bytes).to_string();
    if listed
        .iter()
        .any(|entry| entry["digest"] == digest.as_str())
    {
        return Ok(());
    }
    listed.push(descriptor(&manifest, media_type, &digest, bytes.len()));
    let bytes = index.to_string().into_bytes();
    push::manifest(session, &list, media_type::OCI_INDEX, &bytes).map(drop)
}

/// `sha256:abc…` as a tag.
fn tag_of(digest: &str) -> Option<String> {
    let digest: Digest = digest.parse().ok()?;
    Some(digest.to_string().replace(':', "-"))
}

fn descriptor(manifest: &Value, media_type: &str, digest: &str, size: usize) -> Value {
    let mut entry = Map::new();
    entry.insert("mediaType".to_owned(), media_type.into());
    entry.insert("digest".to_owned(), digest.into());
    entry.insert("size".to_owned(), size.into());
    let artifact_type = manifest
        .get("artifactType")
        .or_else(|| manifest.pointer("/config/mediaType"));
    let named = [
        ("artifactType", artifact_type),
        ("annotations", manifest.get("annotations")),
    ];
    for (name, value) in named {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            entry.insert(name.to_owned(), value.clone());
        }
    }
    Value::Object(entry)
}
