//! Who stands between kiln and a step that has no pid namespace ([`super::surroundings`], or no namespaces at all): the process that everything the step leaves behind comes back to.
//!
//! A pid namespace dies with its first process. Without one, a program can start others and end. So the step's program gets a parent,
//! a *subreaper* (`PR_SET_CHILD_SUBREAPER`), whose children all orphans below it become, however they were started. When
//! the program has ended, or kiln says so, it kills its children until there are none, and ends as the program did.
//!
//! Meanwhile it answers the step's calls about `/proc` and `/dev` ([`broker`]).

use super::broker::{self, Broker, Outside, Served};
use super::family::parent;
use super::init::{self, ToBroker};
use super::{Network, SandboxSpec, SetId, Unavailable, probe, seccomp, trial};
use crate::sys::{self, Context as _, Forked, SingleThreaded};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;

/// The signal that asks a minder to end its step. One that `kiln run` never passes on.
pub(super) const END: rustix::process::Signal = rustix::process::Signal::POWER;

/// Programs that a user becomes somebody else with, where the image has them.
const SETUID: [&str; 5] = [
    "bin/sudo",
    "usr/bin/sudo",
    "usr/local/bin/sudo",
    "usr/bin/doas",
    "usr/local/bin/doas",
];

/// Runs the step below this process and ends as its program does. The descriptors are as for [`init::run_minded`].
pub(super) fn run(spec: &SandboxSpec, fds: Vec<OwnedFd>, proof: &SingleThreaded) -> ! {
    let Ok((signals, proc, to_program, link)) = get_ready(spec, proof) else {
        std::process::exit(1)
    };
    match sys::fork_process(proof) {
        Ok(Forked::Child) => {
            let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&watched()), None);
            init::run_minded(spec, fds, to_program)
        }
        Ok(Forked::Parent(program)) => {
            drop((fds, to_program)); // the ends of the pipes are the step's alone
            let minder = Minder {
                program,
                signals,
                proc,
                link,
                ended: None,
                ending: false,
            };
            end_as(minder.watch(spec))
        }
        Err(_) => std::process::exit(1),
    }
}

/// Everything before there is a program.
fn get_ready(
    spec: &SandboxSpec,
    proof: &SingleThreaded,
) -> sys::Result<(SignalFd, Rc<OwnedFd>, Option<ToBroker>, Link)> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .call("prctl", || "PR_SET_CHILD_SUBREAPER".into())?;
    end_with_parent()?;
    let watched = watched();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&watched), None).call("sigprocmask", String::new)?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&watched, flags).call("signalfd", String::new)?;
    let brokered = has_broker(spec, proof);
    let mut outside = Outside::open()?;
    let proc = outside.proc();
    let (to_program, link) = match brokered {
        Brokered::No => (None, Link::None),
        brokered => {
            let (ours, socket) = UnixStream::pair().call("socketpair", || "AF_UNIX".into())?;
            let mut to_program = ToBroker {
                socket,
                needed: matches!(brokered, Brokered::Must),
                need: None,
            };
            if matches!(brokered, Brokered::UntilNeeded) {
                let (told, say) = io::pipe().call("pipe2", String::new)?;
                to_program.need = Some(told.into());
                outside.tells_need_by(say.into());
            }
            (Some(to_program), Link::Awaited(outside, ours))
        }
    };
    Ok((signals, proc, to_program, link))
}

/// This process hears of it when kiln is gone.
pub(super) fn end_with_parent() -> sys::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(END))
        .call("prctl", || "PR_SET_PDEATHSIG".into())
}

/// Whether a step gets a broker.
enum Brokered {
    Must,
    May,
    /// Until the step comes to execute a program that does more without one; then it ends.
    UntilNeeded,
    No,
}

