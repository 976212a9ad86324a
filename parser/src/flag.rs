//! Flags: the `--name[=value]` words before an instruction's arguments (R-FLAG).

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while1};
use nom::character::complete::{anychar, char, one_of};
use nom::combinator::{opt, peek, recognize};
use nom::{IResult, Parser};

use crate::arguments::is_blank;
use crate::lines::LogicalLine;
use crate::{Diagnostic, Escape, Span, Spanned, code, suggest};

/// What may follow a flag's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, `=true` or `=false`.
    Switch,
    /// `=value`, once.
    Value,
    /// `=value`, as often as wanted.
    List,
}

/// The flags an instruction has.
pub(crate) type Known = [(&'static str, Takes)];

/// Text with quotes and escapes taken out, and where each of its bytes came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Cooked {
    pub(crate) text: String,
    /// The stretches that stand in the source as they are here: where each starts in `text`, and in the source.
    stretches: Vec<(usize, usize)>,
    /// Just after the last byte in the source, closing quote included.
    end: usize,
}

impl Cooked {
    /// Adds a slice of the line.
    fn push(&mut self, line: &LogicalLine, part: &str) {
        let before = self.text.len();
        let stretches = line.stretches(part);
        self.stretches
            .extend(stretches.map(|(at, source)| (before + at, source)));
        self.text.push_str(part);
    }

    fn source_offset(&self, offset: usize) -> usize {
        let after = self.stretches.partition_point(|(at, _)| *at <= offset);
        match after.checked_sub(1).map(|index| self.stretches[index]) {
            Some((at, source)) if offset < self.text.len() => source + (offset - at),
            _ => self.end,
        }
    }

    /// Where a byte range of the text stands in the source.
    pub(crate) fn span_of(&self, start: usize, end: usize) -> Span {
        let from = self.source_offset(start);
        match end.checked_sub(1).filter(|last| *last >= start) {
            Some(last) if end <= self.text.len() => Span::new(from, self.source_offset(last) + 1),
            _ => Span::new(from, from),
        }
    }

    fn split_off(&mut self, at: usize) -> Cooked {
        let (start, end) = (self.source_offset(at), self.end);
        let text = self.text.split_off(at);
        let first = self.stretches.partition_point(|(from, _)| *from <= at);
        let later = self.stretches.split_off(first);
        let later = later.into_iter().map(|(from, source)| (from - at, source));
        let stretches = std::iter::once((0, start)).chain(later).collect();
        self.end = start;
        Cooked {
            text,
            stretches,
            end,
        }
    }
}

/// One flag as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flag {
    /// The name without `--`.
    name: String,
    /// `--name`.
    name_span: Span,
    /// What follows `=`.
    value: Option<Cooked>,
    /// Where the value stands, quotes included.
    value_span: Span,
    /// All of it.
    pub(crate) span: Span,
}

impl Flag {
    fn spanned_value(&self) -> Option<Spanned<String>> {
        let value = self.value.as_ref()?;
        Some(Spanned::new(value.text.clone(), self.value_span))
    }
}

/// Takes the flags off the front of an argument text: the flags, and what follows them (R-FLAG-1).
pub(crate) fn split<'a>(line: &LogicalLine, text: &'a str, escape: Escape) -> (Vec<Flag>, &'a str) {
    let mut flags = Vec::new();
    // Other blanks than ASCII's end the flags, like any other character.
    let mut rest = text.trim_start_matches(is_blank);
    while let Ok((after, word)) = flag_word(rest, escape) {
        rest = after.trim_start_matches(is_blank);
        let flag = read(line, word, escape);
        if flag.name.is_empty() && flag.value.is_none() {
            break;
        }
        flags.push(flag);
    }
    (flags, rest.trim())
}

/// `flag-word = "--" *( quoted | escape any | any-but-space )`
fn flag_word(text: &str, escape: Escape) -> IResult<&str, &str> {
    let special = move |c: char| c.is_whitespace() || matches!(c, '\'' | '"') || c == escape.char();
    let mut rest = text;
    (rest, _) = peek(tag("--")).parse(rest)?;
    while rest.chars().next().is_some_and(|c| !c.is_whitespace()) {
        (rest, _) = alt((
            |text| quoted(text, escape),
            recognize((char(escape.char()), opt(anychar))),
            take_while1(|c| !special(c)),
        ))
        .parse(rest)?;
    }
    Ok((rest, &text[..text.len() - rest.len()]))
}

