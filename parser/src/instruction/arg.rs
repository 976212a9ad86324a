//! ARG (R-ARG).

use crate::arguments::quoted_words;
use crate::request::Request;
use crate::{Diagnostic, Spanned, Word, code};

/// `ARG <name>[=<default>]…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// The arguments, in order.
    pub pairs: Vec<ArgPair>,
}

/// One argument of an ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgPair {
    /// Its name, neither expanded nor unquoted (R-ARG-5).
    pub name: Spanned<String>,
    /// What follows `=`; `None` without one.
    pub default: Option<Spanned<Word>>,
}

/// `"ARG" 1*( name [ "=" default ] )`; flags are swallowed (R-FLAG-7)
pub(super) fn parse(request: &Request<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Arg> {
    let words = quoted_words(request.text, request.escape);
    if words.is_empty() {
        diagnostics.push(request.missing("at least one name"));
        return None;
    }
    let mut pairs = Vec::new();
    for word in words {
        let (name, default) = word
            .split_once('=')
            .map_or((word, None), |(name, default)| (name, Some(default)));
        if name.is_empty() {
            let message = "the name of an ARG can't be empty";
            diagnostics.push(Diagnostic::error(
                code::BLANK_NAME,
                message,
                request.line.place(word),
            ));
            continue;
        }
        let name = request.line.spanned(name, name.to_owned());
        pairs.push(ArgPair {
            name,
            default: default.map(|default| request.word(default)),
        });
    }
    (!pairs.is_empty()).then_some(Arg { pairs })
}
