//! RUN: one process in a sandbox over the layers so far, its output passed on as it comes, and what it changed.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_image::scan::Owners;
use kiln_image::{ImagePath, Kind, Tree};
use kiln_parser::{Network as NetworkFlag, Security};
use kiln_planner::{ExecOp, InlineFile};
use rustix::event::{PollFd, PollFlags, poll};

use super::deadline::Deadline;
use super::file::{Accounts, RunUser};
use super::log_limit::{Clip, LogLimit};
use super::mounts::Mounts;
use crate::Services;
use crate::cancel::Cancel;
use crate::cgroup::{Resources, StepCgroup};
use crate::error::Cause;
use crate::event::{Stream, Task};
use crate::layers::Layers;
use crate::network_files;
use crate::rootfs::RootFs;
use crate::sandbox::{
    DEFAULT_SHM_SIZE, ExitStatus, Launcher, Leavings, MountSpec, MountedRoot, Network, RootSpec,
    Rung, SandboxSpec, SetId, Stdio, Step, User, hostnames,
};
use crate::ulimit;
use crate::usage::Usage;

/// What was made for the step alone.
pub(crate) struct Place<'a> {
    /// The way it runs.
    pub rung: Rung,
    /// Its root filesystem.
    pub root: RootSpec,
    /// The same, if it is mounted already.
    pub mounted: Option<MountedRoot>,
    /// What `RUN --mount` asks for.
    pub mounts: &'a Mounts,
    /// What limits it.
    pub cgroup: &'a StepCgroup,
    /// What there is to do besides while it runs.
    pub meanwhile: &'a dyn Fn(),
}

/// What is to be minded while it runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conduct {
    /// How much of what it prints is passed on.
    pub log_limit: LogLimit,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// Whether there are other steps that have not run.
    pub is_followed: bool,
    /// Whether it is known to execute programs for their set-ID bits.
    pub needs_set_id: bool,
}

/// How a step ended.
pub(crate) struct Ended {
    pub status: ExitStatus,
    /// Whether it was stopped for taking too long.
    pub timed_out: bool,
    /// The program before which it was stopped, to be begun again as one that is known to need such programs.
    pub needed: Option<String>,
    /// What it used.
    pub usage: Usage,
    /// Where the owners of what it wrote are found.
    pub owners: Owners,
    /// Its mounts, if they are held. As long as they are, what it wrote must not be a layer of another step.
    pub mounts: Option<Leavings>,
    /// Its root filesystem, if that stays mounted; the same goes for it.
    pub root: Option<MountedRoot>,
}

/// Runs the step to its end. Its changes are in its root filesystem afterwards, whatever the status.
pub(crate) fn run(
    op: &ExecOp,
    root: &RootFs,
    place: Place<'_>,
    services: &Services<'_>,
    conduct: Conduct,
    task: &Task<'_>,
    cancel: &Cancel,
) -> Result<Ended, Cause> {
    let account = account(op, root, services, task)?;
    let spec = SandboxSpec {
        rung: place.rung,
        env: environment(op, place.mounts, &account),
        cwd: op.cwd.clone(),
        user: User {
            uid: account.uid,
            gid: account.gid,
            groups: account.groups.clone(),
        },
        hostname: op.hostname.clone(),
        network: network(op.network),
        mounts: mounts(op, place.rung, place.mounts.specs.clone(), services)?,
        links: links(
            place.rung,
            &*root.tree(&services.layers, task)?,
            place.mounts,
        ),
        own: Some(services.store.root().to_owned()),
        has_devices: has_devices(place.rung, root, &op.argv, &services.layers, task)?,
        links_to_kernel: links_to_kernel(place.rung, &*root.tree(&services.layers, task)?),
        set_id: set_id(op, conduct),
        rlimits: ulimit::rlimits(&op.limits.ulimits),
        shm_size: op.limits.shm_size.unwrap_or(DEFAULT_SHM_SIZE),
        cgroup: place.cgroup.joins(),
        keep_root: may_keep_root(op, conduct),
        ..SandboxSpec::new(place.root, &op.argv)
    };
    let spec = match op.security {
        Security::Sandbox => spec,
        Security::Insecure => spec.insecure(),
    };
    let start = Start {
        spec: &spec,
        mounted: place.mounted,
        meanwhile: place.meanwhile,
    };
    let ended = run_to_end(start, services, conduct, task, cancel)?;
    task.used(ended.usage.with_peak(place.cgroup.peak_memory()));
    Ok(ended)
}

/// What is known of the step's use of set-ID programs: what its own words say, which may call another script.
fn set_id(op: &ExecOp, conduct: Conduct) -> SetId {
    let files = op.files.iter();
    let files = files.map(|file| String::from_utf8_lossy(&file.content));
    let words = op.argv.iter().map(Cow::from);
    if conduct.needs_set_id {
        SetId::Certain
    } else if words.chain(files).any(|text| names_set_id(&text)) {
        SetId::Likely
    } else {
        SetId::Unlikely
    }
}

