//! The functions of templates: Go's own that make sense for values of JSON, and Docker's.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::str::Chars;

use serde_json::Value;

use super::escape;

/// Widest padding that is made.
const WIDEST: usize = 10_000;

/// A function by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Function(&'static str);

/// What functions are applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Functions {
    Values,
    /// Headings of a table, which stay as they are.
    Headings,
}

const ALL: [&str; 26] = [
    "and", "eq", "ge", "gt", "html", "index", "join", "js", "json", "le", "len", "lower", "lt",
    "ne", "not", "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate",
    "upper", "urlquery",
];

impl Function {
    /// The function with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let known = ALL.iter().find(|known| **known == name);
        known.map(|name| Self(name))
    }

    /// The names of all, for people.
    pub(super) fn all() -> String {
        ALL.join(", ")
    }

    /// What it gives for these arguments.
    pub(super) fn call(self, arguments: Vec<Value>, functions: Functions) -> Result<Value, String> {
        let leaves_headings = matches!(
            self.0,
            "index"
                | "join"
                | "json"
                | "lower"
                | "pad"
                | "slice"
                | "split"
                | "title"
                | "truncate"
                | "upper"
        );
        if functions == Functions::Headings && leaves_headings {
            return Ok(arguments.into_iter().next().unwrap_or_default());
        }
        match self.0 {
            "print" => Ok(print(&arguments).into()),
            "println" => Ok(println(&arguments).into()),
            "printf" => printf(&arguments).map(Value::from),
            "html" => Ok(escape::html(&print(&arguments)).into()),
            "js" => Ok(escape::js(&print(&arguments)).into()),
            "urlquery" => Ok(escape::url_query(&print(&arguments)).into()),
            "and" => chosen(arguments, |value| !is_true(value)),
            "or" => chosen(arguments, is_true),
            "eq" => self.any_equal(&arguments).map(Value::from),
            "index" => index(arguments),
            "slice" => self.slice(&arguments),
            name => self.fixed(name, &arguments),
        }
    }

    /// Those with a fixed number of arguments.
    fn fixed(self, name: &str, arguments: &[Value]) -> Result<Value, String> {
        Ok(match (name, arguments) {
            ("json", [value]) => value.to_string().into(),
            ("len", [value]) => length(value)?.into(),
            ("not", [value]) => (!is_true(value)).into(),
            ("upper", [text]) => self.text(text)?.to_uppercase().into(),
            ("lower", [text]) => self.text(text)?.to_lowercase().into(),
            ("title", [text]) => title(self.text(text)?).into(),
            ("join", [list, between]) => self.join(list, self.text(between)?)?.into(),
            ("split", [text, at]) => split(self.text(text)?, self.text(at)?),
            ("truncate", [text, length]) => self
                .text(text)?
                .chars()
                .take(self.number(length)?)
                .collect::<String>()
                .into(),
            ("pad", [text, before, after]) => {
                let blanks = |count: usize| " ".repeat(count.min(WIDEST));
                let (before, after) = (self.number(before)?, self.number(after)?);
                format!("{}{}{}", blanks(before), self.text(text)?, blanks(after)).into()
            }
            ("ne", [left, right]) => (!self.equal(left, right)?).into(),
            ("lt", [left, right]) => self.order(left, right)?.is_lt().into(),
            ("le", [left, right]) => self.order(left, right)?.is_le().into(),
            ("gt", [left, right]) => self.order(left, right)?.is_gt().into(),
            ("ge", [left, right]) => self.order(left, right)?.is_ge().into(),
            _ => {
                return Err(format!(
                    "`{name}` does not take {} arguments",
                    arguments.len()
                ));
            }
        })
    }

    fn text(self, value: &Value) -> Result<&str, String> {
        match value {
            Value::String(text) => Ok(text),
            other => Err(format!("`{}` takes a string, not {}", self.0, kind(other))),
        }
    }

    fn number(self, value: &Value) -> Result<usize, String> {
        let number = value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok());
        number.ok_or_else(|| format!("`{}` takes a whole number, not {value}", self.0))
    }

    fn join(self, list: &Value, between: &str) -> Result<String, String> {
        match list {
            Value::Null => Ok(String::new()),
            Value::Array(items) => Ok(items.iter().map(printed).collect::<Vec<_>>().join(between)),
            other => Err(format!("`join` takes a list, not {}", kind(other))),
        }
    }

    /// The first argument is one of the others.
    fn any_equal(self, arguments: &[Value]) -> Result<bool, String> {
        let [first, others @ ..] = arguments else {
            return Err("`eq` compares nothing".to_owned());
        };
        for other in others {
            if self.equal(first, other)? {
                return Ok(true);
            }
        }
        match others.is_empty() {
            true => Err("`eq` has nothing to compare with".to_owned()),
            false => Ok(false),
        }
    }

    fn equal(self, left: &Value, right: &Value) -> Result<bool, String> {
        match (left, right) {
            (Value::Number(_), Value::Number(_)) => self.order(left, right).map(Ordering::is_eq),
            (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => {
                Err(format!(
                    "`{}` compares {} and {}",
                    self.0,
                    kind(left),
                    kind(right)
                ))
            }
            _ => Ok(left == right),
        }
    }

    fn order(self, left: &Value, right: &Value) -> Result<Ordering, String> {
        let whole = |value: &Value| {
            value
                .as_i64()
                .map(i128::from)
                .or(value.as_u64().map(i128::from))
        };
        let order = match (left, right) {
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            _ => match (whole(left), whole(right)) {
                (Some(left), Some(right)) => Some(left.cmp(&right)),
                _ => left
                    .as_f64()
                    .zip(right.as_f64())
                    .and_then(|(left, right)| left.partial_cmp(&right)),
            },
        };
        order.ok_or_else(|| format!("`{}` compares {} and {}", self.0, kind(left), kind(right)))
    }

    fn slice(self, arguments: &[Value]) -> Result<Value, String> {
        let [value, bounds @ ..] = arguments else {
            return Err("`slice` is of nothing".to_owned());
        };
        let whole = length(value)?;
        let bound = |at: usize, default| {
            bounds
                .get(at)
                .map_or(Ok(default), |bound| self.number(bound))
        };
        let (from, to) = (bound(0, 0)?, bound(1, whole)?);
        let cut = match value {
            Value::String(text) => text.get(from..to).map(Value::from),
            Value::Array(items) => items.get(from..to).map(|items| items.to_vec().into()),
            _ => None,
        };
        cut.ok_or_else(|| {
            format!(
                "`slice` can't cut {} of length {whole} from {from} to {to}",
                kind(value)
            )
        })
    }
}

