//! The step before its program: what a freshly cloned process does, in kernel order, to become a container's process 1.

use super::anteroom::{self, Anteroom, Hall};
use super::error::Failure;
use super::exec::Attempt;
use super::kernel_trees::{Ground, KernelTrees};
use super::message::{self, Brought, Report, Socket};
use super::mounted_root::Changed;
use super::placement::Processors;
use super::recorder::Scope;
use super::root::{Missing, Root};
use super::stub::Stubs;
use super::surroundings::share_processes;
use super::template::{Mould, Stock};
use super::waiting::Kind;
use super::{
    CapabilitySet, Network, SandboxSpec, User, broker, console, identity, mounts, plan, probe,
    reaper, seccomp,
};
use crate::sys::{self, Context as _, Order, Reach, SingleThreaded};
use rustix::fs::{Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::Signal;
use std::ffi::CStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Where a step without mounts hands over its listener.
#[derive(Debug)]
pub(super) struct ToBroker {
    pub(super) socket: UnixStream,
    /// Whether the step can't be without a broker.
    pub(super) needed: bool,
    /// Kiln's end of where the broker says for which program the step is to be begun again, if it can be.
    pub(super) need: Option<OwnedFd>,
}

/// What a step is given beside its spec.
struct Given {
    streams: [OwnedFd; 3],
    /// Its root filesystem, if it is mounted already.
    mounted: Option<OwnedFd>,
    broker: Option<ToBroker>,
}

/// What a step can have done before anything but its kind is known.
pub(super) type Ready = Result<Done, Failure>;

#[derive(Debug, Default)]
pub(super) struct Done {
    /// The kernel's filesystems, on a rung with mounts.
    trees: Option<KernelTrees>,
    /// Where it waits, if it has left the host's mounts.
    anteroom: Option<Anteroom>,
    /// Whether the bounding set is limited, and the filter loaded, but for the calls that setting up takes.
    filtered: bool,
}

/// What the set-up leaves to be handed to kiln.
#[derive(Debug, Default)]
struct Prepared {
    /// Where the step's calls wait for a recorder, if it can't go on without one.
    listener: Option<OwnedFd>,
    /// The root filesystem, if it was mounted here to be kept.
    root: Option<OwnedFd>,
    /// Kiln's end of the step's own terminal.
    terminal: Option<OwnedFd>,
    /// Where it is said which program the step ended for.
    need: Option<OwnedFd>,
    /// The directory for changes as the program finds it, if the root filesystem is kept.
    found: Option<Changed>,
}

/// Sets the step up and becomes its program. The descriptors are those of [`message::Role::Step`].
pub(super) fn run(spec: &SandboxSpec, fds: Vec<OwnedFd>, proof: &SingleThreaded) -> ! {
    let ready = get_ready(Kind::of(spec), &spec.cgroup, None);
    let part = Some(proof).filter(|_| spec.init);
    go_on_with(spec, fds, None, ready, part)
}

/// The same below a minder.
pub(super) fn run_minded(spec: &SandboxSpec, fds: Vec<OwnedFd>, broker: Option<ToBroker>) -> ! {
    let ready = get_ready(Kind::of(spec), &spec.cgroup, None);
    go_on_with(spec, fds, broker, ready, None)
}

/// The same for a process in namespaces of its own that is ready, with what executes the program. Returns if that can't be.
pub(super) fn go_on(
    spec: &SandboxSpec,
    fds: Vec<OwnedFd>,
    done: Done,
    execute: impl FnOnce() -> Failure,
) {
    become_program(spec, fds, None, Ok(done), execute);
}

fn go_on_with(
    spec: &SandboxSpec,
    fds: Vec<OwnedFd>,
    broker: Option<ToBroker>,
    ready: Ready,
    part: Option<&SingleThreaded>,
) -> ! {
    let execute = || {
        let parted = part.map_or(Ok(()), |proof| reaper::part(spec.terminal, proof));
        match stage("part from process 1", parted) {
            Ok(()) => Attempt::new(&spec.argv, &spec.env).execute(&Order::default()),
            Err(failure) => failure,
        }
    };
    become_program(spec, fds, broker, ready, execute);
    std::process::exit(1)
}

/// Returns if that can't be, once kiln has been told why.
fn become_program(
    spec: &SandboxSpec,
    mut fds: Vec<OwnedFd>,
    broker: Option<ToBroker>,
    ready: Ready,
    execute: impl FnOnce() -> Failure,
) {
    let mounted = fds.drain(4.min(fds.len())..).next();
    let Ok([stdin, stdout, stderr, reporter]) = <[OwnedFd; 4]>::try_from(fds) else {
        return;
    };
    let mut stubs = Stubs::default();
    let given = Given {
        streams: [stdin, stdout, stderr],
        mounted,
        broker,
    };
    let prepared = ready.and_then(|done| prepare(spec, given, done, &mut stubs, &reporter));
    let failure = match prepared {
        Ok(prepared) => {
            report(&reporter, &stubs, &prepared, None);
            execute()
        }
        Err(failure) => failure,
    };
    report(&reporter, &stubs, &Prepared::default(), Some(failure));
}

fn report(reporter: &OwnedFd, stubs: &Stubs, prepared: &Prepared, failure: Option<Failure>) {
    let Prepared {
        listener,
        root,
        terminal,
        need,
        ..
    } = prepared;
    let brought = [
        (Brought::Listener, listener),
        (Brought::Root, root),
        (Brought::Terminal, terminal),
        (Brought::Need, need),
    ];
    let brought = brought.into_iter();
    let brought = brought.filter_map(|(what, fd)| Some((what, fd.as_ref()?.as_fd())));
    let (brings, fds): (_, Vec<_>) = brought.unzip();
    let report = Report {
        stubs: stubs.clone(),
        failure,
        found: prepared.found,
        brings,
    };
    // If kiln has gone there is nobody to tell.
    let _ = message::send(Socket(reporter.as_fd()), &report, &fds);
}

/// What is done once, in the process that those who wait are copies of.
pub(super) fn stock(mould: Mould) -> Result<Stock, Failure> {
    let kind = mould.kind;
    // Nobody has placed this process yet.
    let processors = Processors::own();
    stage("tie the step to kiln", die_with_parent())?;
    let mut host = anteroom::host();
    let mut hall = None;
    if mould.apart {
        // Asked of the surroundings: which cgroup hierarchy is there?
        let actions = plan::kernel_plan(&kind, has_unified_cgroups());
        stage("make a mount namespace", own_mounts())?;
        stage("make mounts private", make_mounts_private())?;
        hall = host.take().map(|host| Hall::enter(host, kind, actions));
    }
    let filtered = match kind.filter.filter(|_| can_load_filter()) {
        None => false,
        Some(capabilities) => {
            let limited = identity::limit_bounding_set(capabilities);
            stage("limit the capabilities", limited)?;
            let program = seccomp::until_set_up(capabilities);
            stage("load the seccomp filter", sys::load_seccomp(&program))?;
            seccomp::from_set_up_on(capabilities); // which copies may need, and have then
            true
        }
    };
    Ok(Stock {
        processors,
        host,
        hall: hall.transpose()?,
        filtered,
    })
}

/// The same as [`get_ready`], and more, in a copy of that process, which has time.
pub(super) fn get_ready_to_wait(kind: Kind, stock: &Stock) -> Ready {
    let done = match &stock.hall {
        Some(hall) => get_ready_in(hall, kind)?,
        None => {
            let host = stock.host.as_ref();
            let done = get_ready(kind, &[], host.and_then(|host| host.try_clone().ok()))?;
            let left = done.anteroom.map(|anteroom| {
                let left = stage("leave the host's mounts", anteroom.leave_host())?;
                Ok(left.then_some(anteroom))
            });
            Done {
                anteroom: left.transpose()?.flatten(),
                ..done
            }
        }
    };
    Ok(Done {
        filtered: stock.filtered,
        ..done
    })
}

fn get_ready_in(hall: &Hall, kind: Kind) -> Ready {
    begin(kind, &[])?;
    let (anteroom, trees) = hall.furnish(kind)?;
    Ok(Done {
        trees: Some(trees),
        anteroom: Some(anteroom),
        filtered: false,
    })
}

/// What comes first, in a process that was just cloned. Joins the cgroups by the files given. Makes an anteroom to wait in if it is told of
/// `host`, the mount namespace that it comes from.
fn get_ready(kind: Kind, cgroup: &[PathBuf], host: Option<OwnedFd>) -> Ready {
    begin(kind, cgroup)?;
    if !kind.rung.has_namespaces() {
        return Ok(Done::default());
    }
    // Mounts made from here on are seen by nobody else.
    stage("make mounts private", make_mounts_private())?;
    // Asked of the surroundings: which cgroup hierarchy is there?
    let actions = plan::kernel_plan(&kind, has_unified_cgroups());
    let anteroom = host.map_or(Ok(None), Anteroom::make);
    let anteroom = stage("make a place to wait", anteroom)?;
    let ground = anteroom
        .as_ref()
        .map_or_else(Ground::surrounding, Anteroom::ground);
    let ground = stage("find a place for mounts", ground)?;
    let trees = KernelTrees::make(&actions, kind.rung, ground)?;
    Ok(Done {
        trees: Some(trees),
        anteroom,
        filtered: false,
    })
}

fn begin(kind: Kind, cgroup: &[PathBuf]) -> Result<(), Failure> {
    // This process ends with kiln.
    stage("tie the step to kiln", die_with_parent())?;
    let session = rustix::process::setsid().call("setsid", String::new);
    stage("start a session", session)?;
    stage("leave the session keyring", leave_keyring())?;
    if !cgroup.is_empty() {
        let entered = enter_cgroup(cgroup, kind.rung.has_namespaces());
        stage("enter the step's cgroup", entered)?;
    }
    if kind.rung.has_namespaces() && kind.network == Network::None {
        stage("bring up the loopback interface", sys::bring_up_loopback())?;
    }
    Ok(())
}

/// Everything between that and the exec.
fn prepare(
    spec: &SandboxSpec,
    given: Given,
    done: Done,
    stubs: &mut Stubs,
    reporter: &OwnedFd,
) -> Result<Prepared, Failure> {
    let mut prepared = Prepared::default();
    if let Some(score) = spec.oom_score_adj {
        set_oom_score(score)?;
    }
    // Its own streams and, if asked for, terminal.
    stage("set up the standard streams", set_streams(given.streams))?;
    if let Some(trees) = done.trees.as_ref().filter(|_| spec.terminal) {
        let terminal = console::give_terminal(trees);
        prepared.terminal = Some(stage("make the terminal", terminal)?);
    }
    if spec.terminal {
        stage("take the terminal", take_terminal(&spec.user))?;
    }
    let root = match done.trees {
        Some(trees) => {
            let mounted = given.mounted.as_ref();
            let (root, kept) = isolate(spec, mounted, trees, done.anteroom, stubs)?;
            prepared.root = kept;
            root
        }
        None => stage("change the root", change_root(spec))?,
    };
    // No descriptor of the helper or of ours survives the exec.
    stage("mark descriptors to be closed", sys::close_on_exec_from(3))?;
    enter_working_directory(&root, spec)?;
    // One that is used and not to be kept may get settings that are the filesystem's own: `mount -o remount`.
    if spec.keep_root
        && let Some(upper) = root.upper()
    {
        prepared.found = stage("look at the root filesystem", Changed::find(upper))?;
    }
    if spec.read_only {
        // Now that nothing more is made in it.
        let only_read =
            sys::mount_setattr(root.fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, Reach::Mount);
        stage("make the root read-only", only_read)?;
    }
    stage("set limits", identity::set_limits(&spec.rlimits))?;
    // The filter first, as loading it needs a capability that is about to go. Who lacks it already has somebody else's filter.
    if !spec.rung.has_namespaces() {
        prepared.need = load_filters(spec, given.broker)?;
    } else if !done.filtered && spec.seccomp && can_load_filter() {
        let program = seccomp::default_profile(spec.capabilities);
        stage("load the seccomp filter", sys::load_seccomp(&program))?;
    }
    if !spec.exposed {
        // A further fence, where the kernel has it: the network is the machine's, and its abstract sockets with it; and a step without
        // namespaces would know all of the container's processes. Without a pid namespace alone it is what keeps others from the step.
        let kept = sys::keep_to_themselves();
        if share_processes(spec) {
            stage("keep the step to its own processes", kept)?;
        }
    }
    if spec.no_new_privileges {
        let renounced = rustix::thread::set_no_new_privs(true);
        stage(
            "renounce new privileges",
            renounced.call("prctl", || "PR_SET_NO_NEW_PRIVS".into()),
        )?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022)); // R-RT-3
    identity::give_streams(&spec.user);
    // First of all that is taken away, while this process may still change it.
    if !done.filtered {
        let limited = identity::limit_bounding_set(spec.capabilities);
        stage("limit the capabilities", limited)?;
    }
    let set_up = done.filtered.then_some(spec.capabilities);
    let scope = Scope::of(spec);
    if let Some(scope @ Scope::Everything) = scope {
        // The program gets what the bounding set leaves to root when it is executed. From the loading on, calls wait that are
        // answered only once kiln has been told of the listener: none may be made before.
        let listener = sys::load_seccomp_listener(&seccomp::notifying(scope, set_up));
        prepared.listener = Some(stage("load the filter of the recorder", listener)?);
        return Ok(prepared);
    }
    let listener = scope.and_then(|scope| listen(scope, set_up));
    match listener {
        Some(listener) => {
            let brought = Prepared {
                listener: Some(listener),
                ..Prepared::default()
            };
            report(reporter, stubs, &brought, None);
        }
        None => {
            if let Some(capabilities) = set_up {
                let program = seccomp::from_set_up_on(capabilities);
                stage("load the seccomp filter", sys::load_seccomp(&program))?;
            }
        }
    }
    stage(
        "change to the user",
        identity::become_user(&spec.user, spec.capabilities),
    )?;
    // A change of user has cleared it.
    stage("tie the step to kiln", die_with_parent())?;
    Ok(prepared)
}