fn names_set_id(text: &str) -> bool {
    let is_of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut words = text.split(|c| !is_of_word(c));
    words.any(|word| matches!(word, "sudo" | "doas"))
}

/// Has made ready what a step like this one needs to begin at once, as far as it is known without what it stands on.
pub(crate) fn expect(op: &ExecOp, rung: Rung, resources: &Resources, launcher: &Launcher) {
    if !resources.is_empty() || op.limits.cgroup_parent.is_some() {
        return; // each waits for its cgroup
    }
    let spec = SandboxSpec {
        rung,
        network: network(op.network),
        shm_size: op.limits.shm_size.unwrap_or(DEFAULT_SHM_SIZE),
        ..SandboxSpec::new(RootSpec::Directory("/".into()), &op.argv)
    };
    match op.security {
        Security::Sandbox => launcher.expect(&spec),
        Security::Insecure => launcher.expect(&spec.insecure()),
    }
}

/// Owners of the image's symlinks and FIFOs, for a rung where these can't say.
pub(crate) fn link_owners(rung: Rung, tree: &Tree) -> HashMap<Vec<u8>, (u32, u32)> {
    if !rung.records_owners() {
        return HashMap::new();
    }
    let owned = owned_links(tree, &ImagePath::root());
    owned
        .map(|(path, owner)| (path.as_bytes().to_vec(), owner))
        .collect()
}

/// The symlinks and FIFOs at and below a path that are not root's, with their owners.
pub(super) fn owned_links<'t>(
    tree: &'t Tree,
    path: &ImagePath,
) -> impl Iterator<Item = (ImagePath, (u32, u32))> + 't {
    tree.walk(path).filter_map(|(path, node)| {
        let owner = (node.metadata.uid, node.metadata.gid);
        let cannot_say = matches!(node.kind, Kind::Symlink { .. } | Kind::Fifo);
        (cannot_say && owner != (0, 0)).then_some((path, owner))
    })
}

/// The same as the step sees them: those of the image that no mount hides, and those that mounts show.
fn links(rung: Rung, tree: &Tree, mounts: &Mounts) -> HashMap<Vec<u8>, (u32, u32)> {
    let mut links = link_owners(rung, tree);
    if !rung.records_owners() || mounts.specs.is_empty() {
        return links;
    }
    let place = |target: &str| {
        let found = tree.resolve(&ImagePath::root(), target.as_bytes(), true);
        found.ok().map(|found| found.path)
    };
    let targets: Vec<ImagePath> = mounts
        .specs
        .iter()
        .filter_map(|spec| place(&spec.target))
        .collect();
    links.retain(|path, _| {
        let path = ImagePath::clean(path);
        !targets.iter().any(|target| path.starts_with(target))
    });
    for (target, below, owner) in &mounts.links {
        let Some(target) = place(target) else {
            continue;
        };
        let path = target.join(below);
        let hides = |other: &&ImagePath| **other != target && other.starts_with(&target);
        let mut hiding = targets.iter().filter(hides);
        if !hiding.any(|other| path.starts_with(other)) {
            links.insert(path.as_bytes().to_vec(), *owner);
        }
    }
    links
}

/// Whether there are device nodes in the image, or the command line says that there will be, for a rung that records them and nothing else.
pub(crate) fn has_devices(
    rung: Rung,
    root: &RootFs,
    argv: &[String],
    layers: &Layers<'_>,
    task: &Task<'_>,
) -> Result<bool, Cause> {
    let makes = || argv.iter().any(|word| word.contains("mknod"));
    let matters = rung.records_devices() && !rung.records_owners();
    Ok(matters && (makes() || root.has_devices(layers, task)?))
}

/// Names of the image's symlinks that lead to `/proc`, `/dev` or `/sys`, if by way of each other, for a rung that can't mount them.
pub(crate) fn links_to_kernel(rung: Rung, tree: &Tree) -> Vec<Vec<u8>> {
    if rung.has_namespaces() {
        return Vec::new();
    }
    let all = tree.walk(&ImagePath::root());
    let links = all.filter_map(|(path, node)| match node.kind {
        Kind::Symlink { target } => Some((path.components().last()?.to_vec(), &**target)),
        _ => None,
    });
    names_that_lead(links)
}

