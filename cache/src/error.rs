//! What can go wrong with a store: each error names the act, the path and the cause.
//!
//! Damage to a cache entry is not among them: a damaged entry is a miss. What is left is a store that can't be
//! used, and content that somebody asked for by digest and can't have.

use std::io;
use std::path::{Path, PathBuf};

use kiln_image::Digest;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A call to the file system failed.
    #[error("could not {act} `{}`", path.display())]
    Io {
        /// What was tried, as a verb: `create`, `read`, `rename`.
        act: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store was written by a kiln that lays it out in another way.
    #[error("the store `{}` has version `{found}`, and this kiln knows only `{known}`", path.display())]
    UnknownVersion {
        /// Root of the store.
        path: PathBuf,
        /// What its `version` file says.
        found: String,
        /// The version this program writes.
        known: &'static str,
    },
    /// The directory has things in it but is no store.
    #[error("`{}` is not a kiln store: it has `{entry}` in it but no `version`", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// Something in it that kiln doesn't make.
        entry: String,
    },
    /// No blob with this digest.
    #[error("the blob {digest} is not in the store")]
    BlobMissing {
        /// The digest asked for.
        digest: Digest,
    },
    /// The bytes found, or the bytes delivered, are not what the digest says.
    #[error("the bytes of {expected} in `{}` have digest {found}", path.display())]
    Corrupt {
        /// Where they are, or were: a corrupt blob is taken out of the store.
        path: PathBuf,
        /// The digest asked for.
        expected: Digest,
        /// The digest the bytes have.
        found: Digest,
    },
    /// A blob that was to be read into memory is larger than the reader allows.
    #[error("the blob {digest} has {size} bytes, more than the {limit} that are read at once")]
    BlobTooLarge {
        /// The digest asked for.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit given, in bytes.
        limit: u64,
    },
    /// A value could not be written in its stored form.
    #[error("could not serialise {what}")]
    Serialise {
        /// Which value.
        what: &'static str,
        /// What the serialiser said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    pub(crate) fn io(
        act: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.as_ref().to_owned();
        move |source| StoreError::Io { act, path, source }
    }

    /// Like [`StoreError::io`], for calls made through rustix.
    pub(crate) fn errno(
        act: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(rustix::io::Errno) -> StoreError {
        let error = Self::io(act, path);
        move |errno| error(errno.into())
    }

    /// Something to try, where there is something.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Io { source, path, .. } => io_help(source.kind(), path),
            Self::UnknownVersion { .. } => Some(
                "use the kiln that made this store, or give another directory with `--root`"
                    .to_owned(),
            ),
            Self::NotAStore { .. } => {
                Some("give an empty or new directory with `--root` or `KILN_ROOT`".to_owned())
            }
            Self::BlobMissing { .. } => {
                Some("pull, load or build the image again to bring it back".to_owned())
            }
            Self::Corrupt { .. } => Some(
                "the damaged copy is no longer used; pull, load or build the image again, and check the disk"
                    .to_owned(),
            ),
            Self::BlobTooLarge { .. } | Self::Serialise { .. } => None,
        }
    }
}

fn io_help(kind: io::ErrorKind, path: &Path) -> Option<String> {
    let path = path.display();
    match kind {
        io::ErrorKind::PermissionDenied => Some(format!(
            "make `{path}` writable for this user, or give another directory with `--root` or `KILN_ROOT`"
        )),
        io::ErrorKind::ReadOnlyFilesystem => Some(
            "the store is on a read-only file system; give another directory with `--root` or `KILN_ROOT`"
                .to_owned(),
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
            "the disk is full: free some space, or let `kiln cache gc` remove what was not used for longest"
                .to_owned(),
        ),
        io::ErrorKind::NotADirectory => Some(format!(
            "a file is in the way of `{path}`; remove it, or give another directory with `--root`"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_meet_names_path_and_cause_and_has_a_remedy() {
        let kinds = [
            (io::ErrorKind::PermissionDenied, "writable"),
            (io::ErrorKind::ReadOnlyFilesystem, "read-only"),
            (io::ErrorKind::StorageFull, "kiln cache gc"),
            (io::ErrorKind::QuotaExceeded, "kiln cache gc"),
            (io::ErrorKind::NotADirectory, "in the way"),
        ];
        for (kind, remedy) in kinds {
            let error = StoreError::io("create", "/store/tmp")(kind.into());
            assert_eq!(error.to_string(), "could not create `/store/tmp`");
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            assert_eq!(cause, Some(io::Error::from(kind).to_string()));
            assert!(
                error.help().is_some_and(|help| help.contains(remedy)),
                "{kind}"
            );
        }
    }
}
