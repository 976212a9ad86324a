//! Limits as files of a cgroup, and what can be read there afterwards.

use super::resources::{Controller, Resources, Swap};

/// A file of a cgroup and what to write to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Whether it is left out where the kernel has no such file: swap was not asked for and is not counted everywhere.
    pub(super) optional: bool,
}

impl Setting {
    fn new(file: &'static str, value: impl ToString) -> Self {
        Self {
            file,
            value: value.to_string(),
            optional: false,
        }
    }
}

/// What a cgroup of an old hierarchy is told, in an order that the kernel takes.
pub(super) fn old(resources: &Resources, controller: Controller) -> Vec<Setting> {
    let number = |file, value: Option<u64>| value.map(|value| Setting::new(file, value));
    let text = |file, value: &Option<String>| value.as_ref().map(|value| Setting::new(file, value));
    let settings = match controller {
        Controller::Memory => {
            let swap = resources.memory_and_swap().map(|swap| match swap {
                Swap::Unlimited => "-1".to_owned(),
                Swap::Bytes(bytes) => bytes.to_string(),
            });
            let swap = swap.map(|value| Setting {
                optional: resources.memory_swap.is_none(),
                ..Setting::new("memory.memsw.limit_in_bytes", value)
            });
            vec![number("memory.limit_in_bytes", resources.memory), swap]
        }
        Controller::Cpu => {
            let quota = resources.cpu_quota;
            let quota = quota.map(|quota| quota.map_or("-1".to_owned(), |time| time.to_string()));
            vec![
                number("cpu.shares", resources.cpu_shares),
                number("cpu.cfs_period_us", resources.cpu_period),
                text("cpu.cfs_quota_us", &quota),
            ]
        }
        Controller::Cpuset => vec![
            text("cpuset.cpus", &resources.cpuset_cpus),
            text("cpuset.mems", &resources.cpuset_mems),
        ],
        Controller::Pids => vec![number("pids.max", resources.pids)],
    };
    settings.into_iter().flatten().collect()
}

/// What a cgroup of the unified hierarchy is told.
pub(super) fn unified(resources: &Resources, controller: Controller) -> Vec<Setting> {
    let text = |file, value: &Option<String>| value.as_ref().map(|value| Setting::new(file, value));
    let settings = match controller {
        Controller::Memory => {
            let memory = resources.memory;
            let swap = resources.memory_and_swap().map(|swap| Setting {
                optional: resources.memory_swap.is_none(),
                ..Setting::new("memory.swap.max", swap_alone(swap, memory))
            });
            vec![memory.map(|bytes| Setting::new("memory.max", bytes)), swap]
        }
        Controller::Cpu => {
            let weight = resources.cpu_shares.map(weight);
            vec![
                weight.map(|weight| Setting::new("cpu.weight", weight)),
                cpu_max(resources).map(|max| Setting::new("cpu.max", max)),
            ]
        }
        Controller::Cpuset => vec![
            text("cpuset.cpus", &resources.cpuset_cpus),
            text("cpuset.mems", &resources.cpuset_mems),
        ],
        Controller::Pids => vec![resources.pids.map(|pids| Setting::new("pids.max", pids))],
    };
    settings.into_iter().flatten().collect()
}

/// Here swap is counted without memory.
fn swap_alone(swap: Swap, memory: Option<u64>) -> String {
    match swap {
        Swap::Unlimited => "max".to_owned(),
        Swap::Bytes(bytes) => bytes.saturating_sub(memory.unwrap_or(0)).to_string(),
    }
}

/// Shares from 2 to 262144 as a weight from 1 to 10000, the way the OCI runtimes do it.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

fn cpu_max(resources: &Resources) -> Option<String> {
    const USUAL_PERIOD: u64 = 100_000; // microseconds
    if resources.cpu_quota.is_none() && resources.cpu_period.is_none() {
        return None;
    }
    let quota = resources.cpu_quota.flatten();
    let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
    let period = resources.cpu_period.unwrap_or(USUAL_PERIOD);
    Some(format!("{quota} {period}"))
}

/// The number beside a name in a file of such lines: `oom_kill 1`.
pub(super) fn counted(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, count) = line.split_once(' ')?;
        (key == name).then(|| count.trim().parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(settings: &[Setting]) -> String {
        let lines = settings.iter().map(|setting| {
            let optional = if setting.optional { "?" } else { "" };
            format!("{}{optional}={}", setting.file, setting.value)
        });
        lines.collect::<Vec<_>>().join(" ")
    }

    fn all() -> Resources {
        Resources {
            memory: Some(64 << 20),
            cpu_shares: Some(512),
            cpu_quota: Some(Some(50_000)),
            cpuset_cpus: Some("0-1".to_owned()),
            pids: Some(100),
            ..Resources::default()
        }
    }

    const ORDER: [Controller; 4] = [
        Controller::Memory,
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Pids,
    ];

    #[test]
    fn limits_are_files_of_either_kind() {
        // R-RT-14
        let together = |kind: fn(&Resources, Controller) -> Vec<Setting>| {
            let settings = ORDER.map(|controller| shown(&kind(&all(), controller)));
            settings.join("\n")
        };
        assert_eq!(
            together(old),
            "memory.limit_in_bytes=67108864 memory.memsw.limit_in_bytes?=134217728\n\
             cpu.shares=512 cpu.cfs_quota_us=50000\n\
             cpuset.cpus=0-1\n\
             pids.max=100"
        );
        assert_eq!(
            together(unified),
            "memory.max=67108864 memory.swap.max?=67108864\n\
             cpu.weight=20 cpu.max=50000 100000\n\
             cpuset.cpus=0-1\n\
             pids.max=100"
        );
    }

    #[test]
    fn swap_and_quotas_may_have_no_end() {
        let resources = Resources {
            memory_swap: Some(Swap::Unlimited),
            cpu_period: Some(1000),
            cpu_quota: Some(None),
            ..Resources::default()
        };
        let memory = Controller::Memory;
        assert_eq!(
            shown(&old(&resources, memory)),
            "memory.memsw.limit_in_bytes=-1"
        );
        assert_eq!(shown(&unified(&resources, memory)), "memory.swap.max=max");
        let cpu = Controller::Cpu;
        assert_eq!(
            shown(&old(&resources, cpu)),
            "cpu.cfs_period_us=1000 cpu.cfs_quota_us=-1"
        );
        assert_eq!(shown(&unified(&resources, cpu)), "cpu.max=max 1000");
        assert_eq!((weight(2), weight(1024), weight(262_144)), (1, 39, 10_000));
    }

    #[test]
    fn counts_are_found_by_name() {
        let events = "low 0\nmax 12\noom 1\noom_kill 3\noom_group_kill 0\n";
        assert_eq!(counted(events, "oom_kill"), Some(3));
        assert_eq!(counted(events, "oom_ki"), None);
    }
}
