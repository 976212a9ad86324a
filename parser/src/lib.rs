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
//!
//! # For an editor
//!
//! Everything has a [`Span`]: bytes of the text as it was written, quotes, escapes and continuations included. Lines and columns are
//! worked out when something is shown.
//!
//! ```
//! use kiln_parser::{Instruction, Source, parse};
//!
//! let source = Source::new("Dockerfile", "FROM alpine\nCOPY a \\\n  b /dst/\n");
//! let parsed = parse(&source);
//! let statement = &parsed.dockerfile.stages[0].statements[0];
//! assert_eq!(source.lines_of(statement.span), 2..=3);
//! let Instruction::Copy(copy) = &statement.instruction else { panic!() };
//! assert_eq!(source.snippet(copy.sources[1].span), "b");
//! assert_eq!(source.line_col(copy.dest.span.start), (3, 5));
//! ```
//!
//! # For a linter with fixes
//!
//! To change a file, replace spans of its text, from the last to the first: what has no span in an edit stays as it is, byte for byte.
//! To write a tree from scratch there is [`print`](crate::print::print).
//!
//! ```
//! use kiln_parser::{Instruction, Source, parse};
//!
//! let source = Source::new("Dockerfile", "FROM alpine:3\nADD  a.txt  /a.txt\n");
//! let parsed = parse(&source);
//! let mut text = source.text().to_owned();
//! for statement in parsed.dockerfile.stages[0].statements.iter().rev() {
//!     if let Instruction::Add(_) = &statement.instruction {
//!         text.replace_range(statement.keyword.span.range(), "COPY");
//!     }
//! }
//! assert_eq!(text, "FROM alpine:3\nCOPY  a.txt  /a.txt\n");
//! ```
//!
//! # For whoever has the variables
//!
//! ```
//! use kiln_parser::{Escape, IgnoreFile, Word};
//!
//! let vars = vec![("VERSION".to_owned(), "1.2.3".to_owned())];
//! let word = Word::new("app-${VERSION%.*}-${DATE:-today}", Escape::Backslash);
//! let expanded = word.expand(&vars)?;
//! assert_eq!(expanded.text, "app-1.2-today");
//! assert_eq!(expanded.used, ["VERSION", "DATE"]);
//!
//! let ignore = IgnoreFile::parse("*.log\n!keep.log\n").unwrap();
//! assert_eq!(ignore.verdict("keep.log").rule.unwrap().line, 2);
//! # Ok::<(), kiln_parser::ExpandError>(())
//! ```

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
pub use duration::go_duration;
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
