//! Here-documents (R-HD).

use crate::word::{ExpandError, Expanded, Variables};
use crate::Span;

/// A here-document: the word that opens it and the lines it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter, quotes and backslashes removed (R-HD-4).
    pub name: String,
    /// Whether COPY and ADD expand variables in the body: no part of the name was quoted.
    pub expand: bool,
    /// `<<-`: leading tabs of every line are dropped when the body is used (R-HD-5).
    pub chomp: bool,
    /// The descriptor before `<<` (R-HD-10).
    pub fd: Option<u32>,
    /// The raw lines, line endings as written (R-HD-9), without the terminator.
    pub body: String,
    /// The opening word.
    pub span: Span,
}

impl Heredoc {
    /// The body as used: with `<<-`, leading tabs of every line removed (R-HD-5).
    #[must_use]
    pub fn content(&self) -> std::borrow::Cow<'_, str> {
        todo!()
    }

    /// The content with variables put in, as COPY and ADD write it (R-HD-15). Unchanged when the name was quoted.
    pub fn expand_body(&self, vars: &dyn Variables) -> Result<String, ExpandError> {
        let _ = vars;
        todo!()
    }

    /// As [`expand_body`](Heredoc::expand_body), and which variables were used.
    pub fn expand_body_traced(&self, vars: &dyn Variables) -> Result<Expanded, ExpandError> {
        let _ = vars;
        todo!()
    }
}
