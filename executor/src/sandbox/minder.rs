//! Who stands between kiln and a step that has no pid namespace: the process that everything the step leaves behind comes back to.
//!
//! A pid namespace dies with its first process. Without one, a program can start others and end. So the step's program gets a parent,
//! a *subreaper* (`PR_SET_CHILD_SUBREAPER`), whose children all orphans below it become, however they were started. When
//! the program has ended, or kiln says so, it kills its children until there are none, and ends as the program did.

use super::{SandboxSpec, init};
use crate::sys::{self, Forked, SingleThreaded};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::os::fd::OwnedFd;

/// The signal that asks a minder to end its step. One that `kiln run` never passes on.
pub(super) const END: rustix::process::Signal = rustix::process::Signal::POWER;

/// Runs the step below this process and ends as its program does. The descriptors are as for [`init::run`].
pub(super) fn run(spec: &SandboxSpec, fds: Vec<OwnedFd>, proof: &SingleThreaded) -> ! {
    let watched = watched();
    let ready = rustix::process::set_child_subreaper(Some(rustix::process::getpid())).is_ok()
        && rustix::process::set_parent_process_death_signal(Some(END)).is_ok()
        && sigprocmask(SigmaskHow::SIG_BLOCK, Some(&watched), None).is_ok();
    if !ready {
        std::process::exit(1);
    }
    match sys::fork_process(proof) {
        Ok(Forked::Child) => {
            let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&watched), None);
            init::run(spec, fds)
        }
        Ok(Forked::Parent(program)) => {
            drop(fds); // the ends of the pipes are the step's alone
            end_as(watch(program, &watched))
        }
        Err(_) => std::process::exit(1),
    }
}

/// Signals that mean something here. Those that a user may send are for the program.
fn watched() -> SigSet {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGPWR]
        .into_iter()
        .chain(PASSED_ON)
    {
        signals.add(signal);
    }
    signals
}

const PASSED_ON: [Signal; 6] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Waits until the program and everything that came from it have ended; tells how the program did.
fn watch(program: Pid, signals: &SigSet) -> Option<WaitStatus> {
    let mut ended = None;
    let mut ending = false;
    loop {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(status) if status.pid() == Some(program) => {
                    ended = Some(status);
                    ending = true;
                }
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return ended, // nobody is left
            }
        }
        if ending {
            kill_children();
        }
        match signals.wait() {
            Ok(Signal::SIGPWR) => ending = true,
            Ok(Signal::SIGCHLD) | Err(_) => {}
            Ok(signal) => drop(kill(program, signal)), // it may have ended
        }
    }
}

/// Their own children become ours when they are dead, and are next.
fn kill_children() {
    let Ok(children) = fs::read_to_string("/proc/thread-self/children") else {
        return kill_children_by_parent();
    };
    for child in children.split_ascii_whitespace() {
        if let Ok(pid) = child.parse() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// For kernels that keep no list of children: whoever has this process for a parent.
fn kill_children_by_parent() {
    let own = Pid::this().as_raw().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // `pid (name) state parent …`; the name may hold anything.
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        if after_name.split(' ').nth(1) == Some(own.as_str()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn end_as(status: Option<WaitStatus>) -> ! {
    match status {
        Some(WaitStatus::Exited(_, code)) => std::process::exit(code),
        Some(WaitStatus::Signaled(_, signal, _)) => {
            sys::reset_signals();
            let core = rustix::process::Rlimit {
                current: Some(0),
                maximum: Some(0),
            };
            let _ = rustix::process::setrlimit(rustix::process::Resource::Core, core);
            let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&SigSet::all()), None);
            let _ = kill(Pid::this(), signal);
            std::process::exit(128 + signal as i32)
        }
        _ => std::process::exit(1),
    }
}
