//! COPY, ADD and WORKDIR.

use kiln_parser::Span;

use crate::Chmod;

/// Changes the files of the root filesystem that is input 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileOp {
    /// COPY and ADD.
    Copy(CopyOp),
    /// WORKDIR.
    Mkdir(MkdirOp),
}

/// Copies files into the root filesystem (R-COPY-6..33).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOp {
    /// What to copy, in the order of copying: paths first, then inline files (R-HD-17). Never empty.
    pub sources: Vec<CopySourceOp>,
    /// The destination, absolute and cleaned, without a trailing slash (`/` alone is the root).
    pub dest: String,
    /// Whether the destination was written as a directory (R-COPY-10).
    pub dest_is_dir: bool,
    /// `--chown`, expanded, never empty: `user[:group]`, looked up in the root filesystem (R-COPY-22..26).
    pub chown: Option<String>,
    /// `--chmod` (R-COPY-27).
    pub chmod: Option<Chmod>,
    /// `--link`, unless `--chmod` is given (R-COPY-29, R-COPY-30).
    pub link: bool,
    /// `--parents` (R-COPY-31).
    pub parents: bool,
    /// `--exclude` patterns, checked to be well formed (R-COPY-32).
    pub exclude: Vec<String>,
    /// Whether it is ADD; for messages.
    pub add: bool,
}

impl CopyOp {
    /// A copy of a source's files into the root, as they are.
    pub(crate) fn of_everything(source: CopySourceOp) -> CopyOp {
        CopyOp {
            sources: vec![source],
            dest: "/".to_owned(),
            dest_is_dir: true,
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
            add: false,
        }
    }
}

/// One source of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySourceOp {
    /// A path or Go pattern (R-COPY-7) in an input's tree.
    Path {
        /// Which input; never 0.
        input: usize,
        /// The path, cleaned and rooted: begins with `/`, never ends with one unless it is the root (R-COPY-6).
        path: String,
        /// With `--parents`, the directory that copied paths are relative to, cleaned and rooted; otherwise `/` (R-COPY-31).
        pivot: String,
        /// Whether a file that is an archive is unpacked (R-ADD-2, R-ADD-5).
        unpack: bool,
        /// Where it stands in the Dockerfile.
        span: Span,
    },
    /// A heredoc: a file of mode 0644 (R-HD-14).
    Inline {
        /// The file's name.
        name: String,
        /// The file's content, expanded.
        content: Vec<u8>,
        /// Where it stands in the Dockerfile.
        span: Span,
    },
}

/// Makes a directory and its missing parents, mode 0755 (R-WORKDIR-4). What exists is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MkdirOp {
    /// The path, absolute and cleaned. It is `/` only for unusual spellings of the root.
    pub path: String,
    /// The current USER, to be looked up in the root filesystem; empty for root.
    pub owner: String,
    /// The date of what is made, in seconds since 1970, if the build has one (R-SDE-2).
    pub date: Option<i64>,
}
