//! Running a program in an image, a stage or where a step failed, in the foreground. What it changed is kept if that is asked for.

mod failed;
mod kept;
mod receiver;

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_cache::ContainerRecord;
use kiln_image::scan::Owners;
use kiln_image::{DiffId, Digest, ImageConfig, Platform, RunConfig, Tree};
use kiln_planner::{Limits, Network};

use crate::Services;
use crate::build::Built;
use crate::cancel::Cancel;
use crate::cgroup::Resources;
use crate::error::{BuildError, Cause};
use crate::event::{Reporter, Task};
use crate::images::StoredImage;
use crate::network_files;
use crate::op::exec::{has_devices, link_owners, links_to_kernel, network};
use crate::op::file::{Accounts, UserError};
use crate::op::limits::Limiter;
use crate::sandbox::{
    CapabilitySet, DEFAULT_SHM_SIZE, ExitStatus, MountKind, MountSpec, Rung, SandboxError,
    SandboxSpec, Stdio, User, hostnames,
};
use crate::snapshot::Snapshot;
use crate::ulimit;
use crate::usage::Shortage;

pub use failed::is_name_of_failed;
pub(crate) use failed::{Failed, forget};
pub(crate) use kept::root_of;
pub use kept::{Difference, differences, export, export_image, fetch, find, find_program, new_id};
pub use receiver::Receiver;

/// What a container is made of.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its layers, and how it is run.
    pub config: ImageConfig,
    /// The config's digest, if the store has it.
    pub image: Option<Digest>,
}

impl Subject {
    /// A stage that was built.
    pub fn of_stage(built: &Built) -> Self {
        Self {
            config: built.config.clone(),
            image: None,
        }
    }
}

impl From<StoredImage> for Subject {
    fn from(image: StoredImage) -> Self {
        Self {
            image: Some(image.record.config),
            config: image.config,
        }
    }
}

/// Where a container ended: its files, and its way to be run.
impl From<&ContainerRecord> for Subject {
    fn from(container: &ContainerRecord) -> Self {
        let layers = container.all_layers();
        Self {
            config: ImageConfig {
                config: container.config.clone(),
                rootfs: kiln_image::RootFs {
                    diff_ids: (!layers.is_empty()).then_some(layers),
                },
                ..ImageConfig::for_platform(&platform_of(container))
            },
            image: None,
        }
    }
}

/// The platform of a container's programs.
pub(crate) fn platform_of(container: &ContainerRecord) -> Platform {
    container.platform.clone().unwrap_or_else(Platform::host)
}

/// What to run, where it differs from what the image says.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Instead of the image's entrypoint; empty for none.
    pub entrypoint: Option<Vec<String>>,
    /// Instead of the image's command, unless empty.
    pub command: Vec<String>,
    /// Variables over the image's.
    pub env: Vec<(String, String)>,
    /// Instead of the image's working directory.
    pub workdir: Option<String>,
    /// Instead of the image's user.
    pub user: Option<String>,
    /// Files and directories of the host, after the standard mounts.
    pub mounts: Vec<MountSpec>,
    /// Whether the root filesystem can't be written to.
    pub read_only: bool,
    /// The host name inside.
    pub hostname: String,
    /// Groups of the user besides its own: names of the image, or numbers.
    pub groups: Vec<String>,
    /// Whether standard input is a terminal for the program.
    pub terminal: bool,
    /// Whether somebody else than the program is process 1, as [`SandboxSpec::init`] says.
    pub init: bool,
    /// What it may do.
    pub rights: Rights,
    /// Names and addresses for `/etc/hosts`.
    pub extra_hosts: Vec<(String, String)>,
    /// Which network it sees.
    pub network: Network,
    /// Resource limits, the size of `/dev/shm`, the cgroup.
    pub limits: Limits,
    /// Memory, processors and processes.
    pub resources: Resources,
    /// How gladly the kernel ends it where there is no memory left, as [`SandboxSpec::oom_score_adj`] says.
    pub oom_score_adj: Option<i16>,
    /// As what it is kept after it ended, if it is.
    pub keep: Option<Keep>,
}