/// `quoted = quote *( escape any | any-but-the-quote ) [ quote ]`; at the end of the line the closing quote may be missing
fn quoted(text: &str, escape: Escape) -> IResult<&str, &str> {
    let (mut rest, quote) = one_of("'\"").parse(text)?;
    loop {
        (rest, _) = take_while(|c| c != quote && c != escape.char()).parse(rest)?;
        match rest.chars().next() {
            Some(c) if c == quote => return Ok((&rest[1..], &text[..text.len() - rest.len() + 1])),
            Some(_) => (rest, _) = recognize((anychar, opt(anychar))).parse(rest)?,
            None => return Ok((rest, text)),
        }
    }
}

/// Takes quotes and escapes out of a flag word and splits it at its first `=` (R-FLAG-2).
fn read(line: &LogicalLine, word: &str, escape: Escape) -> Flag {
    let mut cooked = Cooked::default();
    let (mut open, mut run) = (None, 0);
    let mut characters = word.char_indices();
    while let Some((at, character)) = characters.next() {
        let quote = match open {
            Some(quote) => quote == character,
            None => matches!(character, '\'' | '"'),
        };
        if !quote && character != escape.char() {
            continue;
        }
        cooked.push(line, &word[run..at]);
        run = at + character.len_utf8();
        if quote {
            open = open.is_none().then_some(character);
        } else {
            // Whatever it is, it stands for itself.
            characters.next();
        }
    }
    cooked.push(line, &word[run..]);
    let span = line.place(word);
    cooked.end = span.end;
    named(cooked, span)
}

fn named(mut cooked: Cooked, span: Span) -> Flag {
    let mut value_span = Span::new(span.end, span.end);
    let value = cooked.text.find('=').map(|equals| {
        value_span.start = cooked.span_of(equals, equals + 1).end;
        let mut value = cooked.split_off(equals);
        value.split_off(1)
    });
    let name_span = cooked.span_of(0, cooked.text.len());
    let name = cooked
        .text
        .strip_prefix("--")
        .unwrap_or(&cooked.text)
        .to_owned();
    Flag {
        name,
        name_span,
        value,
        value_span,
        span,
    }
}

/// The flags of an instruction, checked against those it has.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    flags: Vec<Flag>,
}

