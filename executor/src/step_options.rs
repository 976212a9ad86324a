//! What a build gives its steps that is in no key: what they may read from outside, how long they may take, how much of the machine
//! they may use.

use std::num::NonZero;
use std::time::Duration;

use crate::agents::Agents;
use crate::cgroup::Resources;
use crate::op::LogLimit;
use crate::secrets::Secrets;

/// How steps are run.
#[derive(Debug, Clone, Default)]
pub struct StepOptions {
    /// How much of what a step prints is passed on.
    pub log_limit: LogLimit,
    /// What `RUN --mount=type=secret` can ask for.
    pub secrets: Secrets,
    /// What `RUN --mount=type=ssh` can ask for.
    pub agents: Agents,
    /// Memory, processors and processes of each step.
    pub resources: Resources,
    /// How long a RUN may take that has no `# kiln: timeout=` of its own.
    pub timeout: Option<Duration>,
    /// How many steps run at a time at most.
    pub jobs: Option<NonZero<usize>>,
    /// Whether what a failed RUN leaves is kept as a container.
    pub keep_failed: bool,
}
