//! From bytes to logical lines: physical lines, comments, continuations, and the way back from a joined line to the source.

use crate::{Escape, Span, Spanned};

/// The most bytes a physical line may hold, its LF not counted (R-LEX-4).
pub(crate) const LONGEST_LINE: usize = 65_535;

/// A line as it stands in the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PhysicalLine<'a> {
    /// Where it starts in the source.
    pub(crate) start: usize,
    /// The line without its trailing CR and LF bytes (R-LEX-3).
    pub(crate) text: &'a str,
    /// The line with its ending.
    pub(crate) raw: &'a str,
}

impl PhysicalLine<'_> {
    /// Whether it is a comment (R-LEX-6).
    pub(crate) fn is_comment(&self) -> bool {
        self.text.trim_start().starts_with('#')
    }

    pub(crate) fn is_blank(&self) -> bool {
        self.text.trim_start().is_empty()
    }

    /// The line from its first to its last visible character.
    pub(crate) fn visible_span(&self) -> Span {
        let start = self.start + self.text.len() - self.text.trim_start().len();
        Span::new(start, (self.start + self.text.trim_end().len()).max(start))
    }
}

/// The physical lines of a source, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct PhysicalLines<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> PhysicalLines<'a> {
    /// The lines of a text; a byte order mark at its head is not part of the first (R-LEX-2).
    pub(crate) fn new(text: &'a str) -> PhysicalLines<'a> {
        let at = if text.starts_with('\u{FEFF}') {
            '\u{FEFF}'.len_utf8()
        } else {
            0
        };
        PhysicalLines { text, at }
    }
}

impl<'a> Iterator for PhysicalLines<'a> {
    type Item = PhysicalLine<'a>;

    fn next(&mut self) -> Option<PhysicalLine<'a>> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        let raw = &rest[..length];
        let line = PhysicalLine {
            start: self.at,
            text: raw.trim_end_matches(['\r', '\n']),
            raw,
        };
        self.at += length;
        Some(line)
    }
}

/// An instruction's line with its continuations joined, and the way back to the source.
#[derive(Debug, Default)]
pub(crate) struct LogicalLine {
    /// The joined text, leading blanks removed.
    pub(crate) text: String,
    /// First to last physical line, outer blanks left out.
    pub(crate) span: Span,
    /// The last physical line that was read for it: at the end of a file a blank one or a comment.
    pub(crate) last: Span,
    /// Whether a blank line was skipped inside (R-LEX-7).
    pub(crate) empty_continuation: bool,
    /// The comments inside, with `#` and outer blanks.
    pub(crate) comments: Vec<Spanned<String>>,
    /// Where each physical line's part starts: in `text`, and in the source.
    segments: Vec<(usize, usize)>,
}

impl LogicalLine {
    /// Joins `first` and the lines it continues on (R-LEX-5..10).
    pub(crate) fn read(
        first: PhysicalLine<'_>,
        lines: &mut PhysicalLines<'_>,
        escape: Escape,
    ) -> LogicalLine {
        let mut logical = LogicalLine {
            span: first.visible_span(),
            last: first.visible_span(),
            ..LogicalLine::default()
        };
        let trimmed = first.text.trim_start();
        let mut continues = logical.append(
            trimmed,
            first.start + first.text.len() - trimmed.len(),
            escape,
        );
        while continues {
            let Some(line) = lines.next() else { break };
            logical.last = line.visible_span();
            if line.is_comment() {
                let text = line.text.trim().to_owned();
                logical
                    .comments
                    .push(Spanned::new(text, line.visible_span()));
                continue;
            }
            if line.is_blank() {
                logical.empty_continuation = true;
                continue;
            }
            logical.span.end = logical.last.end;
            continues = logical.append(line.text, line.start, escape);
        }
        logical
    }

    /// A line that stands for all of `text`, placed at its start.
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> LogicalLine {
        let mut lines = PhysicalLines::new(text);
        let first = lines.next().expect("tests give some text");
        LogicalLine::read(first, &mut lines, Escape::Backslash)
    }