/// Where device nodes are recorded. Where somebody else answers the system calls of kiln itself, they may know about devices, too.
fn listen(scope: Scope, set_up: Option<CapabilitySet>) -> Option<OwnedFd> {
    sys::load_seccomp_listener(&seccomp::notifying(scope, set_up)).ok()
}

fn can_load_filter() -> bool {
    seccomp::SUPPORTED && probe::has_sys_admin()
}

/// Makes the root filesystem in the step's own namespaces, if it is not `mounted` already, and leaves the host behind. Returns what is to be
/// kept of it, too.
fn isolate(
    spec: &SandboxSpec,
    mounted: Option<&OwnedFd>,
    trees: KernelTrees,
    anteroom: Option<Anteroom>,
    stubs: &mut Stubs,
) -> Result<(Root, Option<OwnedFd>), Failure> {
    // Files in memory first, as they need the host's root for a moment.
    let mut workshop = stage(
        "make the files to be mounted",
        mounts::Workshop::new(&spec.mounts, spec.rung),
    )?;
    // What is at paths of the host.
    let mut fetch = || {
        workshop.fetch(&spec.mounts, spec.rung);
        let made = match mounted {
            Some(mounted) => mounts::root_filesystem_again(&spec.root, mounted),
            None => mounts::root_filesystem(&spec.root, spec.rung),
        };
        stage("mount the root filesystem", made)
    };
    let mut root = match &anteroom {
        Some(anteroom) => anteroom.act_on_host(fetch)?,
        None => fetch()?,
    };
    if spec.keep_root && mounted.is_none() {
        root = root.keep();
    }
    let kept = root.take_kept();
    // The root filesystem, and everything mounted in it.
    let root = stage("mount the root filesystem", root.attach(spec.rung))?;
    trees.move_into(&root, &mut workshop)?;
    for action in plan::plan(spec) {
        mounts::perform(&action, spec.rung, &root, &mut workshop, stubs)?;
    }
    drop(workshop);
    // From here on the host's files are out of reach.
    let exchanged = match anteroom {
        Some(_) => enter_root(&root),
        None => exchange_root(&root),
    };
    stage("exchange the root", exchanged)?;
    // The namespaces' own settings.
    stage("set the host name", set_hostname(&spec.hostname))?;
    Ok((root, kept))
}

