//! FROM (R-FROM).

use crate::{Spanned, Word};

/// `FROM [--platform=<platform>] <image> [AS <name>]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// The base: an image, an earlier stage, `scratch`. An empty word when the line could not be read.
    pub image: Spanned<Word>,
    /// `--platform`; an empty value is as if absent (R-FROM-3).
    pub platform: Option<Spanned<Word>>,
    /// The stage's name, lower-cased.
    pub name: Option<Spanned<String>>,
    /// The stage's name as written.
    pub name_as_written: Option<String>,
}
