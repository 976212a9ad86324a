//! Named contexts: trees and images that take the place of names in a Dockerfile (R-CTX-1..6).
//!
//! The planner knows only which names there are and what kind of thing stands behind each; reading it is the caller's
//! matter.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use kiln_image::{Platform, PlatformError, Reference, ReferenceError};

use crate::{GitSource, HttpSource, SourceOp};

/// The name of a context as it is looked up: short, without `:latest`, so that `alpine` and `docker.io/library/alpine:latest`
/// are one name and `alpine:3` is another (R-CTX-2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextName {
    name: String,
    /// The only platform it is for, as text; `None` for any.
    platform: Option<String>,
}

/// What stands behind a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// Files of this machine, without an image config.
    Files,
    /// The files of a repository.
    Git(GitSource),
    /// A download, which is the only file there and not unpacked.
    Http(HttpSource),
    /// An image by another name.
    Image(Reference),
    /// An image of a layout on this machine.
    Layout,
    /// The empty tree: `docker-image://scratch`.
    Empty,
}

/// All named contexts of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedContexts(BTreeMap<ContextName, NamedContext>);

/// Why a text is not the name of a context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextNameError {
    /// It could not be the name of an image either.
    #[error("invalid context name `{text}`")]
    Name {
        /// The name as given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: ReferenceError,
    },
    /// What follows `::` is no platform.
    #[error("invalid platform of the context `{text}`")]
    Platform {
        /// The name as given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: PlatformError,
    },
}

impl ContextName {
    /// The context as the reference of an image, for what is shown where images are.
    pub(crate) fn reference(&self) -> Reference {
        let reference = self.name.parse();
        reference.expect("a context's name is the short form of a reference")
    }

    /// Whether it can't be overridden: `scratch` is always empty (R-CTX-4).
    #[must_use]
    pub fn is_scratch(&self) -> bool {
        self.name == "scratch"
    }
}

impl FromStr for ContextName {
    type Err = ContextNameError;

    /// `NAME` or `NAME::OS/ARCH[/VARIANT]`.
    fn from_str(text: &str) -> Result<Self, ContextNameError> {
        let (name, platform) = match text.split_once("::") {
            Some((name, platform)) => (name, Some(platform)),
            None => (text, None),
        };
        let reference: Reference = name.parse().map_err(|source| ContextNameError::Name {
            text: text.to_owned(),
            source,
        })?;
        let platform = platform.map(str::parse::<Platform>).transpose();
        let platform = platform.map_err(|source| ContextNameError::Platform {
            text: text.to_owned(),
            source,
        })?;
        let familiar = reference.familiar();
        let short = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        Ok(ContextName {
            name: short.to_owned(),
            platform: platform.map(|platform| platform.to_string()),
        })
    }
}

impl fmt::Display for ContextName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.platform {
            Some(platform) => write!(f, "::{platform}"),
            None => Ok(()),
        }
    }
}

impl NamedContexts {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The context that a name in the Dockerfile stands for; one for this very platform comes first (R-CTX-1). `scratch`
    /// is nobody's, and what could not name an image names no context.
    pub(crate) fn find(
        &self,
        name: &str,
        platform: &Platform,
    ) -> Option<(&ContextName, &NamedContext)> {
        if self.is_empty() || name.eq_ignore_ascii_case("scratch") {
            return None;
        }
        let any: ContextName = name.parse().ok().filter(|_| !name.contains("::"))?;
        let exact = ContextName {
            platform: Some(platform.to_string()),
            ..any.clone()
        };
        self.0
            .get_key_value(&exact)
            .or_else(|| self.0.get_key_value(&any))
    }

    /// Where the files of a context come from, and what progress calls that.
    pub(crate) fn source(&self, name: &ContextName) -> (SourceOp, String) {
        match self.0.get(name) {
            Some(NamedContext::Git(git)) => (
                SourceOp::Git(git.clone()),
                format!("[context {name}] {git}"),
            ),
            Some(NamedContext::Http(http)) => (
                SourceOp::Http(http.clone()),
                format!("[context {name}] {}", http.url),
            ),
            _ => (
                SourceOp::Local {
                    name: Some(name.clone()),
                },
                format!("[context {name}] load from client"),
            ),
        }
    }

    /// The context that takes the place of a stage with this name (R-CTX-3). A stage may be called `context` (R-CTX-4).
    pub(crate) fn of_stage(
        &self,
        name: &str,
        platform: &Platform,
    ) -> Option<(&ContextName, &NamedContext)> {
        self.find(name, platform).filter(|_| name != "context")
    }
}

impl FromIterator<(ContextName, NamedContext)> for NamedContexts {
    /// Of several with one name the last counts.
    fn from_iter<I: IntoIterator<Item = (ContextName, NamedContext)>>(contexts: I) -> Self {
        NamedContexts(contexts.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn contexts(names: &[&str]) -> NamedContexts {
        let parsed = names
            .iter()
            .map(|name| name.parse::<ContextName>().unwrap());
        parsed.map(|name| (name, NamedContext::Files)).collect()
    }

    fn found(contexts: &NamedContexts, name: &str) -> Option<String> {
        let platform = "linux/arm64".parse().unwrap();
        let found = contexts.find(name, &platform)?;
        Some(found.0.to_string())
    }

    #[test]
    fn spellings_of_one_name_are_one_context() {
        // R-CTX-2
        let spellings = ["alpine", "alpine:latest", "docker.io/library/alpine"];
        for given in spellings {
            for wanted in spellings {
                let found = found(&contexts(&[given]), wanted);
                assert_eq!(found.as_deref(), Some("alpine"), "{given} {wanted}");
            }
            assert_eq!(found(&contexts(&[given]), "alpine:3"), None);
        }
        let three = contexts(&["docker.io/library/alpine:3"]);
        assert_eq!(found(&three, "alpine:3").as_deref(), Some("alpine:3"));
        assert_eq!(found(&three, "alpine"), None);
    }

    #[test]
    fn a_context_for_the_platform_comes_first() {
        // R-CTX-1
        let both = contexts(&["a", "a::linux/arm64"]);
        assert_eq!(found(&both, "a").as_deref(), Some("a::linux/arm64"));
        let other = contexts(&["a", "a::linux/amd64"]);
        assert_eq!(found(&other, "a").as_deref(), Some("a"));
    }

    #[test]
    fn scratch_is_nobodys() {
        // R-CTX-4
        let both = contexts(&["scratch", "context"]);
        assert_eq!(found(&both, "scratch"), None);
        let platform = "linux/arm64".parse().unwrap();
        assert!(both.of_stage("context", &platform).is_none());
        assert!("scratch".parse::<ContextName>().unwrap().is_scratch());
    }

    #[test]
    fn names_that_no_image_could_have_are_refused() {
        // R-CTX-2
        for text in ["", "Upper", "a b", "a::", "a::b/c/d/e/f", "-a"] {
            assert!(text.parse::<ContextName>().is_err(), "{text}");
        }
    }
}
