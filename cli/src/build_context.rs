//! `--build-context NAME=VALUE`: what a name in the Dockerfile stands for instead (R-CTX-1).

use std::path::{Path, PathBuf};
use std::str::FromStr;

use kiln_executor::LONE_FILE;
use kiln_executor::images::LayoutImage;
use kiln_image::{Digest, Reference};
use kiln_planner::{ContextName, GitUrl, HttpSource, HttpUrl, NamedContext, NamedContexts};

use crate::address::{Address, in_words};

/// One flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BuildContext {
    pub(crate) name: ContextName,
    pub(crate) value: Value,
}

/// What stands behind a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A folder of this machine.
    Folder(PathBuf),
    /// An image of the store or a registry.
    Image(Reference),
    /// `docker-image://scratch`
    Empty,
    /// An image of a layout on this machine.
    Layout(LayoutImage),
    /// A repository.
    Git(Box<GitUrl>),
    /// A file to download.
    Http(Box<HttpUrl>),
}

impl FromStr for BuildContext {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or("there is no `=` between the name and what it stands for")?;
        let name = name.parse().map_err(|error| in_words(&error))?;
        Ok(Self {
            name,
            value: value.parse()?,
        })
    }
}

impl FromStr for Value {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(image) = text.strip_prefix("docker-image://") {
            return match image {
                "scratch" => Ok(Self::Empty),
                name => name
                    .parse()
                    .map(Self::Image)
                    .map_err(|error| in_words(&error)),
            };
        }
        if let Some(layout) = text.strip_prefix("oci-layout://") {
            return layout_image(layout).map(Self::Layout);
        }
        if text.starts_with("target:") {
            return Err("only a bake file has targets to name".to_owned());
        }
        match Address::parse(text)? {
            Some(Address::Git(url)) => return Ok(Self::Git(url)),
            Some(Address::Http(url)) => return Ok(Self::Http(url)),
            None => {}
        }
        match text {
            "" => Err("there is nothing after the `=`".to_owned()),
            path => Ok(Self::Folder(Path::new(path).to_owned())),
        }
    }
}

/// `PATH[:TAG][@DIGEST]`
fn layout_image(text: &str) -> Result<LayoutImage, String> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let digest = digest.map(str::parse::<Digest>).transpose();
    let digest = digest.map_err(|error| in_words(&error))?;
    let (path, tag) = rest.split_once(':').unwrap_or((rest, "latest"));
    match path {
        "" => Err("there is no path after `oci-layout://`".to_owned()),
        path => Ok(LayoutImage {
            path: Path::new(path).to_owned(),
            tag: tag.to_owned(),
            digest,
        }),
    }
}

/// What the planner is to know of the flags.
pub(crate) fn kinds(flags: &[BuildContext]) -> NamedContexts {
    let kind = |value: &Value| match value {
        Value::Folder(_) => NamedContext::Files,
        Value::Image(reference) => NamedContext::Image(reference.clone()),
        Value::Empty => NamedContext::Empty,
        Value::Layout(_) => NamedContext::Layout,
        Value::Git(url) => NamedContext::Git(url.source()),
        Value::Http(url) => NamedContext::Http(HttpSource {
            url: (**url).clone(),
            checksum: None,
            name: LONE_FILE.to_owned(),
        }),
    };
    flags
        .iter()
        .map(|flag| (flag.name.clone(), kind(&flag.value)))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn value(text: &str) -> Value {
        format!("x={text}").parse::<BuildContext>().unwrap().value
    }

    #[test]
    fn values_of_all_kinds() {
        // R-CTX-1, R-CTX-7
        assert_eq!(value("../d=e"), Value::Folder("../d=e".into()));
        assert_eq!(
            value("docker-image://alpine"),
            Value::Image("alpine:latest".parse().unwrap())
        );
        assert_eq!(value("docker-image://scratch"), Value::Empty);
        assert!(matches!(value("https://h/r.git#v1:d"), Value::Git(_)));
        assert!(matches!(value("git@h:r"), Value::Git(_)));
        assert!(matches!(value("https://h/x.tar"), Value::Http(_)));
        let layout = |path: &str, tag: &str, digest: Option<Digest>| {
            Value::Layout(LayoutImage {
                path: path.into(),
                tag: tag.to_owned(),
                digest,
            })
        };
        let digest = Digest::of(b"");
        assert_eq!(value("oci-layout://p/q"), layout("p/q", "latest", None));
        assert_eq!(value("oci-layout:///p:v1"), layout("/p", "v1", None));
        assert_eq!(
            value(&format!("oci-layout://p@{digest}")),
            layout("p", "latest", Some(digest))
        );
        assert_eq!(
            value(&format!("oci-layout://p:v@{digest}")),
            layout("p", "v", Some(digest))
        );
    }

    #[test]
    fn names_are_normalised() {
        // R-CTX-2
        let name = |text: &str| text.parse::<BuildContext>().unwrap().name.to_string();
        assert_eq!(name("docker.io/library/alpine:latest=d"), "alpine");
        assert_eq!(name("alpine:3=d"), "alpine:3");
        assert_eq!(name("a::linux/arm64=d"), "a::linux/arm64");
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in [
            "x",
            "x=",
            "=d",
            "Upper=d",
            "x=docker-image://",
            "x=docker-image://UPPER",
            "x=oci-layout://",
            "x=oci-layout://p@sha256:zz",
            "x=target:base",
        ] {
            assert!(text.parse::<BuildContext>().is_err(), "{text}");
        }
    }
}
