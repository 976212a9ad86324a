//! Where trees come from. Source operations have no inputs.

use kiln_image::{DiffId, Digest, Reference};

use crate::{ContextName, GitSource, HttpSource};

/// A tree from outside the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceOp {
    /// The root filesystem of an image.
    Image {
        /// The name it was asked for by.
        reference: Reference,
        /// What the name stood for; as in [`BaseImage`](crate::BaseImage).
        manifest_digest: Option<Digest>,
        /// Its layers, bottom first; never empty (an image without layers is [`SourceOp::Scratch`], R-FROM-15).
        diff_ids: Vec<DiffId>,
    },
    /// The files of a context, without what its ignore file leaves out.
    Local {
        /// Which named context; `None` for the build context.
        name: Option<ContextName>,
    },
    /// One downloaded file, of mode 0600 (R-ADD-6).
    Http(HttpSource),
    /// The files of a git repository (R-ADD-11).
    Git(GitSource),
    /// The empty tree.
    Scratch,
}
