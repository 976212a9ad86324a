//! The value of `-o`: what to make of a finished build and where to put it.
//!
//! Three spellings: `type=oci,dest=image.tar` (comma-separated fields, quoted as in CSV when a value holds a comma), a
//! bare path (the final filesystem as files), and `-` (the final filesystem as a tar on stdout).
//! Clauses R-EXPORT-1, 5, 6, 7, 11.

mod image;

use std::path::PathBuf;
use std::str::FromStr;

use kiln_executor::export::Annotation;
use kiln_image::compress::{Compression, LayerFormat};
use kiln_image::{Reference, ReferenceError};

use crate::annotation;

pub(crate) use image::ImageAttributes;

/// One `-o`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// What is written.
    pub(crate) kind: OutputKind,
    /// Where it goes. `None` only for [`OutputKind::Image`] and [`OutputKind::CacheOnly`].
    pub(crate) dest: Option<Destination>,
    /// Names given with `name=`, besides those of `-t`.
    pub(crate) names: Vec<Reference>,
    /// `tar=false`: an OCI layout as a folder, not as one file.
    pub(crate) as_directory: bool,
    /// `platform-split`: whether the files of each platform are in a folder of their own; `None` where there are several.
    pub(crate) platform_split: Option<bool>,
    /// What is said of the image.
    pub(crate) image: ImageAttributes,
    /// `target`: of which of several targets it is; `None` for all of them.
    pub(crate) target: Option<String>,
    /// `annotation.…`: what manifests and indexes say besides.
    pub(crate) annotations: Vec<Annotation>,
}

/// The forms a result can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputKind {
    /// An OCI image layout.
    Oci,
    /// An archive `docker load` and `podman load` read.
    Docker,
    /// The final filesystem as one tar.
    Tar,
    /// The final filesystem as files in a folder.
    Local,
    /// An image in kiln's own store.
    Image,
    /// Nothing: the build only fills the cache.
    CacheOnly,
}

/// Where a file is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A file or folder.
    Path(PathBuf),
    /// Standard output.
    Stdout,
    /// Docker or podman (`--load`).
    Engine,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("it is empty".to_owned()),
            "-" => Ok(Self::new(OutputKind::Tar, Some(Destination::Stdout))),
            _ if !text.contains('=') => Ok(Self::new(
                OutputKind::Local,
                Some(Destination::Path(text.into())),
            )),
            _ => Self::from_fields(&csv_fields(text)?),
        }
    }
}

impl Output {
    pub(crate) fn new(kind: OutputKind, dest: Option<Destination>) -> Self {
        Self {
            kind,
            dest,
            names: Vec::new(),
            as_directory: false,
            platform_split: None,
            image: ImageAttributes::of(kind),
            target: None,
            annotations: Vec::new(),
        }
    }

    fn from_fields(fields: &[String]) -> Result<Self, String> {
        let mut kind = None;
        let mut output = Self::new(OutputKind::CacheOnly, None);
        let mut written = image::Written::default();
        let mut is_registry = false;
        let mut mode = None;
        for field in fields {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| format!("`{field}` is not `key=value`"))?;
            if let Some(annotation) = annotation::of_field(key.trim(), value) {
                output.annotations.push(annotation?);
                continue;
            }
            match key.trim().to_ascii_lowercase().as_str() {
                "target" => output.target = Some(value.to_owned()),
                "type" => {
                    is_registry = value == "registry";
                    kind = Some(value.parse()?);
                }
                "dest" => output.dest = Some(Destination::from(value)),
                "name" => output.names = names(value)?,
                "tar" => output.as_directory = !boolean(value)?,
                "platform-split" => output.platform_split = Some(boolean(value)?),
                "mode" => mode = Some(value),
                key if written.take(key, value) => {}
                other => return Err(format!("kiln has no output attribute `{other}`")),
            }
        }
        output.kind = kind.ok_or("it has no `type=`")?;
        check_mode(output.kind, mode)?;
        output.image = written.read(output.kind, is_registry)?;
        output.checked()
    }

    /// Refuses combinations that mean nothing, so that no attribute is silently ignored.
    fn checked(self) -> Result<Self, String> {
        if self.kind == OutputKind::Docker && self.dest.is_none() {
            return Ok(self.loaded());
        }
        let to_store = matches!(self.kind, OutputKind::Image | OutputKind::CacheOnly);
        let named = matches!(
            self.kind,
            OutputKind::Oci | OutputKind::Docker | OutputKind::Image
        );
        match (&self.dest, to_store) {
            (None, false) => return Err(format!("type={} needs `dest=`", self.kind.name())),
            (Some(_), true) => return Err(format!("type={} takes no `dest=`", self.kind.name())),
            (Some(Destination::Stdout), _)
                if self.kind == OutputKind::Local || self.as_directory =>
            {
                return Err("a folder cannot be written to stdout".to_owned());
            }
            _ => {}
        }
        if self.as_directory && self.kind != OutputKind::Oci {
            return Err("`tar=false` is for type=oci".to_owned());
        }
        if self.platform_split.is_some() && self.kind != OutputKind::Local {
            return Err("`platform-split` is for type=local".to_owned());
        }
        if !self.annotations.is_empty() && !named {
            return Err(format!("type={} takes no annotations", self.kind.name()));
        }
        if !self.names.is_empty() && !named {
            return Err(format!("type={} takes no `name=`", self.kind.name()));
        }
        Ok(self)
    }

    /// The same for Docker or podman, which need nothing compressed: it would only be unpacked again.
    pub(crate) fn loaded(mut self) -> Self {
        self.dest = Some(Destination::Engine);
        if self.image.format == LayerFormat::default() {
            self.image.format.compression = Compression::None;
        }
        self
    }

    /// Whether the result is an image, with a config and an id, rather than bare files.
    pub(crate) fn is_image(&self) -> bool {
        !matches!(self.kind, OutputKind::Tar | OutputKind::Local)
    }
}

