//! What `RUN --mount` puts into a command's filesystem (R-MNT).

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A file or directory of another tree.
    Bind(BindMount),
    /// A directory that outlives the build.
    Cache(CacheMount),
    /// An empty directory in memory.
    Tmpfs(TmpfsMount),
    /// A secret of the client.
    Secret(SecretMount),
    /// A socket to the client's SSH agent.
    Ssh(SshMount),
}

/// `type=bind` (R-MNT-7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// Where, absolute and cleaned; never `/`.
    pub target: String,
    /// The input that holds the source; never 0.
    pub input: usize,
    /// The path in that input, rooted and cleaned.
    pub source: String,
    /// Whether writes succeed; they are discarded all the same.
    pub writable: bool,
}

/// `type=cache` (R-MNT-9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Where, absolute and cleaned; never `/`.
    pub target: String,
    /// Which cache, namespace included.
    pub id: String,
    /// Whether the Dockerfile chose the id; otherwise it is the target as written, cleaned.
    pub explicit_id: bool,
    /// The input with the initial content; `None` for an empty directory.
    pub input: Option<usize>,
    /// The path in that input, rooted and cleaned.
    pub source: String,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// How concurrent users share it.
    pub sharing: Sharing,
    /// Permission bits of a new cache's root; 0755 when `None`. Another value is another cache.
    pub mode: Option<u32>,
    /// Owner of a new cache's root; 0 when `None`.
    pub uid: Option<u32>,
    /// Group of a new cache's root; 0 when `None`.
    pub gid: Option<u32>,
}

/// How concurrent users of a cache get along (R-MNT-10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sharing {
    /// They see one directory.
    #[default]
    Shared,
    /// Each gets one of its own.
    Private,
    /// One waits for the other.
    Locked,
}

/// `type=tmpfs` (R-MNT-12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TmpfsMount {
    /// Where, absolute and cleaned; never `/`.
    pub target: String,
    /// Largest size in bytes; the kernel's default when `None`.
    pub size: Option<u64>,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// `type=secret` (R-MNT-13..15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMount {
    /// Which secret.
    pub id: String,
    /// The file it appears as, absolute; `None` when only a variable is asked for.
    pub target: Option<String>,
    /// The environment variable it appears as.
    pub env: Option<String>,
    /// Whether the build fails without it.
    pub required: bool,
    /// Permission bits of the file.
    pub mode: u32,
    /// Owner of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
}

/// `type=ssh` (R-MNT-16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshMount {
    /// Which agent.
    pub id: String,
    /// The socket's path, absolute.
    pub target: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// Permission bits of the socket.
    pub mode: u32,
    /// Owner of the socket.
    pub uid: u32,
    /// Group of the socket.
    pub gid: u32,
}
