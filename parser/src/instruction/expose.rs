//! EXPOSE (R-EXPOSE).

use crate::arguments::plain_words;
use crate::request::Request;
use crate::{Diagnostic, Spanned, Word};

/// `EXPOSE <port>…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expose {
    /// The ports as written, in written order; each may expand to several (R-EXPOSE-1).
    pub ports: Vec<Spanned<Word>>,
}

/// `"EXPOSE" 1*port`; never an exec form (R-JSON-1)
pub(super) fn parse(mut request: Request<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Expose> {
    request.no_flags(diagnostics);
    let ports: Vec<_> = plain_words(request.text)
        .into_iter()
        .map(|port| request.word(port))
        .collect();
    if ports.is_empty() {
        diagnostics.push(request.missing("at least one port"));
        return None;
    }
    Some(Expose { ports })
}
