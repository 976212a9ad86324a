//! CMD and ENTRYPOINT (R-CMD, R-ENTRY), and the two ways to write a command.

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// Text for the shell, exactly as written (R-JSON-6).
    Shell(String),
    /// A JSON array: the argument list itself.
    Exec(Vec<String>),
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
