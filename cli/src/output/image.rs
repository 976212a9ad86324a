//! The attributes of an `-o` that makes an image: how its layers are compressed, and who gets it. Clauses R-MAN-4, R-EXPORT-8,
//! R-SDE-3.

use kiln_executor::export::{AttestationOptions, ImageSink, Push};
use kiln_image::compress::LayerFormat;
use kiln_image::media_type::MediaTypes;

use super::{OutputKind, boolean};

/// What `-o` says of the image, beside its names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ImageAttributes {
    /// `compression`, `compression-level`, `force-compression`.
    pub(crate) format: LayerFormat,
    /// `oci-mediatypes`.
    pub(crate) media_types: MediaTypes,
    /// `rewrite-timestamp`.
    pub(crate) rewrite_timestamp: bool,
    /// `store`, `unpack`, `push`, `push-by-digest`.
    pub(crate) sink: ImageSink,
    /// `oci-artifact`, `attestation-inline`, `attestation-prefix`.
    pub(crate) attestations: AttestationOptions,
    /// `registry.insecure`: whether the registries pushed to may be spoken to without TLS.
    pub(crate) insecure: bool,
}

/// The attributes as they were written.
#[derive(Debug, Default)]
pub(super) struct Written {
    fields: Vec<(String, String)>,
}

/// Those of every kind of image, those of images that are not written to a file, and those of bare files.
const OF_IMAGES: [&str; 8] = [
    "oci-artifact",
    "attestation-inline",
    "prefer-nondist-layers",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "rewrite-timestamp",
];
const OF_HANDED_OVER: [&str; 5] = [
    "store",
    "unpack",
    "push",
    "push-by-digest",
    "registry.insecure",
];
const OF_FILES: [&str; 1] = ["attestation-prefix"];

/// Those that BuildKit has and kiln hasn't, and why.
const REFUSED: [(&str, &str); 4] = [
    (
        "source-date-epoch",
        "all outputs of a build have one date: give it with `--build-arg SOURCE_DATE_EPOCH=SECONDS`",
    ),
    (
        "dangling-name-prefix",
        "the store keeps an image without a name under its id, and needs none",
    ),
    (
        "danging-name-empty-only",
        "the store keeps an image without a name under its id, and needs none",
    ),
    (
        "name-canonical",
        "the store finds an image by its digest without such a name",
    ),
];

impl Written {
    /// Takes a field, if it is one of these attributes.
    pub(super) fn take(&mut self, key: &str, value: &str) -> bool {
        let known = OF_IMAGES.contains(&key)
            || OF_HANDED_OVER.contains(&key)
            || OF_FILES.contains(&key)
            || REFUSED.iter().any(|(refused, _)| *refused == key);
        if known {
            self.fields.push((key.to_owned(), value.to_owned()));
        }
        known
    }

    /// What they mean for an output of this kind; `is_registry` if it is for a registry by its type.
    pub(super) fn read(
        self,
        kind: OutputKind,
        is_registry: bool,
    ) -> Result<ImageAttributes, String> {
        self.check_refused()?;
        self.check_kind(kind)?;
        let media_types = match self.flag("oci-mediatypes")? {
            Some(false) => MediaTypes::Docker,
            _ => MediaTypes::Oci,
        };
        let attributes = ImageAttributes {
            format: self.format()?,
            media_types,
            attestations: self.attestations(kind, media_types)?,
            rewrite_timestamp: self.flag("rewrite-timestamp")?.unwrap_or(false),
            sink: self.sink(is_registry)?,
            insecure: self.flag("registry.insecure")?.unwrap_or(false),
        };
        attributes.check()
    }

    fn check_kind(&self, kind: OutputKind) -> Result<(), String> {
        let suits = |key: &str| match kind {
            OutputKind::Image => !OF_FILES.contains(&key),
            OutputKind::Oci | OutputKind::Docker => OF_IMAGES.contains(&key),
            OutputKind::Tar | OutputKind::Local => OF_FILES.contains(&key),
            OutputKind::CacheOnly => false,
        };
        match self.fields.iter().find(|(key, _)| !suits(key)) {
            Some((key, _)) => Err(format!("type={} takes no `{key}=`", kind.name())),
            None => Ok(()),
        }
    }

