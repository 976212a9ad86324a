//! Annotations as flags say them: `--annotation index,manifest[linux/arm64]:KEY=VALUE`, and `annotation-index.KEY=VALUE` or
//! `annotation-manifest[linux/arm64].KEY=VALUE` among the fields of `-o`. Clause R-MAN-8.

use std::str::FromStr;

use kiln_executor::export::{Annotation, Level};
use kiln_image::Platform;

/// One `--annotation`: the same for each place that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnnotationFlag(pub(crate) Vec<Annotation>);

impl FromStr for AnnotationFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| format!("`{text}` is not `key=value`"))?;
        // A colon may also stand in a key.
        let (places, key) = match key.split_once(':') {
            Some((places, key)) if is_places(places) => (places, key),
            _ => ("manifest", key),
        };
        let places = places.split(',').map(place);
        let annotations = places.map(|place| annotation(place?, key, value));
        annotations.collect::<Result<_, _>>().map(Self)
    }
}

/// The field `key` of an `-o`; `None` if it is no annotation.
pub(crate) fn of_field(key: &str, value: &str) -> Option<Result<Annotation, String>> {
    let rest = key.strip_prefix("annotation")?;
    let (text, key) = rest.split_once('.')?;
    let named = match text.strip_prefix('-') {
        Some(named) => place(named),
        None => place(&format!("manifest{text}")),
    };
    Some(named.and_then(|place| annotation(place, key, value)))
}

/// Where an annotation goes, and of which image.
type Place = (Level, Option<Platform>);

fn is_places(text: &str) -> bool {
    let word = |part: &str| {
        let name = part.split('[').next().unwrap_or_default();
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    text.split(',').all(word)
}

fn place(text: &str) -> Result<Place, String> {
    let (name, platform) = match text.split_once('[') {
        None => (text, None),
        Some((name, rest)) => {
            let platform = rest
                .strip_suffix(']')
                .ok_or_else(|| format!("`{text}` has no `]`"))?;
            let platform: Platform = platform.parse().map_err(|error| format!("{error}"))?;
            (name, Some(platform))
        }
    };
    let levels = [
        Level::Manifest,
        Level::ManifestDescriptor,
        Level::Index,
        Level::IndexDescriptor,
    ];
    let level = levels.into_iter().find(|level| level.name() == name);
    let level = level.ok_or_else(|| format!("unrecognized annotation type {name}"))?;
    match level.is_of_index() && platform.is_some() {
        true => Err(format!("`{name}` is about no platform")),
        false => Ok((level, platform)),
    }
}

fn annotation((level, platform): Place, key: &str, value: &str) -> Result<Annotation, String> {
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err(format!("`{key}` can be no name of an annotation"));
    }
    Ok(Annotation {
        level,
        platform,
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn shown(annotation: &Annotation) -> String {
        let platform = annotation.platform.as_ref();
        let platform = platform.map_or_else(String::new, |platform| format!("[{platform}]"));
        let (name, key) = (annotation.level.name(), &annotation.key);
        format!("{name}{platform} {key} {}", annotation.value)
    }

    #[test]
    fn flags_name_one_place_or_several() {
        // R-MAN-8
        let cases = [
            ("a.b=c=d", "manifest a.b c=d"),
            ("k=http://x:1/", "manifest k http://x:1/"),
            ("com.example:k=v", "manifest com.example:k v"),
            ("index:k=", "index k "),
            (
                "index,manifest[linux/arm64/v8]:k=v",
                "index k v; manifest[linux/arm64] k v",
            ),
            ("manifest-descriptor:a:b=v", "manifest-descriptor a:b v"),
        ];
        for (text, expected) in cases {
            let AnnotationFlag(all) = text.parse().unwrap();
            let all: Vec<_> = all.iter().map(shown).collect();
            assert_eq!(all.join("; "), expected, "{text}");
        }
        for text in [
            "k",
            "=v",
            "layer:k=v",
            "index[linux/arm64]:k=v",
            "a b=c",
            "manifest[:k=v",
        ] {
            assert!(text.parse::<AnnotationFlag>().is_err(), "{text}");
        }
    }

    #[test]
    fn fields_name_one_place() {
        // R-MAN-8
        let cases = [
            ("annotation.a.b", "manifest a.b v"),
            ("annotation[linux/arm].k", "manifest[linux/arm/v7] k v"),
            ("annotation-index.k", "index k v"),
            (
                "annotation-manifest-descriptor[linux/amd64].k",
                "manifest-descriptor[linux/amd64] k v",
            ),
        ];
        for (key, expected) in cases {
            let read = of_field(key, "v").unwrap();
            assert_eq!(shown(&read.unwrap()), expected, "{key}");
        }
        assert!(of_field("name", "v").is_none() && of_field("annotation", "v").is_none());
        for key in [
            "annotation-layer.k",
            "annotation-index[linux/arm].k",
            "annotation.",
        ] {
            assert!(of_field(key, "v").unwrap().is_err(), "{key}");
        }
    }
}
