//! The process that those who wait for a step are copies of: what is the same for all steps of a [`Kind`] is done in it, once.
//!
//! It has most of the filter loaded, which takes the kernel as long as the rest of a start, and a cgroup namespace. Where steps run as root it has
//! left the host's mounts behind, too: in its mount namespace there is nothing but an [anteroom](super::anteroom) with `/sys` in it, and that is all that a copy
//! has to copy, and to take down. In a user namespace the kernel mounts a `/proc` only for who can see one, so there each copy leaves the
//! host's mounts by itself.

use std::collections::VecDeque;
use std::io;
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
    kind: Kind,
    pub(super) pidfd: OwnedFd,
    orders: Orders,
    /// Whether it has made a copy, and so can.
    proven: bool,
}

/// Where copies are asked for, and those that were.
#[derive(Debug)]
pub(super) struct Orders {
    socket: UnixStream,
    /// The sockets of copies that nobody has asked after yet, in their order.
    open: VecDeque<UnixStream>,
}

/// A template that was asked for, with copies of it, before anybody could answer.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) kind: Kind,
    pub(super) orders: Orders,
}

impl Orders {
    /// With the other end of the socket, which is for the template.
    pub(super) fn new() -> io::Result<(Self, UnixStream)> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let open = VecDeque::new();
        Ok((Self { socket, open }, theirs))
    }

    /// Asks for a copy, and doesn't wait for it.
    pub(super) fn place(&mut self) -> io::Result<()> {
        let (socket, theirs) = UnixStream::pair()?;
        message::send(Socket(self.socket.as_fd()), &(), &[theirs.as_fd()])?;
        self.open.push_back(socket);
        Ok(())
    }

    /// Waits for the oldest that was asked for.
    fn fetch(&mut self, kind: Kind) -> Option<Waiting> {
        let socket = self.open.pop_front()?;
        let answered = message::receive::<Answer>(Socket(self.socket.as_fd()));
        let (answer, mut fds) = answered.ok()??;
        answer.ok()?;
        let pidfd = fds.pop()?;
        Some(Waiting {
            kind,
            pidfd,
            socket,
        })
    }
}

impl Expected {
    /// What came of it: the helper has made the process.
    pub(super) fn arrived(self, pidfd: OwnedFd) -> Template {
        Template::new(self.kind, pidfd, self.orders)
    }
}

impl Template {
    pub(super) fn new(kind: Kind, pidfd: OwnedFd, orders: Orders) -> Self {
        Self {
            kind,
            pidfd,
            orders,
            proven: false,
        }
    }

    pub(super) fn is_for(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    /// How many copies were asked for that have not been fetched.
    pub(super) fn on_order(&self) -> usize {
        self.orders.open.len()
    }

    /// Asks one that is known to be good for a copy, which is fetched later. False if it isn't, or is gone.
    pub(super) fn order(&mut self) -> bool {
        self.proven && self.orders.place().is_ok()
    }

    /// A copy that waits for a step. `None` if the template could not be made, is gone, or is not heard of: it is of no more use then.
    pub(super) fn copy(&mut self) -> Option<Waiting> {
        if self.on_order() == 0 {
            self.orders.place().ok()?;
        }
        let copy = self.orders.fetch(self.kind)?;
        self.proven = true;
        Some(copy)
    }

    /// Ends it, and all copies that nobody has fetched.
    pub(super) fn end(mut self) {
        while self.on_order() > 0 {
            let Some(copy) = self.copy() else { break };
            copy.end();
        }
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
