//! Words and their expansion (R-EXP).

mod grammar;
mod shell_pattern;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::Escape;
pub(crate) use grammar::shell_words;
use grammar::{Change, Fault, Part};

/// The longest text an expansion may give, in bytes: `$A$A` again and again must not fill the memory.
const LONGEST: usize = 16 << 20;

/// The most bytes that an expansion may write, what it drops again included.
const MOST_BYTES: usize = 4 * LONGEST;

/// The most (pattern × text) steps that an expansion may take.
const MOST_STEPS: usize = 1 << 28;

/// An argument as written: quotes, escapes and `$` references are still in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Word {
    raw: String,
    escape: Escape,
}

/// What a word became.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The text, unquoted.
    pub text: String,
    /// Names that were read while unset, with nothing such as `:-` to stand in (R-EXP-6), each once, in order.
    pub unset: Vec<String>,
    /// All names that were read, each once, in order.
    pub used: Vec<String>,
}

/// Why a word can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote without its partner (R-EXP-4).
    #[error("`{word}` has no closing `{quote}`")]
    UnbalancedQuote {
        /// The word.
        word: String,
        /// The quote.
        quote: char,
    },
    /// `${}`, `${:` or `${{` (R-EXP-12).
    #[error("bad substitution in `{word}`")]
    BadSubstitution {
        /// The word.
        word: String,
    },
    /// A `${` without its `}` (R-EXP-12).
    #[error("missing `}}` in `{word}`")]
    MissingBrace {
        /// The word.
        word: String,
    },
    /// `${v/x}` (R-EXP-9).
    #[error("missing second `/` in `{word}`")]
    MissingSlash {
        /// The word.
        word: String,
    },
    /// An operator that does not exist (R-EXP-12).
    #[error("unsupported modifier `{modifier}` in `{word}`")]
    UnsupportedModifier {
        /// The word.
        word: String,
        /// What follows the name.
        modifier: String,
    },
    /// An escape that patterns don't have (R-EXP-10).
    #[error("invalid escape in pattern `{pattern}`")]
    BadPattern {
        /// The pattern.
        pattern: String,
    },
    /// `${v?m}` fired (R-EXP-8).
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The author's message, or that it is not allowed to be unset or empty.
        message: String,
    },
    /// `${…}` and quotes nested deeper than anyone writes by hand.
    #[error("`{word}` is nested too deeply")]
    TooDeep {
        /// The word.
        word: String,
    },
    /// More than 16 MiB, or a replacement that would take too long to find.
    #[error("the expansion is too long")]
    TooLong,
}

/// Where expansion finds values. Names are case-sensitive (R-EXP-17).
pub trait Variables {
    /// The value of a variable, `None` when it is unset.
    fn lookup(&self, name: &str) -> Option<&str>;
}

