//! The process that those who wait for a step come from: what is the same for all steps of a [`Kind`] is done in it, once.
//!
//! They are copies of it, but on its own memory, which they have one after the other, each until it executes its program ([`sys::lend_memory`]).
//! So only one waits at a time, and the next is made when that one is on its way.
//!
//! It has most of the filter loaded, which takes the kernel as long as the rest of a start, and a cgroup namespace. Where steps run as root it has
//! left the host's mounts behind, too: in its mount namespace there is nothing but an [anteroom](super::anteroom) with `/sys` in it, and that is all that a copy
//! has to copy, and to take down. In a user namespace the kernel mounts a `/proc` only for who can see one, so there each copy leaves the
//! host's mounts by itself.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::{iter, mem};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::anteroom::Hall;
use super::helper;
use super::init;
use super::message::{self, Answer, Socket};
use super::waiting::{self, Kind, end_process, kill};
use super::{Rung, SandboxSpec};
use crate::sys::{self, Order, SingleThreaded, Stack};

/// A copy takes a millisecond. A template that is stopped or stuck must not stop a build, which can start its steps without.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long somebody who needs a step waits for one that is made after another one's.
const BRIEFLY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

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
    pidfd: OwnedFd,
    line: Line,
    /// The copy that waits, if it has been heard of.
    copy: Option<OwnedFd>,
}

/// Kiln's ends of a template's sockets.
#[derive(Debug)]
pub(super) struct Line {
    /// Where copies are asked for.
    orders: UnixStream,
    /// Where each copy in its turn says which process it is, and hears what it is to become.
    copies: UnixStream,
    /// Whether a copy was asked for that has not been heard of.
    is_open: bool,
}

/// A template that was asked for, with a copy of it, before anybody could answer.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) kind: Kind,
    pub(super) line: Line,
}

impl Line {
    /// With the other ends, which are for the template.
    pub(super) fn new() -> io::Result<(Self, [UnixStream; 2])> {
        let (orders, other_end) = UnixStream::pair()?;
        let (copies, others_end) = UnixStream::pair()?;
        copies.set_read_timeout(Some(PATIENCE))?;
        let line = Self {
            orders,
            copies,
            is_open: false,
        };
        Ok((line, [other_end, others_end]))
    }

    /// Asks for a copy, and doesn't wait for it.
    pub(super) fn order(&mut self) -> io::Result<()> {
        message::send(Socket(self.orders.as_fd()), &(), &[])?;
        self.is_open = true;
        Ok(())
    }

    /// Waits for the one that was asked for. `None` if there is none, or it can't be made.
    fn hear(&mut self) -> Option<OwnedFd> {
        if !mem::take(&mut self.is_open) {
            return None;
        }
        let answered = message::receive::<Answer>(Socket(self.copies.as_fd()));
        let (answer, mut fds) = answered.ok()??;
        answer.ok()?;
        fds.pop()
    }

    /// Whether there is, or soon will be, something to hear.
    fn is_answered_soon(&self) -> bool {
        let mut polled = [PollFd::new(&self.copies, PollFlags::IN)];
        self.is_open && poll(&mut polled, Some(&BRIEFLY)).is_ok_and(|ready| ready > 0)
    }
}

impl Expected {
    /// What came of it: the helper has made the process.
    pub(super) fn arrived(self, pidfd: OwnedFd) -> Template {
        Template::new(self.kind, pidfd, self.line)
    }
}

impl Template {
    pub(super) fn new(kind: Kind, pidfd: OwnedFd, line: Line) -> Self {
        Self {
            kind,
            pidfd,
            line,
            copy: None,
        }
    }

    pub(super) fn is_for(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    /// Asks for a copy, if none waits or was asked for. False if it is gone.
    pub(super) fn order(&mut self) -> bool {
        self.copy.is_some() || self.line.is_open || self.line.order().is_ok()
    }

    /// Whether a copy waits, or is about to: it may have to wait for another one's start.
    pub(super) fn has_copy_soon(&self) -> bool {
        self.copy.is_some() || self.line.is_answered_soon()
    }

    /// Waits for the copy that was asked for, if it is not there. `mind` is told of it, and may refuse it. False if there will be none.
    pub(super) fn meet_copy(&mut self, mind: impl FnOnce(BorrowedFd<'_>) -> bool) -> bool {
        if self.copy.is_none() {
            self.copy = self.line.hear();
            return self.copy.as_ref().is_some_and(|copy| mind(copy.as_fd()));
        }
        true
    }

    /// Lets the copy that waits become the step. `None` if that can't be.
    pub(super) fn become_step(
        &mut self,
        spec: &SandboxSpec,
        fds: &[BorrowedFd<'_>],
    ) -> Option<OwnedFd> {
        let copy = self.copy.take()?;
        match message::send(Socket(self.line.copies.as_fd()), spec, fds) {
            Ok(()) => Some(copy),
            Err(_) => {
                end_process(&copy);
                None
            }
        }
    }

    /// Ends it, and the copy that waits.
    pub(super) fn end(self) {
        self.kill().iter().for_each(end_process);
    }

    /// Has it end, and the copy that waits. Tells which processes that are, to be waited for.
    pub(super) fn kill(mut self) -> Vec<OwnedFd> {
        kill(&self.pidfd);
        let copy = self.copy.take().or_else(|| self.line.hear());
        copy.iter().for_each(kill);
        iter::once(self.pidfd).chain(copy).collect()
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

/// The process itself: makes a copy for each request, until nobody asks any more. The descriptors are its sockets.
pub(super) fn run(mould: Mould, fds: Vec<OwnedFd>, proof: &SingleThreaded) -> ! {
    if let Ok([orders, copies]) = <[OwnedFd; 2]>::try_from(fds) {
        // Standard input is a copy of the helper's socket, of which kiln is to see the end.
        let replaced = rustix::stdio::dup2_stdin(&orders);
        drop(orders);
        if let (Ok(()), Ok(stock)) = (replaced, init::stock(mould)) {
            serve(mould.kind, copies.as_fd(), &stock, proof);
        }
    }
    std::process::exit(1)
}

fn serve(kind: Kind, copies: BorrowedFd<'_>, stock: &Stock, proof: &SingleThreaded) {
    let Ok(mut stack) = Stack::new() else { return };
    let orders = Socket(rustix::stdio::stdin());
    while let Ok(Some(((), _))) = message::receive::<()>(orders) {
        let mut told = None; // here, where it is dropped
        let wait = |order: &Order| waiting::wait(kind, copies, stock, &mut told, order);
        let lent = sys::lend_memory(proof, helper::own_of_copy(kind), &mut stack, orders.0, wait);
        if !lent.unwrap_or(false) {
            return; // it could not be made, or was killed, at whatever
        }
    }
}
