//! `--cache-from` and `--cache-to` as buildx writes them (R-CEXP-1 to R-CEXP-5).

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use kiln_executor::{CacheExport, CacheMode, CacheSource, CacheTarget};
use kiln_image::compress::Compression;
use kiln_image::{Digest, Reference, ReferenceError};

use kiln_registry::{Client, Options};

use crate::bucket_flag::BucketFlag;
use crate::config::Config;
use crate::failure::Failure;
use crate::output::{boolean, csv_fields};
use crate::session::Watched;

/// Where a cache is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CacheFrom {
    /// There; several for the old form `--cache-from a,b`.
    Sources(Vec<CacheSource>),
    /// In a bucket.
    Bucket(Box<BucketFlag>),
}

impl CacheFrom {
    /// With what the environment says.
    pub(crate) fn resolve_all(all: &[Self], config: &Config) -> Result<Vec<CacheSource>, Failure> {
        let mut sources = Vec::new();
        for from in all {
            match from {
                Self::Sources(known) => sources.extend(known.iter().cloned()),
                Self::Bucket(flag) => {
                    sources.push(CacheSource::Bucket(Box::new(flag.resolve(config)?)));
                }
            }
        }
        Ok(sources)
    }

    /// Begins to read caches.
    pub(crate) fn begin(sources: &[CacheSource], watched: &Watched<'_>, config: &Config) {
        // A build goes on without a cache that is hard to reach, or stops in the middle.
        let client = || {
            Client::new(Options {
                retries: 1,
                connect_timeout: Duration::from_secs(5),
                stall_timeout: Duration::from_secs(10),
                ..config.registry()
            })
        };
        watched.services.imports.begin(sources, client);
    }
}

/// Where a cache is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CacheTo {
    /// Into the config of the image.
    Inline,
    /// Somewhere else.
    Export(Export),
    /// Into a bucket; the target is not known yet.
    Bucket(Box<BucketFlag>, Conditions),
}

/// A cache to be put somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Export {
    /// What and where.
    pub(crate) export: CacheExport,
    /// Whether a failure is only told.
    pub(crate) ignore_error: bool,
}

/// What a flag says besides the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Conditions {
    mode: CacheMode,
    compression: Compression,
    mounts: bool,
    ignore_error: bool,
}

/// What one flag says, by key. Keys that nobody asks for are mistakes.
pub(crate) struct Attributes {
    kind: String,
    fields: Vec<(String, String)>,
}

impl FromStr for CacheFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(references) = bare(text)? {
            let sources = references.into_iter().map(CacheSource::Registry);
            return Ok(Self::Sources(sources.collect()));
        }
        let mut attributes = Attributes::read(text)?;
        let source = match attributes.kind.as_str() {
            "registry" => CacheSource::Registry(attributes.reference()?),
            "local" => CacheSource::Layout {
                path: attributes.needed("src")?.into(),
                tag: attributes.take("tag").unwrap_or_else(latest),
                digest: attributes.digest()?,
            },
            "s3" => {
                let flag = Box::new(BucketFlag::read(&mut attributes)?);
                // The same text may serve both flags.
                attributes.mode()?;
                attributes.flag("ignore-error")?;
                attributes.mounts_of_source()?;
                attributes.end()?;
                return Ok(Self::Bucket(flag));
            }
            "inline" => {
                return Err(
                    "type=inline is for `--cache-to`; it is read with type=registry".to_owned(),
                );
            }
            kind => return Err(unsupported(kind)),
        };
        attributes.mounts_of_source()?;
        attributes.end()?;
        Ok(Self::Sources(vec![source]))
    }
}

impl FromStr for CacheTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(references) = bare(text)? {
            let [reference] = <[Reference; 1]>::try_from(references)
                .map_err(|_| "one cache for each `--cache-to`".to_owned())?;
            let target = CacheTarget::Registry(reference);
            return Ok(Self::Export(Conditions::default().export(target)));
        }
        let mut attributes = Attributes::read(text)?;
        let target = match attributes.kind.as_str() {
            "inline" => {
                if attributes.mode()? == CacheMode::Max {
                    return Err("an image has its own layers only: `mode=max` needs type=registry or type=local".to_owned());
                }
                attributes.end()?;
                return Ok(Self::Inline);
            }
            "registry" => CacheTarget::Registry(attributes.reference()?),
            "local" => CacheTarget::Layout {
                path: PathBuf::from(attributes.needed("dest")?),
                tag: attributes.take("tag").unwrap_or_else(latest),
            },
            "s3" => {
                let flag = Box::new(BucketFlag::read(&mut attributes)?);
                let conditions = attributes.conditions()?;
                attributes.end()?;
                return Ok(Self::Bucket(flag, conditions));
            }
            kind => return Err(unsupported(kind)),
        };
        let conditions = attributes.conditions()?;
        attributes.only("image-manifest", true, "kiln's caches are image manifests")?;
        attributes.only("oci-mediatypes", true, "kiln's caches have OCI media types")?;
        attributes.end()?;
        Ok(Self::Export(conditions.export(target)))
    }
}

