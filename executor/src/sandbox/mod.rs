//! The sandbox: one process of a Dockerfile, run with its own root, and nothing else of the machine in reach.
//!
//! ```no_run
//! use kiln_executor::sandbox::{Launcher, RootSpec, SandboxSpec, Stdio};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! kiln_executor::sandbox::init_main_if_asked(); // the first line of main
//! let launcher = Launcher::new();
//! let root = RootSpec::Overlay {
//!     lowers: vec!["/var/lib/kiln/layers/base/fs".into()],
//!     upper: "/var/lib/kiln/tmp/1/upper".into(),
//!     work: "/var/lib/kiln/tmp/1/work".into(),
//! };
//! let spec = SandboxSpec::new(root, ["/bin/sh", "-c", "echo hello > /greeting"]);
//! let status = launcher.spawn(&spec, Stdio::inherit()?)?.wait()?;
//! assert!(status.success());
//! # Ok(()) }
//! ```
//!
//! # Who does what
//!
//! ```text
//! kiln (threads)  ──spec + stdio fds──▶  launcher (one thread)  ──clone3(new namespaces, CLONE_PARENT)──▶  step
//!      ▲   ◀──────────pidfd──────────────┘                                                                 │
//!      └──────────────── "ready" or a failure as data, then end of file at exec ───────────────────────────┘
//! ```
//!
//! - **[`Launcher`]** lives in kiln. At the first step it executes kiln's own binary, read-only for good or as a sealed copy (`own_binary`), as
//!   the helper. The engine has threads and may be large, so it must not fork itself: after a fork in a threaded process
//!   almost nothing may be called, and fork copies page tables. The helper has one thread and is small, so a clone of it is
//!   cheap and may call what it likes. Because of how it is run, `/proc/self/exe` inside a step can never lead to
//!   a binary that can be written to (CVE-2019-5736).
//! - **The helper** answers one kind of request: it clones a step as a child *of kiln*, so kiln waits for it through a pidfd
//!   like for any child. While one step runs, the process that the next will be waits already, in its namespaces (`waiting`), on the
//!   memory of one that the helper makes for that (`template`). When kiln ends, however it ends, the helper sees the end of its socket, kills the steps, and goes.
//! - **The step** sets itself up in kernel order (`init`): mounts from a plan that is plain data (`plan`), paths of the image
//!   looked up only inside the image's root (`root`), then identity, limits, filter, and execution of the program. It is
//!   process 1 of its own pid namespace, or with [`SandboxSpec::init`] the child of one (`reaper`): when it ends, the kernel kills everything it left behind. On a rung without namespaces
//!   it changes its root and no more; kiln puts what would be mounted into the root filesystem (`furnish`), and a parent of its
//!   own (`minder`) answers its calls about `/proc` and `/dev` (`broker`) and kills what it leaves behind.
//! - **[`Step`]** waits, kills, and afterwards takes away the empty mount points that had to be made (`stub`), so that they
//!   never reach a layer.
//!
//! # The ladder
//!
//! A [`Rung`] is a way of doing this; its module has a table of what differs. [`Footing::settle`] decides as whom kiln works,
//! [`Footing::way`] tells which rung steps can have here, and if none, why and what would help.
//!
//! # Network
//!
//! [`Network::Host`] is the default: kiln sets up no bridge. [`Network::None`] has a loopback interface only, or, without
//! namespaces, no sockets but Unix ones.

mod anteroom;
mod attribute;
#[doc(hidden)]
pub mod bare;
mod broker;
pub mod capability;
mod console;
mod error;
mod exec;
mod exposed;
mod family;
mod footing;
mod furnish;
mod helper;
mod identity;
mod init;
mod kernel_trees;
mod kernels;
mod launcher;
mod left_mounts;
mod memory_file;
mod message;
mod minder;
mod mounted_root;
mod mounts;
mod own_binary;
mod placement;
mod plan;
mod probe;
mod reaper;
mod recorder;
mod remote;
mod root;
mod rung;
mod script;
pub mod seccomp;
mod spec;
mod step;
mod stub;
mod subid;
mod surroundings;
mod survey;
mod template;
pub mod terminal;
mod trial;
mod userns;
mod waiting;

pub use capability::CapabilitySet;
pub use error::SandboxError;
pub use footing::{Footing, Form, Removals, Way};
pub use launcher::{Launcher, Stdio, init_main_if_asked};
pub(crate) use mounted_root::MountedRoot;
pub use probe::Unavailable;
pub use rung::{Rung, UnknownRung};
pub use spec::{
    DEFAULT_SHM_SIZE, MountKind, MountSpec, Network, Resource, Rlimit, RootSpec, SandboxSpec,
    SetId, User,
};
pub(crate) use step::Leavings;
pub use step::{ExitStatus, Step};
pub(crate) use surroundings::{hostnames, is_contained};
pub use survey::{Survey, Tried, survey};
