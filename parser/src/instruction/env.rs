//! ENV and LABEL (R-ENV, R-LABEL): the same grammar.

use crate::{Spanned, Word};

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
