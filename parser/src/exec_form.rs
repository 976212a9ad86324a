//! The exec form: a JSON array of strings (R-JSON).

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while_m_n, take_while1};
use nom::character::complete::{char, digit1, one_of};
use nom::combinator::{map, map_opt, opt, recognize, value, verify};
use nom::multi::{fold_many0, separated_list0};
use nom::sequence::{delimited, preceded, separated_pair};
use nom::{IResult, Parser};

/// How deep arrays and objects may nest before the text no longer counts as JSON.
const DEEPEST: usize = 64;

/// What a text is that might be an exec form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExecForm<'a> {
    /// An array of strings: each as written, and what it stands for.
    Strings(Vec<(&'a str, String)>),
    /// An array with other things in it (R-JSON-2).
    NotStrings,
    /// Ordinary text (R-JSON-3).
    No,
}

/// Reads a text that is an exec form as a whole.
pub(crate) fn exec_form(text: &str) -> ExecForm<'_> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return ExecForm::No;
    }
    match delimited(space, |text| array(text, 0), space).parse(text) {
        Ok(("", elements)) => match elements.into_iter().collect() {
            Some(strings) => ExecForm::Strings(strings),
            None => ExecForm::NotStrings,
        },
        _ => ExecForm::No,
    }
}

/// A string as written and what it stands for; `None` for any other value.
pub(crate) type Element<'a> = Option<(&'a str, String)>;

/// `space = *( " " | tab | LF | CR )`
fn space(text: &str) -> IResult<&str, &str> {
    take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r')).parse(text)
}

/// `array = "[" [ element *( "," element ) ] "]"`
fn array(text: &str, depth: usize) -> IResult<&str, Vec<Element<'_>>> {
    if depth > DEEPEST {
        return Err(nom::Err::Failure(nom::error::Error::new(
            text,
            nom::error::ErrorKind::TooLarge,
        )));
    }
    let elements = separated_list0(char(','), |text| element(text, depth));
    delimited(char('['), elements, preceded(space, char(']'))).parse(text)
}

/// `element = space ( string | array | object | number | "true" | "false" | "null" ) space`
fn element(text: &str, depth: usize) -> IResult<&str, Element<'_>> {
    let other = alt((
        value((), |text| array(text, depth + 1)),
        value((), |text| members(text, depth + 1)),
        value((), number),
        value((), alt((tag("true"), tag("false"), tag("null")))),
    ));
    let string = |text| {
        string(text)
            .map(|(rest, value): (&str, String)| (rest, (&text[..text.len() - rest.len()], value)))
    };
    delimited(
        space,
        alt((map(string, Some), map(other, |()| None))),
        space,
    )
    .parse(text)
}

/// A member of an object: its name, and its value when that is a string.
pub(crate) type Member<'a> = (String, Element<'a>);

/// Reads a text that is a JSON object as a whole.
pub(crate) fn object(text: &str) -> Option<Vec<Member<'_>>> {
    let text = text.trim_start();
    if !text.starts_with('{') {
        return None;
    }
    let (rest, members) = members(text, 0).ok()?;
    rest.trim_start().is_empty().then_some(members)
}

/// `object = "{" [ member *( "," member ) ] "}"`, `member = space string space ":" element`
fn members(text: &str, depth: usize) -> IResult<&str, Vec<Member<'_>>> {
    let name = delimited(space, string, space);
    let member = separated_pair(name, char(':'), |text| element(text, depth));
    let members = separated_list0(char(','), member);
    delimited(char('{'), members, preceded(space, char('}'))).parse(text)
}

