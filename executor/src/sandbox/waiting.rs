//! A step that waits for its spec: a copy of the [template](super::template) in new namespaces, with the kernel's filesystems mounted and the
//! host's left behind, made while a step before runs.
//!
//! Making it takes longer than all the rest of a start, and longer than a short step runs. It knows nothing of a root filesystem, and it has nothing to do with
//! the steps before, which run in namespaces of their own. It serves the first step of its [`Kind`].

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use super::message::{self, Socket};
use super::surroundings::share_processes;
use super::template::Stock;
use super::{CapabilitySet, Network, Rung, SandboxSpec, init};
use crate::sys;

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

/// The process, as kiln has it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) kind: Kind,
    pub(super) pidfd: OwnedFd,
    /// Where it hears what it is to become.
    pub(super) socket: UnixStream,
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

impl Waiting {
    /// Lets it become the step. `None` if it is gone.
    pub(super) fn become_step(self, spec: &SandboxSpec, fds: &[BorrowedFd<'_>]) -> Option<OwnedFd> {
        match message::send(Socket(self.socket.as_fd()), spec, fds) {
            Ok(()) => Some(self.pidfd),
            Err(_) => {
                self.end();
                None
            }
        }
    }

    /// Ends it, as no step has come.
    pub(super) fn end(self) {
        end_process(&self.pidfd);
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

/// The process itself: gets ready, and becomes the step that it is told of. Ends with whoever could tell. If it can't get ready it ends, too: the
/// step is made without it, which tells why that can't be. The descriptor is its socket.
pub(super) fn wait(kind: Kind, mut fds: Vec<OwnedFd>, stock: &Stock) -> ! {
    let Some(socket) = fds.pop() else {
        std::process::exit(1);
    };
    // Standard input is a copy of the template's socket, of which kiln is to see the end.
    let replaced = rustix::stdio::dup2_stdin(&socket);
    drop(socket);
    let ready = init::get_ready_to_wait(kind, stock);
    let (Ok(()), Ok(ready)) = (replaced, ready) else {
        std::process::exit(1);
    };
    match message::receive::<SandboxSpec>(Socket(rustix::stdio::stdin())) {
        Ok(Some((spec, fds))) => init::go_on(&spec, fds, ready),
        _ => std::process::exit(1),
    }
}
