//! On which processor a process is woken.
//!
//! The scheduler wakes a process where it ran last. If that processor is busy it looks for one that has nothing to do, but under a
//! hypervisor one that sleeps doesn't count, as it may have been taken away. So steps, and what is made ahead of them, would stand in
//! line on one processor beside others that sleep.
//!
//! Kiln knows who is to run beside whom, and says so, for the waking alone: a step has all processors when it begins, and what is made
//! ahead has them as soon as it runs. Only a template stays where it was woken last.

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// The processors that a process may use; nothing where that is not known, or only one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Processors(Option<CpuSet>);

impl Processors {
    /// Those of the caller.
    pub(super) fn own() -> Self {
        let own = sched_getaffinity(None).ok();
        Self(own.filter(|own| own.count() > 1))
    }

    /// Has another process woken beside the caller, on another processor.
    pub(super) fn wake_elsewhere(&self, other: Pid) {
        if let Some(mut others) = self.0 {
            others.unset(sched_getcpu());
            let _ = sched_setaffinity(Some(other), &others); // it is woken wherever the kernel likes, then
        }
    }

    /// Has another process woken in the place of the caller, which is about to wait.
    pub(super) fn wake_here(&self, other: Pid) {
        if self.0.is_some() {
            let mut here = CpuSet::new();
            here.set(sched_getcpu());
            let _ = sched_setaffinity(Some(other), &here);
        }
    }

    /// Gives them all to the caller, who was woken.
    pub(super) fn take_all(&self) {
        if let Some(all) = &self.0 {
            let _ = sched_setaffinity(None, all);
        }
    }
}
