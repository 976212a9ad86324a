//! What a build of one target came to.

use crate::build::Built;

/// The images of one target: one for each platform, in the order in which these were asked for.
#[derive(Debug)]
pub struct Product {
    /// The target, as it was asked for; `None` for the last stage.
    pub target: Option<String>,
    /// Its images; at least one.
    pub images: Vec<Built>,
    /// Whether they are exported as an index, and their files in a folder for each platform: with several platforms, or where
    /// that is asked for (R-MAN-6).
    pub multi_platform: bool,
}

impl Product {
    /// Whether its images are exported as an index: several platforms, or something that is said about an image beside it. What
    /// is for images in stores and registries alone counts where it is wanted `inline`.
    #[must_use]
    pub fn is_index(&self, inline: bool) -> bool {
        let is_attested = |image: &Built| image.said(inline).next().is_some();
        self.multi_platform || self.images.iter().any(is_attested)
    }

    /// The first image: the only one, most of the time.
    #[must_use]
    pub fn first(&self) -> &Built {
        self.images.first().expect("a product has an image")
    }
}
