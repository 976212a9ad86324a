//! Where an image comes from: what was read and asked for, in the words of BuildKit's provenance, so that what reads that reads this.
//!
//! Values of build arguments whose names tell of a secret are digests, unlike there. Secrets are named, never shown.

mod request;
mod sources;
mod steps;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use kiln_cache::builds::SourceRecord;
use kiln_image::{Digest, Platform};
use kiln_planner::{Op, Plan, PlanOptions, SourceOp, VertexId, inputs};
use serde_json::{Map, Value, json};

use super::{Attestation, Provenance, ProvenanceMode, SlsaVersion};
use crate::Services;
use crate::build::BuildRequest;
use crate::journal::Journal;
use request::Request;

/// What buildkit's documents call such a build.
const BUILD_TYPE_1: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const BUILD_TYPE_02: &str = "https://mobyproject.org/buildkit@v1";

/// The version of BuildKit's frontend that Dockerfiles are read as.
const DOCKERFILE: &str = "1.26.0-dev";

/// What is known of an image that was built.
pub(crate) struct Facts<'a> {
    pub plan: &'a Plan,
    pub request: &'a BuildRequest<'a>,
    pub options: &'a PlanOptions,
    /// What the names of sources stood for.
    pub seen: Vec<SourceRecord>,
    /// The digest of the image's config.
    pub id: Digest,
    /// When the build began and ended; both are the given date where there is one, so that the same build says the same.
    pub began: Timestamp,
    pub ended: Timestamp,
    /// The name of the build; `None` where what is said must not change from build to build.
    pub invocation: Option<String>,
}

impl<'a> Facts<'a> {
    /// Of an image with this id that has just been built.
    pub(crate) fn of(
        plan: &'a Plan,
        options: &'a PlanOptions,
        request: &'a BuildRequest<'a>,
        id: Digest,
        services: &Services<'_>,
    ) -> Self {
        let epoch = plan.source_date_epoch;
        let epoch = epoch.and_then(|epoch| Timestamp::from_second(epoch).ok());
        let now = Timestamp::now();
        let journal = request.journal;
        let began = journal.map_or(now, Journal::started);
        Self {
            plan,
            options,
            request,
            id,
            seen: services.hold.seen(),
            began: epoch.unwrap_or(began),
            ended: epoch.unwrap_or(now),
            invocation: journal.filter(|_| epoch.is_none()).map(Journal::id),
        }
    }
}

