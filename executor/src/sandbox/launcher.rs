//! Kiln's side of the launcher: start the helper at the first step, ask it for steps.

use super::furnish::Furnishing;
use super::left_mounts::LeftMounts;
use super::message::{self, Answer, Brought, Report, Request, Role, Socket};
use super::mounted_root::{Changed, MountedRoot, is_empty};
use super::own_binary::OwnBinary;
use super::recorder::{Recorder, Scope};
use super::step::{Leavings, Step};
use super::stub::Stubs;
use super::template::{Expected, Line, Mould, Template};
use super::waiting::{Kind, end_process};
use super::{MountKind, RootSpec, SandboxError, SandboxSpec, helper, identity};
use crate::locked::locked;
use crate::sys::{self, Context as _};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio as ProcessStdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::{io, iter};

/// Longer than a step takes to be set up.
const SET_UP: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};

/// Starts steps through one helper process, which is made at the first [`Launcher::spawn`] and ends with this value.
///
/// One launcher serves all threads. Steps that still run when it is dropped are killed.
#[derive(Debug, Default)]
pub struct Launcher {
    helper: Mutex<Option<Helper>>,
    /// What those that wait for steps are copies of.
    template: Mutex<Option<Template>>,
    /// Mounts of steps that have ended.
    left_mounts: LeftMounts,
    /// Processes that are on their way to their end.
    leaving: Mutex<Leaving>,
}

/// What has been told to end, and is waited for when this is dropped.
#[derive(Debug, Default)]
struct Leaving {
    processes: Vec<OwnedFd>,
    helpers: Vec<Helper>,
}

/// The three standard streams of a step.
#[derive(Debug)]
pub struct Stdio {
    /// Standard input; a pipe that has ended for a RUN.
    pub stdin: OwnedFd,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
    /// Where to send kiln's end of the terminal that the step has, if it has another than these. It is dropped once the step runs.
    pub terminal: Option<Sender<OwnedFd>>,
}

/// The helper process as kiln sees it.
#[derive(Debug)]
struct Helper {
    socket: UnixStream,
    keeper: Option<JoinHandle<()>>,
    /// Whether it could be started, until that is known.
    started: Option<Receiver<sys::Result<()>>>,
    /// A template that it was asked for and has not been heard about.
    expected: Option<Expected>,
}

impl Stdio {
    /// These three.
    pub fn new(stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd) -> Self {
        Self {
            stdin,
            stdout,
            stderr,
            terminal: None,
        }
    }

    /// Copies of the engine's own streams.
    pub fn inherit() -> io::Result<Self> {
        Ok(Self::new(
            io::stdin().as_fd().try_clone_to_owned()?,
            io::stdout().as_fd().try_clone_to_owned()?,
            io::stderr().as_fd().try_clone_to_owned()?,
        ))
    }

    /// Empty input, and output to the two given ends, as a RUN has it (R-RT-2).
    pub fn output(stdout: OwnedFd, stderr: OwnedFd) -> io::Result<Self> {
        let (stdin, _) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok(Self::new(stdin, stdout, stderr))
    }
}

impl Launcher {
    /// A launcher whose helper is not started yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a step; returns once its program is running, or with the reason why it could not be.
    pub fn spawn(&self, spec: &SandboxSpec, stdio: Stdio) -> Result<Step, SandboxError> {
        self.spawn_on(spec, stdio, None)
    }

