//! VOLUME (R-VOLUME).

use crate::{Spanned, Word};

/// `VOLUME <path>…` or a JSON array
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The paths; never empty.
    pub paths: Vec<Spanned<Word>>,
}
