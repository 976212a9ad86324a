//! WORKDIR (R-WORKDIR).

use crate::request::Request;
use crate::{Diagnostic, Spanned, Word};

/// `WORKDIR <path>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workdir {
    /// The rest of the line, spaces included (R-WORKDIR-1).
    pub value: Spanned<Word>,
}

/// `"WORKDIR" path`
pub(super) fn parse(
    mut request: Request<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Workdir> {
    request.no_flags(diagnostics);
    request
        .only_word("a path", diagnostics)
        .map(|value| Workdir { value })
}
