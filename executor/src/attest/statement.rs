//! The in-toto statement around a predicate (R-ATT-3).

use kiln_image::{Digest, Platform, Reference};
use serde_json::{Value, json};

use super::Attestation;

/// The bytes of a statement about an image with this manifest, by its names.
pub(crate) fn statement(
    attestation: &Attestation,
    names: &[Reference],
    platform: &Platform,
    manifest: Digest,
) -> Vec<u8> {
    let subject = |name: &Reference| {
        json!({
            "name": image_purl(name, platform),
            "digest": {"sha256": manifest.hex()},
        })
    };
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": attestation.predicate_type,
        "subject": names.iter().map(subject).collect::<Vec<Value>>(),
        "predicate": attestation.predicate,
    });
    serde_json::to_vec(&statement).expect("a JSON value can be written")
}

/// The bytes of a statement about files, each with its path and the SHA-256 of its content, indented for people (R-ATT-6).
pub(crate) fn files_statement(attestation: &Attestation, files: &[(String, String)]) -> Vec<u8> {
    let subject =
        |(path, digest): &(String, String)| json!({"name": path, "digest": {"sha256": digest}});
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": attestation.predicate_type,
        "subject": files.iter().map(subject).collect::<Vec<Value>>(),
        "predicate": attestation.predicate,
    });
    serde_json::to_vec_pretty(&statement).expect("a JSON value can be written")
}

/// What an image is called as a package: `pkg:docker/me/app@1?platform=linux%2Famd64`.
pub(super) fn image_purl(name: &Reference, platform: &Platform) -> String {
    let familiar = name.familiar();
    // Neither the digest nor the tag: the last part may have one behind a colon.
    let bare = familiar.split('@').next().unwrap_or_default();
    let (path, tag) = match (name.tag(), bare.rfind(':')) {
        (Some(tag), Some(colon)) if bare[colon..].len() == tag.len() + 1 => {
            (&bare[..colon], Some(tag))
        }
        (tag, _) => (bare, tag),
    };
    let mut purl = "pkg:docker/".to_owned();
    purl += &path.split('/').map(escaped).collect::<Vec<_>>().join("/");
    let tag = tag.or(name.digest().is_none().then_some("latest"));
    if let Some(tag) = tag {
        purl += &format!("@{}", escaped(tag));
    }
    let digest = name.digest().map(|digest| format!("digest={digest}"));
    let platform = format!("platform={}", escaped(&platform.to_string()));
    let qualifiers: Vec<String> = digest.into_iter().chain([platform]).collect();
    format!("{purl}?{}", qualifiers.join("&"))
}

/// A part of a package's address; what would mean something else there is escaped.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                escaped.push(byte.into());
            }
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn images_are_packages() {
        // As the reference builder calls them.
        let platform = Platform::new("linux", "amd64", None);
        let digest = Digest::of(b"");
        let by_digest = format!("busybox@{digest}");
        let of_digest = format!("pkg:docker/busybox?digest={digest}&platform=linux%2Famd64");
        let cases = [
            (
                "busybox",
                "pkg:docker/busybox@latest?platform=linux%2Famd64",
            ),
            ("me/app:1.0", "pkg:docker/me/app@1.0?platform=linux%2Famd64"),
            (
                "localhost:5000/app",
                "pkg:docker/localhost:5000/app@latest?platform=linux%2Famd64",
            ),
            (&by_digest, &of_digest),
        ];
        for (name, expected) in cases {
            let name: Reference = name.parse().unwrap();
            assert_eq!(image_purl(&name, &platform), expected);
        }
    }

    #[test]
    fn a_statement_is_about_the_manifest() {
        // R-ATT-3; the order of fields is that of the reference builder.
        let attestation = Attestation {
            predicate_type: "https://slsa.dev/provenance/v1",
            inline_only: false,
            predicate: json!({"a": 1}),
        };
        let name: Reference = "att".parse().unwrap();
        let platform = Platform::new("linux", "arm", Some("v7"));
        let digest = Digest::of(b"");
        let bytes = statement(&attestation, &[name], &platform, digest);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            format!(
                r#"{{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1","subject":[{{"name":"pkg:docker/att@latest?platform=linux%2Farm%2Fv7","digest":{{"sha256":"{}"}}}}],"predicate":{{"a":1}}}}"#,
                digest.hex()
            )
        );
    }
}
