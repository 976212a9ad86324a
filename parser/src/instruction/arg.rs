//! ARG (R-ARG).

use crate::{Spanned, Word};

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