/// `number = [ "-" ] ( "0" | nonzero *digit ) [ "." 1*digit ] [ ( "e" | "E" ) [ "+" | "-" ] 1*digit ]`
fn number(text: &str) -> IResult<&str, &str> {
    let whole = alt((
        tag("0"),
        recognize((
            one_of("123456789"),
            take_while(|c: char| c.is_ascii_digit()),
        )),
    ));
    let fraction = opt((char('.'), digit1));
    let exponent = opt((one_of("eE"), opt(one_of("+-")), digit1));
    let number = recognize((opt(char('-')), whole, fraction, exponent));
    // What no 64-bit float can hold is no number to Go.
    verify(number, |number: &str| {
        number.parse().is_ok_and(f64::is_finite)
    })
    .parse(text)
}

/// `string = '"' *( plain | escape ) '"'`, `plain` being anything but `"`, `\` and control characters
fn string(text: &str) -> IResult<&str, String> {
    let plain = take_while1(|c| c != '"' && c != '\\' && c >= ' ');
    let piece = alt((map(plain, str::to_owned), map(escape, String::from)));
    let pieces = fold_many0(piece, String::new, |mut text: String, piece| {
        text.push_str(&piece);
        text
    });
    delimited(char('"'), pieces, char('"')).parse(text)
}

/// `escape = "\" ( one of "\/bfnrt | "u" 4 hex )`; half a surrogate pair stands for U+FFFD, as in Go (R-JSON-5)
fn escape(text: &str) -> IResult<&str, char> {
    let short = map(one_of("\"\\/bfnrt"), |letter| match letter {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        other => other,
    });
    alt((
        preceded(char('\\'), short),
        surrogates,
        map(unit, |unit| char::from_u32(unit).unwrap_or('\u{FFFD}')),
    ))
    .parse(text)
}

/// `surrogates = unit unit`, a high and a low one
fn surrogates(text: &str) -> IResult<&str, char> {
    let pair = |(high, low): (u32, u32)| {
        let is_pair = (0xD800..0xDC00).contains(&high) && (0xDC00..0xE000).contains(&low);
        is_pair
            .then(|| 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
            .and_then(char::from_u32)
    };
    map_opt((unit, unit), pair).parse(text)
}

/// `unit = "\u" 4 hex`
fn unit(text: &str) -> IResult<&str, u32> {
    let hex = take_while_m_n(4, 4, |c: char| c.is_ascii_hexdigit());
    map_opt(preceded(tag("\\u"), hex), |digits| {
        u32::from_str_radix(digits, 16).ok()
    })
    .parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn strings(text: &str, expected: &[&str]) {
        let ExecForm::Strings(strings) = exec_form(text) else {
            panic!("{text} is {:?}", exec_form(text))
        };
        assert_eq!(
            strings
                .iter()
                .map(|(_, value)| value.as_str())
                .collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn arrays_of_strings_are_exec_form() {
        // The table of section 1.3.
        strings(r#"["a","b\n"]"#, &["a", "b\n"]);
        strings(r#" [ "a b" , "/c d/" ] "#, &["a b", "/c d/"]);
        strings("[]", &[]);
        strings("[ ]", &[]);
        strings(r#"["\u00e9\ud83d\ude00\ud800x\/"]"#, &["é😀\u{FFFD}x/"]);
    }

    #[test]
    fn other_json_is_an_error_and_anything_else_is_text() {
        for other in [
            "[1]",
            "[\"a\", null]",
            "[{}]",
            "[[\"a\"]]",
            "[true]",
            "[-1.5e3]",
            "[{\"a\": [1, {}]}]",
        ] {
            assert_eq!(exec_form(other), ExecForm::NotStrings, "{other}"); // R-JSON-2
        }
        for text in [
            "[\"a\", 'b']",
            "[\"a\"] x",
            "[\"a\",]",
            "[\"a\" \"b\"]",
            "[\"/a\"",
            "x",
            "",
            "[01]",
            "[\"\t\"]",
            "[\"\\x\"]",
        ] {
            assert_eq!(exec_form(text), ExecForm::No, "{text}"); // R-JSON-3
        }
        assert_eq!(exec_form(&"[".repeat(100_000)), ExecForm::No);
    }
}