impl CacheTo {
    /// What is to be put somewhere else than into the image, with what the environment says.
    pub(crate) fn resolve_all(all: &[Self], config: &Config) -> Result<Vec<Export>, Failure> {
        let exports = all.iter().filter_map(|to| match to {
            Self::Inline => None,
            Self::Export(export) => Some(Ok(export.clone())),
            Self::Bucket(flag, conditions) => Some(
                flag.resolve(config)
                    .map(|cache| conditions.export(CacheTarget::Bucket(Box::new(cache)))),
            ),
        });
        exports.collect()
    }
}

impl Conditions {
    fn export(self, target: CacheTarget) -> Export {
        Export {
            export: CacheExport {
                target,
                mode: self.mode,
                compression: self.compression,
                mounts: self.mounts,
            },
            ignore_error: self.ignore_error,
        }
    }
}

/// The references of the short form `user/app:cache`, if it is one.
fn bare(text: &str) -> Result<Option<Vec<Reference>>, String> {
    let fields = csv_fields(text)?;
    if fields.iter().any(|field| field.contains('=')) {
        return Ok(None);
    }
    let references = fields.iter().map(|field| reference(field));
    references.collect::<Result<_, _>>().map(Some)
}

fn reference(text: &str) -> Result<Reference, String> {
    text.parse()
        .map_err(|error: ReferenceError| error.to_string())
}

/// Whether what was written has a secret in it, and isn't to be repeated.
pub(crate) fn has_secret(text: &str) -> bool {
    ["secret_access_key", "session_token"]
        .iter()
        .any(|name| text.to_ascii_lowercase().contains(name))
}

/// The mistake without the value that it was found in, if that has a secret.
pub(crate) fn without_secrets(mut mistake: clap::Error) -> clap::Error {
    let value = mistake.get(ContextKind::InvalidValue);
    if value.is_some_and(|value| has_secret(&value.to_string())) {
        let shown = ContextValue::String("type=s3,…".to_owned());
        mistake.insert(ContextKind::InvalidValue, shown);
    }
    mistake
}

fn latest() -> String {
    "latest".to_owned()
}

fn unsupported(kind: &str) -> String {
    match kind {
        "gha" | "azblob" => {
            format!(
                "kiln has no caches of type `{kind}`: use type=registry, type=s3, or type=local in a folder that the CI keeps"
            )
        }
        _ => format!("there is no type `{kind}`, only registry, local, s3 and inline"),
    }
}

