//! The images a Dockerfile builds on. The caller resolves them.

use std::collections::HashMap;

use kiln_image::{Digest, ImageConfig, Platform, Reference};
use kiln_parser::{Diagnostic, Parsed, Span};

use crate::plan::planned;
use crate::resolve::Resolution;
use crate::{ContextName, Plan, PlanOptions, code};

/// An image whose config is needed before a plan can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseRequest {
    /// Its name.
    pub reference: Reference,
    /// The platform to choose from an index.
    pub platform: Platform,
    /// The named context whose layout has it, under whatever name; `None` for an image of the store or a registry.
    pub layout: Option<ContextName>,
    /// The instruction that names it first.
    pub span: Span,
}

impl BaseRequest {
    /// Under which [`plan`](crate::plan) looks the answer up.
    #[must_use]
    pub fn key(&self) -> BaseKey {
        BaseKey {
            reference: self.reference.clone(),
            platform: self.platform.clone(),
            layout: self.layout.clone(),
        }
    }
}

/// What an image was asked for by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BaseKey {
    /// Its name.
    pub reference: Reference,
    /// The platform asked for.
    pub platform: Platform,
    /// As in [`BaseRequest`].
    pub layout: Option<ContextName>,
}

/// What a name was resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImage {
    /// Digest of its manifest; `None` for an image that was made here and has none.
    pub manifest_digest: Option<Digest>,
    /// Its config, history and diff ids included.
    pub config: ImageConfig,
}

impl BaseImage {
    /// The name it was asked for by, with its digest where it has one.
    pub(crate) fn name(&self, reference: &Reference) -> Reference {
        self.manifest_digest
            .map_or_else(|| reference.clone(), |digest| reference.with_digest(digest))
    }
}

/// The answers to [`BaseRequest`]s.
pub type Bases = HashMap<BaseKey, BaseImage>;

/// A plan as far as it can be made with the images that are known.
#[derive(Debug)]
pub struct Outlook {
    /// The images that it needs besides; see [`base_images`].
    pub missing: Vec<BaseRequest>,
    /// What [`plan`](crate::plan()) gives where none is missing.
    pub plan: Result<Plan, Vec<Diagnostic>>,
}

/// The images that [`plan`](crate::plan()) will need and `known` does not have: bases of reachable stages, `COPY --from` and
/// `--mount from` (R-STG-2). Each once, in the order of the file.
///
/// A base image's ONBUILD triggers may name further images (R-ONB-5), so call it again with what was resolved until
/// nothing is missing; without such triggers the second answer is empty.
///
/// # Errors
/// All that is wrong with the Dockerfile, as [`plan`](crate::plan()) tells it, as far as that can be known without the images: nobody should wait
/// for a pull to be told of a typing mistake.
pub fn base_images(
    parsed: &Parsed,
    options: &PlanOptions,
    known: &Bases,
) -> Result<Vec<BaseRequest>, Vec<Diagnostic>> {
    outlook(parsed, options, known).map(|outlook| outlook.missing)
}

/// The same with the plan, for callers that want it once nothing is missing.
///
/// # Errors
/// Those of [`base_images`].
pub fn outlook(
    parsed: &Parsed,
    options: &PlanOptions,
    known: &Bases,
) -> Result<Outlook, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let resolution = Resolution::of(parsed, options, known, &mut diagnostics);
    let plan = planned(parsed, options, known, resolution.as_ref(), diagnostics);
    let missing = resolution
        .map(|resolution| resolution.missing)
        .unwrap_or_default();
    match plan {
        Err(errors)
            if errors
                .iter()
                .any(|error| error.code != code::BASE_NOT_RESOLVED) =>
        {
            Err(errors)
        }
        plan => Ok(Outlook { missing, plan }),
    }
}
