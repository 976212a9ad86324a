//! Go's `filepath.Match`, which COPY and ADD use for wildcards (R-COPY-7), and `filepath.Clean`.

use nom::branch::alt;
use nom::character::complete::{anychar, char, none_of};
use nom::combinator::{map, opt, value};
use nom::multi::{many0, many1};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

use crate::pattern::{self, Class, Token, Wild};

/// A pattern that Go refuses: an unterminated or empty `[`, or a trailing `\`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// A pattern that was read, for more than one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<Token>);

impl Pattern {
    /// `*` and `?` never match a `/`.
    pub fn new(pattern: &str) -> Result<Self, BadPattern> {
        tokens(pattern).map(Self)
    }

    /// Whether it matches the whole of a name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        pattern::matches(&self.0, name)
    }
}

/// Whether `pattern` matches the whole of `name`. `*` and `?` never match a `/`.
pub fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    Ok(Pattern::new(pattern)?.matches(name))
}

/// Whether a pattern is one that Go accepts.
pub(crate) fn validate(pattern: &str) -> Result<(), BadPattern> {
    Pattern::new(pattern).map(drop)
}

/// Whether a path component is a pattern at all: it has one of `*`, `?`, `[`, `\`.
#[must_use]
pub fn has_meta(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// `pattern = *( "*" | "?" | class | "\" any | any )`
fn tokens(text: &str) -> Result<Vec<Token>, BadPattern> {
    let any = none_of::<_, _, nom::error::Error<&str>>("[\\");
    let token = alt((
        value(Token::Many(Wild::NotSlash), char('*')),
        value(Token::One(Wild::NotSlash), char('?')),
        map(class, Token::Class),
        map(preceded(char('\\'), anychar), Token::Char),
        map(any, Token::Char),
    ));
    match many0(token).parse(text) {
        Ok(("", tokens)) => Ok(tokens),
        _ => Err(BadPattern),
    }
}

/// `class = "[" [ "^" ] 1*range "]"`
fn class(text: &str) -> IResult<&str, Class> {
    let inner = (map(opt(char('^')), |caret| caret.is_some()), many1(range));
    delimited(
        char('['),
        map(inner, |(negated, ranges)| Class { negated, ranges }),
        char(']'),
    )
    .parse(text)
}

/// `range = member [ "-" member ]`
fn range(text: &str) -> IResult<&str, (char, char)> {
    let (rest, low) = member(text)?;
    let (rest, high) = opt(preceded(char('-'), member)).parse(rest)?;
    match high {
        None if rest.starts_with('-') => Err(nom::Err::Failure(nom::error::Error::new(
            rest,
            nom::error::ErrorKind::Char,
        ))),
        None => Ok((rest, (low, low))),
        Some(high) => Ok((rest, (low, high))),
    }
}

/// `member = "\" any | any but "-" and "]"`
fn member(text: &str) -> IResult<&str, char> {
    alt((preceded(char('\\'), anychar), none_of("\\-]"))).parse(text)
}

/// Go's `filepath.Clean`: the shortest path that means the same, without looking at any file.
#[must_use]
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => drop(kept.pop()),
            ".." if rooted => {}
            other => kept.push(other),
        }
    }
    let joined = kept.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_go_does() {
        // R-COPY-7
        let cases = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("*", ".hidden", true),
            ("a?c", "a/c", false),
            ("[!x]", "!", true),
            ("[!x]", "y", false),
            ("[^x]", "y", true),
            ("[a-c]x", "bx", true),
            ("a\\*b", "a*b", true),
            ("a[\\]]b", "a]b", true),
            ("[[]x", "[x", true),
            ("*[^x]*c", "a/bc", true),
            ("[z-a]", "m", false),
            ("", "", true),
            ("*é", "caf\u{e9}", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), Ok(expected), "{pattern} on {name}");
        }
        for bad in [
            "[", "[]", "[a", "[-]", "[x-]", "[-x]", "[a-b-c]", "a\\", "[]a]", "[^]",
        ] {
            assert_eq!(matches(bad, "x"), Err(BadPattern), "{bad}");
        }
    }

    #[test]
    fn cleans_as_go_does() {
        let cases = [
            ("./x", "x"),
            ("a/", "a"),
            ("a/../b", "b"),
            ("//", "/"),
            ("", "."),
            ("../../x", "../../x"),
            ("/../x", "/x"),
            ("a//b/./c", "a/b/c"),
        ];
        for (path, expected) in cases {
            assert_eq!(clean(path), expected);
        }
    }
}
