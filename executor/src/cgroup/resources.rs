//! How much of the machine a step may use (R-CLI-4 `--resource`, R-RT-14), in Docker's terms.

/// Limits of one step; `None` leaves it to what kiln itself may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Memory and swap together. With `memory` alone it is twice as much, as for Docker.
    pub memory_swap: Option<Swap>,
    /// Weight among others when processors are busy; 1024 is the usual one.
    pub cpu_shares: Option<u64>,
    /// Length of a period of `cpu_quota`, in microseconds.
    pub cpu_period: Option<u64>,
    /// Time of processors in each period, in microseconds; `None` within is no limit.
    pub cpu_quota: Option<Option<u64>>,
    /// Processors it may run on: `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes it may allocate on.
    pub cpuset_mems: Option<String>,
    /// How many processes and threads it may have.
    pub pids: Option<u64>,
}

/// A limit of memory and swap together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// As much swap as there is.
    Unlimited,
    /// In bytes, memory included.
    Bytes(u64),
}

/// The part of the kernel that a limit needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    /// Memory and swap.
    Memory,
    /// Shares and quotas of processors.
    Cpu,
    /// Which processors and memory nodes.
    Cpuset,
    /// Numbers of processes.
    Pids,
}

impl Controller {
    /// As the kernel calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Pids => "pids",
        }
    }
}

impl Resources {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What the kernel must have for these limits.
    pub(super) fn controllers(&self) -> Vec<Controller> {
        let memory = self.memory.is_some() || self.memory_swap.is_some();
        let cpu =
            self.cpu_shares.is_some() || self.cpu_period.is_some() || self.cpu_quota.is_some();
        let cpuset = self.cpuset_cpus.is_some() || self.cpuset_mems.is_some();
        let needed = [
            (memory, Controller::Memory),
            (cpu, Controller::Cpu),
            (cpuset, Controller::Cpuset),
            (self.pids.is_some(), Controller::Pids),
        ];
        needed
            .into_iter()
            .filter_map(|(is_needed, controller)| is_needed.then_some(controller))
            .collect()
    }

    /// Bytes of memory and swap together, where one is to be set: what was asked for, else twice the memory.
    pub(super) fn memory_and_swap(&self) -> Option<Swap> {
        self.memory_swap.or_else(|| {
            self.memory
                .map(|bytes| Swap::Bytes(bytes.saturating_mul(2)))
        })
    }
}
