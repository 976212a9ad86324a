//! A directory on disk read as a changeset.
