//! Here-documents (R-HD): the words that open them and the bodies they hold.

use std::borrow::Cow;

use nom::bytes::complete::{tag, take_while};
use nom::character::complete::{char, digit0, space0};
use nom::combinator::opt;
use nom::{IResult, Parser};

use crate::lines::PhysicalLines;
use crate::word::{self, ExpandError, Expanded, Variables, shell_words};
use crate::{Escape, Span};

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
    pub fn content(&self) -> Cow<'_, str> {
        if !self.chomp {
            return Cow::Borrowed(&self.body);
        }
        self.body
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect::<String>()
            .into()
    }

    /// The content with variables put in, as COPY and ADD write it (R-HD-15). Unchanged when the name was quoted.
    pub fn expand_body(&self, vars: &dyn Variables) -> Result<String, ExpandError> {
        self.expand_body_traced(vars).map(|expanded| expanded.text)
    }

    /// As [`expand_body`](Heredoc::expand_body), and which variables were used.
    pub fn expand_body_traced(&self, vars: &dyn Variables) -> Result<Expanded, ExpandError> {
        if self.expand {
            word::expand(&self.content(), Escape::Backslash, false, vars)
        } else {
            Ok(Expanded {
                text: self.content().into_owned(),
                ..Expanded::default()
            })
        }
    }
}

/// A word that opens a heredoc, before its body is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) name: String,
    pub(crate) expand: bool,
    pub(crate) chomp: bool,
    pub(crate) fd: Option<u32>,
}

/// The heredocs that a text opens, in order, with the words themselves (R-HD-2). None when its quotes are unbalanced (R-HD-3).
pub(crate) fn openings(text: &str) -> Vec<(&str, Opening)> {
    if !text.contains("<<") {
        return Vec::new();
    }
    let words = shell_words(text).unwrap_or_default();
    words
        .into_iter()
        .filter_map(|word| Some((word, opening(word)?)))
        .collect()
}

/// Reads a shell word as a heredoc word; `None` when it is another word.
pub(crate) fn opening(word: &str) -> Option<Opening> {
    let (_, (fd, chomp, written)) = heredoc_word(word).ok()?;
    let (name, quoted) = unquoted(written)?;
    Some(Opening {
        name,
        expand: !quoted,
        chomp,
        fd,
    })
}

/// `heredoc-word = *digit "<<" [ "-" ] *blank name`, the name free of `<` and not empty
fn heredoc_word(text: &str) -> IResult<&str, (Option<u32>, bool, &str)> {
    let (rest, (fd, _, dash, _, name)) = (
        digit0,
        tag("<<"),
        opt(char('-')),
        space0,
        take_while(|c| c != '<'),
    )
        .parse(text)?;
    if name.is_empty() || !rest.is_empty() {
        return Err(nom::Err::Error(nom::error::Error::new(
            rest,
            nom::error::ErrorKind::Verify,
        )));
    }
    Ok((rest, (fd.parse().ok(), dash.is_some(), name)))
}

/// A name without its quotes and backslashes, and whether it had quotes (R-HD-4). `None` when it is not exactly one word.
fn unquoted(written: &str) -> Option<(String, bool)> {
    let (mut name, mut quoted, mut open) = (String::new(), false, None);
    let mut characters = written.chars().peekable();
    while let Some(character) = characters.next() {
        match (open, character) {
            (Some(quote), _) if quote == character => open = None,
            (None, '\'' | '"') => (open, quoted) = (Some(character), true),
            (None, '\\') => name.extend(characters.next()),
            (Some('"'), '\\') => name.push(
                characters
                    .next_if(|next| matches!(next, '"' | '$' | '\\'))
                    .unwrap_or('\\'),
            ),
            (None, blank) if blank.is_whitespace() => return None,
            (_, other) => name.push(other),
        }
    }
    (open.is_none() && !name.is_empty()).then_some((name, quoted))
}