/// What is left where there are no namespaces: whatever surrounds kiln is the boundary.
fn change_root(spec: &SandboxSpec) -> sys::Result<Root> {
    let path = spec.root.changes();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        rustix::fs::open(path, flags, Mode::empty()).call("open", || path.display().to_string())?;
    rustix::process::fchdir(&root).call("fchdir", || "new root".into())?;
    rustix::process::chroot(".").call("chroot", || ".".into())?;
    Ok(Root::new(root, None))
}

/// The filters of a step without namespaces. Without a capability they can be loaded only by who renounces new privileges, and so
/// setuid programs: that is done only for what can't be had otherwise. Returns where the broker says which program the step needs, if it does.
fn load_filters(spec: &SandboxSpec, broker: Option<ToBroker>) -> Result<Option<OwnedFd>, Failure> {
    let no_network = spec.network == Network::None;
    if !probe::has_sys_admin() {
        if broker.is_none() && !no_network {
            return Ok(None);
        }
        let renounced = rustix::thread::set_no_new_privs(true);
        stage(
            "renounce new privileges",
            renounced.call("prctl", || "PR_SET_NO_NEW_PRIVS".into()),
        )?;
    }
    if spec.seccomp && seccomp::SUPPORTED {
        let profile = seccomp::default_profile(spec.capabilities);
        stage("load the seccomp filter", sys::load_seccomp(&profile))?;
    }
    if no_network {
        let loaded = match seccomp::SUPPORTED {
            true => sys::load_seccomp(&seccomp::no_network()),
            false => Err(sys::Error::new("seccomp", "", nix::libc::ENOSYS)),
        };
        stage("keep the step off the network", loaded)?;
    }
    let Some(ToBroker {
        socket,
        needed,
        need,
    }) = broker
    else {
        return Ok(None);
    };
    // From here on calls wait that are answered only once the listener has been handed over.
    match sys::load_seccomp_listener(&seccomp::asking()) {
        Ok(listener) => {
            let sent = message::send(Socket(socket.as_fd()), &(), &[listener.as_fd()]);
            stage(
                "hand over the listener of the broker",
                sent.call("sendmsg", String::new),
            )?;
            Ok(need)
        }
        Err(cause) if needed => stage("load the filter of the broker", Err(cause)),
        Err(_) => Ok(None),
    }
}

