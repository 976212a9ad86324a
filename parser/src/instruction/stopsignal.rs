//! STOPSIGNAL (R-STOP).

use crate::request::Request;
use crate::{Diagnostic, Spanned, Word};

/// `STOPSIGNAL <signal>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopsignal {
    /// A number or a name; checked once expanded.
    pub value: Spanned<Word>,
}

/// `"STOPSIGNAL" signal`; flags are swallowed (R-FLAG-7)
pub(super) fn parse(
    request: &Request<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Stopsignal> {
    request
        .only_word("a signal", diagnostics)
        .map(|value| Stopsignal { value })
}