/// What becomes of files that are in a folder already: they stay, unless the result has others in their places (R-EXPORT-5).
fn check_mode(kind: OutputKind, mode: Option<&str>) -> Result<(), String> {
    match (kind, mode) {
        (_, None) | (OutputKind::Local, Some("" | "copy")) => Ok(()),
        (OutputKind::Local, Some("delete")) => Err(
            "kiln has no `mode=delete`: it removes nothing of yours; empty the folder before"
                .to_owned(),
        ),
        (OutputKind::Local, Some(other)) => Err(format!("`mode` is copy, not `{other}`")),
        _ => Err("`mode` is for type=local".to_owned()),
    }
}

impl OutputKind {
    /// The word after `type=`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oci => "oci",
            Self::Docker => "docker",
            Self::Tar => "tar",
            Self::Local => "local",
            Self::Image => "image",
            Self::CacheOnly => "cacheonly",
        }
    }
}

impl FromStr for OutputKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The same as an image, but that it is pushed.
        if text == "registry" {
            return Ok(Self::Image);
        }
        let all = [
            Self::Oci,
            Self::Docker,
            Self::Tar,
            Self::Local,
            Self::Image,
            Self::CacheOnly,
        ];
        all.into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("kiln has no output type `{text}`; it has oci, docker, tar, local, image, registry and cacheonly"))
    }
}

impl From<&str> for Destination {
    fn from(text: &str) -> Self {
        match text {
            "-" => Self::Stdout,
            path => Self::Path(path.into()),
        }
    }
}

fn names(list: &str) -> Result<Vec<Reference>, String> {
    list.split(',')
        .map(|name| {
            name.parse()
                .map_err(|error: ReferenceError| error.to_string())
        })
        .collect()
}

pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

/// The fields of one CSV record: separated by commas; a field in double quotes may hold commas, and `""` for a quote.
pub(crate) fn csv_fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let field = fields
            .last_mut()
            .expect("there is always a field being read");
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(c),
        }
    }
    match quoted {
        true => Err("a quote is not closed".to_owned()),
        false => Ok(fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Option<Destination> {
        Some(Destination::Path(text.into()))
    }

    #[test]
    fn short_forms_are_the_filesystem() {
        // R-EXPORT-7
        assert_eq!(
            "out".parse(),
            Ok(Output::new(OutputKind::Local, path("out")))
        );
        assert_eq!(
            "-".parse(),
            Ok(Output::new(OutputKind::Tar, Some(Destination::Stdout)))
        );
        assert_eq!(
            "type=cacheonly".parse(),
            Ok(Output::new(OutputKind::CacheOnly, None))
        );
    }

    #[test]
    fn fields_are_read_as_csv() {
        // R-EXPORT-1, R-EXPORT-3
        let expected = Output {
            names: ["a:1", "b:2"].into_iter().flat_map(str::parse).collect(),
            ..Output::new(OutputKind::Docker, path("x,y.tar"))
        };
        assert_eq!(
            "type=docker,\"dest=x,y.tar\",\"name=a:1,b:2\"".parse(),
            Ok(expected)
        );
        let layout = Output {
            as_directory: true,
            ..Output::new(OutputKind::Oci, path("layout"))
        };
        assert_eq!("type=oci,dest=layout,tar=false".parse(), Ok(layout));
        assert_eq!(
            "type=image,name=a"
                .parse::<Output>()
                .map(|output| output.names.len()),
            Ok(1)
        );
    }

    #[test]
    fn what_is_in_a_folder_stays_there() {
        // R-EXPORT-5
        let local = Output::new(OutputKind::Local, path("out"));
        assert_eq!("type=local,dest=out,mode=copy".parse(), Ok(local));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        let refused = [
            "",
            "type=oci",
            "type=image,dest=x",
            "type=local,dest=-",
            "type=local,dest=x,mode=delete",
            "type=local,dest=x,mode=sync",
            "type=tar,dest=x,mode=copy",
            "type=oci,dest=-,tar=false",
            "type=docker,dest=x,tar=false",
            "type=squashfs,dest=x",
            "type=oci,dest=x,compression=lz4",
            "type=tar,dest=x,name=a",
            "type=tar,dest=x,platform-split=true",
            "type=tar,dest=x,annotation.a=b",
            "type=oci,dest=x,annotation-layer.a=b",
            "type=image,name=Not A Name",
            "dest=x",
            "type=oci,dest",
            "type=oci,\"dest=x",
        ];
        for text in refused {
            assert!(text.parse::<Output>().is_err(), "{text}");
        }
    }
}
