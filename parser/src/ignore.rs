//! `.dockerignore` (R-IGN).

/// An ignore file's rules.
#[derive(Debug, Clone, Default)]
pub struct IgnoreFile {
    rules: Vec<Rule>,
}

/// One pattern and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its line, from 1.
    pub line: usize,
    /// As written, outer blanks removed.
    pub pattern: String,
    /// `!pattern`: keeps what it matches.
    pub exception: bool,
}

/// What the rules say about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the path is left out of the context.
    pub ignored: bool,
    /// The rule that decided; `None` when none matched.
    pub rule: Option<Rule>,
}

/// A pattern that can't be used (R-IGN-4).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// A `!` with nothing after it.
    #[error("line {line}: `!` without a pattern")]
    EmptyException {
        /// The line, from 1.
        line: usize,
    },
    /// An unterminated `[` or a trailing `\`.
    #[error("line {line}: syntax error in pattern `{pattern}`")]
    BadPattern {
        /// The line, from 1.
        line: usize,
        /// As written.
        pattern: String,
    },
}

impl IgnoreFile {
    /// Reads an ignore file.
    pub fn parse(text: &str) -> Result<IgnoreFile, IgnoreError> {
        let _ = text;
        todo!()
    }

    /// Rules from patterns one by one, as `COPY --exclude` gives them (R-COPY-32); line numbers are positions from 1.
    pub fn from_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<IgnoreFile, IgnoreError> {
        let _ = patterns.into_iter();
        todo!()
    }

    /// What the rules say about a slash-separated path relative to the context root, its parents included (R-IGN-6).
    #[must_use]
    pub fn verdict(&self, path: &str) -> Verdict {
        let _ = path;
        todo!()
    }

    /// Whether there is any `!` rule.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.exception)
    }

    /// Whether something below an ignored directory might be kept, so that a walk has to go into it. Errs towards `true`.
    #[must_use]
    pub fn may_reinclude_below(&self, dir: &str) -> bool {
        let _ = dir;
        todo!()
    }

    /// The rules in file order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}
