//! The cgroups of steps, and whether one ended for lack of memory or processes.

use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use kiln_planner::ExecOp;

use crate::cgroup::{Hierarchies, Resources, StepCgroup};
use crate::error::Cause;
use crate::event::{Stream, Task};
use crate::sandbox::ExitStatus;
use crate::usage::Shortage;

/// `SIGKILL`, as a shell passes it on.
const KILLED: i32 = 128 + 9;

/// Makes cgroups for the steps of one build.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    hierarchies: OnceLock<Hierarchies>,
    /// What the machine had killed for lack of memory before the first step.
    killed_before: OnceLock<Option<u64>>,
    warned: AtomicBool,
}

impl Limiter {
    /// A step's cgroups; none without limits or a parent. Limits that can't be had are told once, in the log of the first step.
    pub(crate) fn cgroup(
        &self,
        op: &ExecOp,
        resources: &Resources,
        task: &Task<'_>,
    ) -> Result<StepCgroup, Cause> {
        self.make(resources, op.limits.cgroup_parent.as_deref(), |told| {
            task.log(Stream::Stderr, told.as_bytes());
        })
    }

    /// The same for whoever has no task to log to.
    pub(crate) fn make(
        &self,
        resources: &Resources,
        parent: Option<&str>,
        warn: impl FnOnce(String),
    ) -> Result<StepCgroup, Cause> {
        self.killed_before.get_or_init(killed_on_machine);
        if resources.is_empty() && parent.is_none() {
            return Ok(StepCgroup::default());
        }
        // What can't be read has no hierarchies, and is told as such.
        let found = || Hierarchies::find().unwrap_or_default();
        let hierarchies = self.hierarchies.get_or_init(found);
        let (cgroup, missing) = StepCgroup::make(hierarchies, resources, parent)?;
        if !missing.is_empty() && !self.warned.swap(true, Ordering::Relaxed) {
            warn(warning(&missing));
        }
        Ok(cgroup)
    }

    /// What a step that ended so had not enough of.
    pub(crate) fn shortage(
        &self,
        cgroup: &StepCgroup,
        resources: &Resources,
        status: ExitStatus,
    ) -> Option<Shortage> {
        if cgroup.killed_for_memory() > 0 {
            return Some(Shortage::Limit {
                limit: resources.memory,
                peak: cgroup.peak_memory(),
            });
        }
        if !status.success() && cgroup.was_refused_processes() {
            let limit = resources.pids;
            return Some(Shortage::Processes { limit });
        }
        let before = (*self.killed_before.get()?)?;
        let killed = killed_on_machine()?.saturating_sub(before);
        (status.shell_code() == KILLED && killed > 0).then_some(Shortage::Machine { killed })
    }
}

fn warning(missing: &[String]) -> String {
    let mut text = "kiln: WARNING: not all limits are applied to steps:\n".to_owned();
    for line in missing {
        text.extend(["kiln:   ", line, "\n"]);
    }
    text.push_str(
        "kiln:   run kiln as root, or where a cgroup is delegated to it: `systemd-run --user --scope -p Delegate=yes kiln …`\n",
    );
    text
}

/// How many processes the kernel has killed for lack of memory, in any cgroup, since it booted.
fn killed_on_machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_can_not_be_had_is_told_with_its_reason() {
        let missing = ["memory: could not write to `/x`: Device or resource busy".to_owned()];
        let text = warning(&missing);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[0],
            "kiln: WARNING: not all limits are applied to steps:"
        );
        assert_eq!(
            lines[1],
            "kiln:   memory: could not write to `/x`: Device or resource busy"
        );
    }

    #[test]
    fn a_step_without_limits_has_no_cgroup() {
        let limiter = Limiter::default();
        let made = limiter.make(&Resources::default(), None, |_| {});
        assert!(made.is_ok_and(|cgroup| cgroup.joins().is_empty()));
    }
}