fn stage<T>(stage: &str, result: sys::Result<T>) -> Result<T, Failure> {
    result.map_err(|cause| Failure::Setup {
        stage: stage.to_owned(),
        cause,
    })
}

fn die_with_parent() -> sys::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .call("prctl", || "PR_SET_PDEATHSIG".into())
}

fn set_streams([stdin, stdout, stderr]: [OwnedFd; 3]) -> sys::Result<()> {
    rustix::stdio::dup2_stdin(&stdin).call("dup2", || "stdin".into())?;
    rustix::stdio::dup2_stdout(&stdout).call("dup2", || "stdout".into())?;
    rustix::stdio::dup2_stderr(&stderr).call("dup2", || "stderr".into())
}

fn take_terminal(user: &User) -> sys::Result<()> {
    // A user opens it again by its name. Where there is but one id it is everybody's.
    let _ = rustix::fs::fchown(rustix::stdio::stdin(), Some(Uid::from_raw(user.uid)), None);
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).call("ioctl", || "TIOCSCTTY".into())
}

/// Below what it is now only with a right that nobody has outside of the first user namespace.
fn set_oom_score(score: i16) -> Result<(), Failure> {
    const SCORE: &str = "/proc/self/oom_score_adj";
    let written = std::fs::write(SCORE, score.to_string());
    if let Err(error) = &written
        && error.kind() == std::io::ErrorKind::PermissionDenied
        && let Ok(own) = std::fs::read_to_string(SCORE)
        && let Ok(own) = own.trim().parse()
    {
        return Err(Failure::OomScore { score, own });
    }
    let written = written.call("write", || format!("{score}, {SCORE}"));
    stage("set the score for lack of memory", written)
}

