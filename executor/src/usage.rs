//! What a step used of the machine.

use std::fmt;
use std::time::Duration;

use crate::sys::ChildUsage;

/// Figures of a step that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Time of processors in its programs.
    pub user: Duration,
    /// Time of processors in the kernel for them.
    pub system: Duration,
    /// The most memory in bytes: of the whole step if it had a cgroup, else of the largest of its processes.
    pub peak_memory: u64,
    /// Whether `peak_memory` is the whole step's.
    pub whole_step: bool,
    /// Bytes read from disks.
    pub read: u64,
    /// Bytes to be written to disks.
    pub written: u64,
}

impl Usage {
    /// Time of processors in all.
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }

    /// With the peak that the step's cgroup counted.
    pub(crate) fn with_peak(self, peak: Option<u64>) -> Self {
        Self {
            peak_memory: peak.unwrap_or(self.peak_memory),
            whole_step: peak.is_some(),
            ..self
        }
    }
}

impl From<ChildUsage> for Usage {
    fn from(usage: ChildUsage) -> Self {
        Self {
            user: usage.user,
            system: usage.system,
            peak_memory: usage.peak_memory,
            whole_step: false,
            read: usage.read,
            written: usage.written,
        }
    }
}

/// What a step had not enough of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Memory: the kernel killed a process of it at its own limit.
    Limit {
        /// The limit in bytes; `None` if it was set by whoever made the parent cgroup.
        limit: Option<u64>,
        /// The most it used, in bytes.
        peak: Option<u64>,
    },
    /// Memory, without a limit of its own; so many processes were killed on this machine since the build's first step.
    Machine {
        /// How many.
        killed: u64,
    },
    /// Processes: the kernel refused it another one.
    Processes {
        /// As many may run at a time; `None` if it was set by whoever made the parent cgroup.
        limit: Option<u64>,
    },
}

impl fmt::Display for Shortage {
    /// R-RT-15
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { limit, peak } => {
                f.write_str("cannot allocate memory: the kernel killed it at its limit")?;
                if let Some(limit) = limit {
                    write!(f, " of {}", mebibytes(*limit))?;
                }
                match peak {
                    Some(peak) => write!(f, ", after it had used {}", mebibytes(*peak)),
                    None => Ok(()),
                }
            }
            Self::Machine { killed } => write!(
                f,
                "the kernel killed {killed} process{} of this machine for lack of memory since the first step began",
                if *killed == 1 { "" } else { "es" }
            ),
            Self::Processes { limit } => {
                f.write_str("the kernel refused it more processes and threads")?;
                match limit {
                    Some(limit) => write!(f, " than its limit of {limit}"),
                    None => f.write_str(" than its cgroup may have"),
                }
            }
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_short_in_words() {
        // R-RT-15
        let cases = [
            (
                Shortage::Limit {
                    limit: Some(64 << 20),
                    peak: Some((64 << 20) - (512 << 10)),
                },
                "cannot allocate memory: the kernel killed it at its limit of 64.0 MiB, after it had used 63.5 MiB",
            ),
            (
                Shortage::Limit {
                    limit: None,
                    peak: None,
                },
                "cannot allocate memory: the kernel killed it at its limit",
            ),
            (
                Shortage::Machine { killed: 2 },
                "the kernel killed 2 processes of this machine for lack of memory since the first step began",
            ),
            (
                Shortage::Processes { limit: Some(10) },
                "the kernel refused it more processes and threads than its limit of 10",
            ),
            (
                Shortage::Processes { limit: None },
                "the kernel refused it more processes and threads than its cgroup may have",
            ),
        ];
        for (what, text) in cases {
            assert_eq!(what.to_string(), text);
        }
    }
}