impl Variables for HashMap<String, String> {
    fn lookup(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl Variables for BTreeMap<String, String> {
    fn lookup(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// Pairs in the order they were set: the last of a name counts (R-EXP-15).
impl Variables for [(String, String)] {
    fn lookup(&self, name: &str) -> Option<&str> {
        self.iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// As for slices.
impl Variables for Vec<(String, String)> {
    fn lookup(&self, name: &str) -> Option<&str> {
        self.as_slice().lookup(name)
    }
}

/// No variable is set.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn lookup(&self, _: &str) -> Option<&str> {
        None
    }
}

impl Word {
    /// A word as it stands in a Dockerfile with that escape character.
    #[must_use]
    pub fn new(raw: impl Into<String>, escape: Escape) -> Word {
        Word {
            raw: raw.into(),
            escape,
        }
    }

    /// The word as written, continuations joined.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The escape character in force where it was written.
    #[must_use]
    pub fn escape(&self) -> Escape {
        self.escape
    }

    /// The text it stands for: variables put in, quotes and escapes removed (R-EXP-3).
    pub fn expand(&self, vars: &dyn Variables) -> Result<Expanded, ExpandError> {
        expand(&self.raw, self.escape, true, vars)
    }

    /// The words it stands for: unquoted results are split at whitespace, empty words vanish (R-EXP-14).
    pub fn expand_words(&self, vars: &dyn Variables) -> Result<Vec<String>, ExpandError> {
        self.expand_words_traced(vars).map(|(words, _)| words)
    }

    /// As [`expand_words`](Word::expand_words), and which variables were used; the trace has no `text`.
    pub fn expand_words_traced(
        &self,
        vars: &dyn Variables,
    ) -> Result<(Vec<String>, Expanded), ExpandError> {
        let parts = parse(&self.raw, self.escape, true)?;
        let mut evaluation = Evaluation::new(vars);
        let words = evaluation.words(&parts)?;
        Ok((words, evaluation.finish(String::new())))
    }
}

/// Expands a text to one string; with `quotes` off, quote characters are ordinary (R-HD-15).
pub(crate) fn expand(
    raw: &str,
    escape: Escape,
    quotes: bool,
    vars: &dyn Variables,
) -> Result<Expanded, ExpandError> {
    if is_plain(raw, escape) {
        return Ok(Expanded {
            text: raw.to_owned(),
            ..Expanded::default()
        });
    }
    let parts = parse(raw, escape, quotes)?;
    let mut evaluation = Evaluation::new(vars);
    let text = evaluation.text(&parts)?;
    Ok(evaluation.finish(text))
}

/// Adds to a text that must not grow without end.
fn limited(text: &mut String, more: &str) -> Result<(), ExpandError> {
    if text.len() + more.len() > LONGEST {
        return Err(ExpandError::TooLong);
    }
    text.push_str(more);
    Ok(())
}

/// Whether a text stands for itself, as most do: then there is nothing to take apart.
fn is_plain(raw: &str, escape: Escape) -> bool {
    let special = |byte| matches!(byte, b'$' | b'\'' | b'"' | 0xEF) || escape.char() == byte.into();
    !raw.bytes().any(special) && raw.len() <= LONGEST
}

/// A byte order mark before a word is not part of it.
fn parse(raw: &str, escape: Escape, quotes: bool) -> Result<Vec<Part>, ExpandError> {
    let text = raw.strip_prefix('\u{FEFF}').unwrap_or(raw);
    grammar::word(text, escape, quotes).map_err(|fault| {
        let word = raw.to_owned();
        match fault {
            Fault::Unbalanced(quote) => ExpandError::UnbalancedQuote { word, quote },
            Fault::BadSubstitution | Fault::Backtrack => ExpandError::BadSubstitution { word },
            Fault::MissingBrace => ExpandError::MissingBrace { word },
            Fault::MissingSlash => ExpandError::MissingSlash { word },
            Fault::UnsupportedModifier(modifier) => {
                ExpandError::UnsupportedModifier { word, modifier }
            }
            Fault::TooDeep => ExpandError::TooDeep { word },
        }
    })
}

/// One expansion under way.
struct Evaluation<'v> {
    vars: &'v dyn Variables,
    used: Names,
    unset: Names,
    /// How many bytes may still be written.
    bytes: usize,
    /// How many steps patterns may still take.
    steps: usize,
}

/// Names, each once, in order.
#[derive(Default)]
struct Names {
    order: Vec<String>,
    known: HashSet<String>,
}

impl Names {
    fn note(&mut self, name: &str) {
        if !self.known.contains(name) {
            self.known.insert(name.to_owned());
            self.order.push(name.to_owned());
        }
    }
}

impl<'v> Evaluation<'v> {
    fn new(vars: &'v dyn Variables) -> Evaluation<'v> {
        Evaluation {
            vars,
            used: Names::default(),
            unset: Names::default(),
            bytes: MOST_BYTES,
            steps: MOST_STEPS,
        }
    }

    fn finish(self, text: String) -> Expanded {
        Expanded {
            text,
            unset: self.unset.order,
            used: self.used.order,
        }
    }

    /// What is written counts even where it isn't used in the end: words of `${v:-w}` are expanded whatever `v` is.
    fn text(&mut self, parts: &[Part]) -> Result<String, ExpandError> {
        let mut text = String::new();
        for part in parts {
            self.append(&mut text, part)?;
        }
        let left = self.bytes.checked_sub(text.len());
        self.bytes = left.ok_or(ExpandError::TooLong)?;
        Ok(text)
    }

    fn append(&mut self, text: &mut String, part: &Part) -> Result<(), ExpandError> {
        match part {
            Part::Plain(run) | Part::Literal(run) => limited(text, run),
            Part::Quoted(parts) => limited(text, &self.text(parts)?),
            Part::Variable { name, change } => limited(text, &self.variable(name, change)?),
        }
    }

    /// Word-list mode (R-EXP-14).
    fn words(&mut self, parts: &[Part]) -> Result<Vec<String>, ExpandError> {
        let mut words = Vec::new();
        let mut word = String::new();
        for part in parts {
            if starts_anew(part) {
                word.clear();
            }
            match part {
                Part::Plain(run) => split_into(&mut words, &mut word, run)?,
                Part::Variable { name, change } => {
                    split_into(&mut words, &mut word, &self.variable(name, change)?)?;
                }
                Part::Literal(_) | Part::Quoted(_) => self.append(&mut word, part)?,
            }
        }
        finish_word(&mut words, &mut word);
        Ok(words)
    }

    fn variable(&mut self, name: &str, change: &Change) -> Result<String, ExpandError> {
        let value = self.vars.lookup(name);
        self.used.note(name);
        let filled = |or_empty: bool| value.filter(|value| !(or_empty && value.is_empty()));
        match change {
            Change::Default { or_empty, word } => {
                let word = self.text(word)?;
                Ok(filled(*or_empty).map_or(word, str::to_owned))
            }
            Change::Alternative { or_empty, word } => {
                let word = self.text(word)?;
                Ok(filled(*or_empty).map_or_else(String::new, |_| word))
            }
            Change::Require { or_empty, message } => {
                let message = self.text(message)?;
                let value_or = filled(*or_empty).map(str::to_owned);
                value_or.ok_or_else(|| required(name, value.is_some(), message))
            }
            Change::None => Ok(self.value(name, value).to_owned()),
            Change::TrimPrefix { longest, pattern } => {
                let pattern = self.text(pattern)?;
                let value = self.value(name, value);
                shell_pattern::trim_prefix(value, &pattern, *longest, &mut self.steps)
                    .map(str::to_owned)
            }
            Change::TrimSuffix { longest, pattern } => {
                let pattern = self.text(pattern)?;
                let value = self.value(name, value);
                shell_pattern::trim_suffix(value, &pattern, *longest, &mut self.steps)
                    .map(str::to_owned)
            }
            Change::Replace { all, pattern, with } => {
                let (pattern, with) = (self.text(pattern)?, self.text(with)?);
                let value = self.value(name, value);
                shell_pattern::replace(value, &pattern, &with, *all, &mut self.steps)
            }
        }
    }

    /// A value that nothing stands in for: unset is empty, and noted (R-EXP-6).
    fn value<'a>(&mut self, name: &str, value: Option<&'a str>) -> &'a str {
        value.unwrap_or_else(|| {
            self.unset.note(name);
            ""
        })
    }
}

/// R-EXP-8
fn required(name: &str, is_set: bool, message: String) -> ExpandError {
    let message = match (message.is_empty(), is_set) {
        (false, _) => message,
        (true, true) => "is not allowed to be empty".to_owned(),
        (true, false) => "is not allowed to be unset".to_owned(),
    };
    ExpandError::Required {
        name: name.to_owned(),
        message,
    }
}

/// Whether a part of a word list drops the word it stands in as far as that has come: BuildKit collects the words of `${…}` that hold
/// a word of their own where those around them are collected.
fn starts_anew(part: &Part) -> bool {
    match part {
        Part::Variable { change, .. } => *change != Change::None,
        Part::Quoted(parts) => parts.iter().any(starts_anew),
        Part::Plain(_) | Part::Literal(_) => false,
    }
}

fn split_into(words: &mut Vec<String>, word: &mut String, text: &str) -> Result<(), ExpandError> {
    for (index, piece) in text.split(char::is_whitespace).enumerate() {
        if index > 0 {
            finish_word(words, word);
        }
        limited(word, piece)?;
    }
    Ok(())
}

fn finish_word(words: &mut Vec<String>, word: &mut String) {
    if !word.is_empty() {
        words.push(std::mem::take(word));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn vars() -> HashMap<String, String> {
        HashMap::from(
            [
                ("V", "hello.world.txt"),
                ("E", ""),
                ("N", "a b  c"),
                ("D", "$V"),
            ]
            .map(|(k, v)| (k.into(), v.into())),
        )
    }

    fn error(raw: &str) -> String {
        Word::new(raw, Escape::Backslash)
            .expand(&vars())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn unset_names_are_told_unless_something_stands_in() {
        let expanded = Word::new("$A ${B:-x} ${C+y} ${A} ${V} ${F%x}", Escape::Backslash)
            .expand(&vars())
            .unwrap();
        assert_eq!(expanded.unset, ["A", "F"]); // UndefinedVar
        assert_eq!(expanded.used, ["A", "B", "C", "V", "F"]);
    }

    #[test]
    fn word_lists_split_only_what_is_unquoted() {
        // R-EXP-14
        let words = |raw: &str| {
            Word::new(raw, Escape::Backslash)
                .expand_words(&vars())
                .unwrap()
        };
        assert_eq!(words("$N"), ["a", "b", "c"]);
        assert_eq!(words("\"$N\""), ["a b  c"]);
        assert_eq!(words("x$N\\ y"), ["xa", "b", "c y"]);
        assert_eq!(words("$E $E"), [""; 0]);
    }

    #[test]
    fn errors_name_the_word() {
        assert_eq!(error("a\"b"), "`a\"b` has no closing `\"`"); // R-EXP-4
        assert_eq!(error("${Q:?}"), "Q: is not allowed to be unset"); // R-EXP-8
        assert_eq!(error("${E:?}"), "E: is not allowed to be empty");
        assert_eq!(error("${Q?no $V}"), "Q: no hello.world.txt");
        assert_eq!(error("${V/x}"), "missing second `/` in `${V/x}`"); // R-EXP-9
        assert_eq!(error("${V:#x}"), "unsupported modifier `:#` in `${V:#x}`"); // R-EXP-12
    }

    #[test]
    fn hostile_words_end_in_an_error() {
        let deep = format!("{}x{}", "${V:-".repeat(5000), "}".repeat(5000));
        let error = Word::new(deep, Escape::Backslash)
            .expand(&vars())
            .unwrap_err();
        assert!(matches!(error, ExpandError::TooDeep { .. }));
        let bomb = HashMap::from([("V".to_owned(), "x".repeat(1 << 20))]);
        assert_eq!(
            Word::new("$V".repeat(17), Escape::Backslash).expand(&bomb),
            Err(ExpandError::TooLong)
        );
        let slow = Word::new(
            format!("${{V//{}y/}}", "?*".repeat(2000)),
            Escape::Backslash,
        );
        assert_eq!(slow.expand(&bomb), Err(ExpandError::TooLong));
    }

    proptest! {
        #[test]
        fn expansion_never_panics(raw in "[\\PC\n]{0,40}", quotes: bool) {
            let _ = expand(&raw, Escape::Backslash, quotes, &vars());
            let _ = Word::new(raw, Escape::Backtick).expand_words(&vars());
        }

        #[test]
        fn expansion_of_operators_never_panics(raw in "[$V{}:?+#%/*'\"\\\\a ]{0,30}") {
            let _ = Word::new(raw, Escape::Backslash).expand_words(&vars());
        }
    }
}
