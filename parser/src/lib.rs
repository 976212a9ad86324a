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

mod arguments;
mod diagnostic;
mod directive;
mod dockerfile;
mod duration;
mod exec_form;
mod flag;
mod heredoc;
mod ignore;
mod lines;
mod parse;
mod pattern;
mod request;
mod source;
mod statement;
mod suggest;
mod word;

pub mod code;
pub mod dump;
pub mod go_match;
pub mod instruction;
pub mod print;

pub use diagnostic::{Code, Diagnostic, Severity};
pub use dockerfile::{
    CheckDirective, Directives, Dockerfile, Escape, Parsed, RuleSet, Stage, Statement,
};
pub use heredoc::Heredoc;
pub use ignore::{IgnoreError, IgnoreFile, Rule, Verdict};
pub use instruction::{
    Add, Arg, ArgPair, Cmd, CommandLine, Copy, CopySource, Entrypoint, Env, Expose, From,
    Healthcheck, Instruction, Label, Maintainer, MountField, MountFlag, Network, Onbuild, Run,
    RunCommand, Script, Security, Shell, Stopsignal, User, Volume, Workdir,
};
pub use parse::{parse, parse_trigger};
pub use source::{Source, Span, Spanned};
pub use suggest::suggest;
pub use word::{ExpandError, Expanded, NoVariables, Variables, Word};
