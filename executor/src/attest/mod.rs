//! What is said about an image and kept beside it: where it comes from (SLSA provenance) and what is in it (SPDX), R-ATT.
//!
//! Each is a predicate, made when the image is built. What it is about, the digest of the image's manifest, is known only when that
//! is written, so the in-toto statement around the predicate is made there (`export/attested.rs`).

mod provenance;
mod sbom;
mod statement;

use serde_json::Value;

pub(crate) use provenance::Facts;
pub(crate) use statement::{files_statement, statement};

use crate::Services;
use crate::error::Cause;
use crate::event::Reporter;
use crate::rootfs::RootFs;

/// What is to be said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attest {
    /// Where images come from.
    pub provenance: Option<Provenance>,
    /// What packages are in them.
    pub sbom: bool,
}

/// How to say where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Provenance {
    /// How much.
    pub mode: ProvenanceMode,
    /// In which version.
    pub version: SlsaVersion,
    /// Who built it, as an address; empty if nobody says.
    pub builder_id: String,
    /// Whether it is for images in stores and registries alone, not for archives and files.
    pub inline_only: bool,
    /// Whether whoever asks for it vouches that the build gives the same every time.
    pub reproducible: bool,
}

/// How much is said (R-ATT-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProvenanceMode {
    /// What was read, and flags, without build arguments and labels.
    #[default]
    Min,
    /// Also those, all steps and the Dockerfile.
    Max,
}

/// The version of the predicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlsaVersion {
    /// `https://slsa.dev/provenance/v1`
    #[default]
    V1,
    /// `https://slsa.dev/provenance/v0.2`
    V02,
}

/// Something that is said about an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Attestation {
    /// What kind of thing.
    pub predicate_type: &'static str,
    /// Whether it is kept beside images only, and not in files.
    pub inline_only: bool,
    /// It.
    pub predicate: Value,
}

impl Attest {
    /// Whether anything is to be said.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.provenance.is_some() || self.sbom
    }

    /// Says it of an image: what is in it first, as BuildKit does.
    pub(crate) fn say(
        &self,
        facts: &Facts<'_>,
        root: &RootFs,
        services: &Services<'_>,
        reporter: &Reporter<'_>,
    ) -> Result<Vec<Attestation>, Cause> {
        let mut said = Vec::new();
        if self.sbom {
            let task = reporter.start(format!("listing packages for {}", facts.plan.platform));
            let document = sbom::document(facts, root, services, &task);
            said.push(Attestation {
                predicate_type: "https://spdx.dev/Document",
                inline_only: false,
                predicate: task.end_with(document)?,
            });
        }
        if let Some(asked) = &self.provenance {
            said.push(facts.provenance(asked));
        }
        Ok(said)
    }
}
