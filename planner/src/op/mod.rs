//! The operations a build consists of: sources, executions, and changes of files.

mod env;
mod exec;
mod file;
mod mount;
mod source;

pub(crate) use env::Assignment;
pub use env::EnvList;
pub use exec::{ExecOp, InlineFile};
pub use file::{CopyOp, CopySourceOp, FileOp, MkdirOp};
pub use mount::{BindMount, CacheMount, Mount, SecretMount, Sharing, SshMount, TmpfsMount};
pub use source::SourceOp;

/// What a vertex does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Gets a tree from outside.
    Source(SourceOp),
    /// Runs a command in a root filesystem (RUN).
    Exec(ExecOp),
    /// Changes a root filesystem's files (COPY, ADD, WORKDIR).
    File(FileOp),
}