/// A kernel without keyrings, or a filter around kiln that refuses them, has nothing to leave.
fn leave_keyring() -> sys::Result<()> {
    match sys::join_new_session_keyring() {
        Err(error) if matches!(error.symbol().as_str(), "ENOSYS" | "EPERM" | "EDQUOT") => Ok(()),
        left => left,
    }
}

/// Joins the cgroups, and hides from the step what is above them.
fn enter_cgroup(joins: &[PathBuf], has_namespaces: bool) -> sys::Result<()> {
    for join in joins {
        std::fs::write(join, "0").call("write", || format!("0, {}", join.display()))?;
    }
    if !has_namespaces {
        return Ok(());
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)
        .call("unshare", || "CLONE_NEWCGROUP".into())
}

fn own_mounts() -> sys::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .call("unshare", || "CLONE_NEWNS".into())
}

fn make_mounts_private() -> sys::Result<()> {
    let how = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", how).call("mount", || "/, MS_REC|MS_PRIVATE".into())
}

fn has_unified_cgroups() -> bool {
    rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|found| found.f_type == CGROUP2_MAGIC)
}

/// `CGROUP2_SUPER_MAGIC` of `linux/magic.h`.
const CGROUP2_MAGIC: rustix::fs::FsWord = 0x6367_7270;

