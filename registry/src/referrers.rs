//! Registries that don't know of referrers: a manifest with a `subject` is listed in an index under a tag made of the subject's
//! digest, as the distribution specification asks of clients ("Referrers Tag Schema").

use kiln_image::media_type::{self, is_index};
use kiln_image::{Digest, Reference};
use serde_json::{Map, Value, json};

use crate::attempt::{Act, Attempt};
use crate::error::RegistryError;
use crate::session::Session;
use crate::trouble::protocol;
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
    let named = subject.and_then(|digest| {
        let tag = tag_of(digest)?;
        Some((digest, image.with_tag(&tag).ok()?, tag))
    });
    let Some((subject, list, tag)) = named else {
        return Ok(());
    };
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
    // A list that claims to be about something itself is listed nowhere: that could go on forever.
    push::put(session, &list, media_type::OCI_INDEX, &bytes).map(drop)
}

/// Longest parts of a digest that go into a tag, in characters.
const ALGORITHM_LENGTH: usize = 32;
const ENCODED_LENGTH: usize = 64;

/// A digest of any kind as a tag: `sha256:abc…` is `sha256-abc…`.
fn tag_of(digest: &str) -> Option<String> {
    let (algorithm, encoded) = digest.split_once(':')?;
    let part = |text: &str, length: usize| -> String {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let characters = text.chars().take(length);
        characters
            .map(|c| if allowed(c) { c } else { '-' })
            .collect()
    };
    Some(format!(
        "{}-{}",
        part(algorithm, ALGORITHM_LENGTH),
        part(encoded, ENCODED_LENGTH)
    ))
}

fn descriptor(manifest: &Value, media_type: &str, digest: &str, size: usize) -> Value {
    let mut entry = Map::new();
    entry.insert("mediaType".to_owned(), media_type.into());
    entry.insert("digest".to_owned(), digest.into());
    entry.insert("size".to_owned(), size.into());
    let is_said = |value: &&Value| value.as_str().is_some_and(|text| !text.is_empty());
    let artifact_type = manifest.get("artifactType").filter(is_said);
    let artifact_type = artifact_type.or_else(|| manifest.pointer("/config/mediaType"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_of_any_kind_becomes_a_tag_as_the_specification_has_it() {
        let a = |count| "a".repeat(count);
        for (digest, tag) in [
            (format!("sha256:{}", a(64)), format!("sha256-{}", a(64))),
            (format!("sha512:{}", a(128)), format!("sha512-{}", a(64))),
            (
                "test+algorithm+using+algorithm+separators+and+lots+of+characters+to+excercise+overall+truncation:\
                 alsoSome=InTheEncodedSectionToShowHyphenReplacementAndLotsAndLotsOfCharactersToExcerciseEncodedTruncation"
                    .to_owned(),
                "test-algorithm-using-algorithm-s-alsoSome-InTheEncodedSectionToShowHyphenReplacementAndLotsAndLot"
                    .to_owned(),
            ),
        ] {
            assert_eq!(tag_of(&digest).as_deref(), Some(&*tag), "{digest}");
        }
        assert_eq!(tag_of("no colon"), None);
    }

    #[test]
    fn what_a_manifest_is_comes_from_its_config_where_it_does_not_say() {
        let config = json!({ "mediaType": "application/x-config" });
        for (own, expected) in [
            (json!("application/x-own"), "application/x-own"),
            (json!(""), "application/x-config"),
            (Value::Null, "application/x-config"),
        ] {
            let manifest = json!({ "artifactType": own, "config": config });
            let entry = descriptor(&manifest, media_type::OCI_MANIFEST, "d", 1);
            assert_eq!(entry["artifactType"], expected);
        }
        let index = json!({ "artifactType": "", "manifests": [] });
        let entry = descriptor(&index, media_type::OCI_INDEX, "d", 1);
        assert_eq!(entry.get("artifactType"), None);
    }
}
