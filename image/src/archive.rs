//! The archive of `docker save`, read and written.
