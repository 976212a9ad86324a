//! Names of images, normalised as every registry client does (R-FROM-7).
//!
//! ```text
//! reference  := name [":" tag] ["@" digest]
//! name       := [registry "/"] component ("/" component)*
//! registry   := host [":" port]          host: labels of letters, digits, "-"; or an IPv6 address in brackets
//! component  := word (("." | "_" | "__" | "-"+) word)*       word := [a-z0-9]+
//! tag        := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Digest, DigestError};

/// The registry of names that have none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A complete name of an image: registry, repository, and a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not the name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It breaks the grammar.
    #[error("`{text}` is not an image reference: invalid reference format")]
    Format {
        /// The text as given.
        text: String,
    },
    /// A repository with upper-case letters (R-FROM-5).
    #[error("`{text}` is not an image reference: repository name ({repository}) must be lowercase")]
    Uppercase {
        /// The text as given.
        text: String,
        /// The repository with its namespace.
        repository: String,
    },
    /// Registry and repository are too long together.
    #[error("`{text}` is not an image reference: its name is longer than {MAX_NAME} characters")]
    TooLong {
        /// The text as given.
        text: String,
    },
    /// 64 hex digits alone, which people take for an image id.
    #[error("`{text}` is not an image reference: it looks like an image id")]
    LooksLikeId {
        /// The text as given.
        text: String,
    },
    /// The digest after `@` is none.
    #[error("`{text}` is not an image reference: {problem}")]
    Digest {
        /// The text as given.
        text: String,
        /// What is wrong with the digest.
        problem: DigestError,
    },
}

impl Reference {
    /// The registry's host, with its port if one was given: `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry: `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` only if there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the name has one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Registry and repository: `docker.io/library/alpine`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The short form that people write: `alpine:3`.
    pub fn familiar(&self) -> String {
        let name = match self.registry.as_str() {
            DEFAULT_REGISTRY => match self.repository.strip_prefix(DEFAULT_NAMESPACE) {
                Some(official) if !official.contains('/') => official.to_owned(),
                _ => self.repository.clone(),
            },
            _ => self.name(),
        };
        name + &self.suffix()
    }

    /// The same image by this digest, its tag kept.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// What has this digest in the same repository, without a tag.
    #[must_use]
    pub fn by_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Another tag of the same repository, without a digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Format {
                text: format!("{}:{tag}", self.name()),
            });
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        let digest = self.digest.iter().map(|digest| format!("@{digest}"));
        tag.chain(digest).collect()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let format = || ReferenceError::Format {
            text: text.to_owned(),
        };
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => (rest, Some(parse_digest(text, digest)?)),
        };
        let (name, tag) = split_tag(rest);
        if !tag.is_none_or(is_tag) {
            return Err(format());
        }
        if digest.is_none() && tag.is_none() && Digest::from_hex(name).is_ok() {
            return Err(ReferenceError::LooksLikeId {
                text: text.to_owned(),
            });
        }
        let (registry, repository) = split_registry(name);
        if !is_registry(&registry) {
            return Err(format());
        }
        if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase {
                text: text.to_owned(),
                repository,
            });
        }
        if !repository.split('/').all(is_component) {
            return Err(format());
        }
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(ReferenceError::TooLong {
                text: text.to_owned(),
            });
        }
        let default_tag = digest.is_none().then_some(DEFAULT_TAG);
        Ok(Self {
            registry,
            repository,
            tag: tag.or(default_tag).map(str::to_owned),
            digest,
        })
    }
}

fn parse_digest(text: &str, digest: &str) -> Result<Digest, ReferenceError> {
    digest.parse().map_err(|problem| ReferenceError::Digest {
        text: text.to_owned(),
        problem,
    })
}

/// The tag is behind the last colon, unless that colon stands before a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// Registry and repository, defaults filled in.
fn split_registry(name: &str) -> (String, String) {
    let is_host = |first: &str| {
        first.contains(['.', ':'])
            || first == "localhost"
            || first.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    if !matches!(registry, DEFAULT_REGISTRY | "index.docker.io") {
        return (registry.to_owned(), repository.to_owned());
    }
    let namespace = if repository.contains('/') {
        ""
    } else {
        DEFAULT_NAMESPACE
    };
    (
        DEFAULT_REGISTRY.to_owned(),
        format!("{namespace}{repository}"),
    )
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let port_fits =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host_fits = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(is_host_label),
    };
    port_fits && host_fits
}

