//! The helper process: one thread, one socket, and requests for steps and for what those that wait are copies of.

use super::message::{self, Answer, Request, Role, Socket};
use super::surroundings::share_processes;
use super::template;
use super::waiting::Kind;
use super::{Network, SandboxSpec, init, minder, seccomp};
use crate::sys::{self, Cloned, SingleThreaded};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, sockopt};
use rustix::process::Signal;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// What the helper is called: its `argv[0]`, by which it knows itself, and what `ps` shows.
pub(super) const NAME: &str = "kiln: sandbox launcher";

/// A step, and the signal that ends it.
struct Running {
    pidfd: OwnedFd,
    end: Signal,
}

impl Running {
    /// One that a template made. Its parent-death signal is not enough: a program may renounce it, or become another user.
    fn copy(pidfd: OwnedFd) -> Self {
        Self {
            pidfd,
            end: Signal::KILL,
        }
    }
}

/// Serves requests from standard input if that is a Unix socket, and then never returns.
pub(super) fn run_if_socket() {
    let stdin = rustix::stdio::stdin();
    if sockopt::socket_domain(stdin).is_ok_and(|domain| domain == AddressFamily::UNIX) {
        let proof = leave_everything_behind();
        if let Some(proof) = &proof {
            serve(Socket(stdin), proof);
        }
        std::process::exit(i32::from(proof.is_none()));
    }
}

/// Drops whatever a step must not inherit: descriptors, the terminal, signal dispositions, the umask. The socket stays
/// standard input, where a step's own input will replace it.
fn leave_everything_behind() -> Option<SingleThreaded> {
    sys::close_from(3).ok()?;
    // A signal from the terminal is for kiln, which decides about its steps.
    rustix::process::setsid().ok()?;
    sys::reset_signals();
    rustix::process::umask(Mode::empty());
    SingleThreaded::prove()
}

/// Answers requests until kiln has gone, then kills what still runs.
fn serve(socket: Socket<'_>, proof: &SingleThreaded) {
    let mut steps: Vec<Running> = Vec::new();
    loop {
        forget_ended(socket, &mut steps);
        match message::receive::<Request<Box<SandboxSpec>>>(socket) {
            Ok(Some((Request::New(role), fds))) => start(socket, proof, &role, fds, &mut steps),
            Ok(Some((Request::Mind, fds))) => steps.extend(fds.into_iter().map(Running::copy)),
            Ok(None) | Err(_) => break,
        }
    }
    for step in &steps {
        let _ = rustix::process::pidfd_send_signal(&step.pidfd, step.end);
    }
}

/// Waits for a request; meanwhile drops the descriptors of steps that have ended.
fn forget_ended(socket: Socket<'_>, steps: &mut Vec<Running>) {
    loop {
        let watched = std::iter::once(socket.0).chain(steps.iter().map(|step| step.pidfd.as_fd()));
        let mut polled: Vec<PollFd<'_>> = watched
            .map(|fd: BorrowedFd<'_>| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        if poll(&mut polled, PollTimeout::NONE).is_err() {
            continue;
        }
        let ready: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        let mut ended = ready[1..].iter();
        steps.retain(|_| !ended.next().copied().unwrap_or(false));
        if ready[0] {
            return;
        }
    }
}

/// Clones what is asked for. In the clone this does not return.
fn start(
    socket: Socket<'_>,
    proof: &SingleThreaded,
    role: &Role<Box<SandboxSpec>>,
    fds: Vec<OwnedFd>,
    steps: &mut Vec<Running>,
) {
    let (own, end) = match role {
        Role::Step(spec) => (namespaces(Kind::of(spec)), end_signal(spec)),
        Role::Template(_) => (SHARED, Signal::KILL),
    };
    prepare(role); // once, here
    let answer: Answer = match sys::clone_process(proof, own) {
        Ok(Cloned::New) => become_clone(role, fds, proof),
        Ok(Cloned::Caller(pidfd)) => {
            drop(fds); // the step alone holds the pipe now, so kiln sees its end
            steps.push(Running { pidfd, end });
            Ok(())
        }
        Err(error) => Err(error),
    };
    let pidfd = answer
        .is_ok()
        .then(|| steps.last().map(|step| step.pidfd.as_fd()))
        .flatten();
    let _ = message::send(socket, &answer, pidfd.as_slice());
}

/// Makes what all clones share.
fn prepare(role: &Role<Box<SandboxSpec>>) {
    if let Role::Step(spec) = role
        && spec.seccomp
    {
        seccomp::default_profile(spec.capabilities);
    }
}

fn become_clone(role: &Role<Box<SandboxSpec>>, fds: Vec<OwnedFd>, proof: &SingleThreaded) -> ! {
    match role {
        Role::Template(mould) => template::run(*mould, fds, proof),
        Role::Step(spec) if is_minded(spec) => minder::run(spec, fds, proof),
        Role::Step(spec) => init::run(spec, fds, proof),
    }
}

/// What ends a step and all that it started.
pub(super) fn end_signal(spec: &SandboxSpec) -> Signal {
    match is_minded(spec) {
        true => minder::END,
        false => Signal::KILL,
    }
}

/// Whether a step has no pid namespace that dies with it, but a minder.
pub(super) fn is_minded(spec: &SandboxSpec) -> bool {
    !spec.rung.has_namespaces() || share_processes(spec)
}

/// The namespaces that all copies of a template share.
const SHARED: i32 = libc::CLONE_NEWCGROUP;

/// The namespaces that each copy of a template has for itself.
pub(super) fn own_of_copy(kind: Kind) -> i32 {
    namespaces(kind) & !SHARED
}

/// The namespaces of a step (R-RT-4).
fn namespaces(kind: Kind) -> i32 {
    if !kind.rung.has_namespaces() {
        return 0;
    }
    let mut own = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if !kind.shares_processes {
        own |= libc::CLONE_NEWPID;
    }
    if !kind.joins_cgroup {
        own |= libc::CLONE_NEWCGROUP; // else once it is in its cgroup, which is to be the top of what it sees
    }
    match kind.network {
        Network::Host => own,
        Network::None => own | libc::CLONE_NEWNET,
    }
}