    fn check_refused(&self) -> Result<(), String> {
        for (key, reason) in REFUSED {
            if self.value(key).is_some() {
                return Err(format!("kiln has no `{key}`: {reason}"));
            }
        }
        match self.flag("prefer-nondist-layers")? {
            Some(false) => Err("layers that may not be distributed stay what they are".to_owned()),
            _ => Ok(()),
        }
    }

    fn attestations(
        &self,
        kind: OutputKind,
        media_types: MediaTypes,
    ) -> Result<AttestationOptions, String> {
        let is_oci = media_types == MediaTypes::Oci;
        let artifact = self.flag("oci-artifact")?.unwrap_or(is_oci);
        if artifact && !is_oci {
            let conflict =
                "exporter option \"oci-artifact=true\" conflicts with \"oci-mediatypes=false\"";
            return Err(conflict.to_owned());
        }
        let inline = self.flag("attestation-inline")?;
        Ok(AttestationOptions {
            artifact,
            inline: inline.unwrap_or(is_inline(kind)),
            prefix: self.prefix()?,
        })
    }

    fn prefix(&self) -> Result<String, String> {
        match self.value("attestation-prefix") {
            Some(prefix) if prefix.contains('/') => {
                Err("`attestation-prefix` begins the name of a file and has no `/`".to_owned())
            }
            prefix => Ok(prefix.unwrap_or_default().to_owned()),
        }
    }

    fn format(&self) -> Result<LayerFormat, String> {
        let level = self.value("compression-level").map(str::parse::<i32>);
        let level = level.transpose().map_err(|_| {
            let text = self.value("compression-level").unwrap_or_default();
            format!("the compression level is a number, not `{text}`")
        })?;
        let name = self.value("compression").unwrap_or("gzip");
        let force = self.flag("force-compression")?.unwrap_or(false);
        LayerFormat::parse(name, level, force).map_err(|error| error.to_string())
    }

    fn sink(&self, is_registry: bool) -> Result<ImageSink, String> {
        let by_digest = self.flag("push-by-digest")?.unwrap_or(false);
        let push = match (self.flag("push")?.unwrap_or(is_registry), by_digest) {
            (true, true) => Some(Push::ByDigest),
            (true, false) => Some(Push::ByName),
            (false, true) => return Err("`push-by-digest` needs `push=true`".to_owned()),
            (false, false) => None,
        };
        let sink = ImageSink {
            store: self.flag("store")?.unwrap_or(true),
            unpack: self.flag("unpack")?.unwrap_or(false),
            push,
        };
        match sink {
            ImageSink {
                store: false,
                push: None,
                ..
            } => Err("with `store=false` and no `push=true` nobody gets the image".to_owned()),
            ImageSink {
                store: false,
                unpack: true,
                ..
            } => Err("`unpack` is for images that are stored".to_owned()),
            sink => Ok(sink),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.value(key).map(boolean).transpose()
    }

    /// The last one counts.
    fn value(&self, key: &str) -> Option<&str> {
        let mut given = self.fields.iter().rev();
        let found = given.find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }
}

impl ImageAttributes {
    /// Those of an output about which no more is said.
    pub(super) fn of(kind: OutputKind) -> Self {
        let attestations = AttestationOptions {
            inline: is_inline(kind),
            ..AttestationOptions::default()
        };
        Self {
            attestations,
            ..Self::default()
        }
    }

