//! The Dockerfile language: text in, syntax tree and diagnostics out.
//!
//! ```
//! use kiln_parser::{Source, parse};
//!
//! let source = Source::new("Dockerfile", "FROM alpine AS build\nCOPY --form=x . /src\n");
//! let parsed = parse(&source);
//! assert_eq!(parsed.dockerfile.stages[0].name(), Some("build"));
//! assert_eq!(parsed.diagnostics[0].code.as_str(), "unknown-flag");
//! ```
//!
//! The parser never fails: it returns the tree of all it understood and a [`Diagnostic`] for everything else, each with its place.
//! It reads no files, environment or clock and knows nothing of how a build runs; the planner gives the tree its meaning.
//! Words ([`Word`]) keep their quotes and `$` references, and are expanded later with the variables of the day.

mod diagnostic;
mod dockerfile;
mod heredoc;
mod ignore;
pub mod instruction;
mod source;
mod suggest;
mod word;

pub mod dump;
pub mod go_match;

pub use diagnostic::{Code, Diagnostic, Severity};
pub use dockerfile::{CheckDirective, Directives, Dockerfile, Escape, Parsed, RuleSet, Stage, Statement};
pub use heredoc::Heredoc;
pub use ignore::{IgnoreError, IgnoreFile, Rule, Verdict};
pub use instruction::{
    Add, Arg, ArgPair, Cmd, CommandLine, Copy, CopySource, Entrypoint, Env, Expose, From, Healthcheck, Instruction, Label, Maintainer,
    MountField, MountFlag, Network, Onbuild, Run, RunCommand, Script, Security, Shell, Stopsignal, User, Volume, Workdir,
};
pub use source::{Source, Span, Spanned};
pub use suggest::suggest;
pub use word::{ExpandError, Expanded, Variables, Word};

/// Reads a Dockerfile.
#[must_use]
pub fn parse(source: &Source) -> Parsed {
    let _ = source;
    todo!()
}

/// Reads an ONBUILD trigger as if it stood in a Dockerfile by itself, with the escape character `\` (R-ONB-3). Spans are in `text`.
pub fn parse_trigger(text: &str) -> Result<Statement, Vec<Diagnostic>> {
    let _ = text;
    todo!()
}
