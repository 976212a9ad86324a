//! ENV and LABEL (R-ENV, R-LABEL): the same grammar.

use crate::arguments::{first_word, quoted_words};
use crate::request::Request;
use crate::{Diagnostic, Spanned, Word, code};

/// `ENV <key>=<value>…` or `ENV <key> <value>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Env {
    /// Keys and values, in order.
    pub pairs: Vec<(Spanned<Word>, Spanned<Word>)>,
    /// Written in the old form, without `=` (R-ENV-1).
    pub legacy: bool,
}

/// `LABEL <key>=<value>…` or `LABEL <key> <value>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Keys and values, in order.
    pub pairs: Vec<(Spanned<Word>, Spanned<Word>)>,
    /// Written in the old form, without `=` (R-ENV-1).
    pub legacy: bool,
}

/// Keys and values in order, and whether in the old form.
type Pairs = (Vec<(Spanned<Word>, Spanned<Word>)>, bool);

/// `( "ENV" | "LABEL" ) ( 1*( key "=" value ) | key *blank value )`
pub(super) fn parse(mut request: Request<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Pairs> {
    request.no_flags(diagnostics);
    let words = quoted_words(request.text, request.escape);
    match words.first() {
        None => {
            diagnostics.push(request.missing("at least one `key=value`"));
            None
        }
        Some(first) if !first.contains('=') => legacy(&request, diagnostics),
        Some(_) => pairs(&request, &words, diagnostics),
    }
}

/// `key *blank value`, the value being the rest of the line (R-ENV-1)
fn legacy(request: &Request<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Pairs> {
    let keyword = request.keyword;
    let (key, Some(value)) = first_word(request.text) else {
        let message = format!("`{}` of {keyword} has no value", request.text);
        let diagnostic = Diagnostic::error(
            code::MISSING_EQUALS,
            message,
            request.line.place(request.text),
        );
        diagnostics.push(diagnostic.help(format!("write `{keyword} {}=value`", request.text)));
        return None;
    };
    let written = request.written;
    let message = format!(
        "\"{written} key=value\" should be used instead of legacy \"{written} key value\" format"
    );
    diagnostics.push(Diagnostic::warning(
        code::LEGACY_KEY_VALUE_FORMAT,
        message,
        request.line.place(request.text),
    ));
    Some((vec![(request.word(key), request.word(value))], true))
}

/// `1*( key "=" value )` (R-ENV-2)
fn pairs(
    request: &Request<'_>,
    words: &[&str],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Pairs> {
    let mut pairs = Vec::with_capacity(words.len());
    for word in words {
        match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                pairs.push((request.word(key), request.word(value)));
            }
            Some(_) => {
                let message = format!("the name of {} can't be empty", request.keyword);
                diagnostics.push(Diagnostic::error(
                    code::BLANK_NAME,
                    message,
                    request.line.place(word),
                ));
            }
            None => {
                let message = format!("`{word}` has no `=`");
                let diagnostic =
                    Diagnostic::error(code::MISSING_EQUALS, message, request.line.place(word));
                diagnostics.push(
                    diagnostic.help("write `key=value`; put a value with spaces in double quotes"),
                );
            }
        }
    }
    (!pairs.is_empty()).then_some((pairs, false))
}