    /// The same on a root filesystem that is mounted already, if there is one, as the spec says.
    pub(crate) fn spawn_on(
        &self,
        spec: &SandboxSpec,
        stdio: Stdio,
        mounted: Option<MountedRoot>,
    ) -> Result<Step, SandboxError> {
        check(spec)?;
        let furnishing = match spec.rung.has_namespaces() {
            true => None,
            false => {
                // It may hold a job's keys, and the step knows of this process, should the kernel have no better fence
                // (`sys::keep_to_themselves`).
                identity::keep_memory_to_itself();
                Some(Furnishing::place(spec)?)
            }
        };
        let begin = |hand_over: &dyn Fn(&[BorrowedFd<'_>]) -> Result<OwnedFd, SandboxError>| {
            begin(spec, &stdio, mounted.as_ref(), hand_over)
        };
        let waited = begin(&|fds| self.become_step(spec, fds).ok_or(SandboxError::Killed));
        let (lost, waited): (Vec<_>, Vec<_>) = waited
            .into_iter()
            .partition(|begun| begun.is_lost(spec, mounted.as_ref()));
        // One that waited may have been killed.
        lost.iter().for_each(|lost| end_process(&lost.pidfd));
        let begun = match waited.into_iter().next() {
            Some(begun) => begun,
            None => begin(&|fds| self.request(Role::Step(spec), fds))?,
        };
        let Begun {
            pidfd,
            words,
            recorder,
            need,
        } = begun;
        let step = Step::new(pidfd, spec, words.stubs, recorder, furnishing, need);
        step.keep_root(kept_root(mounted, words.root, words.found));
        match words.failure {
            None => Ok(step),
            Some(error) => Err(error),
        }
    }

    /// Has a process made that waits to become a step like this one. For whoever has time while a step runs, and another to run after it. Where
    /// that fails, the next step is made when it is asked for.
    pub fn make_ready(&self, spec: &SandboxSpec) {
        let kind = Kind::of(spec);
        if !kind.can_wait() {
            return;
        }
        let mut slot = locked(&self.template);
        if let Some(template) = slot.as_mut()
            && template.is_for(kind)
            && template.order()
        {
            return;
        }
        slot.take().into_iter().for_each(Template::end);
        *slot = self.proven_template(kind);
    }

    /// Hears of the process that waits, if there is or soon will be one, and knows it when a step needs it.
    pub(crate) fn meet_waiting(&self) {
        let mut slot = locked(&self.template);
        if let Some(template) = slot.as_mut()
            && template.has_copy_soon()
            && !self.meet_copy(template)
        {
            slot.take().into_iter().for_each(Template::end);
        }
    }

    /// Starts the helper, and has it make what a step like this one needs, and a process that waits to become it, while others do something else:
    /// the first step begins as those do that follow another. Only where there is nothing of the kind yet.
    pub fn expect(&self, spec: &SandboxSpec) {
        let kind = Kind::of(spec);
        if !kind.can_wait() || locked(&self.template).is_some() {
            return;
        }
        let mut slot = locked(&self.helper);
        if slot.is_none() {
            *slot = Helper::start().ok();
        }
        if let Some(helper) = slot.as_mut() {
            helper.expect(kind);
        }
    }

    /// Puts the template that the helper was asked for early where it belongs.
    fn take_expected(&self) {
        let mut template = locked(&self.template);
        let mut slot = locked(&self.helper);
        let arrived = slot.as_mut().map(Helper::take_expected);
        match arrived {
            Some(Ok(Some(arrived))) if template.is_none() => *template = Some(arrived),
            Some(Ok(Some(other))) => other.end(),
            Some(Ok(None)) | None => {}
            Some(Err(_)) => *slot = None, // whoever asks for a step gets a new one, and is told
        }
    }

    /// Keeps mounts that nobody needs until there is time for them.
    pub(crate) fn leave_mounts(&self, mounts: Option<Leavings>) {
        if let Some(mounts) = mounts {
            self.left_mounts.add(mounts);
        }
    }

    /// Has them taken down while others do something else.
    pub(crate) fn take_down_mounts(&self) {
        self.left_mounts.take_down();
    }

    /// A template that has made a copy.
    fn proven_template(&self, kind: Kind) -> Option<Template> {
        let moulds = iter::successors(Some(Mould::of(kind)), |mould| mould.simpler());
        for mut template in moulds.filter_map(|mould| self.template(mould)) {
            if template.order() && self.meet_copy(&mut template) {
                return Some(template);
            }
            template.end();
        }
        None
    }

    fn template(&self, mould: Mould) -> Option<Template> {
        let (line, orders) = Line::new().ok()?;
        let pidfd = self.request(Role::Template(mould), &[orders.as_fd()]);
        Some(Template::new(mould.kind, pidfd.ok()?, line))
    }

    /// Lets who waits become the step, if it can.
    fn become_step(&self, spec: &SandboxSpec, fds: &[BorrowedFd<'_>]) -> Option<OwnedFd> {
        // One that waits can't part from process 1, and has left the host's `/proc`.
        if spec.init || spec.oom_score_adj.is_some() {
            return None;
        }
        self.take_expected();
        let mut slot = locked(&self.template);
        let template = slot.as_mut()?;
        if !template.is_for(Kind::of(spec)) || !template.has_copy_soon() {
            return None;
        }
        let met = self.meet_copy(template);
        let step = met.then(|| template.become_step(spec, fds)).flatten();
        if step.is_none() {
            slot.take().into_iter().for_each(Template::end);
        }
        step
    }

    /// Waits for the template's copy, and has it end with kiln, whatever it becomes. False where that can't be.
    fn meet_copy(&self, template: &mut Template) -> bool {
        template.meet_copy(|copy| {
            let helper = locked(&self.helper);
            helper.as_ref().is_some_and(|helper| helper.mind(copy))
        })
    }

    /// Starts the helper, which whoever asks for the first step then need not wait for. A failure is told then.
    pub fn start_early(&self) {
        let mut slot = locked(&self.helper);
        if slot.is_none() {
            *slot = Helper::start().ok();
        }
    }

    /// Has everything end that only waits for steps, as there is none to come; while others do something else. Steps that run all the same
    /// are killed. Whoever starts one after all gets a new helper.
    pub fn wind_down(&self) {
        self.left_mounts.take_down();
        self.take_expected();
        let mut leaving = locked(&self.leaving);
        let template = locked(&self.template).take();
        leaving
            .processes
            .extend(template.into_iter().flat_map(Template::kill));
        let mut helper = locked(&self.helper);
        if let Some(helper) = helper.take() {
            helper.tell_to_end();
            leaving.helpers.push(helper);
        }
    }

    /// Sends the request and receives the pidfd, one thread at a time.
    fn request(
        &self,
        role: Role<&SandboxSpec>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<OwnedFd, SandboxError> {
        let mut slot = locked(&self.helper);
        let helper = match slot.as_mut() {
            Some(helper) => helper,
            None => slot.insert(Helper::start().map_err(SandboxError::Launcher)?),
        };
        let started = helper.await_start().map_err(SandboxError::Launcher);
        let answered = started.and_then(|()| helper.request(role, fds));
        if matches!(
            answered,
            Err(SandboxError::LauncherGone | SandboxError::Launcher(_))
        ) {
            *slot = None; // the next step gets a new one
        }
        answered
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.wind_down();
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        for process in &self.processes {
            end_process(process);
        }
    }
}

impl Helper {
    /// Starts the helper, and a thread that waits for its end.
    ///
    /// That thread is the helper's parent, and so the parent of every step. The kernel's parent-death signal follows the parent
    /// *thread*: had a worker started the helper, the steps would die with the worker.
    fn start() -> sys::Result<Self> {
        let (ours, theirs) = UnixStream::pair().call("socketpair", || "AF_UNIX".into())?;
        let (started, outcome) = mpsc::sync_channel(1);
        let keep = move || match execute_own_binary(theirs) {
            Ok(mut child) => {
                let _ = started.send(Ok(()));
                let _ = child.wait();
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        };
        let keeper = std::thread::Builder::new()
            .name("sandbox-launcher".into())
            .spawn(keep);
        let keeper = keeper.call("clone", || "sandbox-launcher thread".into())?;
        Ok(Self {
            socket: ours,
            keeper: Some(keeper),
            started: Some(outcome),
            expected: None,
        })
    }

    fn await_start(&mut self) -> sys::Result<()> {
        let outcome = self.started.take().map(|started| started.recv());
        let gone = |_| Err(sys::Error::new("execve", "launcher", nix::libc::EIO));
        outcome.map_or(Ok(()), |outcome| outcome.unwrap_or_else(gone))
    }

    fn request(
        &mut self,
        role: Role<&SandboxSpec>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<OwnedFd, SandboxError> {
        // Answers come in the order of requests. What was expected is of no use to whoever asks for something else.
        if let Some(expected) = self.expected.take() {
            let arrived = self.answer().map(|pidfd| expected.arrived(pidfd));
            arrived.into_iter().for_each(Template::end);
        }
        self.ask(role, fds)?;
        self.answer()
    }

    /// Asks for a template and a copy of it, and doesn't wait for an answer. Where that can't be done nothing is expected.
    fn expect(&mut self, kind: Kind) {
        if self.expected.is_some() {
            return;
        }
        let Ok((mut line, orders)) = Line::new() else {
            return;
        };
        let ordered = line.order();
        let role = Role::Template(Mould::of(kind));
        if ordered.is_ok() && self.ask(role, &[orders.as_fd()]).is_ok() {
            self.expected = Some(Expected { kind, line });
        }
    }

    /// What was expected, once it is there. `None` if it could not be made, or nothing was.
    fn take_expected(&mut self) -> sys::Result<Option<Template>> {
        let Some(expected) = self.expected.take() else {
            return Ok(None);
        };
        self.await_start()?;
        Ok(self.answer().ok().map(|pidfd| expected.arrived(pidfd)))
    }

    fn ask(&self, role: Role<&SandboxSpec>, fds: &[BorrowedFd<'_>]) -> Result<(), SandboxError> {
        let request = Request::New(role);
        let sent = message::send(Socket(self.socket.as_fd()), &request, fds);
        sent.map_err(|_| SandboxError::LauncherGone)
    }

    /// The process of the oldest request that was not answered.
    fn answer(&self) -> Result<OwnedFd, SandboxError> {
        let answered = message::receive::<Answer>(Socket(self.socket.as_fd()));
        let (answer, mut fds) = answered
            .map_err(|_| SandboxError::LauncherGone)?
            .ok_or(SandboxError::LauncherGone)?;
        answer.map_err(|cause| SandboxError::Setup {
            stage: "make the step's namespaces".into(),
            cause,
        })?;
        fds.pop().ok_or(SandboxError::LauncherGone)
    }

    /// The end of the socket tells the helper to kill its steps and go.
    fn tell_to_end(&self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
    }

    /// False if it has gone.
    fn mind(&self, copy: BorrowedFd<'_>) -> bool {
        let request = Request::<&SandboxSpec>::Mind;
        message::send(Socket(self.socket.as_fd()), &request, &[copy]).is_ok()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.tell_to_end();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// Becomes the helper if this process was started as one, and then never returns. The first line of `main`.
///
/// A process is the helper when its name (`argv[0]`) is ours and its standard input is a Unix socket; neither a user nor a link
/// to the binary gets there by accident.
pub fn init_main_if_asked() {
    let mut args = std::env::args_os();
    if args.next().is_some_and(|name| name == helper::NAME) && args.next().is_none() {
        helper::run_if_socket();
    }
}

/// Executes our own binary as the helper with `socket` as its standard input.
fn execute_own_binary(socket: UnixStream) -> sys::Result<Child> {
    let socket = OwnedFd::from(socket);
    let read_only = OwnBinary::read_only().and_then(|binary| {
        let socket = socket.try_clone().ok()?;
        execute(&binary, socket).ok()
    });
    match read_only {
        Some(child) => Ok(child),
        None => execute(&OwnBinary::sealed_copy()?, socket),
    }
}

fn execute(binary: &OwnBinary, socket: OwnedFd) -> sys::Result<Child> {
    let mut command = Command::new(binary.path());
    command.arg0(helper::NAME).env_clear().current_dir("/");
    command
        .stdin(socket)
        .stdout(ProcessStdio::null())
        .stderr(ProcessStdio::null());
    let args = || format!("{}, kiln's own binary", binary.path().display());
    command.spawn().call("execve", args)
}

/// A process that has been told what it is to become.
struct Begun {
    pidfd: OwnedFd,
    words: LastWords,
    recorder: Option<Recorder>,
    /// Where it is said which program the step ended for, to be begun again.
    need: Option<OwnedFd>,
}

impl Begun {
    /// Takes what the step says while it is set up, until it is its program, or tells why it can't be.
    fn attend(
        &mut self,
        spec: &SandboxSpec,
        stdio: &Stdio,
        reports: &UnixStream,
    ) -> sys::Result<()> {
        let Self {
            pidfd,
            recorder,
            need,
            ..
        } = self;
        // A step whose owners are recorded can't begin its program without a recorder, which can be made now. Others need none until then.
        let mut expected = match Scope::of(spec) {
            Some(Scope::Everything) => Some(Recorder::expect(spec, pidfd)?),
            _ => {
                leave_alone(reports);
                None
            }
        };
        self.words = last_words(reports, |what, fd| match what {
            Brought::Listener => {
                let expected = match expected.take() {
                    Some(expected) => expected,
                    None => Recorder::expect(spec, pidfd)?,
                };
                *recorder = Some(expected.begin(fd));
                leave_alone(reports);
                Ok(None)
            }
            Brought::Terminal => {
                // Nobody may be there to show it.
                let _ = stdio.terminal.as_ref().map(|taker| taker.send(fd));
                Ok(None)
            }
            Brought::Need => {
                *need = Some(fd);
                Ok(None)
            }
            Brought::Root => Ok(Some(fd)),
        })?;
        if self.words.failure.is_some()
            && let Some(cause) = self.recorder.as_ref().and_then(Recorder::failure)
        {
            self.words.failure = Some(no_recorder(cause));
        }
        Ok(())
    }

    /// Whether it ended before it had done anything that lasts. Overlayfs is the first to write, into the work directory.
    fn is_lost(&self, spec: &SandboxSpec, mounted: Option<&MountedRoot>) -> bool {
        let RootSpec::Overlay { upper, work, .. } = &spec.root else {
            return false;
        };
        let written_first = if mounted.is_some() { upper } else { work };
        self.words.is_silence() && is_empty(written_first)
    }
}

/// Hands the spec over to a process, and reads what that tells until it is the program.
fn begin(
    spec: &SandboxSpec,
    stdio: &Stdio,
    mounted: Option<&MountedRoot>,
    hand_over: impl FnOnce(&[BorrowedFd<'_>]) -> Result<OwnedFd, SandboxError>,
) -> Result<Begun, SandboxError> {
    let (reports, reporter) = UnixStream::pair()
        .call("socketpair", String::new)
        .map_err(SandboxError::Launcher)?;
    let streams = [&stdio.stdin, &stdio.stdout, &stdio.stderr];
    let fds = streams.into_iter().map(OwnedFd::as_fd);
    let fds = fds.chain([reporter.as_fd()]);
    let fds: Vec<_> = fds.chain(mounted.map(MountedRoot::as_fd)).collect();
    let pidfd = hand_over(&fds)?;
    drop(reporter);
    let mut begun = Begun {
        pidfd,
        words: LastWords::default(),
        recorder: None,
        need: None,
    };
    if let Err(cause) = begun.attend(spec, stdio, &reports) {
        begun.words = LastWords::of_failure(no_recorder(cause));
    }
    Ok(begun)
}

fn no_recorder(cause: sys::Error) -> SandboxError {
    SandboxError::Setup {
        stage: "start the recorder of owners".into(),
        cause,
    }
}

/// What became of the set-up.
#[derive(Default)]
struct LastWords {
    stubs: Stubs,
    /// The root filesystem, if it was mounted to be kept.
    root: Option<OwnedFd>,
    /// The directory for changes as the program finds it, if the root filesystem is kept.
    found: Option<Changed>,
    /// Why the program is not running, if so.
    failure: Option<SandboxError>,
}

impl LastWords {
    /// Whether nothing was told at all.
    fn is_silence(&self) -> bool {
        matches!(self.failure, Some(SandboxError::Killed))
    }

    fn of_failure(failure: SandboxError) -> Self {
        Self {
            failure: Some(failure),
            ..Self::default()
        }
    }
}

/// Waits until a step is its program, or has ended, and is not woken by what it says before, which would take time from both. It may have more
/// to say than the socket holds, or be waiting for somebody, so not for long.
fn leave_alone(reports: &UnixStream) {
    let mut polled = [PollFd::new(reports, PollFlags::RDHUP)];
    let _ = poll(&mut polled, Some(&SET_UP)); // whatever comes of it, they are read
}

/// The root filesystem that the step has and that outlasts it: one that was there, or one that was made.
fn kept_root(
    mounted: Option<MountedRoot>,
    made: Option<OwnedFd>,
    found: Option<Changed>,
) -> Option<MountedRoot> {
    let found = found?;
    match mounted {
        Some(mounted) => Some(mounted.found(found)),
        None => made.map(|made| MountedRoot::new(made, found)),
    }
}

/// Reads the step's reports to the end, which comes at exec or at the step's death. `take` gets what comes with them, and leaves the root
/// filesystem, which is part of what is told.
fn last_words(
    reports: &UnixStream,
    mut take: impl FnMut(Brought, OwnedFd) -> sys::Result<Option<OwnedFd>>,
) -> sys::Result<LastWords> {
    let mut words = LastWords::of_failure(SandboxError::Killed);
    while let Ok(Some((report, fds))) = message::receive::<Report>(Socket(reports.as_fd())) {
        for (what, fd) in report.brings.iter().zip(fds) {
            words.root = take(*what, fd)?.or(words.root);
        }
        words = LastWords {
            stubs: report.stubs,
            root: words.root,
            found: report.found,
            failure: report.failure.map(SandboxError::from),
        };
    }
    Ok(words)
}

/// What no kernel could do: relative paths, empty argv, NUL bytes.
fn check(spec: &SandboxSpec) -> Result<(), SandboxError> {
    let invalid = |what: String| Err(SandboxError::Invalid(what));
    if spec.argv.is_empty() {
        return invalid("there is no program to run".into());
    }
    let strings = spec
        .argv
        .iter()
        .chain(spec.env.iter().flat_map(|(name, value)| [name, value]));
    if let Some(bad) = strings.into_iter().find(|text| text.contains('\0')) {
        return invalid(format!("`{}` contains a NUL byte", bad.escape_default()));
    }
    if let Some(source) = not_to_be_lent(spec) {
        return invalid(format!(
            "`{}` can't be mounted for writing in the sandbox `{}`, which has no mounts; mounted read-only it is a copy",
            source.display(),
            spec.rung
        ));
    }
    if let Some(bad) = inside(spec).find(|path| !path.starts_with('/')) {
        return invalid(format!("path `{bad}` inside the root is not absolute"));
    }
    if let Some(bad) = outside(spec).find(|path| !path.is_absolute()) {
        return invalid(format!(
            "path `{}` of the host is not absolute",
            bad.display()
        ));
    }
    Ok(())
}

/// What a rung without mounts would have to take from where it is, and is not kiln's.
fn not_to_be_lent(spec: &SandboxSpec) -> Option<&Path> {
    let is_own = |source: &Path| spec.own.as_ref().is_some_and(|own| source.starts_with(own));
    let mut mounts = spec.mounts.iter().filter(|_| !spec.rung.has_namespaces());
    mounts.find_map(|mount| match &mount.kind {
        MountKind::Bind {
            source,
            writable: true,
            ..
        } if !is_own(source) => Some(source.as_path()),
        _ => None,
    })
}

/// All paths inside the root.
fn inside(spec: &SandboxSpec) -> impl Iterator<Item = &str> {
    std::iter::once(spec.cwd.as_str()).chain(spec.mounts.iter().map(|mount| mount.target.as_str()))
}

/// All paths of the host.
fn outside(spec: &SandboxSpec) -> impl Iterator<Item = &Path> {
    let root: Vec<&Path> = match &spec.root {
        RootSpec::Directory(path) => vec![path],
        RootSpec::Overlay {
            lowers,
            upper,
            work,
        } => lowers
            .iter()
            .chain([upper, work])
            .map(PathBuf::as_path)
            .collect(),
    };
    let binds = spec.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind { source, .. } => Some(source.as_path()),
        MountKind::Tmpfs { .. } | MountKind::File { .. } => None,
    });
    root.into_iter().chain(binds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(change: impl FnOnce(&mut SandboxSpec)) -> String {
        let mut spec = SandboxSpec::new(RootSpec::Directory("/r".into()), ["true"]);
        change(&mut spec);
        check(&spec).unwrap_err().to_string()
    }

    #[test]
    fn impossible_specs_are_refused_before_anything_starts() {
        assert_eq!(
            refused(|spec| spec.argv.clear()),
            "there is no program to run"
        );
        assert_eq!(
            refused(|spec| spec.argv.push("a\0b".into())),
            "`a\\u{0}b` contains a NUL byte"
        );
        assert_eq!(
            refused(|spec| spec.cwd = "src".into()),
            "path `src` inside the root is not absolute"
        );
        assert_eq!(
            refused(|spec| spec.root = RootSpec::Directory("r".into())),
            "path `r` of the host is not absolute"
        );
    }
}
