//! EXPOSE (R-EXPOSE).

use crate::{Spanned, Word};

/// `EXPOSE <port>…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expose {
    /// The ports as written, in written order; each may expand to several (R-EXPOSE-1).
    pub ports: Vec<Spanned<Word>>,
}
