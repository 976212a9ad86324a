//! A Dockerfile's text, and places in it.
//!
//! Everything the parser reports is placed by a [`Span`] of byte offsets; lines and columns are worked out only when something is
//! shown to a person.

use std::ops::{Deref, Range, RangeInclusive};

/// A range of bytes in a [`Source`]: `start` is in it, `end` is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset just after the last byte.
    pub end: usize,
}

impl Span {
    /// The span from `start` up to, not including, `end`.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    /// The smallest span that covers both.
    #[must_use]
    pub fn to(self, other: Span) -> Span {
        Span::new(self.start.min(other.start), self.end.max(other.end))
    }

    /// The span as a range, for slicing.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A value and the place it was read from. Derefs to the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// What was read.
    pub value: T,
    /// Where it stands, as written: quotes, escapes and continuations included.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Places a value.
    pub fn new(value: T, span: Span) -> Spanned<T> {
        Spanned { value, span }
    }

    /// Another value at the same place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned::new(change(self.value), self.span)
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A named text with an index of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    name: String,
    text: String,
    line_starts: Vec<usize>,
    /// Where U+FFFD stands for bytes that were not UTF-8.
    replaced: Vec<usize>,
}

impl Source {
    /// A source with the name that messages show, usually the path as the user typed it.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        let text = text.into();
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0)
            .chain(newlines.map(|(at, _)| at + 1))
            .collect();
        Source {
            name: name.into(),
            text,
            line_starts,
            replaced: Vec::new(),
        }
    }

    /// A source from bytes; what is not UTF-8 becomes U+FFFD (R-JSON-5). The parser refuses it where it would reach a command or a file.
    #[must_use]
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Source {
        let mut text = String::with_capacity(bytes.len());
        let mut replaced = Vec::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                replaced.push(text.len());
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        Source {
            replaced,
            ..Source::new(name, text)
        }
    }

    /// The first character of a span that stands for bytes that were not UTF-8.
    #[must_use]
    pub fn first_replaced(&self, span: Span) -> Option<Span> {
        let next = self.replaced.partition_point(|at| *at < span.start);
        let at = self.replaced.get(next).filter(|at| **at < span.end)?;
        Some(Span::new(*at, at + char::REPLACEMENT_CHARACTER.len_utf8()))
    }

    /// The name given to it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte offset, both from 1. Columns count characters. An offset past the end is taken as the end.
    #[must_use]
    pub fn line_col(&self, offset: usize) -> (usize, usize) {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        let before = self.text.as_bytes()[start..offset].iter();
        (
            line,
            1 + before.filter(|byte| **byte & 0xC0 != 0x80).count(),
        )
    }

    /// The line, from 1, a span starts on.
    #[must_use]
    pub fn line_of(&self, span: Span) -> usize {
        self.line_col(span.start).0
    }

    /// The lines, from 1, a span touches.
    #[must_use]
    pub fn lines_of(&self, span: Span) -> RangeInclusive<usize> {
        let last = span.end.saturating_sub(1).max(span.start);
        self.line_of(span)..=self.line_col(last).0
    }

    /// The text of a line (from 1) without its line ending; empty when there is no such line.
    #[must_use]
    pub fn line(&self, number: usize) -> &str {
        let Some(start) = number
            .checked_sub(1)
            .and_then(|index| self.line_starts.get(index))
        else {
            return "";
        };
        let end = self
            .line_starts
            .get(number)
            .copied()
            .unwrap_or(self.text.len());
        self.text[*start..end].trim_end_matches(['\r', '\n'])
    }

    /// The text of a span; empty when the span does not fit the text.
    #[must_use]
    pub fn snippet(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_start_at_one_and_count_characters() {
        let source = Source::new("Dockerfile", "FROM a\nRUN é x\n");
        assert_eq!(source.line_col(0), (1, 1));
        assert_eq!(source.line_col(7), (2, 1));
        assert_eq!(source.line_col(14), (2, 7), "é is one column");
        assert_eq!(source.line_col(999), (3, 1));
        assert_eq!(
            source.lines_of(Span::new(0, 7)),
            1..=1,
            "the newline belongs to the line it ends"
        );
        assert_eq!(source.line(2), "RUN é x");
        assert_eq!(source.line(9), "");
    }
}
