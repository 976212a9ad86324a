//! Signals: users send them to their own processes. The kernel would let them go to all, as they are one user's.

use super::Server;
use super::caller::{Answered, Caller, innermost};
use super::identity::Identity;
use crate::sandbox::capability::KILL;
use crate::sys::Reply;
use nix::libc;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

impl Server {
    /// kill(2). What is wrong with it for other reasons is the kernel's to tell.
    pub(super) fn signal(&self, caller: &Caller<'_>, process: i32, signal: i32) -> Answered<Reply> {
        let who = self.identity(caller);
        // Those that have stopped are for all of their session to wake.
        if who.can(KILL) || signal == libc::SIGCONT {
            return Ok(Reply::Continue);
        }
        let own = caller.number_in_step()?;
        let Some(meant) = meant(process, own, caller) else {
            return Ok(Reply::Continue);
        };
        let meant: Vec<i32> = caller.of_step(meant).collect();
        let mut theirs = meant.clone();
        theirs.retain(|process| may_signal(&who, &self.identity_of(*process)));
        match (theirs.len(), meant.len()) {
            (may, all) if may == all => Ok(Reply::Continue),
            (0, _) if process == -1 => Ok(Reply::Value(0)), // as it is for all that it may
            (0, _) => Err(libc::EPERM),
            _ => match Signal::from_named_raw(signal) {
                Some(signal) => {
                    theirs
                        .iter()
                        .for_each(|it| self.send(caller, &who, *it, signal));
                    Ok(Reply::Value(0))
                }
                None if signal == 0 => Ok(Reply::Value(0)),
                None => Err(libc::EPERM), // those of real time go to all or to nobody
            },
        }
    }

    /// Sends it to this very process, and to no other that got its number meanwhile but one that is the step's and may be sent it, too.
    fn send(&self, caller: &Caller<'_>, who: &Identity, process: i32, signal: Signal) {
        let number = Pid::from_raw(process);
        let opened = number.and_then(|it| pidfd_open(it, PidfdFlags::empty()).ok());
        if let Some(opened) = opened
            && caller.is_of_step(process)
            && may_signal(who, &self.identity_of(process))
        {
            let _ = pidfd_send_signal(opened, signal); // it may have ended
        }
    }
}

/// Which processes are meant by a number, told by their `/proc/PID/status`; `None` if it is the caller.
fn meant(process: i32, own: u32, caller: &Caller<'_>) -> Option<impl Fn(&str) -> bool> {
    let own_group = caller
        .status()
        .and_then(|status| innermost(&status, "NSpgid:"));
    let (line, wanted) = match process {
        -1 => ("NStgid:", None),
        0 => ("NSpgid:", Some(own_group?)),
        group if group < 0 => ("NSpgid:", Some(group.unsigned_abs())),
        process => ("NStgid:", Some(process.unsigned_abs())),
    };
    (wanted != Some(own) || line == "NSpgid:").then_some(move |status: &str| {
        let number = innermost(status, line);
        match wanted {
            Some(_) => number == wanted,
            None => number != Some(1) && number != Some(own),
        }
    })
}

/// As kill(2) has it.
const fn may_signal(who: &Identity, other: &Identity) -> bool {
    let (own, other) = (&who.user, &other.user);
    own.effective == other.real
        || own.effective == other.saved
        || own.real == other.real
        || own.real == other.saved
}
