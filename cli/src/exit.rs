//! How kiln ends: one exit code for each kind of end, the same for every command.
//!
//! | code | means |
//! |---|---|
//! | 0 | done |
//! | 1 | the build failed: a RUN, a missing COPY source, an image that is not there |
//! | 2 | the command line or the Dockerfile is wrong |
//! | 3 | the environment cannot: privileges, kernel, a store that cannot be written |
//! | 4 | a registry or the network |
//! | 5 | a check has warnings, or one stopped a build; a lock or a build that is verified is not what it should be |
//! | 70 | a bug of kiln |
//! | 124 | a step took longer than it may |
//! | 130, 143 | stopped by SIGINT, SIGTERM |

use std::process::ExitCode;

use kiln_executor::ErrorKind;

/// The way a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All that was asked for is done.
    Done,
    /// The build, or another command's own work, failed.
    Failed,
    /// The command line or the Dockerfile is wrong.
    Usage,
    /// The machine cannot do it: privileges, kernel, disk.
    Environment,
    /// A registry or the network.
    Registry,
    /// A check has warnings, or one stopped a build (`# check=error=true`).
    Check,
    /// A bug of kiln.
    Bug,
    /// A step took longer than it may.
    TimedOut,
    /// Stopped by this signal, after cleaning up.
    Signal(i32),
    /// `kiln run`: what the program in the container exited with.
    Program(u8),
}

impl Exit {
    /// The number the calling process sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Environment => 3,
            Self::Registry => 4,
            Self::Check => 5,
            Self::Bug => 70,
            Self::TimedOut => 124,
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(128),
            Self::Program(status) => status,
        }
    }
}

impl From<ErrorKind> for Exit {
    /// The one place where kinds of failures become exit codes. A cancelled build is told by its signal; where none came,
    /// nobody but kiln itself can have stopped it.
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Build => Self::Failed,
            ErrorKind::Input => Self::Usage,
            ErrorKind::Environment => Self::Environment,
            ErrorKind::Registry => Self::Registry,
            ErrorKind::Canceled => Self::Failed,
            ErrorKind::TimedOut => Self::TimedOut,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let cases = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Environment, 3),
            (Exit::Registry, 4),
            (Exit::Check, 5),
            (Exit::Bug, 70),
            (Exit::Signal(2), 130),
            (Exit::Signal(15), 143),
            (Exit::Program(3), 3),
        ];
        for (exit, code) in cases {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }
}
