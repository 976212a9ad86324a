//! RUN.

use kiln_parser::{Network, Security};

use crate::{EnvList, Limits, Mount};

/// Runs a command. Input 0 is its root filesystem; further inputs belong to mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOp {
    /// The command; never empty. In shell form the shell is in front (R-RUN-1).
    pub argv: Vec<String>,
    /// The environment: of the base image, ENV and ARG, `PATH` always among them (R-RT-1).
    /// `HOME`, secrets and `SSH_AUTH_SOCK` are the sandbox's job.
    pub env: EnvList,
    /// Proxy settings of the builder, in upper and lower case, none of them also in `env`. They must not enter cache keys (R-ARG-10).
    pub proxy_env: Vec<(String, String)>,
    /// The working directory, absolute, as written (R-WORKDIR-2); made when missing (R-RT-2).
    pub cwd: String,
    /// Who runs it: `user`, `uid`, `user:group`…, or empty for root (R-USER-2). Looked up in the root filesystem.
    pub user: String,
    /// The host name inside (R-RT-11).
    pub hostname: String,
    /// Additions to `/etc/hosts`: name and address. Only the names enter keys (R-CACHE-5).
    pub extra_hosts: Vec<(String, String)>,
    /// Resource limits, the size of `/dev/shm`, the cgroup.
    pub limits: Limits,
    /// Which network it sees.
    pub network: Network,
    /// How it is confined.
    pub security: Security,
    /// `--mount`, in order.
    pub mounts: Vec<Mount>,
    /// Read-only files laid over the root filesystem for the command: the script of a heredoc that begins with `#!` (R-HD-11).
    pub files: Vec<InlineFile>,
}

/// A small file that comes with the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// Where it appears, absolute.
    pub path: String,
    /// What it holds.
    pub content: Vec<u8>,
    /// Permission bits; the owner is root.
    pub mode: u32,
}
