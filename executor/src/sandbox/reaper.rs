//! Process 1 of a container that is not to be its program (`kiln run --init`): it passes signals on to the program and takes note of the end of
//! every orphan, which else stays a zombie for as long as a program runs that never asks.
//!
//! A step on a rung without pid namespaces has a [`minder`](super::minder) for a parent, which does the same.

use crate::sys::{self, Context as _, Forked, SingleThreaded};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setpgid, tcsetpgrp};

/// Signals that are about a process itself: nobody passes them on.
const OWN: [Signal; 7] = [
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
];

/// Parts this process in two. It returns in the new one, which is to become the program; process 1 stays behind, without any descriptor, until
/// the program has ended, and ends with its status.
///
/// The program leads a process group of its own, the one that has the terminal if there is one: what is typed there comes to it once.
pub(super) fn part(has_terminal: bool, proof: &SingleThreaded) -> sys::Result<()> {
    let mut watched = SigSet::all();
    OWN.into_iter().for_each(|signal| watched.remove(signal));
    // Before there are two, so that none is lost.
    let before = watched
        .thread_swap_mask(SigmaskHow::SIG_BLOCK)
        .call("sigprocmask", String::new)?;
    match sys::fork_process(proof)? {
        Forked::Parent(program) => stay(program, &watched),
        Forked::Child => {
            lead_group(has_terminal)?;
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)
                .call("sigprocmask", String::new)
        }
    }
}

/// With all signals blocked, so that a change of the terminal's group doesn't stop who makes it.
fn lead_group(has_terminal: bool) -> sys::Result<()> {
    setpgid(Pid::from_raw(0), Pid::from_raw(0)).call("setpgid", String::new)?;
    if has_terminal {
        tcsetpgrp(rustix::stdio::stdin(), Pid::this()).call("tcsetpgrp", String::new)?;
    }
    Ok(())
}

/// What process 1 does from then on. Whatever it can't do, the end of the program is the end of it.
fn stay(program: Pid, watched: &SigSet) -> ! {
    let _ = sys::close_from(0);
    let signals = SignalFd::with_flags(watched, SfdFlags::SFD_CLOEXEC);
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => std::process::exit(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                std::process::exit(128 + signal as i32)
            }
            Ok(WaitStatus::StillAlive) => hear(&signals, program),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => std::process::exit(1), // there is no child any more
        }
    }
}

/// Waits for a signal. One that isn't about a child is for the program.
fn hear(signals: &nix::Result<SignalFd>, program: Pid) {
    let heard = signals.as_ref().map(SignalFd::read_signal);
    let Ok(Ok(Some(heard))) = heard else {
        return std::thread::sleep(WITHOUT_SIGNALS);
    };
    match Signal::try_from(heard.ssi_signo.cast_signed()) {
        Ok(Signal::SIGCHLD) | Err(_) => {}
        Ok(signal) => drop(kill(program, signal)), // it may have ended
    }
}

/// How often children are looked after where signals can't be waited for.
const WITHOUT_SIGNALS: std::time::Duration = std::time::Duration::from_millis(50);
