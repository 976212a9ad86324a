//! Why a copy can't be done.

use kiln_image::{ImagePath, ResolveError};
use kiln_parser::IgnoreError;

use super::OwnerError;

/// Why a COPY or ADD can't be done. `source` is the position in the instruction's list of sources.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A literal source, or what a link leads to, isn't there (R-COPY-8, R-COPY-9).
    #[error("`{path}` is not there")]
    NotFound {
        /// Which source.
        source_index: usize,
        /// The path that was looked for: as asked for, or the link that leads nowhere.
        path: String,
    },
    /// A source's wildcards are malformed (R-COPY-7).
    #[error("syntax error in the pattern `{pattern}`")]
    BadPattern {
        /// Which source.
        source_index: usize,
        /// The pattern.
        pattern: String,
    },
    /// A source's links lead in a circle.
    #[error("could not follow the source `{path}`")]
    SourceLinks {
        /// Which source.
        source_index: usize,
        /// The path as asked for.
        path: String,
        /// What is wrong with it.
        #[source]
        cause: ResolveError,
    },
    /// The destination leads through something that isn't a directory, or in a circle.
    #[error("could not follow the destination")]
    Destination(#[from] ResolveError),
    /// The destination is to be a directory and is something else.
    #[error("mkdir `/{path}`: not a directory")]
    DestinationNotDirectory {
        /// The destination, links followed.
        path: ImagePath,
    },
    /// The directory of an archive's member is something else, or behind a link that leads nowhere (R-ADD-4).
    #[error("cannot unpack `{member}`: what it is in is not a directory")]
    MemberPlace {
        /// The member, as the archive has it.
        member: ImagePath,
    },
    /// A directory meets something else at its destination (R-COPY-11).
    #[error("cannot copy to non-directory: `/{path}`")]
    ToNonDirectory {
        /// What is in the way.
        path: ImagePath,
    },
    /// Something else meets a directory at its destination (R-COPY-11).
    #[error("cannot replace to directory `/{path}` with file")]
    ReplaceDirectory {
        /// The directory in the way.
        path: ImagePath,
    },
    /// An `--exclude` pattern is malformed (R-COPY-32).
    #[error("invalid excludepatterns")]
    Exclude(#[source] IgnoreError),
    /// `--chown` can't be resolved.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The plan names an input that no tree was given for: a fault of kiln's.
    #[error("no tree was given for input {input} of a copy")]
    MissingInput {
        /// The input's number.
        input: usize,
    },
}