    fn append(&mut self, part: &str, start: usize, escape: Escape) -> bool {
        self.segments.push((self.text.len(), start));
        let continued = before_continuation(part, escape);
        self.text.push_str(continued.unwrap_or(part));
        continued.is_some()
    }

    /// Where a byte range of `text` stands in the source, continuations between its ends included.
    pub(crate) fn span_of(&self, start: usize, end: usize) -> Span {
        let from = self.source_offset(start);
        if end <= start {
            Span::new(from, from)
        } else {
            Span::new(from, self.source_offset(end - 1) + 1)
        }
    }

    /// A part of `text` with all that follows it. `part` must be a slice of `text`.
    pub(crate) fn from(&self, part: &str) -> &str {
        let start = part.as_ptr().addr().checked_sub(self.text.as_ptr().addr());
        debug_assert!(start.is_some(), "`{part}` is not a slice of the line");
        start
            .and_then(|start| self.text.get(start..))
            .unwrap_or(&self.text)
    }

    /// Where a part of `text` stands in the source. `part` must be a slice of `text`.
    pub(crate) fn place(&self, part: &str) -> Span {
        let offset = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize);
        let start = offset.filter(|start| start + part.len() <= self.text.len());
        debug_assert!(start.is_some(), "`{part}` is not a slice of the line");
        start.map_or(self.span, |start| self.span_of(start, start + part.len()))
    }

    /// A value made from a slice of `text`, with its place.
    pub(crate) fn spanned<T>(&self, part: &str, value: T) -> Spanned<T> {
        Spanned::new(value, self.place(part))
    }

    /// The stretches of a part of `text` that are unbroken in the source: where each starts in the part, and in the source. `part` must
    /// be a slice of `text`.
    pub(crate) fn stretches(&self, part: &str) -> impl Iterator<Item = (usize, usize)> {
        let start = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let end = start + part.len();
        let first = self.segments.partition_point(|(at, _)| *at <= start);
        let later = self.segments[first..]
            .iter()
            .take_while(move |(at, _)| *at < end)
            .map(move |(at, source)| (at - start, *source));
        let here = (start < end).then(|| (0, self.source_offset(start)));
        here.into_iter().chain(later)
    }

    fn source_offset(&self, offset: usize) -> usize {
        let index = self
            .segments
            .partition_point(|(start, _)| *start <= offset)
            .saturating_sub(1);
        let (start, source) = self.segments.get(index).copied().unwrap_or_default();
        source + (offset - start)
    }
}

/// The text before a continuation: exactly one escape character, then only blanks, at the end of the line (R-LEX-8, R-LEX-9).
fn before_continuation(line: &str, escape: Escape) -> Option<&str> {
    let text = line
        .trim_end_matches([' ', '\t'])
        .strip_suffix(escape.char())?;
    (!text.ends_with(escape.char())).then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[track_caller]
    fn joined(text: &str, expected: &str) {
        assert_eq!(LogicalLine::of(text).text, expected);
    }

    #[test]
    fn continuations_join_with_nothing_between() {
        // The table of section 1.1.
        joined("RUN echo a \\\n# note\n  b", "RUN echo a   b");
        joined("RUN a \\\t \n b", "RUN a  b");
        joined("RUN a \\\\\nRUN b", "RUN a \\\\");
        joined("RUN a \\\n\nb", "RUN a b");
        joined("RUN echo \"c\\\n    d\"", "RUN echo \"c    d\"");
        joined("RUN a \\", "RUN a "); // R-LEX-10
        joined("RUN a \\\\\\\nb", "RUN a \\\\\\"); // R-LEX-9
        joined("RUN a \\\r\n b\r\n", "RUN a  b"); // R-LEX-3
    }

    #[test]
    fn places_lead_back_to_the_source() {
        let source = "  RUN a \\\n# note\n  bcd \\\n ef";
        let line = LogicalLine::of(source);
        let at = line.text.find("bcd").unwrap();
        let span = line.place(&line.text[at..at + 3]);
        assert_eq!(&source[span.range()], "bcd");
        let span = line.place(&line.text[at..]);
        assert_eq!(&source[span.range()], "bcd \\\n ef");
        assert_eq!(&source[line.span.range()], source.trim_start());
    }
}
