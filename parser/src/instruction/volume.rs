//! VOLUME (R-VOLUME).

use crate::arguments::plain_words;
use crate::request::{Request, Strings};
use crate::{Diagnostic, Spanned, Word, code};

/// `VOLUME <path>…` or a JSON array
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The paths; never empty.
    pub paths: Vec<Spanned<Word>>,
}

/// `"VOLUME" ( exec-form | 1*path )`
pub(super) fn parse(mut request: Request<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Volume> {
    request.no_flags(diagnostics);
    let path = |(part, text): (&str, String)| {
        let word = Word::new(text.trim(), request.escape);
        request.line.spanned(part, word)
    };
    let paths: Vec<_> = match request.strings(request.text, diagnostics) {
        Strings::List(strings) => strings.into_iter().map(path).collect(),
        Strings::Text => plain_words(request.text)
            .into_iter()
            .map(|part| request.word(part.trim()))
            .collect(),
        Strings::Wrong => return None,
    };
    if paths.is_empty() {
        diagnostics.push(request.missing("at least one path"));
        return None;
    }
    if let Some(empty) = paths.iter().find(|path| path.raw().is_empty()) {
        diagnostics.push(Diagnostic::error(
            code::EMPTY_VOLUME,
            "a volume's path can't be empty",
            empty.span,
        ));
        return None;
    }
    Some(Volume { paths })
}
