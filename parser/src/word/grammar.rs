//! The grammar of words: quotes, escapes and `${…}` (R-EXP-3..12), one nom function a rule.
//!
//! ```text
//! word         = *( single | double | dollar | escape any | any )
//! single       = "'" *any-but-"'" "'"
//! double       = '"' *( dollar | escape any | any-but-'"' ) '"'
//! dollar       = "$" ( "{" substitution "}" | name | nothing )
//! substitution = name [ ":" ( "-" | "+" | "?" ) word
//!                     | ( "-" | "+" | "?" | "#" | "##" | "%" | "%%" ) word
//!                     | ( "/" | "//" ) word "/" word ]
//! ```

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while, take_while1};
use nom::character::complete::{anychar, char, one_of};
use nom::combinator::{opt, recognize, success, value};
use nom::error::ParseError;
use nom::{IResult, Parser};

use crate::Escape;

/// How deep `${…}` and quotes may nest.
const DEEPEST: usize = 64;

/// A piece of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// Unquoted text: split at whitespace in word-list mode.
    Plain(String),
    /// Escaped characters: never split.
    Literal(String),
    /// A quoted run: never split.
    Quoted(Vec<Part>),
    /// A variable.
    Variable { name: String, change: Change },
}

/// What a substitution does with the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// `$v`, `${v}`
    None,
    /// `${v-w}`, `${v:-w}`
    Default { or_empty: bool, word: Vec<Part> },
    /// `${v+w}`, `${v:+w}`
    Alternative { or_empty: bool, word: Vec<Part> },
    /// `${v?m}`, `${v:?m}`
    Require { or_empty: bool, message: Vec<Part> },
    /// `${v#p}`, `${v##p}`
    TrimPrefix { longest: bool, pattern: Vec<Part> },
    /// `${v%p}`, `${v%%p}`
    TrimSuffix { longest: bool, pattern: Vec<Part> },
    /// `${v/p/r}`, `${v//p/r}`
    Replace {
        all: bool,
        pattern: Vec<Part>,
        with: Vec<Part>,
    },
}

/// What is wrong with a word's syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    Unbalanced(char),
    BadSubstitution,
    MissingBrace,
    MissingSlash,
    UnsupportedModifier(String),
    TooDeep,
    /// nom's own: another alternative is tried.
    Backtrack,
}

impl ParseError<&str> for Fault {
    fn from_error_kind(_: &str, _: nom::error::ErrorKind) -> Fault {
        Fault::Backtrack
    }

    fn append(_: &str, _: nom::error::ErrorKind, other: Fault) -> Fault {
        other
    }
}

type Parsed<'a, T> = IResult<&'a str, T, Fault>;

fn fail<'a, T>(fault: Fault) -> Parsed<'a, T> {
    Err(nom::Err::Failure(fault))
}

/// How a stretch of text is to be read.
#[derive(Debug, Clone, Copy)]
struct Mode {
    escape: char,
    /// Quotes group and are removed.
    quotes: bool,
    /// Escapes stay in the text: patterns interpret them themselves (R-EXP-10, R-EXP-11).
    keep_escapes: bool,
    depth: usize,
}

impl Mode {
    fn deeper(self) -> Mode {
        Mode {
            depth: self.depth + 1,
            ..self
        }
    }

    fn escapes(self, keep_escapes: bool) -> Mode {
        Mode {
            keep_escapes,
            ..self
        }
    }
}

/// Reads a word; with `quotes` off, quote characters are ordinary (R-HD-15).
pub(super) fn word(text: &str, escape: Escape, quotes: bool) -> Result<Vec<Part>, Fault> {
    let mode = Mode {
        escape: escape.char(),
        quotes,
        keep_escapes: false,
        depth: 0,
    };
    match parts(text, mode, None) {
        Ok((_, parts)) => Ok(parts),
        Err(nom::Err::Error(fault) | nom::Err::Failure(fault)) => Err(fault),
        Err(nom::Err::Incomplete(_)) => Err(Fault::Backtrack),
    }
}

/// `word = *( single | double | dollar | escape any | any )`, up to and without `stop`
fn parts(text: &str, mode: Mode, stop: Option<char>) -> Parsed<'_, Vec<Part>> {
    if mode.depth > DEEPEST {
        return fail(Fault::TooDeep);
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() && !stop.is_some_and(|stop| rest.starts_with(stop)) {
        let (after, part) = part(rest, mode, stop)?;
        push(&mut parts, part);
        rest = after;
    }
    Ok((rest, parts))
}

fn push(parts: &mut Vec<Part>, part: Part) {
    match (parts.last_mut(), part) {
        (Some(Part::Plain(before)), Part::Plain(text)) => before.push_str(&text),
        (Some(Part::Literal(before)), Part::Literal(text)) => before.push_str(&text),
        (_, part) => parts.push(part),
    }
}

