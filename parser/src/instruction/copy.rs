//! COPY (R-COPY).

use crate::{Heredoc, Spanned, Word};

/// `COPY [flags] <source>… <dest>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// `--from`: a stage, a named context or an image; never expanded (R-COPY-3).
    pub from: Option<Spanned<String>>,
    /// `--chown`
    pub chown: Option<Spanned<Word>>,
    /// `--chmod`
    pub chmod: Option<Spanned<Word>>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude` patterns, never expanded (R-COPY-32).
    pub exclude: Vec<Spanned<String>>,
    /// What to copy, in written order; the engine copies paths before inline files (R-HD-17).
    pub sources: Vec<Spanned<CopySource>>,
    /// Where to.
    pub dest: Spanned<Word>,
}

/// A source of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path, pattern, or for ADD a URL.
    Path(Word),
    /// An inline file (R-HD-14). Heredocs of one name all have the last one's body (R-HD-16).
    Heredoc(Heredoc),
}
