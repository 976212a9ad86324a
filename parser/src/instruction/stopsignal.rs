//! STOPSIGNAL (R-STOP).

use crate::{Spanned, Word};

/// `STOPSIGNAL <signal>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopsignal {
    /// A number or a name; checked once expanded.
    pub value: Spanned<Word>,
}
