//! What is said about images in their manifests and indexes, beside what the specification wants there (R-MAN-8).

use std::collections::BTreeMap;

use kiln_image::Platform;

/// Annotations of all that an export writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations(pub Vec<Annotation>);

/// One annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Where it goes.
    pub level: Level,
    /// The image that it is about; all of them if `None`.
    pub platform: Option<Platform>,
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Where an annotation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Into the image's manifest.
    Manifest,
    /// Beside the manifest's digest, in the index that lists it.
    ManifestDescriptor,
    /// Into the index.
    Index,
    /// Beside the index's digest, in the `index.json` of a layout.
    IndexDescriptor,
}

impl Level {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Manifest => "manifest",
            Level::ManifestDescriptor => "manifest-descriptor",
            Level::Index => "index",
            Level::IndexDescriptor => "index-descriptor",
        }
    }

    /// Whether it is about an index, and not about an image.
    #[must_use]
    pub fn is_of_index(self) -> bool {
        matches!(self, Level::Index | Level::IndexDescriptor)
    }
}

impl Annotations {
    /// Those at a level, for the image of a platform. One for that very platform outranks one for all, and else the last of a
    /// name counts.
    #[must_use]
    pub fn at(&self, level: Level, platform: Option<&Platform>) -> BTreeMap<String, String> {
        let here = self.0.iter().filter(|it| it.level == level);
        let for_all = here.clone().filter(|it| it.platform.is_none());
        let for_one = here.filter(|it| it.platform.is_some() && it.platform.as_ref() == platform);
        for_all
            .chain(for_one)
            .map(|it| (it.key.clone(), it.value.clone()))
            .collect()
    }

    /// Why they can't be written for images of these platforms, in an index or not.
    ///
    /// # Errors
    /// The message.
    pub fn check(&self, platforms: &[Platform], index: bool) -> Result<(), String> {
        for annotation in &self.0 {
            if annotation.level.is_of_index() && !index {
                return Err("index annotations not supported for single platform export".to_owned());
            }
            if let Some(platform) = &annotation.platform
                && !platforms.contains(platform)
            {
                return Err(format!(
                    "invalid annotation: no platform {platform} found in source"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn annotation(level: Level, platform: Option<&str>, value: &str) -> Annotation {
        Annotation {
            level,
            platform: platform.map(|text| text.parse().unwrap()),
            key: "k".to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn one_for_a_platform_outranks_one_for_all() {
        // R-MAN-8
        let annotations = Annotations(vec![
            annotation(Level::Manifest, Some("linux/arm64"), "arm"),
            annotation(Level::Manifest, None, "first"),
            annotation(Level::Manifest, None, "all"),
            annotation(Level::Index, None, "index"),
        ]);
        let at = |level, platform: &str| {
            let found = annotations.at(level, platform.parse().ok().as_ref());
            found.into_values().collect::<String>()
        };
        assert_eq!(at(Level::Manifest, "linux/arm64"), "arm");
        assert_eq!(at(Level::Manifest, "linux/amd64"), "all");
        assert_eq!(at(Level::Index, "linux/amd64"), "index");
        assert_eq!(at(Level::IndexDescriptor, "linux/amd64"), "");
    }

    #[test]
    fn what_has_no_place_is_refused() {
        // R-MAN-8
        let amd = "linux/amd64".parse().unwrap();
        let check = |annotation, index| {
            let annotations = Annotations(vec![annotation]);
            annotations.check(std::slice::from_ref(&amd), index).is_ok()
        };
        assert!(!check(annotation(Level::Index, None, ""), false));
        assert!(!check(annotation(Level::IndexDescriptor, None, ""), false));
        assert!(check(annotation(Level::Index, None, ""), true));
        assert!(check(
            annotation(Level::Manifest, Some("linux/amd64"), ""),
            false
        ));
        assert!(!check(
            annotation(Level::Manifest, Some("linux/arm64"), ""),
            true
        ));
    }
}
