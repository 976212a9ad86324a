//! The instructions: one variant and one file each.

mod add;
mod arg;
mod cmd;
mod copy;
mod env;
mod expose;
pub(crate) mod from;
mod healthcheck;
mod maintainer;
mod mount;
mod onbuild;
mod run;
mod shell;
mod stopsignal;
mod user;
mod volume;
mod workdir;

pub use add::Add;
pub use arg::{Arg, ArgPair};
pub use cmd::{Cmd, CommandLine, Entrypoint};
pub use copy::{Copy, CopySource};
pub use env::{Env, Label};
pub use expose::Expose;
pub use from::From;
pub use healthcheck::Healthcheck;
pub use maintainer::Maintainer;
pub use mount::{MountField, MountFlag};
pub use onbuild::Onbuild;
pub use run::{Network, Run, RunCommand, Script, Security};
pub use shell::Shell;
pub use stopsignal::Stopsignal;
pub use user::User;
pub use volume::Volume;
pub use workdir::Workdir;

use crate::Diagnostic;
use crate::request::Request;

/// An instruction other than FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD`
    Add(Add),
    /// `ARG`
    Arg(Arg),
    /// `CMD`
    Cmd(Cmd),
    /// `COPY`
    Copy(Copy),
    /// `ENTRYPOINT`
    Entrypoint(Entrypoint),
    /// `ENV`
    Env(Env),
    /// `EXPOSE`
    Expose(Expose),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`
    Label(Label),
    /// `MAINTAINER`
    Maintainer(Maintainer),
    /// `ONBUILD`
    Onbuild(Onbuild),
    /// `RUN`
    Run(Run),
    /// `SHELL`
    Shell(Shell),
    /// `STOPSIGNAL`
    Stopsignal(Stopsignal),
    /// `USER`
    User(User),
    /// `VOLUME`
    Volume(Volume),
    /// `WORKDIR`
    Workdir(Workdir),
}

impl Instruction {
    /// The keyword, upper case.
    #[must_use]
    pub fn keyword(&self) -> &'static str {
        match self {
            Instruction::Add(_) => "ADD",
            Instruction::Arg(_) => "ARG",
            Instruction::Cmd(_) => "CMD",
            Instruction::Copy(_) => "COPY",
            Instruction::Entrypoint(_) => "ENTRYPOINT",
            Instruction::Env(_) => "ENV",
            Instruction::Expose(_) => "EXPOSE",
            Instruction::Healthcheck(_) => "HEALTHCHECK",
            Instruction::Label(_) => "LABEL",
            Instruction::Maintainer(_) => "MAINTAINER",
            Instruction::Onbuild(_) => "ONBUILD",
            Instruction::Run(_) => "RUN",
            Instruction::Shell(_) => "SHELL",
            Instruction::Stopsignal(_) => "STOPSIGNAL",
            Instruction::User(_) => "USER",
            Instruction::Volume(_) => "VOLUME",
            Instruction::Workdir(_) => "WORKDIR",
        }
    }
}

/// Reads any instruction but FROM.
pub(crate) fn parse(
    request: Request<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Instruction> {
    match request.keyword {
        "ADD" => add::parse(request, diagnostics).map(Instruction::Add),
        "ARG" => arg::parse(&request, diagnostics).map(Instruction::Arg),
        "CMD" => cmd::parse(request, diagnostics).map(|command| Instruction::Cmd(Cmd { command })),
        "COPY" => copy::parse(request, diagnostics).map(Instruction::Copy),
        "ENTRYPOINT" => cmd::parse(request, diagnostics)
            .map(|command| Instruction::Entrypoint(Entrypoint { command })),
        "ENV" => env::parse(request, diagnostics)
            .map(|(pairs, legacy)| Instruction::Env(Env { pairs, legacy })),
        "EXPOSE" => expose::parse(request, diagnostics).map(Instruction::Expose),
        "HEALTHCHECK" => healthcheck::parse(request, diagnostics).map(Instruction::Healthcheck),
        "LABEL" => env::parse(request, diagnostics)
            .map(|(pairs, legacy)| Instruction::Label(Label { pairs, legacy })),
        "MAINTAINER" => maintainer::parse(request, diagnostics).map(Instruction::Maintainer),
        "ONBUILD" => onbuild::parse(request, diagnostics).map(Instruction::Onbuild),
        "RUN" => run::parse(request, diagnostics).map(Instruction::Run),
        "SHELL" => shell::parse(request, diagnostics).map(Instruction::Shell),
        "STOPSIGNAL" => stopsignal::parse(&request, diagnostics).map(Instruction::Stopsignal),
        "USER" => user::parse(request, diagnostics).map(Instruction::User),
        "VOLUME" => volume::parse(request, diagnostics).map(Instruction::Volume),
        "WORKDIR" => workdir::parse(request, diagnostics).map(Instruction::Workdir),
        _ => None,
    }
}