impl Facts<'_> {
    /// The vertices that the image needs, each after what it reads.
    fn needed(&self) -> Vec<VertexId> {
        let graph = &self.plan.graph;
        let mut needed = vec![false; graph.node_count()];
        let mut open = vec![self.plan.target];
        open.extend(self.plan.attached);
        open.extend(self.plan.history.iter().filter_map(|step| step.vertex));
        while let Some(vertex) = open.pop() {
            if !std::mem::replace(&mut needed[vertex.index()], true) {
                open.extend(inputs(graph, vertex));
            }
        }
        graph
            .node_indices()
            .filter(|vertex| needed[vertex.index()])
            .collect()
    }

    /// Whether nothing but named sources was read.
    fn is_complete(&self, needed: &[VertexId]) -> bool {
        let mut vertices = needed.iter().map(|vertex| &self.plan.graph[*vertex].op);
        !vertices.any(|op| matches!(op, Op::Source(SourceOp::Local { .. })))
    }

    /// All of it.
    pub(super) fn provenance(&self, asked: &Provenance) -> Attestation {
        let (predicate_type, predicate) = match asked.version {
            SlsaVersion::V1 => ("https://slsa.dev/provenance/v1", self.version_1(asked)),
            SlsaVersion::V02 => ("https://slsa.dev/provenance/v0.2", self.version_02(asked)),
        };
        Attestation {
            predicate_type,
            inline_only: asked.inline_only,
            predicate,
        }
    }

    fn version_1(&self, asked: &Provenance) -> Value {
        let needed = self.needed();
        let request = Request::of(self, asked.mode);
        let mut internal = Map::new();
        if asked.mode == ProvenanceMode::Max {
            internal.insert("buildConfig".to_owned(), self.build_config(&needed));
        }
        internal.insert("builderPlatform".to_owned(), builder_platform().into());
        internal.insert("dockerfileVersion".to_owned(), DOCKERFILE.into());
        let mut metadata = Map::new();
        if let Some(id) = &self.invocation {
            metadata.insert("invocationId".to_owned(), id.clone().into());
        }
        metadata.insert("startedOn".to_owned(), self.began.to_string().into());
        metadata.insert("finishedOn".to_owned(), self.ended.to_string().into());
        metadata.insert(
            "buildkit_metadata".to_owned(),
            self.metadata(asked, &needed),
        );
        metadata.insert(
            "buildkit_completeness".to_owned(),
            json!({
                "request": request.is_complete,
                "resolvedDependencies": self.is_complete(&needed),
            }),
        );
        if asked.reproducible {
            metadata.insert("buildkit_reproducible".to_owned(), true.into());
        }
        json!({
            "buildDefinition": {
                "buildType": BUILD_TYPE_1,
                "resolvedDependencies": self.sources(&needed),
                "externalParameters": {
                    "configSource": request.config_source("path"),
                    "request": request.parameters(),
                },
                "internalParameters": internal,
            },
            "runDetails": {
                "builder": {
                    "id": asked.builder_id,
                    "version": {"kiln": env!("CARGO_PKG_VERSION")},
                },
                "metadata": metadata,
            },
        })
    }

    fn version_02(&self, asked: &Provenance) -> Value {
        let needed = self.needed();
        let request = Request::of(self, asked.mode);
        let mut predicate = json!({
            "builder": {"id": asked.builder_id},
            "buildType": BUILD_TYPE_02,
            "materials": self.sources(&needed),
            "invocation": {
                "configSource": request.config_source("entryPoint"),
                "parameters": request.parameters(),
                "environment": {"platform": builder_platform(), "dockerfileVersion": DOCKERFILE},
            },
        });
        if asked.mode == ProvenanceMode::Max {
            predicate["buildConfig"] = self.build_config(&needed);
        }
        let mut metadata = Map::new();
        if let Some(id) = &self.invocation {
            metadata.insert("buildInvocationID".to_owned(), id.clone().into());
        }
        metadata.insert("buildStartedOn".to_owned(), self.began.to_string().into());
        metadata.insert("buildFinishedOn".to_owned(), self.ended.to_string().into());
        metadata.insert(
            "completeness".to_owned(),
            json!({
                "parameters": request.is_complete,
                "environment": true,
                "materials": self.is_complete(&needed),
            }),
        );
        metadata.insert("reproducible".to_owned(), asked.reproducible.into());
        metadata.insert(
            format!("{BUILD_TYPE_02}#metadata"),
            self.metadata(asked, &needed),
        );
        predicate["metadata"] = metadata.into();
        predicate
    }

    /// The Dockerfile, and where in it each step stands.
    fn metadata(&self, asked: &Provenance, needed: &[VertexId]) -> Value {
        if asked.mode == ProvenanceMode::Min {
            return json!({});
        }
        let source = self.request.source;
        let mut locations = Map::new();
        for (step, vertex) in needed.iter().enumerate() {
            let span = self.plan.graph[*vertex].span;
            let line = span.map(|span| source.line_of(span));
            let place = match line {
                Some(line) => json!({"locations": [{"ranges": [
                    {"start": {"line": line}, "end": {"line": line}}
                ]}]}),
                None => json!({}),
            };
            locations.insert(format!("step{step}"), place);
        }
        json!({"source": {
            "locations": locations,
            "infos": [{
                "filename": request::file_name(source.name()),
                "language": "Dockerfile",
                "data": BASE64.encode(source.text()),
            }],
        }})
    }
}

fn builder_platform() -> String {
    Platform::host().to_string()
}
