//! ADD (R-ADD): COPY with archives, downloads and git.

use crate::instruction::CopySource;
use crate::{Spanned, Word};

/// `ADD [flags] <source>… <dest>`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Add {
    /// `--chown`
    pub chown: Option<Spanned<Word>>,
    /// `--chmod`
    pub chmod: Option<Spanned<Word>>,
    /// `--link`
    pub link: bool,
    /// `--keep-git-dir`; `None` when not given.
    pub keep_git_dir: Option<bool>,
    /// `--checksum`
    pub checksum: Option<Spanned<Word>>,
    /// `--unpack`; `None` when not given: local archives are unpacked, downloads are not (R-ADD-5).
    pub unpack: Option<bool>,
    /// `--exclude` patterns, never expanded (R-COPY-32).
    pub exclude: Vec<Spanned<String>>,
    /// What to add, in written order.
    pub sources: Vec<Spanned<CopySource>>,
    /// Where to.
    pub dest: Spanned<Word>,
}