/// Reads the body of a heredoc up to its terminator (R-HD-6, R-HD-7): the body, and where the terminator ends. `Err` holds what there
/// was when the file ended first.
pub(crate) fn body(
    opening: &Opening,
    lines: &mut PhysicalLines<'_>,
) -> Result<(String, usize), String> {
    let mut body = String::new();
    for line in lines {
        let candidate = if opening.chomp {
            line.text.trim_start_matches('\t')
        } else {
            line.text
        };
        if candidate == opening.name {
            return Ok((body, line.start + line.text.len()));
        }
        body.push_str(line.raw);
    }
    Err(body)
}

impl Opening {
    /// The heredoc, once its body is known.
    pub(crate) fn into_heredoc(self, span: Span, body: String) -> Heredoc {
        let Opening {
            name,
            expand,
            chomp,
            fd,
        } = self;
        Heredoc {
            name,
            expand,
            chomp,
            fd,
            body,
            span,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashMap;

    fn names(text: &str) -> Vec<String> {
        openings(text)
            .into_iter()
            .map(|(_, opening)| opening.name)
            .collect()
    }

    #[test]
    fn which_words_open_a_heredoc() {
        // R-HD-2, R-HD-3
        assert_eq!(names("cat << EOF"), ["EOF"]);
        assert_eq!(names("cat 3<<-E <<B"), ["E", "B"]);
        for none in [
            "a<<b",
            "<<<x",
            "\"<<X\"",
            "\\<<X",
            "$((1<<2))",
            "<<",
            "it's <<E",
            "${A:-x <<E}",
            "\"${A:-<<E}\"",
            "<<E ${A^^}",
            "<<E ${A",
            "<<- E",
        ] {
            assert_eq!(names(none), [""; 0], "{none}");
        }
        assert_eq!(names("$((1 << 2))"), ["2))"]);
        assert_eq!(names("cat <<A; echo"), ["A;"]);
        assert_eq!(names("<<A|cat"), ["A|cat"]);
        assert_eq!(names("echo x # <<A"), ["A"]);
    }

    #[test]
    fn quotes_in_the_name_make_the_body_literal() {
        // R-HD-4
        let read = |word: &str| opening(word).map(|opening| (opening.name, opening.expand));
        assert_eq!(read("<<'E F'"), Some(("E F".to_owned(), false)));
        assert_eq!(read("<<E\"O\"F"), Some(("EOF".to_owned(), false)));
        assert_eq!(read("<<\\EOF"), Some(("EOF".to_owned(), true)));
        assert_eq!(read("<<'$X'"), Some(("$X".to_owned(), false)));
        assert_eq!(read("<<$X"), Some(("$X".to_owned(), true)));
    }

    fn heredoc(body: &str, expand: bool, chomp: bool) -> Heredoc {
        Heredoc {
            name: "F".into(),
            expand,
            chomp,
            fd: None,
            body: body.into(),
            span: Span::default(),
        }
    }

    #[test]
    fn bodies_are_expanded_without_regard_to_quotes() {
        // R-HD-15 and the table of section 1.5
        let vars = HashMap::from([("V".to_owned(), "val".to_owned())]);
        let body = "$V \\$V \"x\" '$V' $(c) \\n \\\\\n";
        assert_eq!(
            heredoc(body, true, false).expand_body(&vars).unwrap(),
            "val $V \"x\" 'val' $(c) n \\\n"
        );
        assert_eq!(
            heredoc("$V", false, false).expand_body(&vars).unwrap(),
            "$V"
        );
        assert_eq!(
            heredoc("a\\\nb", true, false).expand_body(&vars).unwrap(),
            "a\nb"
        );
        assert_eq!(
            heredoc("\t\ta\n\t b\n", true, true)
                .expand_body(&vars)
                .unwrap(),
            "a\n b\n"
        ); // R-HD-5
        assert!(heredoc("${X:?m}", true, false).expand_body(&vars).is_err());
    }
}
