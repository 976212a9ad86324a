//! A step that waits for its spec: a copy of the [template](super::template) in new namespaces, on its memory, with the kernel's filesystems mounted and the
//! host's left behind, made while a step before runs.
//!
//! Making it takes longer than all the rest of a start, and longer than a short step runs. It knows nothing of a root filesystem, and it has nothing to do with
//! the steps before, which run in namespaces of their own. It serves the first step of its [`Kind`].

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::process::PidfdFlags;
use serde::{Deserialize, Serialize};

use super::exec::Attempt;
use super::message::{self, Socket};
use super::surroundings::share_processes;
use super::template::Stock;
use super::{CapabilitySet, Network, Rung, SandboxSpec, init};
use crate::sys::{self, Order};

/// What of a spec has to be known when a step's namespaces and the kernel's filesystems in them are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kind {
    pub(super) rung: Rung,
    pub(super) network: Network,
    pub(super) exposed: bool,
    pub(super) shm_size: u64,
    /// Whether it joins a cgroup first.
    pub(super) joins_cgroup: bool,
    /// Whether it has no pid namespace.
    pub(super) shares_processes: bool,
    /// The capabilities that its filter leaves calls for, if it has a filter.
    pub(super) filter: Option<CapabilitySet>,
}

impl Kind {
    pub(super) fn of(spec: &SandboxSpec) -> Self {
        Self {
            rung: spec.rung,
            network: spec.network,
            exposed: spec.exposed,
            shm_size: spec.shm_size,
            joins_cgroup: !spec.cgroup.is_empty(),
            shares_processes: share_processes(spec),
            filter: spec.seccomp.then_some(spec.capabilities),
        }
    }

    /// Whether such a step can be made ahead: its cgroup would have to come first, and so would a minder.
    pub(super) fn can_wait(self) -> bool {
        self.rung.has_namespaces() && !self.joins_cgroup && !self.shares_processes
    }
}

/// Kills a child, and waits for its end.
pub(super) fn end_process(pidfd: &OwnedFd) {
    kill(pidfd);
    let _ = sys::wait_for_child(pidfd.as_fd());
}

pub(super) fn kill(pidfd: &OwnedFd) {
    let kill = rustix::process::Signal::KILL;
    let _ = rustix::process::pidfd_send_signal(pidfd, kill); // it may have ended
}

/// What one that waits was told, and all of it that is still there when it is the program, but for a few words.
#[derive(Debug)]
pub(super) struct Told {
    spec: SandboxSpec,
    attempt: Attempt,
}

/// The process itself: says who it is, gets ready, and becomes the step that it is told of. Ends with whoever could tell. If it can't get ready it ends, too: the
/// step is made without it, which tells why that can't be. It has its template's memory, and leaves it in order only if it was told of a step.
pub(super) fn wait(
    kind: Kind,
    line: BorrowedFd<'_>,
    stock: &Stock,
    told: &mut Option<Told>,
    order: &Order,
) -> i32 {
    // Standard input is where the template is asked for others.
    if rustix::stdio::dup2_stdin(line).is_err() {
        return 1;
    }
    stock.processors.take_all();
    let socket = Socket(rustix::stdio::stdin());
    if say_who(socket).is_ok()
        && let Ok(ready) = init::get_ready_to_wait(kind, stock)
        && let Ok(Some((spec, fds))) = message::receive::<SandboxSpec>(socket)
    {
        stock.processors.take_all();
        let attempt = Attempt::new(&spec.argv, &spec.env);
        let Told { spec, attempt } = told.insert(Told { spec, attempt });
        init::go_on(spec, fds, ready, || attempt.execute(order));
        order.set(true);
    }
    1
}

/// Tells kiln which process this is.
fn say_who(socket: Socket<'_>) -> io::Result<()> {
    let own = rustix::process::getpid();
    let pidfd = rustix::process::pidfd_open(own, PidfdFlags::empty())?;
    message::send(socket, &(), &[pidfd.as_fd()])
}
