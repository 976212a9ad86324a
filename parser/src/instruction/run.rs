//! RUN (R-RUN, R-HD-11..13).

use std::borrow::Cow;

use crate::instruction::{CommandLine, MountFlag};
use crate::{Heredoc, Spanned};

/// `RUN [flags] <command>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What to run.
    pub command: RunCommand,
    /// `--mount`, in order.
    pub mounts: Vec<Spanned<MountFlag>>,
    /// `--network`
    pub network: Option<Spanned<Network>>,
    /// `--security`
    pub security: Option<Spanned<Security>>,
    /// `--device`, in order.
    pub device: Vec<Spanned<String>>,
}

/// How the command was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunCommand {
    /// On the line.
    Line(CommandLine),
    /// With heredocs.
    Heredocs {
        /// The line after the flags, heredoc words included.
        line: String,
        /// The heredocs in order; never empty.
        heredocs: Vec<Heredoc>,
    },
}

/// What there is to execute, once heredocs are put in their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script<'a> {
    /// The argument list itself.
    Exec(&'a [String]),
    /// Text for the shell.
    Shell(Cow<'a, str>),
    /// A body that starts with `#!`: a file of this name in `/dev/pipes`, mode 0755, whose path is given to the shell (R-HD-11).
    File {
        /// The delimiter.
        name: &'a str,
        /// The file's content.
        body: Cow<'a, str>,
    },
}

/// `--network` (R-RUN-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// The builder's usual network.
    Default,
    /// No network but loopback.
    None,
    /// The host's network.
    Host,
}

/// `--security` (R-RUN-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Security {
    /// The usual confinement.
    Sandbox,
    /// None.
    Insecure,
}

impl Run {
    /// The command as it is to be executed (R-HD-11..13).
    #[must_use]
    pub fn script(&self) -> Script<'_> {
        todo!()
    }
}
