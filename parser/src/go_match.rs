//! Go's `filepath.Match`, which COPY and ADD use for wildcards (R-COPY-7).

/// A pattern that Go refuses: an unterminated `[`, an empty or inverted part of a class, or a trailing `\`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// Whether `pattern` matches the whole of `name`.
pub fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    let _ = (pattern, name);
    todo!()
}

/// Whether a path component is a pattern at all: it has one of `*`, `?`, `[`, `\`.
#[must_use]
pub fn has_meta(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}
