//! MAINTAINER (R-MAINT), long deprecated.

/// `MAINTAINER <author>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintainer {
    /// The author, not expanded.
    pub author: String,
}
