//! What a build is asked for, besides the Dockerfile.

use kiln_image::Platform;
use kiln_parser::Network;

use crate::{Limits, NamedContexts};

/// Everything outside the Dockerfile that changes what a plan says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanOptions {
    /// The stage to build (R-STG-1); the last one when `None`.
    pub target: Option<String>,
    /// Stages that are built too and make no image: tests, say. Named as a target is.
    pub also_targets: Vec<String>,
    /// `--build-arg` values; the last of a name counts. Used raw (R-ARG-6).
    pub build_args: Vec<(String, String)>,
    /// `--label` pairs, written into the final config over what the Dockerfile says (R-LABEL-2).
    pub labels: Vec<(String, String)>,
    /// The platform of the result.
    pub target_platform: Platform,
    /// Whether the user asked for that platform, or it is just the builder's (R-FROM-13).
    pub platform_requested: bool,
    /// The platform of the machine that builds.
    pub build_platform: Platform,
    /// Whether several platforms are built at once, so that names of steps tell which (R-PROG-2).
    pub multi_platform: bool,
    /// Steps whose cached results must not be used.
    pub no_cache: NoCache,
    /// The network of a RUN that doesn't choose one (R-RUN-4).
    pub network: Network,
    /// What RUN is allowed beyond the usual.
    pub entitlements: Entitlements,
    /// Host name inside RUN; `buildkitsandbox` when `None` (R-RT-11). The build arg `BUILDKIT_SANDBOX_HOSTNAME` wins.
    pub hostname: Option<String>,
    /// `--add-host`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// `--ulimit`, `--shm-size`, `--cgroup-parent`.
    pub limits: Limits,
    /// Seconds since 1970 for all dates of the result; the build arg or global ARG `SOURCE_DATE_EPOCH` wins (R-SDE-1).
    pub source_date_epoch: Option<i64>,
    /// Names that stand for something else than the Dockerfile says (R-CTX-1).
    pub contexts: NamedContexts,
    /// Whether stages that the target doesn't need are evaluated too, for checks (R-CHK-5).
    pub all_stages: bool,
}

impl PlanOptions {
    /// The defaults: build the last stage for the machine's own platform.
    #[must_use]
    pub fn new(platform: Platform) -> PlanOptions {
        PlanOptions {
            target: None,
            also_targets: Vec::new(),
            build_args: Vec::new(),
            labels: Vec::new(),
            target_platform: platform.clone(),
            platform_requested: false,
            build_platform: platform,
            multi_platform: false,
            no_cache: NoCache::None,
            network: Network::Default,
            entitlements: Entitlements::default(),
            hostname: None,
            extra_hosts: Vec::new(),
            limits: Limits::default(),
            source_date_epoch: None,
            contexts: NamedContexts::default(),
            all_stages: false,
        }
    }

    /// The value of a build argument.
    #[must_use]
    pub fn build_arg(&self, name: &str) -> Option<&str> {
        self.build_args
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Which steps ignore what is cached (R-CACHE-22, R-CACHE-23). WORKDIR and sources never do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NoCache {
    /// None of them.
    #[default]
    None,
    /// Every RUN, COPY and ADD.
    All,
    /// Those of the named stages, in any letter case.
    Stages(Vec<String>),
}

/// What a build may do that needs permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entitlements {
    /// `RUN --network=host` (R-RUN-4).
    pub network_host: bool,
    /// `RUN --security=insecure` (R-RUN-5).
    pub security_insecure: bool,
}
