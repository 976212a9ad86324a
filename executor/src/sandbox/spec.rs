//! What a step is to run in: plain values that cross from the engine to the launcher.

use super::Rung;
use super::capability::CapabilitySet;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;

/// One process to run and everything around it. Nothing is inherited from the engine: what is not here is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// The way it is kept apart.
    pub rung: Rung,
    /// The root filesystem.
    pub root: RootSpec,
    /// The program and its arguments; a program without `/` is looked up in `PATH` inside the root (R-RT-15).
    pub argv: Vec<String>,
    /// The whole environment, in order (R-RT-1). `HOME` is the caller's to add.
    pub env: Vec<(String, String)>,
    /// Working directory inside the root, absolute; made with the user's ownership when missing (R-RT-2).
    pub cwd: String,
    /// Who runs.
    pub user: User,
    /// Host name in the step's own uts namespace (R-RT-11).
    pub hostname: String,
    /// Which network the step sees (R-RT-13).
    pub network: Network,
    /// Mounts beyond the standard ones, made in order after them; files such as `/etc/hosts` belong here (R-RT-12).
    pub mounts: Vec<MountSpec>,
    /// The bounding set, and for uid 0 also the permitted and effective sets (R-RT-5).
    pub capabilities: CapabilitySet,
    /// Whether the default seccomp filter is loaded (R-RT-6), where there is one: [`super::seccomp::SUPPORTED`].
    pub seccomp: bool,
    /// Whether nothing is masked or read-only, and the devices of the machine are there: `--security=insecure` (R-RT-6).
    pub exposed: bool,
    /// Whether setuid programs and the like give nobody more than they have.
    pub no_new_privileges: bool,
    /// The files by which the step joins its cgroups before anything else; none to stay in kiln's own.
    pub cgroup: Vec<PathBuf>,
    /// Limits that differ from the engine's own (R-RT-14).
    pub rlimits: Vec<Rlimit>,
    /// How gladly the kernel ends the step where there is no memory left, -1000 to 1000; as the engine itself if none is said.
    pub oom_score_adj: Option<i16>,
    /// Whether the root filesystem itself can't be written to, where there are namespaces.
    pub read_only: bool,
    /// Whether the root filesystem, if it is an overlay, stays mounted after the step, where the kernel can do that.
    pub keep_root: bool,
    /// Whether standard input is a terminal that is to become the step's controlling one and its `/dev/console`. Where there are namespaces it is
    /// a model only, for one of the step's own `/dev/pts` ([`Stdio::terminal`](super::Stdio::terminal)).
    pub terminal: bool,
    /// Whether process 1 is not the program but one that passes signals on and takes note of the end of orphans, where there are namespaces.
    pub init: bool,
    /// Owners of symlinks and FIFOs in the image, and of sockets of agents, that are not root's, by path without the first slash, for a
    /// rung that records owners: a symlink itself can't say.
    #[serde(skip)]
    pub links: HashMap<Vec<u8>, (u32, u32)>,
    /// The directory that is kiln's own. What is mounted from there is, on a rung that can't mount, moved for as long as the step runs,
    /// and nothing else ever is.
    pub own: Option<PathBuf>,
    /// Whether the step is likely to have device nodes in its root filesystem, for a rung that records them.
    pub has_devices: bool,
    /// Names of symlinks in the image that lead to `/proc` or `/dev`, for a rung that can't mount them.
    pub links_to_kernel: Vec<Vec<u8>>,
    /// Whether the step executes programs for their set-ID bits, as far as is known.
    pub set_id: SetId,
    /// Size of `/dev/shm` in bytes (R-RT-7: 64 MiB unless asked for otherwise).
    pub shm_size: u64,
}

impl SandboxSpec {
    /// A step as a plain RUN gets it on the rung `root`: root user, `/`, host network, Docker's capabilities and seccomp filter.
    pub fn new(root: RootSpec, argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            rung: Rung::Root,
            root,
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: "/".into(),
            user: User::default(),
            hostname: "buildkitsandbox".into(),
            network: Network::Host,
            mounts: Vec::new(),
            capabilities: CapabilitySet::DOCKER_DEFAULT,
            seccomp: true,
            exposed: false,
            no_new_privileges: false,
            cgroup: Vec::new(),
            rlimits: Vec::new(),
            oom_score_adj: None,
            read_only: false,
            keep_root: false,
            terminal: false,
            init: false,
            links: HashMap::new(),
            own: None,
            has_devices: false,
            links_to_kernel: Vec::new(),
            set_id: SetId::Guess,
            shm_size: DEFAULT_SHM_SIZE,
        }
    }
}

