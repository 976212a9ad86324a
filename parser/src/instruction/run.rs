//! RUN (R-RUN, R-HD-11..13).

use std::borrow::Cow;

use crate::flag::{Flags, Known, Takes};
use crate::heredoc::opening;
use crate::instruction::{CommandLine, MountFlag, mount};
use crate::request::Request;
use crate::{Code, Diagnostic, Heredoc, Spanned, code, suggest};

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
        match &self.command {
            RunCommand::Line(CommandLine::Exec(argv)) => Script::Exec(argv),
            RunCommand::Line(CommandLine::Shell(text)) => Script::Shell(Cow::Borrowed(text)),
            RunCommand::Heredocs { line, heredocs } => match heredocs.as_slice() {
                [only] if opening(line).is_some() => only_heredoc(only),
                _ => Script::Shell(Cow::Owned(with_bodies(line, heredocs))),
            },
        }
    }
}

/// A heredoc that is all of the command (R-HD-11).
fn only_heredoc(heredoc: &Heredoc) -> Script<'_> {
    let body = heredoc.content();
    if body.starts_with("#!") {
        Script::File {
            name: &heredoc.name,
            body,
        }
    } else {
        Script::Shell(body)
    }
}

/// The line and the bodies, for the shell to put together (R-HD-13).
fn with_bodies(line: &str, heredocs: &[Heredoc]) -> String {
    let mut text = line.to_owned();
    for heredoc in heredocs {
        text.extend(["\n", &heredoc.body, &heredoc.name]);
    }
    text
}

const FLAGS: &Known = &[
    ("mount", Takes::List),
    ("network", Takes::Value),
    ("security", Takes::Value),
    ("device", Takes::List),
];

/// `"RUN" flags ( exec-form | shell-form )`; no text at all is an empty shell form (R-RUN-2)
pub(super) fn parse(mut request: Request<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Run> {
    let flags = request.flags(FLAGS, diagnostics);
    let escape = request.escape;
    let mounts = flags
        .cooked("mount")
        .filter_map(|(value, span)| mount::parse(value, span, escape, diagnostics))
        .collect();
    let network = one_of(
        &flags,
        "network",
        &NETWORKS,
        code::INVALID_NETWORK,
        diagnostics,
    );
    let security = one_of(
        &flags,
        "security",
        &SECURITIES,
        code::INVALID_SECURITY,
        diagnostics,
    );
    let command = command(&mut request, diagnostics)?;
    Some(Run {
        command,
        mounts,
        network,
        security,
        device: flags.list("device"),
    })
}

const NETWORKS: [(&str, Network); 3] = [
    ("default", Network::Default),
    ("none", Network::None),
    ("host", Network::Host),
];
const SECURITIES: [(&str, Security); 2] = [
    ("sandbox", Security::Sandbox),
    ("insecure", Security::Insecure),
];

/// The value of a flag that takes one of a few words; an empty one is as if absent.
fn one_of<T: Copy>(
    flags: &Flags,
    name: &str,
    known: &[(&'static str, T)],
    code: Code,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Spanned<T>> {
    let value = flags.value(name).filter(|value| !value.is_empty())?;
    if let Some((_, meaning)) = known.iter().find(|(word, _)| *word == value.value) {
        return Some(Spanned::new(*meaning, value.span));
    }
    let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
    let diagnostic = Diagnostic::error(
        code,
        format!("unknown {name} mode `{}`", value.value),
        value.span,
    );
    diagnostics.push(match suggest(&value, words.iter().copied()) {
        Some(near) => diagnostic.did_you_mean(Some(near)),
        None => diagnostic.help(format!("it is one of {}", words.join(", "))),
    });
    None
}

fn command(request: &mut Request<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<RunCommand> {
    if !request.heredocs.is_empty() {
        let heredocs = std::mem::take(&mut request.heredocs);
        return Some(RunCommand::Heredocs {
            line: request.text.to_owned(),
            heredocs,
        });
    }
    let command = request.command(request.text, diagnostics)?;
    if command == CommandLine::Exec(Vec::new()) {
        let message = "RUN needs a command";
        diagnostics.push(Diagnostic::error(
            code::EMPTY_COMMAND,
            message,
            request.line.place(request.text),
        ));
        return None;
    }
    Some(RunCommand::Line(command))
}