/// `single | double | dollar | escape any | any`
fn part(text: &str, mode: Mode, stop: Option<char>) -> Parsed<'_, Part> {
    if mode.quotes {
        alt((
            single,
            |text| double(text, mode),
            |text| dollar(text, mode),
            |text| escaped(text, mode),
            |text| plain(text, mode, stop),
        ))
        .parse(text)
    } else {
        alt((
            |text| dollar(text, mode),
            |text| escaped(text, mode),
            |text| plain(text, mode, stop),
        ))
        .parse(text)
    }
}

/// `single = "'" *any-but-"'" "'"`
fn single(text: &str) -> Parsed<'_, Part> {
    let (rest, inner) = char('\'')
        .and(take_till(|c| c == '\''))
        .map(|(_, inner)| inner)
        .parse(text)?;
    match char::<_, Fault>('\'').parse(rest) {
        Ok((rest, _)) => Ok((rest, Part::Quoted(vec![Part::Literal(inner.to_owned())]))),
        Err(_) => fail(Fault::Unbalanced('\'')),
    }
}

/// `double = '"' *( dollar | escape any | any-but-'"' ) '"'`
fn double(text: &str, mode: Mode) -> Parsed<'_, Part> {
    let (mut rest, _) = char('"').parse(text)?;
    let mut parts = Vec::new();
    loop {
        let (after, part) = match rest.chars().next() {
            None => return fail(Fault::Unbalanced('"')),
            Some('"') => return Ok((&rest[1..], Part::Quoted(parts))),
            Some('$') => dollar(rest, mode)?,
            Some(first) if first == mode.escape => escaped_in_double(rest, mode)?,
            Some(_) => take_while1(|c| c != '"' && c != '$' && c != mode.escape)
                .map(|run: &str| Part::Literal(run.to_owned()))
                .parse(rest)?,
        };
        push(&mut parts, part);
        rest = after;
    }
}

/// `escape any` between double quotes, where it only escapes `"`, `$` and itself (R-EXP-3).
fn escaped_in_double(text: &str, mode: Mode) -> Parsed<'_, Part> {
    let (rest, escape) = char(mode.escape).parse(text)?;
    let mut literal = String::new();
    if mode.keep_escapes {
        literal.push(escape);
    }
    let next = rest
        .chars()
        .next()
        .filter(|next| matches!(next, '"' | '$') || *next == mode.escape);
    literal.push(next.unwrap_or(escape));
    Ok((
        &rest[next.map_or(0, char::len_utf8)..],
        Part::Literal(literal),
    ))
}

/// `escape any`; an escape at the very end stands for nothing (R-EXP-3).
fn escaped(text: &str, mode: Mode) -> Parsed<'_, Part> {
    let (rest, escape) = char(mode.escape).parse(text)?;
    let mut literal = String::new();
    if mode.keep_escapes {
        literal.push(escape);
    }
    let (rest, next) = alt((anychar::<_, Fault>.map(Some), success(None))).parse(rest)?;
    literal.extend(next);
    Ok((rest, Part::Literal(literal)))
}

/// `any`: a run of characters without meaning
fn plain(text: &str, mode: Mode, stop: Option<char>) -> Parsed<'_, Part> {
    let special = |c: char| {
        c == '$' || c == mode.escape || Some(c) == stop || (mode.quotes && matches!(c, '\'' | '"'))
    };
    take_while1(|c| !special(c))
        .map(|run: &str| Part::Plain(run.to_owned()))
        .parse(text)
}

/// `dollar = "$" ( "{" substitution "}" | name | nothing )`
fn dollar(text: &str, mode: Mode) -> Parsed<'_, Part> {
    let (rest, _) = char('$').parse(text)?;
    if let Some(rest) = rest.strip_prefix('{') {
        return substitution(rest, mode);
    }
    match name(rest) {
        Ok((rest, name)) => Ok((
            rest,
            Part::Variable {
                name: name.to_owned(),
                change: Change::None,
            },
        )),
        Err(_) => Ok((rest, Part::Plain("$".to_owned()))),
    }
}

/// `name = 1*digit | special | ( letter | "_" ) *( letter | digit | "_" )` (R-EXP-5)
fn name(text: &str) -> Parsed<'_, &str> {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    alt((
        take_while1(char::is_numeric),
        recognize(one_of("@*#?-$!")),
        take_while1(in_name),
    ))
    .parse(text)
}

