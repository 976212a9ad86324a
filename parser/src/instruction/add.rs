//! ADD (R-ADD): COPY with archives, downloads and git.

use crate::flag::{Known, Takes};
use crate::instruction::{CopySource, copy};
use crate::request::Request;
use crate::{Diagnostic, Spanned, Word};

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

const FLAGS: &Known = &[
    ("chown", Takes::Value),
    ("chmod", Takes::Value),
    ("link", Takes::Switch),
    ("keep-git-dir", Takes::Switch),
    ("checksum", Takes::Value),
    ("unpack", Takes::Switch),
    ("exclude", Takes::List),
];

/// `"ADD" flags 1*source dest`
pub(super) fn parse(mut request: Request<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<Add> {
    let flags = request.flags(FLAGS, diagnostics);
    let (sources, dest) = copy::sources_and_dest(&request, diagnostics)?;
    let word = |name: &str| flags.value(name).map(|value| request.flag_word(value));
    Some(Add {
        chown: word("chown"),
        chmod: word("chmod"),
        link: flags.switch("link").unwrap_or(false),
        keep_git_dir: flags.switch("keep-git-dir"),
        checksum: word("checksum"),
        unpack: flags.switch("unpack"),
        exclude: flags.list("exclude"),
        sources,
        dest,
    })
}