/// Of links, by name and what they hold, the names of those that lead to `/proc`, `/dev` or `/sys`. Each is looked at once, however long
/// the way by others is.
fn names_that_lead<'t>(links: impl Iterator<Item = (Vec<u8>, &'t [u8])>) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let mut through: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (number, (name, target)) in links.enumerate() {
        names.push(name);
        let parts = target.split(|byte| *byte == b'/');
        for part in parts.filter(|part| !matches!(*part, b"" | b"." | b"..")) {
            through.entry(part).or_default().push(number);
        }
    }
    let mut leading: HashSet<&[u8]> = HashSet::new();
    let mut reached: Vec<&[u8]> = vec![b"proc", b"dev", b"sys"];
    while let Some(part) = reached.pop() {
        for number in through.remove(part).unwrap_or_default() {
            if leading.insert(&names[number]) {
                reached.push(&names[number]);
            }
        }
    }
    leading.into_iter().map(<[u8]>::to_vec).collect()
}

fn account(
    op: &ExecOp,
    root: &RootFs,
    services: &Services<'_>,
    task: &Task<'_>,
) -> Result<RunUser, Cause> {
    let read = || {
        let tree = root.tree(&services.layers, task)?;
        Accounts::read(&tree, &root.reader(&services.layers, task))
            .map_err(Cause::file("read", "/etc/passwd of the image"))
    };
    let accounts = services.accounts.of(root.id, read)?;
    accounts
        .run_user(&op.user)
        .map_err(|error| Cause::User(error.to_string()))
}

/// The step's environment in order, then proxies, secrets, the agent's socket, and `HOME` where it is not set or empty (R-RT-1). What
/// comes later takes the place of an earlier value.
fn environment(op: &ExecOp, mounts: &Mounts, account: &RunUser) -> Vec<(String, String)> {
    let mut env = op.env.to_vec();
    let place = |env: &[(String, String)], name: &str| env.iter().position(|(it, _)| it == name);
    for (name, value) in op.proxy_env.iter().chain(&mounts.env) {
        match place(&env, name) {
            Some(number) => env[number].1.clone_from(value),
            None => env.push((name.clone(), value.clone())),
        }
    }
    if let Some(socket) = &mounts.agent_socket
        && place(&env, "SSH_AUTH_SOCK").is_none()
    {
        env.push(("SSH_AUTH_SOCK".to_owned(), socket.clone())); // R-MNT-16
    }
    match place(&env, "HOME") {
        Some(number) if env[number].1.is_empty() => env[number].1.clone_from(&account.home),
        Some(_) => {}
        None => env.push(("HOME".to_owned(), account.home.clone())),
    }
    env
}

/// `default` is the host's network too: kiln sets up no bridge, which would need rights and helpers that most places don't have.
pub(crate) fn network(flag: NetworkFlag) -> Network {
    match flag {
        NetworkFlag::Default | NetworkFlag::Host => Network::Host,
        NetworkFlag::None => Network::None,
    }
}

/// Those of the step in the order of their targets, whatever the order they are written in: what lies above comes first.
fn mounts(
    op: &ExecOp,
    rung: Rung,
    mut asked: Vec<MountSpec>,
    services: &Services<'_>,
) -> Result<Vec<MountSpec>, Cause> {
    asked.sort_by(|one, other| one.target.cmp(&other.target));
    let resolv_conf =
        network_files::resolv_conf().map_err(Cause::file("read", "/etc/resolv.conf"))?;
    let hosts = network_files::hosts(&hostnames(&op.hostname), &op.extra_hosts).into_bytes();
    // One that several steps see must be safe from all of them.
    let may_share = rung.has_namespaces() && op.security == Security::Sandbox;
    let file = |target, contents: Vec<u8>| {
        let shared = || services.shared_files.path(&contents, services.store);
        match may_share.then(shared).flatten() {
            Some(path) => MountSpec::bind(path, target, false),
            None => MountSpec::file(target, contents),
        }
    };
    let mut mounts = vec![
        file("/etc/hosts", hosts),
        file("/etc/resolv.conf", resolv_conf),
    ];
    let own =
        |file: &InlineFile| MountSpec::file_with_mode(&file.path, file.content.clone(), file.mode);
    mounts.extend(op.files.iter().map(own));
    mounts.extend(asked);
    Ok(mounts)
}

/// Whether the root filesystem is of use to a step after this one, if this one changes nothing. What a step is shown from elsewhere could
/// change by itself, and one with more rights could do more to a mounted filesystem than change what is in it.
fn may_keep_root(op: &ExecOp, conduct: Conduct) -> bool {
    conduct.is_followed && op.mounts.is_empty() && op.security == Security::Sandbox
}

/// What is to be started.
struct Start<'a> {
    spec: &'a SandboxSpec,
    mounted: Option<MountedRoot>,
    meanwhile: &'a dyn Fn(),
}

