//! The file system that a store is on.

use crate::{Store, StoreError};

/// How large a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that this user may still write.
    pub free: u64,
}

impl Store {
    /// The file system the store is on.
    pub fn disk(&self) -> Result<Disk, StoreError> {
        let found = rustix::fs::statvfs(self.root())
            .map_err(StoreError::errno("ask how full is", self.root()))?;
        Ok(Disk {
            total: found.f_blocks.saturating_mul(found.f_frsize),
            free: found.f_bavail.saturating_mul(found.f_frsize),
        })
    }
}