impl SandboxSpec {
    /// The same step with all that root may do here (R-RT-6).
    #[must_use]
    pub fn insecure(self) -> Self {
        Self {
            capabilities: CapabilitySet::ALL,
            seccomp: false,
            exposed: true,
            ..self
        }
    }
}

/// 64 MiB (R-RT-7).
pub const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// Where the root filesystem comes from. Paths are the host's and absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootSpec {
    /// An overlay of unpacked layers.
    Overlay {
        /// Read-only layers, bottom first. With none, an empty layer is put below `upper`.
        lowers: Vec<PathBuf>,
        /// Receives every change.
        upper: PathBuf,
        /// Overlayfs' own scratch directory, on the filesystem of `upper`, fresh for each step (it is mounted `volatile`).
        work: PathBuf,
    },
    /// A plain directory, changed in place.
    Directory(PathBuf),
}

impl RootSpec {
    /// The directory that holds what the step changed.
    pub fn changes(&self) -> &std::path::Path {
        match self {
            Self::Overlay { upper, .. } => upper,
            Self::Directory(path) => path,
        }
    }
}

/// User and groups as numbers; names were resolved by the caller in the root's own passwd (R-RT-9, R-RT-10).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// What is known of a step's use of set-ID programs such as `sudo`. Where kiln can answer a step's calls only if these do nothing
/// ([`super::broker`]), it has the one or the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetId {
    /// Nothing, and the step can't be begun again: they work if it is a user's, and there are some to become root by.
    #[default]
    Guess,
    /// As [`SetId::Guess`], but the step can be begun again.
    Likely,
    /// It names none. Where it comes to execute one that would give it something, it ends ([`super::Step::needed`]) and is begun again.
    Unlikely,
    /// It does: they work.
    Certain,
}

/// The network of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's network namespace. This is also what `default` means here: kiln sets up no bridge.
    #[default]
    Host,
    /// A namespace with only a loopback interface.
    None,
}

/// Something mounted inside the root. A missing mount point is made, and removed again after the step (R-MNT-17).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Where, absolute inside the root; links of the image on the way are followed inside the root only.
    pub target: String,
    /// What.
    pub kind: MountKind,
}

/// The kinds of mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the host. Submounts are included.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// A path below `source`, looked up without ever leaving it; empty for `source` itself. For sources whose links are not
        /// the user's own: another stage, an image.
        inside: String,
        /// Whether the step may write to it.
        writable: bool,
    },
    /// An empty filesystem in memory, nosuid and nodev (R-MNT-12).
    Tmpfs {
        /// Limit in bytes; the kernel's default is half of the memory.
        size: Option<u64>,
        /// Permission bits of its root; if none are said, those of the directory that it is mounted on, or 0o1777 where there was none.
        mode: Option<u32>,
        /// Owner and group of its root, where that is not root.
        owner: Option<(u32, u32)>,
        /// Whether programs in it can't be executed, where there are mounts.
        noexec: bool,
    },
    /// A file in memory that the step can only read: `/etc/hosts`, `/etc/resolv.conf`, secrets. It never touches a disk.
    File {
        /// Its bytes.
        contents: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

impl MountSpec {
    /// A file readable by all, as `/etc/hosts` and `/etc/resolv.conf` are given (R-RT-12).
    pub fn file(target: impl Into<String>, contents: impl Into<Vec<u8>>) -> Self {
        Self::file_with_mode(target, contents, 0o644)
    }

    /// A file of root's with these permission bits.
    pub fn file_with_mode(
        target: impl Into<String>,
        contents: impl Into<Vec<u8>>,
        mode: u32,
    ) -> Self {
        let kind = MountKind::File {
            contents: contents.into(),
            mode,
            uid: 0,
            gid: 0,
        };
        Self {
            target: target.into(),
            kind,
        }
    }

    /// An empty filesystem in memory, of `size` bytes at most and with `mode` as [`MountKind::Tmpfs`] has them.
    pub fn tmpfs(target: impl Into<String>, size: Option<u64>, mode: Option<u32>) -> Self {
        let kind = MountKind::Tmpfs {
            size,
            mode,
            owner: None,
            noexec: false,
        };
        Self {
            target: target.into(),
            kind,
        }
    }

    /// A file or directory of the host.
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<String>, writable: bool) -> Self {
        let kind = MountKind::Bind {
            source: source.into(),
            inside: String::new(),
            writable,
        };
        Self {
            target: target.into(),
            kind,
        }
    }
}

/// One resource limit (setrlimit(2)); `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Which.
    pub resource: Resource,
    /// Soft limit in the resource's own unit.
    pub soft: Option<u64>,
    /// Hard limit.
    pub hard: Option<u64>,
}

/// The resources that can be limited, by their names in `--ulimit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of setrlimit(2)")]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}
