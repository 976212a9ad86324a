//! Why a step could not be started. A program that ran and failed is no error here: see [`super::ExitStatus`].

use crate::sys;
use serde::{Deserialize, Serialize};

/// The sandbox, or the program in it, could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// The helper process that makes steps could not be started.
    #[error("could not start the sandbox launcher")]
    Launcher(#[source] sys::Error),
    /// The helper process is no longer there.
    #[error("the sandbox launcher ended unexpectedly")]
    LauncherGone,
    /// The step was killed before its program began.
    #[error("the step was killed while it was being set up")]
    Killed,
    /// The spec can't be met as it is, whatever the kernel allows.
    #[error("{0}")]
    Invalid(String),
    /// A step of the set-up was refused: the environment's fault, not the Dockerfile's.
    #[error("could not {stage}")]
    Setup {
        /// What was being done, `mount /proc`.
        stage: String,
        /// The call that failed.
        #[source]
        cause: sys::Error,
    },
    /// The working directory can't be entered, or lies outside the root (CVE-2024-21626).
    #[error("working directory `{cwd}`: {reason}")]
    WorkingDirectory {
        /// As given.
        cwd: String,
        /// Why not.
        reason: String,
    },
    /// Nothing can be mounted at a place of the image, whatever the kernel allows.
    #[error("mount at `{target}`: {reason}")]
    MountPoint {
        /// As asked for.
        target: String,
        /// Why not.
        reason: String,
    },
    /// A score for lack of memory that takes a capability outside of any user namespace.
    #[error(
        "could not set the score for lack of memory to {score}: less than kiln's own, which is {own}, takes the capability CAP_SYS_RESOURCE on this machine"
    )]
    OomScore {
        /// As asked for.
        score: i16,
        /// What kiln has.
        own: i16,
    },
    /// The program is not in the root (R-RT-15).
    #[error("exec: \"{program}\": {}", if program.contains('/') { "no such file or directory" } else { "executable file not found in $PATH" })]
    ProgramNotFound {
        /// As given in argv.
        program: String,
    },
    /// The program is there but can't be executed.
    #[error("exec: \"{program}\": {reason}")]
    ProgramNotExecutable {
        /// As given in argv.
        program: String,
        /// `permission denied`, `exec format error`, …
        reason: String,
    },
}

/// What the child tells through its pipe before it becomes the program: as data, so that nothing is flattened to text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// See [`SandboxError::Setup`].
    Setup { stage: String, cause: sys::Error },
    /// See [`SandboxError::WorkingDirectory`].
    WorkingDirectory { cwd: String, reason: String },
    /// See [`SandboxError::MountPoint`].
    MountPoint { target: String, reason: String },
    /// See [`SandboxError::OomScore`].
    OomScore { score: i16, own: i16 },
    /// See [`SandboxError::ProgramNotFound`].
    ProgramNotFound { program: String },
    /// See [`SandboxError::ProgramNotExecutable`].
    ProgramNotExecutable { program: String, reason: String },
}

impl Failure {
    /// Nothing can be mounted at `target`.
    pub(crate) fn mount_point(target: &str, reason: impl Into<String>) -> Self {
        Self::MountPoint {
            target: target.to_owned(),
            reason: reason.into(),
        }
    }
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Setup { stage, cause } => Self::Setup { stage, cause },
            Failure::WorkingDirectory { cwd, reason } => Self::WorkingDirectory { cwd, reason },
            Failure::MountPoint { target, reason } => Self::MountPoint { target, reason },
            Failure::OomScore { score, own } => Self::OomScore { score, own },
            Failure::ProgramNotFound { program } => Self::ProgramNotFound { program },
            Failure::ProgramNotExecutable { program, reason } => {
                Self::ProgramNotExecutable { program, reason }
            }
        }
    }
}