/// The first that `decides`, else the last.
fn chosen(arguments: Vec<Value>, decides: impl Fn(&Value) -> bool) -> Result<Value, String> {
    let last = arguments.len().saturating_sub(1);
    let found = arguments
        .into_iter()
        .enumerate()
        .find(|(at, value)| *at == last || decides(value));
    found
        .map(|(_, value)| value)
        .ok_or_else(|| "`and` and `or` are of nothing".to_owned())
}

fn index(arguments: Vec<Value>) -> Result<Value, String> {
    let mut arguments = arguments.into_iter();
    let mut found = arguments.next().ok_or("`index` is of nothing")?;
    for at in arguments {
        found = match (&found, &at) {
            (Value::Object(entries), Value::String(key)) => entry(entries, key),
            (Value::Array(items), Value::Number(number)) => {
                let place = number
                    .as_u64()
                    .and_then(|place| usize::try_from(place).ok());
                let item = place.and_then(|place| items.get(place));
                item.cloned()
                    .ok_or_else(|| format!("`index` asks for number {number} of {}", items.len()))?
            }
            (Value::Null, _) => Value::Null,
            (other, at) => return Err(format!("`index` of {} can't be {}", kind(other), kind(at))),
        };
    }
    Ok(found)
}

/// What a map has under a key. In Go a map of strings has an empty one under all others.
fn entry(entries: &serde_json::Map<String, Value>, key: &str) -> Value {
    let strings = entries.values().all(Value::is_string);
    let missing = if strings { "".into() } else { Value::Null };
    entries.get(key).cloned().unwrap_or(missing)
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(items) => Ok(items.len()),
        Value::Object(entries) => Ok(entries.len()),
        Value::Null => Ok(0),
        other => Err(format!("`len` is of {}", kind(other))),
    }
}

fn split(text: &str, at: &str) -> Value {
    match at.is_empty() {
        true => text.chars().map(String::from).collect(),
        false => text.split(at).collect(),
    }
}

fn title(text: &str) -> String {
    let mut begins = true;
    let raised = |c: char| {
        let first = std::mem::replace(&mut begins, !c.is_alphanumeric());
        if first {
            c.to_uppercase().next().unwrap_or(c)
        } else {
            c
        }
    };
    text.chars().map(raised).collect()
}

/// Blanks between two values of which neither is a string.
fn print(values: &[Value]) -> String {
    let mut text = String::new();
    for (at, value) in values.iter().enumerate() {
        if at > 0 && !value.is_string() && !values[at - 1].is_string() {
            text.push(' ');
        }
        text.push_str(&printed(value));
    }
    text
}

