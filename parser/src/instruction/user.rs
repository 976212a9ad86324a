//! USER (R-USER).

use crate::{Spanned, Word};

/// `USER <user>[:<group>]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The rest of the line.
    pub value: Spanned<Word>,
}