    /// Refuses what the reference builder refuses.
    fn check(self) -> Result<Self, String> {
        if self.format.estargz && self.media_types == MediaTypes::Docker {
            return Err(
                "exporter option \"compression=estargz\" conflicts with \"oci-mediatypes=false\""
                    .to_owned(),
            );
        }
        if self.rewrite_timestamp && self.sink.unpack {
            return Err(
                "exporter option \"rewrite-timestamp\" conflicts with \"unpack\"".to_owned(),
            );
        }
        if self.insecure && self.sink.push.is_none() {
            return Err("`registry.insecure` is for images that are pushed".to_owned());
        }
        Ok(self)
    }
}

/// Whether images of this kind have the statements that are for images in stores and registries alone.
fn is_inline(kind: OutputKind) -> bool {
    kind == OutputKind::Image
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kiln_image::compress::Compression;

    use super::super::Output;
    use super::*;

    fn read(text: &str) -> Result<ImageAttributes, String> {
        text.parse::<Output>().map(|output| output.image)
    }

    #[test]
    fn layers_are_compressed_as_asked() {
        // R-MAN-4
        let zstd =
            read("type=oci,dest=x,compression=zstd,compression-level=19,force-compression=true");
        let format = zstd.unwrap().format;
        assert_eq!(format.compression, Compression::Zstd { level: 19 });
        assert!(format.force && !format.estargz);
        assert!(
            read("type=docker,dest=x,compression=estargz")
                .unwrap()
                .format
                .estargz
        );
        let docker = read("type=image,oci-mediatypes=false,compression=gzip").unwrap();
        assert_eq!(docker.media_types, MediaTypes::Docker);
        assert!(
            read("type=image,rewrite-timestamp=1")
                .unwrap()
                .rewrite_timestamp
        );
    }

    #[test]
    fn registries_get_what_is_for_them() {
        // R-EXPORT-8
        let push = |text| read(text).unwrap().sink.push;
        assert_eq!(push("type=registry,name=a"), Some(Push::ByName));
        assert_eq!(push("type=image,name=a,push=true"), Some(Push::ByName));
        assert_eq!(
            push("type=registry,name=a,push-by-digest=true"),
            Some(Push::ByDigest)
        );
        assert_eq!(push("type=image,name=a"), None);
        let sent = read("type=registry,name=a,store=false,registry.insecure=true").unwrap();
        assert!(sent.insecure && !sent.sink.store);
    }

    #[test]
    fn statements_go_where_they_are_wanted() {
        // R-ATT-2, R-ATT-6
        let attestations = |text| read(text).unwrap().attestations;
        assert!(attestations("type=image").inline);
        assert!(!attestations("type=oci,dest=x").inline);
        assert!(attestations("type=oci,dest=x,attestation-inline=true").inline);
        assert!(attestations("type=oci,dest=x").artifact);
        assert!(!attestations("type=oci,dest=x,oci-artifact=false").artifact);
        assert!(!attestations("type=image,oci-mediatypes=false").artifact);
        assert_eq!(
            attestations("type=local,dest=x,attestation-prefix=a-").prefix,
            "a-"
        );
    }

    #[test]
    fn contradictions_are_refused() {
        for (text, expected) in [
            (
                "type=oci,dest=x,compression=lz4",
                "unsupported compression type lz4",
            ),
            (
                "type=oci,dest=x,compression-level=fast",
                "the compression level is a number, not `fast`",
            ),
            (
                "type=image,compression=estargz,oci-mediatypes=false",
                "exporter option \"compression=estargz\" conflicts with \"oci-mediatypes=false\"",
            ),
            (
                "type=image,rewrite-timestamp=true,unpack=true",
                "exporter option \"rewrite-timestamp\" conflicts with \"unpack\"",
            ),
            ("type=oci,dest=x,push=true", "type=oci takes no `push=`"),
            (
                "type=tar,dest=x,compression=gzip",
                "type=tar takes no `compression=`",
            ),
            (
                "type=image,push-by-digest=true",
                "`push-by-digest` needs `push=true`",
            ),
            (
                "type=image,store=false",
                "with `store=false` and no `push=true` nobody gets the image",
            ),
            (
                "type=image,oci-artifact=true,oci-mediatypes=false",
                "exporter option \"oci-artifact=true\" conflicts with \"oci-mediatypes=false\"",
            ),
            (
                "type=image,attestation-prefix=a",
                "type=image takes no `attestation-prefix=`",
            ),
            (
                "type=tar,dest=x,attestation-prefix=a/b",
                "`attestation-prefix` begins the name of a file and has no `/`",
            ),
            (
                "type=image,name-canonical=true",
                "kiln has no `name-canonical`: the store finds an image by its digest without such a name",
            ),
            (
                "type=oci,dest=x,prefer-nondist-layers=false",
                "layers that may not be distributed stay what they are",
            ),
            (
                "type=image,registry.insecure=true",
                "`registry.insecure` is for images that are pushed",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
        assert!(read("type=oci,dest=x,compression=gzip,compression-level=10").is_err());
    }
}