/// A broker costs a step its setuid programs, unless those are lost already or kiln has the right to load filters as it is.
fn has_broker(spec: &SandboxSpec, proof: &SingleThreaded) -> Brokered {
    let root = spec.root.changes();
    if spec.rung.has_namespaces() || !seccomp::SUPPORTED {
        return Brokered::No;
    }
    if !has_device(root) {
        return Brokered::Must;
    }
    if is_free(spec) {
        return Brokered::May;
    }
    let is_for_them = spec.user.uid != 0 && has_setuid(root);
    match spec.set_id {
        SetId::Certain => Brokered::No,
        SetId::Guess | SetId::Likely if is_for_them => Brokered::No,
        // It is not to lose them and get nothing for it.
        SetId::Unlikely if is_for_them && !can_listen(proof) => Brokered::No,
        _ if is_first_needed(spec) => Brokered::No,
        SetId::Guess => Brokered::May,
        SetId::Likely | SetId::Unlikely => Brokered::UntilNeeded,
    }
}

/// Whether a broker costs a step nothing that it had without.
fn is_free(spec: &SandboxSpec) -> bool {
    let has_lost_them = spec.no_new_privileges || spec.network == Network::None;
    has_lost_them || probe::has_sys_admin() || rustix::thread::no_new_privs().unwrap_or(false)
}

/// Whether the image has what a user becomes root by.
fn has_setuid(root: &Path) -> bool {
    let mut found = SETUID
        .iter()
        .filter_map(|name| std::fs::symlink_metadata(root.join(name)).ok());
    found.any(|found| found.permissions().mode() & 0o4000 != 0)
}

/// Whether calls can be sent to a broker: the kernel may be too old, and there is but one listener for all filters of a process, which
/// the container around kiln may have.
fn can_listen(proof: &SingleThreaded) -> bool {
    let listen = || {
        let renounced = rustix::thread::set_no_new_privs(true);
        let renounced = renounced.call("prctl", || "PR_SET_NO_NEW_PRIVS".into());
        let loaded = renounced.and_then(|()| sys::load_seccomp_listener(&seccomp::asking()));
        loaded
            .map(drop)
            .map_err(|error| Unavailable::new(error.to_string(), ""))
    };
    trial::apart(proof, listen).is_ok_and(|tried| tried.is_ok())
}

/// Whether the program that the step begins as has set-ID bits that do something for it.
fn is_first_needed(spec: &SandboxSpec) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", flags, Mode::empty());
    proc.is_ok_and(|proc| broker::is_first_needed(spec, &proc))
}

/// Whether the root's `/dev` has nodes that can be used.
fn has_device(root: &Path) -> bool {
    broker::is_usable_device(&root.join("dev/null"))
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

/// What the minder does besides.
enum Link {
    /// Nothing.
    None,
    /// The program has not handed its listener over yet.
    Awaited(Outside, UnixStream),
    /// It answers calls.
    Serving(Box<Broker>),
}

struct Minder {
    program: Pid,
    signals: SignalFd,
    /// The container's.
    proc: Rc<OwnedFd>,
    link: Link,
    ended: Option<WaitStatus>,
    ending: bool,
}

/// What there is to do.
struct Ready {
    signals: bool,
    calls: bool,
    /// There will be no more calls.
    hung_up: bool,
}

impl Minder {
    /// Waits until the program and everything that came from it have ended; tells how the program did.
    fn watch(mut self, spec: &SandboxSpec) -> Option<WaitStatus> {
        loop {
            let ready = self.wait();
            if ready.signals {
                self.hear();
                if self.is_alone() {
                    return self.ended;
                }
            }
            if self.ending {
                self.end_children();
            } else if ready.calls || ready.hung_up {
                let served = self.link.go_on(spec, self.program, ready.calls);
                if matches!(served, Served::Ends) {
                    self.ending = true;
                    self.end_children();
                }
            }
        }
    }

    fn wait(&self) -> Ready {
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if !self.ending {
            polled.extend(self.link.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        }
        if poll(&mut polled, PollTimeout::NONE).is_err() {
            return Ready {
                signals: true,
                calls: false,
                hung_up: false,
            };
        }
        let has = |index: usize, flag| {
            let events = polled.get(index).and_then(PollFd::revents);
            events.is_some_and(|events| events.intersects(flag))
        };
        Ready {
            signals: has(0, PollFlags::POLLIN),
            calls: has(1, PollFlags::POLLIN),
            hung_up: has(1, PollFlags::POLLHUP | PollFlags::POLLERR),
        }
    }

    fn hear(&mut self) {
        while let Ok(Some(heard)) = self.signals.read_signal() {
            match Signal::try_from(heard.ssi_signo.cast_signed()) {
                Ok(Signal::SIGPWR) => self.ending = true,
                Ok(Signal::SIGCHLD) | Err(_) => {}
                Ok(signal) => {
                    self.link.be_root();
                    let _ = kill(self.program, signal); // it may have ended
                }
            }
        }
    }

    /// Takes note of everybody who has ended. Tells whether nobody is left.
    fn is_alone(&mut self) -> bool {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
                Ok(WaitStatus::StillAlive) => return false,
                Ok(status) if status.pid() == Some(self.program) => {
                    self.ended = Some(status);
                    self.ending = true;
                }
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return true,
            }
        }
    }

    fn end_children(&mut self) {
        self.link.be_root();
        kill_children(self.proc.as_fd());
    }
}