/// The root is exchanged, and it is made sure that nothing is left above it: `/..` must be the root itself.
///
/// pivot_root(2) with the new root's directory for both arguments puts the old root on top of the new one, whence it is detached.
fn exchange_root(root: &Root) -> sys::Result<()> {
    rustix::process::fchdir(root.fd()).call("fchdir", || "new root".into())?;
    match rustix::process::pivot_root(".", ".") {
        // Docker's filter refuses it even to who may mount. The new root is on top of the old one already, and nothing leads below.
        Err(rustix::io::Errno::PERM) => {
            rustix::process::chroot(".").call("chroot", || "new root".into())?;
        }
        exchanged => {
            exchanged.call("pivot_root", || "., .".into())?;
            rustix::mount::unmount(".", UnmountFlags::DETACH)
                .call("umount2", || "old root, MNT_DETACH".into())?;
        }
    }
    stay_in_root(root)
}

/// Where the host has been left already and nothing is below the root but an empty directory, it is enough to enter it.
fn enter_root(root: &Root) -> sys::Result<()> {
    rustix::process::fchdir(root.fd()).call("fchdir", || "new root".into())?;
    match rustix::process::chroot(".") {
        // A filter around kiln may refuse this and allow the other.
        Err(rustix::io::Errno::PERM) => exchange_root(root),
        entered => {
            entered.call("chroot", || "new root".into())?;
            stay_in_root(root)
        }
    }
}

