//! CMD and ENTRYPOINT (R-CMD, R-ENTRY), and the two ways to write a command.

use crate::Diagnostic;
use crate::request::Request;

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// Text for the shell, exactly as written (R-JSON-6).
    Shell(String),
    /// A JSON array: the argument list itself.
    Exec(Vec<String>),
}

impl CommandLine {
    /// Whether there is nothing to run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            CommandLine::Shell(text) => text.is_empty(),
            CommandLine::Exec(argv) => argv.is_empty(),
        }
    }
}

/// `CMD <command>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmd {
    /// The command.
    pub command: CommandLine,
}

/// `ENTRYPOINT <command>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrypoint {
    /// The command.
    pub command: CommandLine,
}

/// `( "CMD" | "ENTRYPOINT" ) ( exec-form | shell-form )`; no text at all is an empty shell form (R-CMD-2)
pub(super) fn parse(
    mut request: Request<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<CommandLine> {
    request.no_flags(diagnostics);
    request.command(request.text, diagnostics)
}
