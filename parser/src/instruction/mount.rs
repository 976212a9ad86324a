//! `RUN --mount` (R-MNT): the list of keys and values; what they mean is the planner's to say.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while};
use nom::character::complete::char;
use nom::combinator::{all_consuming, map, recognize, value};
use nom::multi::{many0_count, separated_list1};
use nom::sequence::delimited;
use nom::{IResult, Offset, Parser};

use crate::flag::Cooked;
use crate::instruction::copy::variable_in_from;
use crate::{Diagnostic, Escape, Span, Spanned, Word, code};

/// The value of a `--mount` flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// The value, flag quotes removed.
    pub raw: String,
    /// Its fields, in written order, which matters (R-MNT-4).
    pub fields: Vec<MountField>,
}

/// `key=value`, or a bare key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountField {
    /// The key, lower-cased (R-MNT-1).
    pub key: Spanned<String>,
    /// What follows `=`, to be expanded (`from` is not: R-MNT-3); `None` for a bare key.
    pub value: Option<Spanned<Word>>,
}

impl MountFlag {
    /// The value of a key; the last one when repeated (R-MNT-2).
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&Spanned<Word>> {
        self.fields
            .iter()
            .rev()
            .find(|field| field.key.value == key)
            .and_then(|field| field.value.as_ref())
    }
}

/// Reads the value of a `--mount`; `None` when it is no list, which is then told.
pub(super) fn parse(
    cooked: &Cooked,
    span: Span,
    escape: Escape,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Spanned<MountFlag>> {
    let text = cooked.text.as_str();
    let Some(fields) = fields(text) else {
        let message = if text.is_empty() {
            "`--mount` is empty".to_owned()
        } else {
            format!("`{text}` is no list of `key=value`")
        };
        diagnostics.push(
            Diagnostic::error(code::INVALID_MOUNT, message, span)
                .help("write `--mount=type=cache,target=/path`"),
        );
        return None;
    };
    let fields: Vec<MountField> = fields
        .into_iter()
        .map(|(written, field)| read(cooked, written, field, escape))
        .collect();
    let mount = MountFlag {
        raw: text.to_owned(),
        fields,
    };
    if let Some(from) = mount.value("from").filter(|from| has_variable(from.raw())) {
        diagnostics.push(variable_in_from(
            "from",
            &from.clone().map(|word| word.raw().to_owned()),
        ));
    }
    Some(Spanned::new(mount, span))
}

/// A `$` with something after it (R-MNT-3).
fn has_variable(text: &str) -> bool {
    text.find('$').is_some_and(|at| at + 1 < text.len())
}

fn read(cooked: &Cooked, written: &str, field: String, escape: Escape) -> MountField {
    let start = cooked.text.as_str().offset(written);
    let end = start + written.len();
    // A field in double quotes is placed as a whole: its text is not that of the source.
    let plain = written == field;
    let place = |from: usize, to: usize| {
        if plain {
            cooked.span_of(start + from, start + to)
        } else {
            cooked.span_of(start, end)
        }
    };
    let (key, value) = field
        .split_once('=')
        .map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
    let value = value
        .map(|value| Spanned::new(Word::new(value, escape), place(key.len() + 1, field.len())));
    MountField {
        key: Spanned::new(key.to_lowercase(), place(0, key.len())),
        value,
    }
}

/// `record = field *( "," field )`: each as written, and what it stands for; at least one character (R-MNT-1, R-MNT-2)
fn fields(text: &str) -> Option<Vec<(&str, String)>> {
    let record = separated_list1(char(','), field);
    if text.is_empty() {
        return None;
    }
    all_consuming(record)
        .parse(text)
        .ok()
        .map(|(_, fields)| fields)
}

/// `field = quoted | plain`
fn field(text: &str) -> IResult<&str, (&str, String)> {
    let plain = map(take_while(|c| c != ',' && c != '"'), |field: &str| {
        (field, field.to_owned())
    });
    alt((quoted, plain)).parse(text)
}

/// `quoted = '"' *( any-but-'"' | '""' ) '"'`
fn quoted(text: &str) -> IResult<&str, (&str, String)> {
    let doubled = value((), tag("\"\""));
    let run = nom::combinator::verify(take_till(|c| c == '"'), |run: &str| !run.is_empty());
    let inner = recognize(many0_count(alt((value((), run), doubled))));
    let (rest, inner) = delimited(char('"'), inner, char('"')).parse(text)?;
    Ok((
        rest,
        (
            &text[..text.len() - rest.len()],
            inner.replace("\"\"", "\""),
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_comma_separated_values() {
        // R-MNT-1, R-MNT-2
        let values = |text| {
            fields(text).map(|fields| {
                fields
                    .into_iter()
                    .map(|(_, field)| field)
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(
            values("type=cache,target=/c"),
            Some(vec!["type=cache".to_owned(), "target=/c".to_owned()])
        );
        assert_eq!(
            values("\"target=/a,\"\"b\",ro"),
            Some(vec!["target=/a,\"b".to_owned(), "ro".to_owned()])
        );
        assert_eq!(values("a,,b").map(|fields| fields.len()), Some(3));
        for wrong in ["", "a\"b", "\"a", "\"a\"b"] {
            assert_eq!(values(wrong), None, "{wrong}");
        }
    }
}
