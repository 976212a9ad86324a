//! `--cache-from` and `--cache-to` as buildx writes them (R-CEXP-1 to R-CEXP-5).

use std::path::PathBuf;
use std::str::FromStr;

use kiln_executor::{CacheExport, CacheMode, CacheSource, CacheTarget};
use kiln_image::compress::Compression;
use kiln_image::{Digest, Reference, ReferenceError};

use kiln_registry::{Client, Options};

use crate::config::Config;
use crate::output::{boolean, csv_fields};
use crate::session::Watched;

/// Where a cache is looked for; several for the old form `--cache-from a,b`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CacheFrom(pub(crate) Vec<CacheSource>);

impl CacheFrom {
    /// Begins to read caches.
    pub(crate) fn begin(all: &[Self], watched: &Watched<'_>, config: &Config) {
        let sources: Vec<CacheSource> = all.iter().flat_map(|from| from.0.clone()).collect();
        // A build goes on without a cache that is hard to reach.
        let client = || {
            Client::new(Options {
                retries: 1,
                ..config.registry()
            })
        };
        watched.services.imports.begin(&sources, client);
    }
}

/// Where a cache is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CacheTo {
    /// Into the config of the image.
    Inline,
    /// Somewhere else.
    Export {
        export: CacheExport,
        /// Whether a failure is only told.
        ignore_error: bool,
    },
}

/// What one flag says, by key. Keys that nobody asks for are mistakes.
struct Attributes {
    kind: String,
    fields: Vec<(String, String)>,
}

impl FromStr for CacheFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(references) = bare(text)? {
            let sources = references.into_iter().map(CacheSource::Registry);
            return Ok(Self(sources.collect()));
        }
        let mut attributes = Attributes::read(text)?;
        let source = match attributes.kind.as_str() {
            "registry" => CacheSource::Registry(attributes.reference()?),
            "local" => CacheSource::Layout {
                path: attributes.needed("src")?.into(),
                tag: attributes.take("tag").unwrap_or_else(latest),
                digest: attributes.digest()?,
            },
            "inline" => {
                return Err(
                    "type=inline is for `--cache-to`; it is read with type=registry".to_owned(),
                );
            }
            kind => return Err(unsupported(kind)),
        };
        attributes.end()?;
        Ok(Self(vec![source]))
    }
}

impl FromStr for CacheTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(references) = bare(text)? {
            let [reference] = <[Reference; 1]>::try_from(references)
                .map_err(|_| "one cache for each `--cache-to`".to_owned())?;
            return Ok(Self::of(CacheTarget::Registry(reference)));
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
            kind => return Err(unsupported(kind)),
        };
        let export = CacheExport {
            target,
            mode: attributes.mode()?,
            compression: attributes.compression()?,
        };
        attributes.only("image-manifest", true, "kiln's caches are image manifests")?;
        attributes.only("oci-mediatypes", true, "kiln's caches have OCI media types")?;
        attributes.only(
            "force-compression",
            false,
            "layers are sent as they were compressed first",
        )?;
        let ignore_error = attributes.flag("ignore-error")?.unwrap_or(false);
        attributes.end()?;
        Ok(Self::Export {
            export,
            ignore_error,
        })
    }
}

impl CacheTo {
    fn of(target: CacheTarget) -> Self {
        Self::Export {
            export: CacheExport {
                target,
                mode: CacheMode::default(),
                compression: Compression::default(),
            },
            ignore_error: false,
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

fn latest() -> String {
    "latest".to_owned()
}

fn unsupported(kind: &str) -> String {
    match kind {
        "gha" | "azblob" | "s3" => {
            format!("kiln has no caches of type `{kind}` yet; it has registry, local and inline")
        }
        _ => format!("there is no type `{kind}`, only registry, local and inline"),
    }
}

impl Attributes {
    fn read(text: &str) -> Result<Self, String> {
        let mut attributes = Self {
            kind: String::new(),
            fields: Vec::new(),
        };
        for field in csv_fields(text)? {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| format!("`{field}` is not `key=value`"))?;
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
    fn take(&mut self, key: &str) -> Option<String> {
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

    fn flag(&mut self, key: &str) -> Result<Option<bool>, String> {
        self.take(key).map(|value| boolean(&value)).transpose()
    }

    /// An attribute that can have but one value here.
    fn only(&mut self, key: &str, value: bool, why: &str) -> Result<(), String> {
        match self.flag(key)? {
            Some(given) if given != value => Err(format!("`{key}={given}` is not possible: {why}")),
            _ => Ok(()),
        }
    }

    /// No attribute is silently ignored.
    fn end(self) -> Result<(), String> {
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
            assert_eq!(text.parse(), Ok(CacheFrom(sources)), "{text}");
        }
    }

    #[test]
    fn targets_are_read_as_buildx_reads_them() {
        let text = "type=registry,ref=a:c,mode=max,compression=zstd,compression-level=9,image-manifest=true,oci-mediatypes=true,ignore-error=true";
        let export = CacheExport {
            target: CacheTarget::Registry("a:c".parse().unwrap()),
            mode: CacheMode::Max,
            compression: Compression::Zstd { level: 9 },
        };
        let expected = CacheTo::Export {
            export,
            ignore_error: true,
        };
        assert_eq!(text.parse(), Ok(expected));
        assert_eq!("type=inline".parse(), Ok(CacheTo::Inline));
        let CacheTo::Export { export, .. } = "a:c".parse().unwrap() else {
            panic!("not exported")
        };
        assert_eq!(export.mode, CacheMode::Min);
    }

    #[test]
    fn what_cannot_be_honoured_is_an_error_that_says_so() {
        // R-CEXP-5
        let both = [
            "type=gha",
            "type=s3,bucket=b,region=r",
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