fn stay_in_root(root: &Root) -> sys::Result<()> {
    rustix::process::chdir("/").call("chdir", || "/".into())?;
    let above = rustix::fs::stat("/..").call("stat", || "/..".into())?;
    let own = rustix::fs::fstat(root.fd()).call("fstat", || "new root".into())?;
    if (above.st_dev, above.st_ino) == (own.st_dev, own.st_ino) {
        Ok(())
    } else {
        Err(sys::Error::new(
            "umount2",
            "old root is still there",
            nix::libc::EBUSY,
        ))
    }
}

/// A filter around kiln may refuse the name, as podman's does to whoever lacks CAP_SYS_ADMIN outside: then it is the container's.
fn set_hostname(hostname: &str) -> sys::Result<()> {
    match rustix::system::sethostname(hostname.as_bytes()) {
        Err(rustix::io::Errno::PERM) => Ok(()),
        set => set.call("sethostname", || hostname.to_owned()),
    }
}

/// Enters the working directory, made for the user if missing (R-RT-2), and makes sure that it lies inside the root: a link such as
/// `/proc/self/fd/7` could lead to a directory of the host (CVE-2024-21626).
fn enter_working_directory(root: &Root, spec: &SandboxSpec) -> Result<(), Failure> {
    let refused = |reason: String| Failure::WorkingDirectory {
        cwd: spec.cwd.clone(),
        reason,
    };
    if !spec.rung.has_namespaces() && is_below_proc(&spec.cwd) {
        return Err(refused("no such file or directory".into()));
    }
    if !spec.rung.has_namespaces() {
        find_below_mounts(root, spec).map_err(|error| refused(error.to_string()))?;
    }
    let missing = Missing::Directory(spec.user.uid, spec.user.gid);
    let found = root
        .open_or_make(&spec.cwd, missing)
        .map_err(|error| refused(error.to_string()))?;
    rustix::process::fchdir(&found)
        .call("fchdir", || spec.cwd.clone())
        .map_err(|error| refused(error.to_string()))?;
    let entered = rustix::process::getcwd(Vec::new())
        .call("getcwd", String::new)
        .map_err(|error| refused(error.to_string()))?;
    let is_odd = || is_below_proc(&entered.to_string_lossy());
    if !spec.rung.has_namespaces() && is_odd() {
        return Err(refused("no such file or directory".into()));
    }
    match is_in_root(&entered) {
        true => Ok(()),
        false => Err(refused("lies outside of the root".into())),
    }
}

/// Refuses to make a directory in what would be mounted read-only.
fn find_below_mounts(root: &Root, spec: &SandboxSpec) -> sys::Result<()> {
    let mounts = broker::Mounts::of(spec, |target| Some(broker::MountPlace::named(target)));
    if !mounts.keep_as_is(&spec.cwd) {
        return Ok(());
    }
    match root.open(&spec.cwd) {
        Err(error) if error.errno == Errno::NOENT.raw_os_error() => {
            let errno = Errno::ROFS.raw_os_error();
            Err(sys::Error::new("mkdirat", spec.cwd.clone(), errno))
        }
        _ => Ok(()), // if something else is wrong with it, that shows later
    }
}

/// Whether a working directory can be reached from the root: of others the kernel says `(unreachable)/…` (CVE-2024-21626). What is looked up
/// below the root is never one, so this is a second fence.
fn is_in_root(cwd: &CStr) -> bool {
    cwd.to_bytes().starts_with(b"/")
}

/// Whether a path begins below `/proc`. Without mounts there is nothing, until it is asked for.
fn is_below_proc(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.next() == Some("proc") && parts.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::is_in_root;

    #[test]
    fn what_is_not_reached_from_the_root_is_outside() {
        for (cwd, inside) in [
            (c"/", true),
            (c"/a", true),
            (c"(unreachable)/a", false),
            (c"", false),
        ] {
            assert_eq!(is_in_root(cwd), inside, "{cwd:?}");
        }
    }
}