impl Link {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::None => None,
            Self::Awaited(_, socket) => Some(socket.as_fd()),
            Self::Serving(broker) => Some(broker.listener()),
        }
    }

    /// Takes the listener, or answers a call.
    fn go_on(&mut self, spec: &SandboxSpec, program: Pid, has_call: bool) -> Served {
        let mut served = Served::GoesOn;
        *self = match std::mem::replace(self, Self::None) {
            Self::Awaited(outside, socket) => {
                match outside.enter(&socket, spec, program.as_raw()) {
                    Ok(Some(broker)) => Self::Serving(Box::new(broker)),
                    // The program goes without, or ends at its first call, which nobody hears.
                    Ok(None) | Err(_) => Self::None,
                }
            }
            Self::Serving(mut broker) if has_call => match broker.serve() {
                Ok(outcome) => {
                    served = outcome;
                    Self::Serving(broker)
                }
                Err(_) => Self::None,
            },
            Self::Serving(_) | Self::None => Self::None,
        };
        served
    }

    fn be_root(&mut self) {
        if let Self::Serving(broker) = self {
            broker.be_root();
        }
    }
}

/// Their own children become ours when they are dead, and are next.
fn kill_children(proc: BorrowedFd<'_>) {
    let Some(children) = read(proc, "thread-self/children") else {
        return kill_children_by_parent(proc);
    };
    for child in children.split_ascii_whitespace() {
        if let Ok(pid) = child.parse() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// For kernels that keep no list of children: whoever has this process for a parent.
fn kill_children_by_parent(proc: BorrowedFd<'_>) {
    let own = Pid::this().as_raw();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = rustix::fs::openat(proc, ".", flags, Mode::empty());
    let entries = listed.and_then(rustix::fs::Dir::read_from);
    for entry in entries.into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .ok()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = read(proc, &format!("{pid}/stat")).unwrap_or_default();
        if parent(&stat) == Some(own) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn read(proc: BorrowedFd<'_>, path: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(proc, path, flags, Mode::empty()).ok()?;
    io::read_to_string(File::from(file)).ok()
}

fn end_as(status: Option<WaitStatus>) -> ! {
    match status {
        Some(WaitStatus::Exited(_, code)) => std::process::exit(code),
        Some(WaitStatus::Signaled(_, signal, _)) => {
            let core = rustix::process::Rlimit {
                current: Some(0),
                maximum: Some(0),
            };
            let _ = rustix::process::setrlimit(rustix::process::Resource::Core, core);
            // No other: one of those that are for the program, or another wish that it end, may have come meanwhile.
            let only = SigSet::from_iter([signal]);
            let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&only), None);
            let _ = kill(Pid::this(), signal);
            std::process::exit(128 + signal as i32)
        }
        _ => std::process::exit(1),
    }
}