impl Flags {
    /// Keeps the flags that are right; the others become diagnostics (R-FLAG-3..7).
    pub(crate) fn check(
        flags: Vec<Flag>,
        known: &Known,
        keyword: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Flags {
        let mut kept = Flags::default();
        for flag in flags {
            match kept.fault(&flag, known, keyword) {
                None => kept.flags.push(flag),
                Some(diagnostic) => diagnostics.push(diagnostic),
            }
        }
        kept
    }

    /// What is wrong with a flag, given those before it.
    fn fault(&self, flag: &Flag, known: &Known, keyword: &str) -> Option<Diagnostic> {
        let name = &flag.name;
        let Some((_, takes)) = known.iter().find(|(known, _)| known == name) else {
            return Some(unknown(flag, known, keyword));
        };
        let twice = *takes != Takes::List && self.last(name).is_some();
        let (code, message) = match (takes, flag.value.as_ref().map(|value| value.text.as_str())) {
            _ if twice => (
                code::DUPLICATE_FLAG,
                format!("flag `--{name}` is given twice"),
            ),
            (Takes::Switch, Some("")) | (Takes::Value | Takes::List, None) => (
                code::FLAG_WITHOUT_VALUE,
                format!("flag `--{name}` needs a value"),
            ),
            (Takes::Switch, Some(value)) if boolean(value).is_none() => (
                code::FLAG_NOT_BOOLEAN,
                format!("flag `--{name}` is either true or false, not `{value}`"),
            ),
            _ => return None,
        };
        Some(Diagnostic::error(code, message, flag.name_span))
    }

    fn last(&self, name: &str) -> Option<&Flag> {
        self.flags.iter().rev().find(|flag| flag.name == name)
    }

    /// A switch; `None` when not given.
    pub(crate) fn switch(&self, name: &str) -> Option<bool> {
        let flag = self.last(name)?;
        Some(
            flag.value
                .as_ref()
                .is_none_or(|value| boolean(&value.text) == Some(true)),
        )
    }

    /// A value, placed without its `--name=`.
    pub(crate) fn value(&self, name: &str) -> Option<Spanned<String>> {
        self.last(name).and_then(Flag::spanned_value)
    }

    /// All values of a list flag.
    pub(crate) fn list(&self, name: &str) -> Vec<Spanned<String>> {
        self.flags
            .iter()
            .filter(|flag| flag.name == name)
            .filter_map(Flag::spanned_value)
            .collect()
    }

    /// All values of a list flag with the way back to the source, and the place of each whole flag.
    pub(crate) fn cooked(&self, name: &str) -> impl Iterator<Item = (&Cooked, Span)> {
        let flags = self.flags.iter().filter(move |flag| flag.name == name);
        flags.filter_map(|flag| Some((flag.value.as_ref()?, flag.span)))
    }
}

fn boolean(value: &str) -> Option<bool> {
    let is = |word: &str| value.eq_ignore_ascii_case(word);
    if is("true") {
        Some(true)
    } else {
        is("false").then_some(false)
    }
}

fn unknown(flag: &Flag, known: &Known, keyword: &str) -> Diagnostic {
    let name = &flag.name;
    let near = suggest(name, known.iter().map(|(known, _)| *known)).map(|near| format!("--{near}"));
    let message = format!("unknown flag `--{name}` for {keyword}");
    let diagnostic =
        Diagnostic::error(code::UNKNOWN_FLAG, message, flag.name_span).did_you_mean(near);
    if known.is_empty() {
        diagnostic.note(format!("{keyword} has no flags"))
    } else {
        diagnostic
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KNOWN: &Known = &[
        ("from", Takes::Value),
        ("link", Takes::Switch),
        ("exclude", Takes::List),
    ];

    fn flags(text: &str) -> (Flags, Vec<String>, String) {
        let line = LogicalLine::of(text);
        let (words, rest) = split(&line, &line.text, Escape::Backslash);
        let mut diagnostics = Vec::new();
        let flags = Flags::check(words, KNOWN, "COPY", &mut diagnostics);
        (
            flags,
            diagnostics
                .into_iter()
                .map(|diagnostic| diagnostic.message)
                .collect(),
            rest.to_owned(),
        )
    }

    #[test]
    fn quotes_and_escapes_group() {
        // R-FLAG-2
        for (text, value) in [
            ("--from=\"1:2\" x", "1:2"),
            ("--from='x y' x", "x y"),
            ("--from=a\\ b x", "a b"),
            ("--from= x", ""),
        ] {
            let (flags, errors, rest) = flags(text);
            assert_eq!(
                (
                    flags.value("from").unwrap().value.as_str(),
                    errors.len(),
                    rest.as_str()
                ),
                (value, 0, "x")
            );
        }
    }

    #[test]
    fn flags_end_at_the_first_other_word() {
        // R-FLAG-1
        assert_eq!(flags("-- --from=x").2, "--from=x");
        assert_eq!(flags("--").2, "");
        assert_eq!(flags("--'' --from=x").2, "--from=x");
        assert_eq!(flags("a --from=x").2, "a --from=x");
        assert_eq!(
            flags("--exclude=a --exclude=b z").0.list("exclude").len(),
            2
        ); // R-FLAG-5
    }

    #[test]
    fn wrong_flags_are_told() {
        // R-FLAG-3..6
        assert_eq!(
            flags("--link=TRUE --link").1,
            ["flag `--link` is given twice"]
        );
        assert_eq!(flags("--link=").1, ["flag `--link` needs a value"]);
        assert_eq!(
            flags("--link=1").1,
            ["flag `--link` is either true or false, not `1`"]
        );
        assert_eq!(flags("--from x").1, ["flag `--from` needs a value"]);
        assert_eq!(flags("--form=x").1, ["unknown flag `--form` for COPY"]);
    }

    #[test]
    fn places_are_those_of_the_source() {
        let text = "--from='a\\\nb' x";
        let value = flags(text).0.value("from").unwrap();
        assert_eq!(
            (value.value.as_str(), &text[value.span.range()]),
            ("ab", "'a\\\nb'")
        );
    }
}
