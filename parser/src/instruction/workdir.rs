//! WORKDIR (R-WORKDIR).

use crate::{Spanned, Word};

/// `WORKDIR <path>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workdir {
    /// The rest of the line, spaces included (R-WORKDIR-1).
    pub value: Spanned<Word>,
}