fn is_host_label(label: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(inside)
}

fn is_component(component: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let separators = bytes.split(is_word).filter(|run| !run.is_empty());
    let mut fits = separators
        .map(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-'));
    let ends_fit = bytes.first().is_some_and(is_word) && bytes.last().is_some_and(is_word);
    ends_fit && fits.all(|fits| fits)
}

fn is_tag(tag: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !tag.is_empty()
        && tag.len() <= MAX_TAG
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(inside)
}

/// The full form: `docker.io/library/alpine:3`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_normalised() {
        // R-FROM-6, R-FROM-7: written | full | familiar
        let cases = [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("0", "docker.io/library/0:latest", "0:latest"),
            (
                "alpine:3.20",
                "docker.io/library/alpine:3.20",
                "alpine:3.20",
            ),
            (
                "docker.io/alpine",
                "docker.io/library/alpine:latest",
                "alpine:latest",
            ),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
            (
                "library/a/b",
                "docker.io/library/a/b:latest",
                "library/a/b:latest",
            ),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            (
                "localhost/app",
                "localhost/app:latest",
                "localhost/app:latest",
            ),
            (
                "localhost:5000/app:1",
                "localhost:5000/app:1",
                "localhost:5000/app:1",
            ),
            (
                "host:5000/a/b/c",
                "host:5000/a/b/c:latest",
                "host:5000/a/b/c:latest",
            ),
            ("quay.io/a", "quay.io/a:latest", "quay.io/a:latest"),
            ("UPPER/x", "UPPER/x:latest", "UPPER/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            (
                "a_b/c__d/e-f--g.h",
                "docker.io/a_b/c__d/e-f--g.h:latest",
                "a_b/c__d/e-f--g.h:latest",
            ),
        ];
        for (written, full, familiar) in cases {
            let reference: Reference = written.parse().unwrap();
            assert_eq!(
                (
                    reference.to_string().as_str(),
                    reference.familiar().as_str()
                ),
                (full, familiar),
                "{written}"
            );
            assert_eq!(full.parse::<Reference>().unwrap(), reference, "{written}");
        }
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let reference: Reference = format!("alpine@{DIGEST}").parse().unwrap();
        assert_eq!(reference.tag(), None);
        assert_eq!(reference.digest().unwrap().to_string(), DIGEST);
        let both: Reference = format!("alpine:3@{DIGEST}").parse().unwrap();
        assert_eq!(
            both.to_string(),
            format!("docker.io/library/alpine:3@{DIGEST}")
        );
        assert_eq!(
            both.with_tag("4").unwrap().to_string(),
            "docker.io/library/alpine:4"
        );
    }

    #[test]
    fn refusals() {
        let parse = |text: &str| text.parse::<Reference>().unwrap_err();
        // R-FROM-5
        let message = parse("Builder").to_string();
        assert!(
            message.contains("repository name (library/Builder) must be lowercase"),
            "{message}"
        );
        for text in [
            "", ":3", "a:", "a:-b", "a//b", "/a", "a/", "a..b", "a___b", "-a", "a b", "host:x/a",
            "-h.x/a", "é", "a@b@c",
        ] {
            assert!(
                matches!(
                    parse(text),
                    ReferenceError::Format { .. } | ReferenceError::Digest { .. }
                ),
                "{text}"
            );
        }
        assert!(matches!(
            parse(&format!("a:{}", "t".repeat(129))),
            ReferenceError::Format { .. }
        ));
        assert!(matches!(
            parse(&"a".repeat(300)),
            ReferenceError::TooLong { .. }
        ));
        assert!(matches!(
            parse(&DIGEST[7..]),
            ReferenceError::LooksLikeId { .. }
        ));
        assert!(matches!(
            parse("a@sha256:12"),
            ReferenceError::Digest { .. }
        ));
        assert_eq!(
            parse("a@sha512:12").to_string(),
            "`a@sha512:12` is not an image reference: the digest `sha512:12` is not a sha256 digest, the only kind that kiln knows"
        );
    }
}
