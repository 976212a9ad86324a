//! Images of a layout on this machine that a named context gives (R-CTX-7). Like a registry's, a layer is taken into the store
//! when somebody needs it.

use std::path::PathBuf;
use std::sync::Arc;

use kiln_image::layout::{Layout, LayoutError, REF_NAME};
use kiln_image::{Descriptor, Digest, ImageConfig, Manifest, Platform, media_type};
use kiln_planner::BaseImage;

use super::MOST_NESTED;
use super::index::choose;
use crate::Services;
use crate::error::{Cause, chain};
use crate::layers::{Holder, digest_of};

/// An image of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutImage {
    /// The layout: a directory, or a tar that is not compressed.
    pub path: PathBuf,
    /// The tag it has there. One image alone is found whatever its tag is.
    pub tag: String,
    /// The digest of its manifest or index; it outranks the tag.
    pub digest: Option<Digest>,
}

/// Finds an image, for a platform where the layout has several.
pub(crate) fn resolve_in_layout(
    services: &Services<'_>,
    image: &LayoutImage,
    platform: &Platform,
) -> Result<BaseImage, Cause> {
    let shown = format!("oci-layout://{}", image.path.display());
    let bad = |error: LayoutError| Cause::Image(format!("can't use `{shown}`: {}", chain(&error)));
    let layout = Arc::new(Layout::open(&image.path).map_err(bad)?);
    let mut found = image.descriptor(&layout, &shown)?;
    let mut manifest = layout.manifest(&found).map_err(bad)?.1;
    for _ in 0..MOST_NESTED {
        let Manifest::Index(index) = &manifest else {
            break;
        };
        found = match &index.manifests()[..] {
            // Nothing but another index says nothing of platforms.
            [only] if media_type::is_index(only.media_type().as_ref()) => only.clone(),
            several => choose(&shown, platform, several)?.clone(),
        };
        manifest = layout.manifest(&found).map_err(bad)?.1;
    }
    let Manifest::Image(manifest) = manifest else {
        return Err(Cause::Image(format!(
            "`{shown}` has indexes too deep within each other"
        )));
    };
    let config_bytes = layout.read_blob(manifest.config()).map_err(bad)?;
    let config = ImageConfig::from_json(&config_bytes)
        .map_err(|error| Cause::Image(format!("can't use `{shown}`: {error}")))?;
    if config.diff_ids().len() != manifest.layers().len() {
        return Err(Cause::Image(format!(
            "an image of `{shown}` has {} layers in its manifest and {} in its config",
            manifest.layers().len(),
            config.diff_ids().len()
        )));
    }
    let manifest_digest = digest_of(&found)?;
    let layers = config.diff_ids().iter().copied().zip(manifest.layers());
    let holder = Holder::Layout(layout);
    services
        .layers
        .add_image(manifest_digest, &holder, layers, true);
    Ok(BaseImage {
        manifest_digest: Some(manifest_digest),
        config,
    })
}

impl LayoutImage {
    fn descriptor(&self, layout: &Layout, shown: &str) -> Result<Descriptor, Cause> {
        let manifests = layout.index().manifests();
        if let Some(wanted) = &self.digest {
            let text = wanted.to_string();
            let is_it = |found: &&Descriptor| found.digest().to_string() == text;
            let nested = || in_indexes(layout).find(|found| is_it(&found));
            let found = manifests.iter().find(is_it).cloned().or_else(nested);
            return found
                .ok_or_else(|| Cause::Image(format!("there is no image {wanted} in `{shown}`")));
        }
        let tagged = manifests.iter().find(|found| tag(found) == Some(&self.tag));
        match (tagged, &manifests[..]) {
            (Some(found), _) => Ok(found.clone()),
            (None, [only]) => Ok(only.clone()),
            (None, _) => {
                let tags: Vec<&str> = manifests.iter().filter_map(tag).collect();
                Err(Cause::Image(format!(
                    "there is no image tagged `{}` in `{shown}`, only `{}`",
                    self.tag,
                    tags.join("`, `")
                )))
            }
        }
    }
}

fn tag(descriptor: &Descriptor) -> Option<&str> {
    let annotations = descriptor.annotations().as_ref()?;
    annotations.get(REF_NAME).map(String::as_str)
}

/// The images of the indexes that a layout lists.
fn in_indexes(layout: &Layout) -> impl Iterator<Item = Descriptor> + '_ {
    let listed = layout.index().manifests().iter();
    listed.flat_map(|descriptor| match layout.manifest(descriptor) {
        Ok((_, Manifest::Index(index))) => index.manifests().clone(),
        _ => Vec::new(),
    })
}
