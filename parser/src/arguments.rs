//! The two ways an argument text falls into words.

use nom::branch::alt;
use nom::bytes::complete::{take_till, take_till1, take_while, take_while1};
use nom::character::complete::{anychar, char};
use nom::combinator::{opt, recognize};
use nom::multi::{many0, many0_count, many1_count};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

use crate::Escape;

/// The blanks that separate keywords and plain arguments: ASCII only (R-LEX-11).
pub(crate) fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Words separated by blanks; quotes mean nothing here (R-JSON-1).
pub(crate) fn plain_words(text: &str) -> Vec<&str> {
    all(many0(preceded(take_while(is_blank), take_till1(is_blank))).parse(text))
}

/// `split = word *blank rest`: the first word, and the rest if there is a blank.
pub(crate) fn first_word(text: &str) -> (&str, Option<&str>) {
    let split: IResult<&str, _> = (
        take_till(is_blank),
        opt(preceded(take_while1(is_blank), nom::combinator::rest)),
    )
        .parse(text);
    split.map_or((text, None), |(_, parts)| parts)
}

/// `words = *( *space word )`, quotes and escapes kept in the words (R-ENV-2)
pub(crate) fn quoted_words(text: &str, escape: Escape) -> Vec<&str> {
    let word = |text| quoted_word(text, escape.char());
    all(terminated(
        many0(preceded(take_while(char::is_whitespace), word)),
        take_while(char::is_whitespace),
    )
    .parse(text))
}

/// `word = 1*( escape any | double | single | any-but-space )`; a quote that is never closed reaches to the end
fn quoted_word(text: &str, escape: char) -> IResult<&str, &str> {
    let ordinary = move |c: char| !c.is_whitespace() && c != '"' && c != '\'' && c != escape;
    let piece = alt((
        recognize((char(escape), opt(anychar))),
        |text| double(text, escape),
        recognize((char('\''), take_till(|c| c == '\''), opt(char('\'')))),
        take_while1(ordinary),
    ));
    recognize(many1_count(piece)).parse(text)
}

/// `double = '"' *( escape any | any-but-'"' ) [ '"' ]`
fn double(text: &str, escape: char) -> IResult<&str, &str> {
    let escaped = recognize((char(escape), opt(anychar)));
    let inner = many0_count(alt((
        escaped,
        take_while1(move |c| c != '"' && c != escape),
    )));
    recognize((char('"'), inner, opt(char('"')))).parse(text)
}

/// The result of a rule that takes any text.
fn all<'a>(result: IResult<&'a str, Vec<&'a str>>) -> Vec<&'a str> {
    result.map_or_else(|_| Vec::new(), |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_know_no_quotes() {
        assert_eq!(plain_words("a\\ b \t\"c d\" "), ["a\\", "b", "\"c", "d\""]);
        assert_eq!(plain_words("a\u{a0}b"), ["a\u{a0}b"]); // R-LEX-11
        assert_eq!(first_word("ENV"), ("ENV", None));
        assert_eq!(first_word("ENV  a b"), ("ENV", Some("a b")));
    }

    #[test]
    fn quoted_words_keep_their_quotes() {
        // R-ENV-2
        let words = |text| quoted_words(text, Escape::Backslash);
        assert_eq!(
            words("A=\"x y\" B=x\\ y C='$Q'"),
            ["A=\"x y\"", "B=x\\ y", "C='$Q'"]
        );
        assert_eq!(
            words("  a=\"\\\" b\" \\\" c"),
            ["a=\"\\\" b\"", "\\\"", "c"]
        );
        assert_eq!(words("a='x y"), ["a='x y"]);
        assert_eq!(words(" "), [""; 0]);
    }
}