/// `substitution = name [ ":" operator word | operator word | "/" word "/" word ]`, after the opening brace
fn substitution(text: &str, mode: Mode) -> Parsed<'_, Part> {
    match text.chars().next() {
        None => return fail(Fault::MissingBrace),
        Some('{' | '}' | ':') => return fail(Fault::BadSubstitution),
        Some(_) => {}
    }
    let (rest, name) = name(text).unwrap_or((text, ""));
    let (rest, change) = change(rest, mode.deeper())?;
    match rest.strip_prefix('}') {
        Some(rest) => Ok((
            rest,
            Part::Variable {
                name: name.to_owned(),
                change,
            },
        )),
        None => fail(Fault::MissingBrace),
    }
}

/// The operator of a substitution and its operands, up to the closing brace.
fn change(text: &str, mode: Mode) -> Parsed<'_, Change> {
    let or_empty = text.starts_with(':');
    let rest = text.strip_prefix(':').unwrap_or(text);
    let Some(operator) = rest.chars().next() else {
        return fail(Fault::MissingBrace);
    };
    let operand = &rest[operator.len_utf8()..];
    let word = |keep| move |text| parts(text, mode.escapes(keep), Some('}'));
    match operator {
        '}' if !or_empty => Ok((rest, Change::None)),
        '-' => word(false)
            .map(|word| Change::Default { or_empty, word })
            .parse(operand),
        '+' => word(false)
            .map(|word| Change::Alternative { or_empty, word })
            .parse(operand),
        '?' => word(false)
            .map(|message| Change::Require { or_empty, message })
            .parse(operand),
        '#' if !or_empty => {
            let (operand, longest) = doubled(operand, "#")?;
            word(true)
                .map(|pattern| Change::TrimPrefix { longest, pattern })
                .parse(operand)
        }
        '%' if !or_empty => {
            let (operand, longest) = doubled(operand, "%")?;
            word(true)
                .map(|pattern| Change::TrimSuffix { longest, pattern })
                .parse(operand)
        }
        '/' if !or_empty => replace(operand, mode.escapes(true)),
        _ => fail(Fault::UnsupportedModifier(rest_of_modifier(
            or_empty, operator,
        ))),
    }
}

fn rest_of_modifier(colon: bool, operator: char) -> String {
    if colon {
        format!(":{operator}")
    } else {
        operator.to_string()
    }
}

fn doubled<'a>(text: &'a str, operator: &'static str) -> Parsed<'a, bool> {
    alt((value(true, tag(operator)), success(false))).parse(text)
}

/// `( "/" | "//" ) word "/" word`, after the first slash
fn replace(text: &str, mode: Mode) -> Parsed<'_, Change> {
    let (rest, all) = doubled(text, "/")?;
    let (rest, pattern) = parts(rest, mode, Some('/'))?;
    let Some(rest) = rest.strip_prefix('/') else {
        return fail(Fault::MissingSlash);
    };
    let (rest, with) = parts(rest, mode, Some('}'))?;
    Ok((rest, Change::Replace { all, pattern, with }))
}

/// Splits a line into shell words without expanding it: quotes, escapes and `${…}` stay in the words, blanks after `<<` belong to
/// the word (R-HD-2). `None` when quotes are unbalanced or a `${…}` is none that expansion knows: then there are no words at all.
pub(crate) fn shell_words(text: &str) -> Option<Vec<&str>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (after, word) = recognize(shell_word).parse(rest).ok()?;
        words.push(word);
        rest = after.trim_start();
    }
    Some(words)
}

/// How the words of a whole line are read: the escape is `\` whatever the directive says (R-HD-2).
const LINE: Mode = Mode {
    escape: '\\',
    quotes: true,
    keep_escapes: true,
    depth: 0,
};

/// `shell-word = 1*( single | double | "\" any | dollar | "<<" *space | any-but-space )`
fn shell_word(text: &str) -> Parsed<'_, ()> {
    let special = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '\\' | '$' | '<');
    let mut rest = text;
    while let Some(first) = rest.chars().next().filter(|c| !c.is_whitespace()) {
        (rest, _) = match first {
            '\'' => recognize(single).parse(rest)?,
            '"' => recognize(|text| double(text, LINE)).parse(rest)?,
            '\\' => raw_escape(rest)?,
            '$' => recognize(|text| dollar(text, LINE)).parse(rest)?,
            '<' => {
                let heredoc = recognize((tag("<<"), take_while(char::is_whitespace)));
                alt((heredoc, tag("<"))).parse(rest)?
            }
            _ => take_while1(|c| !special(c)).parse(rest)?,
        };
    }
    Ok((rest, ()))
}

/// `"\" any`, kept as written
fn raw_escape(text: &str) -> Parsed<'_, &str> {
    recognize((char('\\'), opt(anychar))).parse(text)
}