/// What a container's program may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// All that root may do here; then the others don't matter.
    pub privileged: bool,
    /// The capabilities that it can have.
    pub capabilities: CapabilitySet,
    /// Whether its system calls are filtered.
    pub seccomp: bool,
    /// Whether setuid programs give it nothing.
    pub no_new_privileges: bool,
}

/// As steps have them (R-RT-5, R-RT-6).
impl Default for Rights {
    fn default() -> Self {
        Self {
            privileged: false,
            capabilities: CapabilitySet::DOCKER_DEFAULT,
            seccomp: true,
            no_new_privileges: false,
        }
    }
}

/// What a container that is kept is called.
#[derive(Debug, Clone)]
pub struct Keep {
    /// Its id, as [`new_id`] makes them.
    pub id: String,
    /// Its own name; one is made if there is none.
    pub name: Option<String>,
    /// The image's, as the user typed it.
    pub image_name: String,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// Its status.
    pub status: ExitStatus,
    /// What it had not enough of.
    pub shortage: Option<Shortage>,
    /// What of the limits could not be had, as lines for people.
    pub warning: Option<String>,
    /// The container, if it is kept.
    pub kept: Option<ContainerRecord>,
}

/// Runs the image's program, or the one asked for, to its end.
pub fn run(
    image: &Subject,
    options: &RunOptions,
    stdio: Stdio,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
    cancel: &Cancel,
    signals: &Receiver,
) -> Result<RunEnd, BuildError> {
    let task = reporter.start("run");
    let ended = run_in(image, options, stdio, services, &task, cancel, signals);
    let ended = ended.map_err(BuildError::new)?;
    task.done();
    Ok(ended)
}

fn run_in(
    image: &Subject,
    options: &RunOptions,
    stdio: Stdio,
    services: &Services<'_>,
    task: &Task<'_>,
    cancel: &Cancel,
    signals: &Receiver,
) -> Result<RunEnd, Cause> {
    let way = services.way()?;
    refuse_to_lose(&options.mounts, way.rung)?;
    refuse_to_execute(&options.mounts, way.rung)?;
    if options.read_only && !way.rung.has_namespaces() {
        let refused = format!(
            "the sandbox `{}` can't keep its root from being written to",
            way.rung
        );
        return Err(SandboxError::Invalid(refused).into());
    }
    let argv = argv(&image.config, options)?;
    let root = root_of(image.config.diff_ids());
    let tree = root.tree(&services.layers, task)?;
    let accounts = Accounts::read(&tree, &root.reader(&services.layers, task))
        .map_err(Cause::file("read", "/etc/passwd of the image"))?;
    let user = options.user.as_deref().unwrap_or(&image.config.config.user);
    let unknown = |error: UserError| Cause::User(error.to_string());
    let user = accounts.run_user(user).map_err(unknown)?;
    let user = accounts
        .with_groups(user, &options.groups)
        .map_err(unknown)?;
    let snapshot = Snapshot::prepare(way, &root, services, task)?;
    let limiter = Limiter::default();
    let mut warning = None;
    let parent = options.limits.cgroup_parent.as_deref();
    let cgroup = limiter.make(&options.resources, parent, |told| warning = Some(told))?;
    let spec = SandboxSpec {
        rung: way.rung,
        env: environment(&image.config, options, &user.home),
        cwd: workdir(&image.config, options),
        user: User {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
        },
        hostname: options.hostname.clone(),
        network: network(options.network),
        mounts: mounts(options)?,
        links: link_owners(way.rung, &tree),
        has_devices: has_devices(way.rung, &root, &argv, &services.layers, task)?,
        links_to_kernel: links_to_kernel(way.rung, &tree),
        rlimits: ulimit::rlimits(&options.limits.ulimits),
        oom_score_adj: options.oom_score_adj,
        shm_size: options.limits.shm_size.unwrap_or(DEFAULT_SHM_SIZE),
        cgroup: cgroup.joins(),
        terminal: options.terminal,
        init: options.init,
        read_only: options.read_only,
        capabilities: options.rights.capabilities,
        seccomp: options.rights.seccomp,
        no_new_privileges: options.rights.no_new_privileges,
        ..SandboxSpec::new(snapshot.root_spec(), argv)
    };
    let spec = match options.rights.privileged {
        true => spec.insecure(),
        false => spec,
    };
    let started = jiff::Timestamp::now();
    let step = Arc::new(services.launcher.spawn(&spec, stdio)?);
    let _hook = cancel.on_request({
        let step = step.clone();
        move || step.kill()
    });
    signals.begin(&step);
    let status = signals.end(step.wait()?);
    let kept = match &options.keep {
        Some(keep) => {
            let owners = match step.recorded() {
                Some(recorded) => Owners::Recorded(recorded.clone()),
                None => services.footing.owners(),
            };
            let ended = Ended {
                argv: spec.argv,
                started,
                status,
            };
            let changes = changes(snapshot, &owners, services, &tree)?;
            Some(keep_container(
                image, options, keep, ended, changes, services,
            )?)
        }
        None => None,
    };
    Ok(RunEnd {
        kept,
        status,
        shortage: limiter.shortage(&cgroup, &options.resources, status),
        warning,
    })
}