fn run_to_end(
    start: Start<'_>,
    services: &Services<'_>,
    conduct: Conduct,
    task: &Task<'_>,
    cancel: &Cancel,
) -> Result<Ended, Cause> {
    let (stdout, stdout_end) = pipe()?;
    let (stderr, stderr_end) = pipe()?;
    let stdio = Stdio::output(stdout_end, stderr_end).map_err(Cause::file("open", "a pipe"))?;
    if cancel.requested() {
        return Err(Cause::Canceled);
    }
    let Start { spec, mounted, .. } = start;
    let step = services.launcher.spawn_on(spec, stdio, mounted)?;
    let step = Arc::new(step);
    let _hook = cancel.on_request({
        let step = step.clone();
        move || step.kill()
    });
    let deadline = deadline(conduct, &step)?;
    if conduct.is_followed {
        services.launcher.make_ready(spec);
        step.hold_mounts();
    }
    (start.meanwhile)();
    if conduct.is_followed {
        services.launcher.meet_waiting();
    }
    pass_on(stdout, stderr, conduct.log_limit, task)
        .map_err(Cause::file("read the output of", "the step"))?;
    let status = step.wait()?;
    let timed_out = deadline.is_some_and(Deadline::has_passed);
    if cancel.requested() {
        return Err(Cause::Canceled);
    }
    Ok(Ended {
        status,
        // It may have been done just then.
        timed_out: timed_out && !status.success(),
        needed: step.needed().map(str::to_owned),
        usage: step.usage(),
        owners: match step.recorded() {
            Some(recorded) => Owners::Recorded(recorded.clone()),
            None => services.footing.owners(),
        },
        mounts: step.take_mounts(),
        root: step.take_root(),
    })
}

fn deadline(conduct: Conduct, step: &Arc<Step>) -> Result<Option<Deadline>, Cause> {
    let start = |limit| {
        let step = step.clone();
        Deadline::start(limit, move || step.kill())
    };
    let started = conduct.timeout.map(start).transpose();
    started.map_err(Cause::file("start", "a thread"))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Cause> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| Cause::file("open", "a pipe")(io::Error::from(errno)))
}

/// Reports both outputs until both are closed, which is when the last process of the step is gone.
fn pass_on(stdout: OwnedFd, stderr: OwnedFd, limit: LogLimit, task: &Task<'_>) -> io::Result<()> {
    let started = Instant::now();
    let mut open = vec![
        (Stream::Stdout, File::from(stdout), Clip::new(limit)),
        (Stream::Stderr, File::from(stderr), Clip::new(limit)),
    ];
    let log = |stream, data: Vec<u8>| {
        if !data.is_empty() {
            task.log(stream, &data);
        }
    };
    let mut buffer = vec![0; 64 * 1024];
    while !open.is_empty() {
        let mut polled: Vec<PollFd<'_>> = open
            .iter()
            .map(|(_, file, _)| PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN))
            .collect();
        match poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut still_open = Vec::with_capacity(open.len());
        for ((stream, mut file, mut clip), ready) in open.into_iter().zip(ready) {
            if ready {
                match file.read(&mut buffer) {
                    Ok(0) => {
                        log(stream, clip.finish());
                        if clip.has_clipped() {
                            task.printed(stream, &[]);
                        }
                        continue;
                    }
                    Ok(count) => {
                        let shown = clip.push(&buffer[..count], started.elapsed());
                        if clip.has_clipped() {
                            task.printed(stream, &buffer[..count]);
                        }
                        log(stream, shown);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            still_open.push((stream, file, clip));
        }
        open = still_open;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{names_set_id, names_that_lead};

    #[test]
    fn set_id_programs_are_named_by_words() {
        for text in [
            "sudo -n true",
            "a\n\t/usr/bin/sudo b",
            "(doas b)",
            "a;sudo b",
        ] {
            assert!(names_set_id(text), "{text}");
        }
        for text in [
            "visudo",
            "cat /etc/sudoers",
            "pseudo",
            "rm sudo.conf x_sudo a-sudo",
        ] {
            assert!(!names_set_id(text), "{text}");
        }
    }

    #[test]
    fn links_lead_there_by_way_of_each_other() {
        let links = [
            ("third", "a/second"),
            ("second", "first"),
            ("first", "/dev/stdout"),
            ("other", "etc/process"),
            ("loop", "loop"),
        ];
        let links = links.map(|(name, target)| (name.into(), target.as_bytes()));
        let mut found = names_that_lead(links.into_iter());
        found.sort();
        let expected: [&[u8]; 3] = [b"first", b"second", b"third"];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_long_way_is_found_without_looking_at_all_links_again() {
        const LINKS: usize = 30_000; // looked at by each other, they would take minutes
        let target = |number: usize| match number {
            LINKS => "/dev/null".to_owned(),
            _ => format!("{}", number + 1),
        };
        let links: Vec<_> = (1..=LINKS).map(|at| (at.to_string(), target(at))).collect();
        let links = links.iter();
        let found = names_that_lead(links.map(|(name, to)| (name.clone().into(), to.as_bytes())));
        assert_eq!(found.len(), LINKS);
    }
}
