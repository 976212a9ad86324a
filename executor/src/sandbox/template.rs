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
use std::iter;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::anteroom::Hall;
use super::helper;
use super::identity;
use super::init;
use super::message::{self, Socket};
use super::placement::Processors;
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
    /// What it may run on.
    pub(super) processors: Processors,
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
    /// Its number, once a copy of it has been heard of.
    number: Option<Pid>,
    processors: Processors,
    line: Line,
    /// The copy that waits, if it has been heard of.
    copy: Option<Waiting>,
}

/// Where a template is asked for copies.
#[derive(Debug)]
pub(super) struct Line {
    orders: UnixStream,
    /// The line to a copy that was asked for and has not been heard of.
    open: Option<UnixStream>,
}

/// A copy that waits, as kiln has it.
#[derive(Debug)]
struct Waiting {
    pidfd: OwnedFd,
    number: Option<Pid>,
    /// Where it has said which process it is, and hears what it is to become. Only the copy has the other end, which closes when that ends.
    line: UnixStream,
}

/// A template that was asked for, with a copy of it, before anybody could answer.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) kind: Kind,
    pub(super) line: Line,
}

impl Line {
    /// With the other end, which is for the template.
    pub(super) fn new() -> io::Result<(Self, UnixStream)> {
        let (orders, other_end) = UnixStream::pair()?;
        Ok((Self { orders, open: None }, other_end))
    }

    /// Asks for a copy, and doesn't wait for it.
    pub(super) fn order(&mut self) -> io::Result<()> {
        let (line, other_end) = UnixStream::pair()?;
        line.set_read_timeout(Some(PATIENCE))?;
        let fds = [other_end.as_fd()];
        message::send(Socket(self.orders.as_fd()), &(), &fds)?;
        self.open = Some(line);
        Ok(())
    }

    /// Waits for the one that was asked for. `None` if there is none, or it can't be made.
    fn hear(&mut self) -> Option<Waiting> {
        let line = self.open.take()?;
        let ((), mut fds) = message::receive(Socket(line.as_fd())).ok()??;
        let pidfd = fds.pop()?;
        let number = number_of(&pidfd);
        Some(Waiting {
            pidfd,
            number,
            line,
        })
    }

    /// Whether there is, or soon will be, something to hear.
    fn is_answered_soon(&self) -> bool {
        self.open.as_ref().is_some_and(|line| {
            let mut polled = [PollFd::new(line, PollFlags::IN)];
            poll(&mut polled, Some(&BRIEFLY)).is_ok_and(|ready| ready > 0)
        })
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
            number: None,
            processors: Processors::own(),
            line,
            copy: None,
        }
    }

    pub(super) fn is_for(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    /// Asks for a copy, if none waits or was asked for. False if it is gone.
    pub(super) fn order(&mut self) -> bool {
        if self.copy.is_some() || self.line.open.is_some() {
            return true;
        }
        if let Some(number) = self.number {
            self.processors.wake_here(number);
        }
        self.line.order().is_ok()
    }

    /// Whether a copy waits, or is about to: it may have to wait for another one's start.
    pub(super) fn has_copy_soon(&self) -> bool {
        self.copy.is_some() || self.line.is_answered_soon()
    }

    /// Waits for the copy that was asked for, if it is not there. `mind` is told of it, and may refuse it. False if there will be none.
    pub(super) fn meet_copy(&mut self, mind: impl FnOnce(BorrowedFd<'_>) -> bool) -> bool {
        if self.copy.is_none() {
            self.copy = self.line.hear();
            self.number = self.number.or_else(|| number_of(&self.pidfd));
            let heard = self.copy.as_ref();
            return heard.is_some_and(|copy| mind(copy.pidfd.as_fd()));
        }
        true
    }

    /// Lets the copy that waits become the step. `None` if that can't be.
    pub(super) fn become_step(
        &mut self,
        spec: &SandboxSpec,
        fds: &[BorrowedFd<'_>],
    ) -> Option<OwnedFd> {
        let Waiting {
            pidfd,
            number,
            line,
        } = self.copy.take()?;
        if let Some(number) = number {
            self.processors.wake_elsewhere(number);
        }
        match message::send(Socket(line.as_fd()), spec, fds) {
            Ok(()) => Some(pidfd),
            Err(_) => {
                end_process(&pidfd);
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
        let copy = copy.map(|copy| copy.pidfd);
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

fn number_of(process: &OwnedFd) -> Option<Pid> {
    sys::number_of(process.as_fd()).and_then(Pid::from_raw)
}

/// The process itself: makes a copy for each request, until nobody asks any more. The descriptor is its socket.
pub(super) fn run(mould: Mould, mut fds: Vec<OwnedFd>, proof: &SingleThreaded) -> ! {
    if let Some(orders) = fds.pop() {
        // Standard input is a copy of the helper's socket, of which kiln is to see the end.
        let replaced = rustix::stdio::dup2_stdin(&orders);
        drop(orders);
        // A copy gives up rights before it executes its program, when it has this memory still: whoever may then look at the copy must not
        // get at what has all rights.
        identity::keep_memory_to_itself();
        if let (Ok(()), Ok(stock)) = (replaced, init::stock(mould)) {
            serve(mould.kind, &stock, proof);
        }
    }
    std::process::exit(1)
}

/// Ends when a copy can't be made, or was killed at whatever it did with the memory.
fn serve(kind: Kind, stock: &Stock, proof: &SingleThreaded) {
    let Ok(mut stack) = Stack::new() else { return };
    let orders = Socket(rustix::stdio::stdin());
    let own = helper::own_of_copy(kind);
    while let Ok(Some(((), mut fds))) = message::receive::<()>(orders) {
        let Some(line) = fds.pop() else { return };
        let mut told = None; // here, where it is dropped
        let wait = |line: BorrowedFd<'_>, order: &Order| {
            waiting::wait(kind, line, stock, &mut told, order)
        };
        if sys::lend_memory(proof, own, &mut stack, orders.0, line, wait).is_err() {
            return;
        }
    }
}