/// What is known of a container once it ended.
struct Ended {
    argv: Vec<String>,
    started: jiff::Timestamp,
    status: ExitStatus,
}

/// What it changed, as a layer of the store; `None` if that was nothing.
fn changes(
    snapshot: Snapshot<'_>,
    owners: &Owners,
    services: &Services<'_>,
    tree: &Tree,
) -> Result<Option<DiffId>, Cause> {
    let (layer, changeset) = snapshot.commit(
        owners,
        None,
        services,
        "of the container",
        tree,
        &Cancel::default(),
    )?;
    Ok((!changeset.is_empty()).then_some(layer))
}

fn keep_container(
    image: &Subject,
    options: &RunOptions,
    keep: &Keep,
    ended: Ended,
    changes: Option<DiffId>,
    services: &Services<'_>,
) -> Result<ContainerRecord, Cause> {
    let made_up = || format!("container-{:.8}", keep.id);
    let container = ContainerRecord {
        name: keep.name.clone().unwrap_or_else(made_up),
        id: keep.id.clone(),
        image: image.image,
        image_name: keep.image_name.clone(),
        layers: image.config.diff_ids().to_vec(),
        changes,
        config: config(&image.config.config, options),
        argv: ended.argv,
        started: ended.started,
        ended: jiff::Timestamp::now(),
        status: ended.status.shell_code(),
        platform: Some(image.config.platform()),
        step: None,
    };
    services.store.sync()?;
    services.store.containers().put(&container)?;
    Ok(container)
}

/// How an image made of the container is run: as the container was.
fn config(image: &RunConfig, options: &RunOptions) -> RunConfig {
    let mut config = image.clone();
    if let Some(entrypoint) = &options.entrypoint {
        config.entrypoint = (!entrypoint.is_empty()).then(|| entrypoint.clone());
        config.cmd = None;
    }
    if !options.command.is_empty() {
        config.cmd = Some(options.command.clone());
    }
    for (name, value) in &options.env {
        let named = |pair: &String| pair.split_once('=').map_or(&**pair, |(name, _)| name) == name;
        let value = format!("{name}={value}");
        match config.env.iter().position(named) {
            Some(at) => config.env[at] = value,
            None => config.env.push(value),
        }
    }
    if let Some(workdir) = &options.workdir {
        config.working_dir.clone_from(workdir);
    }
    if let Some(user) = &options.user {
        config.user.clone_from(user);
    }
    config
}

