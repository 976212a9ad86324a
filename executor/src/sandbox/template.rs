//! The process that those who wait for a step are copies of: what is the same for all steps of a [`Kind`] is done in it, once.
//!
//! It has most of the filter loaded, which takes the kernel as long as the rest of a start, and a cgroup namespace. Where steps run as root it has
//! left the host's mounts behind, too: in its mount namespace there is nothing but an [anteroom](super::anteroom) with `/sys` in it, and that is all that a copy
//! has to copy, and to take down. In a user namespace the kernel mounts a `/proc` only for who can see one, so there each copy leaves the
//! host's mounts by itself.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Rung;
use super::anteroom::Hall;
use super::helper;
use super::init;
use super::message::{self, Answer, Socket};
use super::waiting::{self, Kind, Waiting, end_process};
use crate::sys::{self, Cloned, SingleThreaded};

/// A copy takes a millisecond. A template that is stopped or stuck must not stop a build, which can start its steps without.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a template is asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mould {
    pub(super) kind: Kind,
    /// Whether it is to leave the host's mounts behind.
    pub(super) apart: bool,
}

/// What copies of a template have from it.
#[derive(Debug)]
pub(super) struct Stock {
    /// The mount namespace with the host's mounts, if it can be visited.
    pub(super) host: Option<OwnedFd>,
    /// Where it has left that.
    pub(super) hall: Option<Hall>,
    /// Whether the bounding set is limited, and the filter loaded, but for the calls that setting up takes.
    pub(super) filtered: bool,
}

/// The process, as kiln has it.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) kind: Kind,
    pub(super) pidfd: OwnedFd,
    /// Where copies are asked for.
    pub(super) socket: UnixStream,
}

impl Template {
    pub(super) fn is_for(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    /// A copy that waits for a step. `None` if the template could not be made, is gone, or is not heard of: it is of no more use then.
    pub(super) fn copy(&self) -> Option<Waiting> {
        let (socket, theirs) = UnixStream::pair().ok()?;
        self.socket.set_read_timeout(Some(PATIENCE)).ok()?;
        let ours = Socket(self.socket.as_fd());
        message::send(ours, &(), &[theirs.as_fd()]).ok()?;
        let (answer, mut fds) = message::receive::<Answer>(ours).ok()??;
        answer.ok()?;
        Some(Waiting {
            kind: self.kind,
            pidfd: fds.pop()?,
            socket,
        })
    }

    pub(super) fn end(self) {
        end_process(&self.pidfd);
    }
}

impl Mould {
    /// The best for a kind.
    pub(super) fn of(kind: Kind) -> Self {
        Self {
            kind,
            apart: kind.rung == Rung::Root && !kind.exposed,
        }
    }

    /// Another one that asks less of the kernel.
    pub(super) fn simpler(self) -> Option<Self> {
        self.apart.then_some(Self {
            apart: false,
            ..self
        })
    }
}

/// The process itself: makes a copy for each request, until nobody asks any more. The descriptor is its socket.
pub(super) fn run(mould: Mould, fds: &mut Vec<OwnedFd>, proof: &SingleThreaded) -> ! {
    let ready = fds.pop().map(|socket| {
        // Standard input is a copy of the helper's socket, of which kiln is to see the end.
        let replaced = rustix::stdio::dup2_stdin(&socket);
        (replaced, init::stock(mould))
    });
    if let Some((Ok(()), Ok(stock))) = ready {
        serve(mould.kind, &stock, proof);
    }
    std::process::exit(1)
}

fn serve(kind: Kind, stock: &Stock, proof: &SingleThreaded) {
    let socket = Socket(rustix::stdio::stdin());
    while let Ok(Some(((), fds))) = message::receive::<()>(socket) {
        let (answer, pidfd): (Answer, _) =
            match sys::clone_process(proof, helper::own_of_copy(kind)) {
                Ok(Cloned::New) => waiting::wait(kind, fds, stock),
                Ok(Cloned::Caller(pidfd)) => (Ok(()), Some(pidfd)),
                Err(error) => (Err(error), None),
            };
        drop(fds);
        let pidfd = pidfd.as_ref().map(OwnedFd::as_fd);
        if message::send(socket, &answer, pidfd.as_slice()).is_err() {
            return;
        }
    }
}
