//! A running step: wait for it, kill it, tidy up after it.

use super::SandboxError;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited by itself with this status, 0 to 255.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
}

impl ExitStatus {
    /// Whether it exited with status 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// The status a shell would report: the code itself, or 128 + signal (R-RT-15).
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// A step whose program is running. Dropping it kills the step and waits for its end.
#[derive(Debug)]
pub struct Step {}

impl Step {
    /// Waits until the program and everything it started have ended, then removes the mount points made for it.
    pub fn wait(&self) -> Result<ExitStatus, SandboxError> {
        todo!()
    }

    /// Kills the program and everything it started. Can be called from any thread, also while another waits.
    pub fn kill(&self) {
        todo!()
    }
}
