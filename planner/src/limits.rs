//! What `--ulimit`, `--shm-size` and `--cgroup-parent` give every RUN. They enter keys, as a step may look at them (R-CACHE-5); how
//! much memory and time of processors it gets does not, and is no matter of a plan (R-CACHE-6).

/// Limits of every RUN; empty ones are the machine's or the sandbox's own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Resource limits, each resource once (R-RT-14).
    pub ulimits: Vec<Ulimit>,
    /// Size of `/dev/shm` in bytes (R-RT-7).
    pub shm_size: Option<u64>,
    /// The cgroup that the step's own is made in.
    pub cgroup_parent: Option<String>,
}

/// One resource limit, in the resource's own unit; `None` is unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// The resource, as `--ulimit` calls it: `nofile`.
    pub name: String,
    /// The soft limit.
    pub soft: Option<u64>,
    /// The hard limit, which the soft one is not above.
    pub hard: Option<u64>,
}

impl std::fmt::Display for Ulimit {
    /// `nofile=1024:2048`, with -1 for unlimited.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |limit: Option<u64>| limit.map_or("-1".to_owned(), |limit| limit.to_string());
        write!(
            f,
            "{}={}:{}",
            self.name,
            number(self.soft),
            number(self.hard)
        )
    }
}