/// Where nothing can be mounted, nobody can keep a program from being executed.
fn refuse_to_execute(mounts: &[MountSpec], rung: Rung) -> Result<(), Cause> {
    let is_kept_from =
        |mount: &MountSpec| matches!(mount.kind, MountKind::Tmpfs { noexec: true, .. });
    if rung.has_namespaces() || !mounts.iter().any(is_kept_from) {
        return Ok(());
    }
    let refused =
        format!("the sandbox `{rung}` can't keep programs from being executed (`noexec`)");
    Err(SandboxError::Invalid(refused).into())
}

/// Where nothing can be mounted, a step sees a copy of the user's own files, and nobody would ever see what it writes there. They are not
/// moved into its root as kiln's own are: should kiln be killed meanwhile, they would be lost with that root.
fn refuse_to_lose(mounts: &[MountSpec], rung: Rung) -> Result<(), Cause> {
    let is_written_to =
        |mount: &MountSpec| matches!(mount.kind, MountKind::Bind { writable: true, .. });
    if rung.has_namespaces() || !mounts.iter().any(is_written_to) {
        return Ok(());
    }
    let refused = format!(
        "the sandbox `{rung}` can show files of the machine (`:ro`), but not let them be changed"
    );
    Err(SandboxError::Invalid(refused).into())
}

fn argv(config: &ImageConfig, options: &RunOptions) -> Result<Vec<String>, Cause> {
    let config = &config.config;
    let own_entrypoint = options.entrypoint.is_some();
    let mut argv = options
        .entrypoint
        .clone()
        .or_else(|| config.entrypoint.clone())
        .unwrap_or_default();
    if !options.command.is_empty() {
        argv.extend(options.command.iter().cloned());
    } else if !own_entrypoint {
        argv.extend(config.cmd.iter().flatten().cloned());
    }
    if argv.is_empty() {
        return Err(Cause::Image(
            "the image has no command: say which program to run".to_owned(),
        ));
    }
    Ok(argv)
}

/// The image's variables, then those asked for, then `HOME` and the terminal's where nobody set them.
fn environment(config: &ImageConfig, options: &RunOptions, home: &str) -> Vec<(String, String)> {
    const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let image = config.config.env.iter().map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    });
    let overridden: BTreeSet<&str> = options.env.iter().map(|(name, _)| name.as_str()).collect();
    let mut env: Vec<(String, String)> = image
        .filter(|(name, _)| !overridden.contains(name.as_str()))
        .collect();
    env.extend(options.env.iter().cloned());
    let mut default = |name: &str, value: &str| {
        if !env.iter().any(|(known, _)| known == name) {
            env.push((name.to_owned(), value.to_owned()));
        }
    };
    default("PATH", DEFAULT_PATH);
    default("HOSTNAME", &options.hostname);
    default("HOME", home);
    if options.terminal {
        default("TERM", "xterm");
    }
    env
}

fn workdir(config: &ImageConfig, options: &RunOptions) -> String {
    let workdir = options
        .workdir
        .as_deref()
        .unwrap_or(&config.config.working_dir);
    if workdir.is_empty() {
        "/".to_owned()
    } else {
        workdir.to_owned()
    }
}

fn mounts(options: &RunOptions) -> Result<Vec<MountSpec>, Cause> {
    let resolv_conf =
        network_files::resolv_conf().map_err(Cause::file("read", "/etc/resolv.conf"))?;
    let mut mounts = vec![
        MountSpec::file(
            "/etc/hosts",
            network_files::hosts(&hostnames(&options.hostname), &options.extra_hosts),
        ),
        MountSpec::file("/etc/resolv.conf", resolv_conf),
        MountSpec::file("/etc/hostname", format!("{}\n", options.hostname)),
    ];
    mounts.extend(options.mounts.iter().cloned());
    Ok(mounts)
}
