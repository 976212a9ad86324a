//! What a build leaves for scripts: `--iidfile` and `--metadata-file`. Clauses R-EXPORT-9, R-EXPORT-10.

use std::path::Path;

use kiln_executor::export::Exported;
use kiln_executor::{Built, Product};
use kiln_image::image_index::IndexedManifest;
use kiln_image::{Digest, Platform, Reference, media_type};
use serde_json::{Map, Value};

use crate::failure::Failure;

/// What the types of all versions of a provenance begin with.
const SLSA: &str = "https://slsa.dev/provenance/";

/// What is known of the image, or index, that was built of one target.
#[derive(Debug, Clone)]
pub(super) struct Results {
    /// The target, as it was asked for.
    pub(super) target: Option<String>,
    /// The config's digest, or the index's once an output made one.
    pub(super) id: Digest,
    /// Whether it is an index.
    pub(super) is_index: bool,
    /// Whether the digest is that of an output.
    pub(super) has_image: bool,
    /// The digests of the images' configs, once an output made them.
    pub(super) images: Vec<Digest>,
    /// Who has loaded it.
    pub(super) loaded: Option<&'static str>,
    /// The manifest or index, if an output needed one.
    pub(super) manifest: Option<IndexedManifest>,
    pub(super) names: Vec<Reference>,
    /// Where its images come from, by their platforms if there are several.
    pub(super) provenance: Vec<(Option<Platform>, Value)>,
}

impl Results {
    pub(super) fn of(product: &Product) -> Self {
        Self {
            target: product.target.clone(),
            id: product.first().id,
            is_index: product.is_index(true),
            has_image: false,
            images: Vec::new(),
            loaded: None,
            manifest: None,
            names: Vec::new(),
            provenance: provenance(product),
        }
    }

    /// Takes in what one more output made.
    pub(super) fn add(&mut self, exported: Exported, names: Vec<Reference>) {
        // An output may have other layers than were built; that of the first one counts.
        if let (false, false, Some(id)) = (self.is_index, self.has_image, exported.ids.first()) {
            self.id = *id;
            self.has_image = true;
        }
        if self.images.is_empty() {
            self.images = exported.ids;
        }
        if self.manifest.is_none()
            && let Some(manifest) = exported.manifest
        {
            let digest = Digest::try_from(manifest.descriptor.digest());
            // What is said about an image alone makes an index in some outputs only.
            self.is_index = media_type::is_index(manifest.descriptor.media_type().as_ref());
            if let (true, Ok(digest)) = (self.is_index, digest) {
                self.id = digest;
            }
            self.manifest = Some(manifest);
        }
        let new: Vec<_> = names
            .into_iter()
            .filter(|name| !self.names.contains(name))
            .collect();
        self.names.extend(new);
    }

    /// The ids of all images: as an output made them, else as they were built.
    pub(super) fn image_ids(&self, product: &Product) -> Vec<Digest> {
        match self.images.is_empty() {
            true => product.images.iter().map(|built| built.id).collect(),
            false => self.images.clone(),
        }
    }

    /// Writes the image id alone, without a newline.
    pub(super) fn write_id(&self, path: &Path) -> Result<(), Failure> {
        write(path, self.id.to_string().as_bytes())
    }

    /// Keys in the order buildx writes them.
    fn metadata(&self) -> Value {
        let mut object = Map::new();
        for (platform, predicate) in &self.provenance {
            let platform = platform.as_ref().map(|platform| format!("/{platform}"));
            let key = format!("buildx.build.provenance{}", platform.unwrap_or_default());
            object.insert(key, predicate.clone());
        }
        if !self.is_index {
            object.insert(
                "containerimage.config.digest".to_owned(),
                self.id.to_string().into(),
            );
        }
        if let Some(manifest) = &self.manifest {
            let descriptor = serde_json::to_value(manifest)
                .expect("a descriptor is made of strings and numbers");
            object.insert("containerimage.descriptor".to_owned(), descriptor);
            object.insert(
                "containerimage.digest".to_owned(),
                manifest.descriptor.digest().to_string().into(),
            );
        }
        if !self.names.is_empty() {
            let names: Vec<_> = self.names.iter().map(ToString::to_string).collect();
            object.insert("image.name".to_owned(), names.join(",").into());
        }
        Value::Object(object)
    }
}

fn provenance(product: &Product) -> Vec<(Option<Platform>, Value)> {
    let of_image = |built: &Built| {
        let mut said = built.attestations.iter();
        let found = said.find(|said| said.predicate_type.starts_with(SLSA))?;
        let platform = product.multi_platform.then(|| built.platform.clone());
        Some((platform, found.predicate.clone()))
    };
    product.images.iter().filter_map(of_image).collect()
}

/// Writes an indented JSON object; with several targets one that has theirs under their names, as buildx bake does.
pub(super) fn write_metadata(results: &[Results], path: &Path) -> Result<(), Failure> {
    let metadata = match results {
        [only] => only.metadata(),
        several => {
            let of_each = several.iter().map(|results| {
                let target = results.target.clone().unwrap_or_default();
                (target, results.metadata())
            });
            Value::Object(of_each.collect())
        }
    };
    write(path, format!("{metadata:#}").as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|error| Failure::unwritable(path, &error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn metadata_names_config_and_images() {
        // R-EXPORT-9
        let results = Results {
            target: None,
            id: Digest::of(b"config"),
            is_index: false,
            has_image: false,
            images: Vec::new(),
            loaded: None,
            manifest: None,
            names: vec!["a".parse().unwrap(), "b:1".parse().unwrap()],
            provenance: vec![(None, Value::from(1))],
        };
        let expected = serde_json::json!({
            "buildx.build.provenance": 1,
            "containerimage.config.digest": Digest::of(b"config").to_string(),
            "image.name": "docker.io/library/a:latest,docker.io/library/b:1",
        });
        assert_eq!(results.metadata(), expected);
    }

    #[test]
    fn the_id_file_is_the_id_alone() {
        // R-EXPORT-10
        let results = Results {
            target: None,
            id: Digest::of(b""),
            is_index: false,
            has_image: false,
            images: Vec::new(),
            loaded: None,
            manifest: None,
            names: Vec::new(),
            provenance: Vec::new(),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        results.write_id(&path).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            Digest::of(b"").to_string()
        );
        assert!(results.write_id(&dir.path().join("no/id")).is_err());
    }
}
