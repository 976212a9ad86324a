//! Running a program in an image, in the foreground; nothing of it is kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_cache::OutputId;
use kiln_image::ImageConfig;
use kiln_planner::{Limits, Network};

use crate::Services;
use crate::cancel::Cancel;
use crate::cgroup::Resources;
use crate::error::{BuildError, Cause};
use crate::event::{Reporter, Task};
use crate::images::StoredImage;
use crate::network_files;
use crate::op::exec::{link_owners, links_to_kernel, network};
use crate::op::file::Accounts;
use crate::op::limits::Limiter;
use crate::rootfs::RootFs;
use crate::sandbox::{
    DEFAULT_SHM_SIZE, ExitStatus, MountKind, MountSpec, Rung, SandboxError, SandboxSpec, Stdio,
    User, hostnames,
};
use crate::snapshot::Snapshot;
use crate::ulimit;
use crate::usage::OutOfMemory;

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
    /// The host name inside.
    pub hostname: String,
    /// Whether standard input is a terminal for the program.
    pub terminal: bool,
    /// Names and addresses for `/etc/hosts`.
    pub extra_hosts: Vec<(String, String)>,
    /// Which network it sees.
    pub network: Network,
    /// Resource limits, the size of `/dev/shm`, the cgroup.
    pub limits: Limits,
    /// Memory, processors and processes.
    pub resources: Resources,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// Its status.
    pub status: ExitStatus,
    /// Whether it was killed for lack of memory.
    pub out_of_memory: Option<OutOfMemory>,
    /// What of the limits could not be had, as lines for people.
    pub warning: Option<String>,
}

/// Runs the image's program, or the one asked for, to its end.
pub fn run(
    image: &StoredImage,
    options: &RunOptions,
    stdio: Stdio,
    services: &Services<'_>,
    reporter: &Reporter<'_>,
    cancel: &Cancel,
) -> Result<RunEnd, BuildError> {
    let task = reporter.start("run");
    let ended = run_in(image, options, stdio, services, &task, cancel).map_err(BuildError::new)?;
    task.done();
    Ok(ended)
}

fn run_in(
    image: &StoredImage,
    options: &RunOptions,
    stdio: Stdio,
    services: &Services<'_>,
    task: &Task<'_>,
    cancel: &Cancel,
) -> Result<RunEnd, Cause> {
    let way = services.way()?;
    refuse_to_lose(&options.mounts, way.rung)?;
    let argv = argv(&image.config, options)?;
    let layers = image.config.diff_ids().to_vec();
    let root = RootFs::base(OutputId::image(&layers), layers);
    let tree = root.tree(&services.layers, task)?;
    let accounts = Accounts::read(&tree, &root.reader(&services.layers, task))
        .map_err(Cause::file("read", "/etc/passwd of the image"))?;
    let user = options.user.as_deref().unwrap_or(&image.config.config.user);
    let user = accounts
        .run_user(user)
        .map_err(|error| Cause::User(error.to_string()))?;
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
        links_to_kernel: links_to_kernel(way.rung, &tree),
        rlimits: ulimit::rlimits(&options.limits.ulimits),
        shm_size: options.limits.shm_size.unwrap_or(DEFAULT_SHM_SIZE),
        cgroup: cgroup.joins(),
        terminal: options.terminal,
        ..SandboxSpec::new(snapshot.root_spec(), argv)
    };
    let step = Arc::new(services.launcher.spawn(&spec, stdio)?);
    let _hook = cancel.on_request({
        let step = step.clone();
        move || step.kill()
    });
    let status = step.wait()?;
    Ok(RunEnd {
        status,
        out_of_memory: limiter.out_of_memory(&cgroup, &options.resources, status),
        warning,
    })
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
    ];
    mounts.extend(options.mounts.iter().cloned());
    Ok(mounts)
}