impl Attributes {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut attributes = Self {
            kind: String::new(),
            fields: Vec::new(),
        };
        for field in csv_fields(text)? {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| match has_secret(text) {
                    true => "an attribute is not `key=value`".to_owned(),
                    false => format!("`{field}` is not `key=value`"),
                })?;
            let key = key.trim().to_ascii_lowercase();
            match key.as_str() {
                "type" => attributes.kind = value.to_owned(),
                _ => attributes.fields.push((key, value.to_owned())),
            }
        }
        match attributes.kind.is_empty() {
            true => Err("it has no `type=`".to_owned()),
            false => Ok(attributes),
        }
    }

    /// The last value of a key.
    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        let (taken, left) = std::mem::take(&mut self.fields)
            .into_iter()
            .partition(|(name, _)| name == key);
        self.fields = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().next_back().map(|(_, value)| value)
    }

    fn needed(&mut self, key: &str) -> Result<String, String> {
        self.take(key)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| format!("type={} needs `{key}=`", self.kind))
    }

    fn reference(&mut self) -> Result<Reference, String> {
        reference(&self.needed("ref")?)
    }

    fn digest(&mut self) -> Result<Option<Digest>, String> {
        let digest = self.take("digest").map(|text| {
            let parsed = text.parse();
            parsed.map_err(|_| format!("`{text}` is no digest"))
        });
        digest.transpose()
    }

    fn mode(&mut self) -> Result<CacheMode, String> {
        match self.take("mode").as_deref() {
            None | Some("min") => Ok(CacheMode::Min),
            Some("max") => Ok(CacheMode::Max),
            Some(mode) => Err(format!("the mode is min or max, not `{mode}`")),
        }
    }

    fn compression(&mut self) -> Result<Compression, String> {
        let level = self.take("compression-level");
        let level = level.map(|text| text.parse::<i32>());
        let level = level
            .transpose()
            .map_err(|_| "the compression level is a number".to_owned())?;
        let name = self
            .take("compression")
            .unwrap_or_else(|| "gzip".to_owned());
        Compression::parse(&name, level).map_err(|error| error.to_string())
    }

    fn conditions(&mut self) -> Result<Conditions, String> {
        self.only(
            "force-compression",
            false,
            "layers are sent as they were compressed first",
        )?;
        Ok(Conditions {
            mode: self.mode()?,
            compression: self.compression()?,
            mounts: self.flag("cache-mounts")?.unwrap_or(false),
            ignore_error: self.flag("ignore-error")?.unwrap_or(false),
        })
    }

    pub(crate) fn flag(&mut self, key: &str) -> Result<Option<bool>, String> {
        self.take(key).map(|value| boolean(&value)).transpose()
    }

    /// Mounts that aren't here begin with what a cache has.
    fn mounts_of_source(&mut self) -> Result<(), String> {
        self.only(
            "cache-mounts",
            true,
            "what a cache has for cache mounts is used",
        )
    }

    /// An attribute that can have but one value here.
    fn only(&mut self, key: &str, value: bool, why: &str) -> Result<(), String> {
        match self.flag(key)? {
            Some(given) if given != value => Err(format!("`{key}={given}` is not possible: {why}")),
            _ => Ok(()),
        }
    }

    /// No attribute is silently ignored.
    pub(crate) fn end(self) -> Result<(), String> {
        match self.fields.first() {
            None => Ok(()),
            Some((key, _)) => Err(format!("type={} has no attribute `{key}`", self.kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn sources_are_read_as_buildx_reads_them() {
        // R-CEXP-3, R-CEXP-4
        let registry = |name: &str| CacheSource::Registry(name.parse().unwrap());
        let layout = |tag: &str| CacheSource::Layout {
            path: "d".into(),
            tag: tag.to_owned(),
            digest: None,
        };
        let cases = [
            ("user/app:cache", vec![registry("user/app:cache")]),
            ("a,b", vec![registry("a"), registry("b")]),
            ("type=registry,ref=h:5000/a:c", vec![registry("h:5000/a:c")]),
            ("type=local,src=d", vec![layout("latest")]),
            ("type=local,src=d,tag=x", vec![layout("x")]),
        ];
        for (text, sources) in cases {
            assert_eq!(text.parse(), Ok(CacheFrom::Sources(sources)), "{text}");
        }
    }

    #[test]
    fn targets_are_read_as_buildx_reads_them() {
        let text = "type=registry,ref=a:c,mode=max,compression=zstd,compression-level=9,image-manifest=true,oci-mediatypes=true,ignore-error=true,cache-mounts=true";
        let export = CacheExport {
            target: CacheTarget::Registry("a:c".parse().unwrap()),
            mode: CacheMode::Max,
            compression: Compression::Zstd { level: 9 },
            mounts: true,
        };
        let expected = CacheTo::Export(Export {
            export,
            ignore_error: true,
        });
        assert_eq!(text.parse(), Ok(expected));
        assert_eq!("type=inline".parse(), Ok(CacheTo::Inline));
        let CacheTo::Export(Export { export, .. }) = "a:c".parse().unwrap() else {
            panic!("not exported")
        };
        assert_eq!(export.mode, CacheMode::Min);
    }

    #[test]
    fn what_cannot_be_honoured_is_an_error_that_says_so() {
        // R-CEXP-5
        let both = [
            "type=gha",
            "type=s3,bucket=b,region=r,colour=red",
            "type=azblob",
            "type=x",
            "ref=a",
            "type=registry",
            "type=registry,ref=a,colour=red",
            "type=registry,ref=UPPER!",
        ];
        for text in both {
            assert!(text.parse::<CacheFrom>().is_err(), "{text}");
            assert!(text.parse::<CacheTo>().is_err(), "{text}");
        }
        let gha = "type=gha".parse::<CacheTo>().unwrap_err();
        assert!(gha.contains("no caches of type `gha`"), "{gha}");
        for text in [
            "type=registry,ref=a,image-manifest=false",
            "type=registry,ref=a,force-compression=true",
            "type=inline,mode=max",
            "type=local",
            "type=registry,ref=a,mode=mid",
        ] {
            assert!(text.parse::<CacheTo>().is_err(), "{text}");
        }
        assert!("type=inline".parse::<CacheFrom>().is_err());
        assert!("type=local,src=d,digest=x".parse::<CacheFrom>().is_err());
    }
}
