//! Words and their expansion (R-EXP).

use std::collections::{BTreeMap, HashMap};

use crate::Escape;

/// An argument as written: quotes, escapes and `$` references are still in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Word {
    raw: String,
    escape: Escape,
}

/// What a word became.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The text, unquoted.
    pub text: String,
    /// Names that were read while unset and had no default (R-EXP-6), each once, in order.
    pub unset: Vec<String>,
    /// All names that were read, each once, in order.
    pub used: Vec<String>,
}

/// Why a word can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// Placeholder.
    #[error("placeholder")]
    Placeholder,
}

/// Where expansion finds values. Names are case-sensitive (R-EXP-17).
pub trait Variables {
    /// The value of a variable, `None` when it is unset.
    fn lookup(&self, name: &str) -> Option<&str>;
}

impl Variables for HashMap<String, String> {
    fn lookup(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl Variables for BTreeMap<String, String> {
    fn lookup(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// Pairs in the order they were set: the last of a name counts (R-EXP-15).
impl Variables for [(String, String)] {
    fn lookup(&self, name: &str) -> Option<&str> {
        self.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// As for slices.
impl Variables for Vec<(String, String)> {
    fn lookup(&self, name: &str) -> Option<&str> {
        self.as_slice().lookup(name)
    }
}

impl Word {
    /// A word as it stands in a Dockerfile with that escape character.
    #[must_use]
    pub fn new(raw: impl Into<String>, escape: Escape) -> Word {
        Word { raw: raw.into(), escape }
    }

    /// The word as written, continuations joined.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The escape character in force where it was written.
    #[must_use]
    pub fn escape(&self) -> Escape {
        self.escape
    }

    /// The text it stands for: variables put in, quotes and escapes removed (R-EXP-3).
    pub fn expand(&self, vars: &dyn Variables) -> Result<Expanded, ExpandError> {
        let _ = vars;
        todo!()
    }

    /// The words it stands for: unquoted results are split at whitespace, empty words vanish (R-EXP-14).
    pub fn expand_words(&self, vars: &dyn Variables) -> Result<Vec<String>, ExpandError> {
        let _ = vars;
        todo!()
    }

    /// As [`expand_words`](Word::expand_words), and which variables were used; `text` of the trace is empty.
    pub fn expand_words_traced(&self, vars: &dyn Variables) -> Result<(Vec<String>, Expanded), ExpandError> {
        let _ = vars;
        todo!()
    }
}