fn println(values: &[Value]) -> String {
    values.iter().map(printed).collect::<Vec<_>>().join(" ") + "\n"
}

/// `%s`, `%v`, `%d`, `%q`, `%t`, `%x` and `%%`, with `-`, `0`, a width and a precision.
fn printf(arguments: &[Value]) -> Result<String, String> {
    let [Value::String(format), arguments @ ..] = arguments else {
        return Err("`printf` begins with a string that says how".to_owned());
    };
    let mut arguments = arguments.iter();
    let mut text = String::new();
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let verb = Verb::read(&mut rest);
        if verb.letter == Some('%') {
            text.push('%');
            continue;
        }
        let value = arguments
            .next()
            .ok_or_else(|| format!("`printf {format:?}` has too few arguments"))?;
        text.push_str(&verb.padded(verb.shown(value)?, value));
    }
    match arguments.next() {
        Some(_) => Err(format!("`printf {format:?}` has too many arguments")),
        None => Ok(text),
    }
}

/// What stands after a `%`.
#[derive(Debug, Clone, Copy)]
struct Verb {
    left: bool,
    zeros: bool,
    width: usize,
    /// So many characters of a string at most.
    precision: Option<usize>,
    letter: Option<char>,
}

impl Verb {
    fn read(rest: &mut Peekable<Chars<'_>>) -> Self {
        let (mut left, mut zeros) = (false, false);
        while let Some(flag) = rest.next_if(|c| matches!(c, '-' | '0')) {
            left |= flag == '-';
            zeros |= flag == '0';
        }
        let width = number(rest);
        let point = rest.next_if_eq(&'.');
        Self {
            left,
            zeros,
            width,
            precision: point.map(|_| number(rest)),
            letter: rest.next(),
        }
    }

    fn shown(self, value: &Value) -> Result<String, String> {
        let cut = |text: &str| match self.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text.to_owned(),
        };
        match (self.letter, value) {
            (Some('s' | 'v'), Value::String(text)) => Ok(cut(text)),
            (Some('q'), Value::String(text)) => Ok(format!("{:?}", cut(text))),
            (Some('x'), Value::String(text)) => Ok(cut(text)
                .bytes()
                .map(|byte| format!("{byte:02x}"))
                .collect()),
            (Some('q' | 'x'), Value::Array(items)) => {
                let items = items.iter().map(|item| self.shown(item));
                let items = items.collect::<Result<Vec<_>, _>>()?;
                Ok(format!("[{}]", items.join(" ")))
            }
            (Some('x'), Value::Number(number)) if number.is_i64() || number.is_u64() => {
                Ok(match number.as_i64() {
                    Some(number) if number < 0 => format!("-{:x}", number.unsigned_abs()),
                    _ => format!("{:x}", number.as_u64().unwrap_or_default()),
                })
            }
            (Some('s' | 'v'), _) | (Some('d'), Value::Number(_)) | (Some('t'), Value::Bool(_)) => {
                Ok(printed(value))
            }
            (letter, value) => {
                let letter = letter.map(String::from).unwrap_or_default();
                Err(format!(
                    "`printf` can't show {} with `%{letter}`",
                    kind(value)
                ))
            }
        }
    }

    /// Zeros go before numbers only, and after their sign.
    fn padded(self, shown: String, value: &Value) -> String {
        let width = self.width;
        match (self.left, self.zeros && value.is_number()) {
            (true, _) => format!("{shown:<width$}"),
            (false, false) => format!("{shown:>width$}"),
            (false, true) => {
                let (sign, digits) = match shown.strip_prefix('-') {
                    Some(digits) => ("-", digits),
                    None => ("", &*shown),
                };
                let width = width.saturating_sub(sign.len());
                format!("{sign}{digits:0>width$}")
            }
        }
    }
}

fn number(rest: &mut Peekable<Chars<'_>>) -> usize {
    let mut number = 0_usize;
    while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
        number = (number * 10 + digit as usize).min(WIDEST);
        rest.next();
    }
    number
}

/// A value as Go prints it.
pub(super) fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            format!(
                "[{}]",
                items
                    .iter()
                    .map(printed_within)
                    .collect::<Vec<_>>()
                    .join(" ")
            )
        }
        Value::Object(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries = entries
                .into_iter()
                .map(|(key, value)| format!("{key}:{}", printed_within(value)));
            format!("map[{}]", entries.collect::<Vec<_>>().join(" "))
        }
    }
}

fn printed_within(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        // The ports and volumes of a config are keys with nothing to them.
        Value::Object(entries) if entries.is_empty() => "{}".to_owned(),
        other => printed(other),
    }
}

/// Whether a condition counts as fulfilled: whatever is not empty.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}

/// What a value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
