//! Kiln's side of the launcher: start the helper at the first step, ask it for steps.

use super::{SandboxError, SandboxSpec, Step};
use std::os::fd::OwnedFd;

/// Starts steps through one helper process, which is made at the first [`Launcher::spawn`] and ends with this value.
#[derive(Debug, Default)]
pub struct Launcher {}

/// The three standard streams of a step.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input; `/dev/null` for a RUN.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
}

impl Stdio {
    /// The engine's own streams.
    pub fn inherit() -> std::io::Result<Self> {
        todo!()
    }

    /// Empty input, output to the two given ends.
    pub fn output(_stdout: OwnedFd, _stderr: OwnedFd) -> std::io::Result<Self> {
        todo!()
    }
}

impl Launcher {
    /// A launcher whose helper is not started yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a step; returns once the program is running (or could not be).
    pub fn spawn(&self, _spec: &SandboxSpec, _stdio: Stdio) -> Result<Step, SandboxError> {
        todo!()
    }
}

/// Becomes the helper if this process was started as one, and then never returns. The first line of `main`.
pub fn init_main_if_asked() {}
