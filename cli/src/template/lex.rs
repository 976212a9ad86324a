//! The parts of a template: text, and actions cut into tokens.

use serde_json::Value;

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    /// Printed as it is.
    Text(String),
    /// What is between `{{` and `}}`.
    Action(Action),
}

/// One action.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Action {
    /// As it was typed, braces included.
    pub(super) source: String,
    pub(super) tokens: Vec<Token>,
}

/// The smallest parts of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.Name`; `joined` to what is before it when no blank is between them.
    Field {
        name: String,
        joined: bool,
    },
    /// `.` alone.
    Dot,
    /// `$name`, or `$` with an empty name.
    Variable(String),
    /// A keyword or a function.
    Word(String),
    /// A string, a number, `true`, `false` or `nil`.
    Literal(Value),
    Open,
    Close,
    Pipe,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

/// Cuts a template into its parts.
pub(super) fn lex(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim_next = false;
    while let Some(start) = rest.find("{{") {
        let (before, from) = rest.split_at(start);
        let trims_before = from[2..].starts_with("- ") || from[2..].starts_with("-\n");
        push_text(&mut pieces, before, trim_next, trims_before);
        let inner_at = if trims_before { 3 } else { 2 };
        let end = action_end(&from[inner_at..])
            .ok_or_else(|| format!("`{from}` is not closed by `}}}}`"));
        let end = end? + inner_at;
        let source = &from[..end + 2];
        let inner = &from[inner_at..end];
        trim_next = inner.ends_with(" -") || inner.ends_with("\n-");
        let inner = if trim_next {
            &inner[..inner.len() - 1]
        } else {
            inner
        };
        if !is_comment(inner) {
            let tokens = tokens(inner, source)?;
            if tokens.is_empty() {
                return Err(format!("`{source}` says nothing"));
            }
            pieces.push(Piece::Action(Action {
                source: source.to_owned(),
                tokens,
            }));
        }
        rest = &from[end + 2..];
    }
    push_text(&mut pieces, rest, trim_next, false);
    Ok(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

fn is_comment(inner: &str) -> bool {
    let inner = inner.trim();
    inner.starts_with("/*") && inner.ends_with("*/") && inner.len() >= 4
}

/// Where `}}` is, outside of strings.
fn action_end(inner: &str) -> Option<usize> {
    let bytes = inner.as_bytes();
    let mut at = 0;
    let mut quote = None;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(b'"'), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'"' | b'`')) => quote = Some(byte),
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            (None, _) => {}
        }
        at += 1;
    }
    // A string that is not closed is told as that.
    quote.and_then(|_| inner.find("}}"))
}

fn tokens(inner: &str, source: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = inner;
    let mut blank_before = true;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
            blank_before = true;
            continue;
        }
        let (token, length) = token(rest, blank_before, source)?;
        tokens.push(token);
        rest = &rest[length..];
        blank_before = false;
    }
    Ok(tokens)
}

/// The first token of `rest`, and its length in bytes.
fn token(rest: &str, blank_before: bool, source: &str) -> Result<(Token, usize), String> {
    let name = |from: usize| {
        rest[from..]
            .find(|c: char| !is_name(c))
            .map_or(rest.len(), |length| from + length)
    };
    let first = rest.chars().next().unwrap_or_default();
    Ok(match first {
        '(' => (Token::Open, 1),
        ')' => (Token::Close, 1),
        '|' => (Token::Pipe, 1),
        ',' => (Token::Comma, 1),
        ':' if rest.starts_with(":=") => (Token::Declare, 2),
        '=' => (Token::Assign, 1),
        '"' | '`' => string(rest).ok_or_else(|| format!("a string is not closed in `{source}`"))?,
        '$' => (Token::Variable(rest[1..name(1)].to_owned()), name(1)),
        '.' if name(1) > 1 => {
            let field = rest[1..name(1)].to_owned();
            (
                Token::Field {
                    name: field,
                    joined: !blank_before,
                },
                name(1),
            )
        }
        '.' => (Token::Dot, 1),
        '0'..='9' | '-' | '+' => number(rest, source)?,
        c if is_name(c) => (word(&rest[..name(0)]), name(0)),
        c => return Err(format!("`{c}` in `{source}` means nothing")),
    })
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(text: &str) -> Token {
    match text {
        "true" => Token::Literal(Value::Bool(true)),
        "false" => Token::Literal(Value::Bool(false)),
        "nil" => Token::Literal(Value::Null),
        _ => Token::Word(text.to_owned()),
    }
}

fn number(rest: &str, source: &str) -> Result<(Token, usize), String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
    let length = rest[1..]
        .find(|c| !is_part(c))
        .map_or(rest.len(), |length| length + 1);
    let text = &rest[..length];
    let digits = text.strip_prefix('+').unwrap_or(text);
    let integer = digits.parse::<i64>().ok().map(Value::from);
    let value = integer.or_else(|| digits.parse::<f64>().ok().and_then(finite));
    value
        .map(|value| (Token::Literal(value), length))
        .ok_or_else(|| format!("`{text}` in `{source}` is no number"))
}

fn finite(number: f64) -> Option<Value> {
    serde_json::Number::from_f64(number).map(Value::Number)
}

/// A string in quotes or backquotes; `None` if it does not end.
fn string(rest: &str) -> Option<(Token, usize)> {
    if let Some(raw) = rest.strip_prefix('`') {
        let end = raw.find('`')?;
        return Some((Token::Literal(raw[..end].into()), end + 2));
    }
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((Token::Literal(text.into()), at + 1)),
            '\\' => text.push(match characters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            c => text.push(c),
        }
    }
    None
}
