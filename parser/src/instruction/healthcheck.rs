//! HEALTHCHECK (R-HC).

use std::time::Duration;

use crate::instruction::CommandLine;

/// `HEALTHCHECK NONE` or `HEALTHCHECK [flags] CMD <command>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// No check, not even an inherited one.
    None,
    /// A command to run. Times and retries are `None` when not given or zero (R-HC-4, R-HC-5).
    Check {
        /// The command.
        command: CommandLine,
        /// `--interval`
        interval: Option<Duration>,
        /// `--timeout`
        timeout: Option<Duration>,
        /// `--start-period`
        start_period: Option<Duration>,
        /// `--start-interval`
        start_interval: Option<Duration>,
        /// `--retries`
        retries: Option<u32>,
    },
}
