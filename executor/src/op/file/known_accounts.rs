//! The users and groups of the root filesystem that was asked about last: most steps leave them to the next as they were.

use std::sync::{Arc, Mutex, PoisonError};

use kiln_cache::OutputId;

use super::Accounts;
use crate::locked::locked;

/// Remembers them by what identifies the root filesystem.
#[derive(Debug, Default)]
pub(crate) struct KnownAccounts(Mutex<Option<(OutputId, Arc<Accounts>)>>);

impl KnownAccounts {
    /// Those of a root filesystem, read if they are not known.
    pub(crate) fn of<E>(
        &self,
        root: OutputId,
        read: impl FnOnce() -> Result<Accounts, E>,
    ) -> Result<Arc<Accounts>, E> {
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((_, accounts)) = known.filter(|(id, _)| *id == root) {
            return Ok(accounts);
        }
        let accounts = Arc::new(read()?);
        *locked(&self.0) = Some((root, accounts.clone()));
        Ok(accounts)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kiln_image::{DiffId, Digest};
    use std::convert::Infallible;

    #[test]
    fn another_root_filesystem_is_read() {
        let known = KnownAccounts::default();
        let of = |id: OutputId, passwd: &[u8]| {
            let read = || Ok::<_, Infallible>(Accounts::parse(passwd, b""));
            let accounts = known.of(id, read).unwrap();
            accounts.run_user("app").map(|user| user.uid)
        };
        let (one, other) = (
            OutputId::scratch(),
            OutputId::image(&[DiffId(Digest::of(b"x"))]),
        );
        assert_ne!(one, other);
        assert_eq!(of(one, b"app:x:7:7::/:"), Ok(7));
        assert_eq!(of(one, b"unread"), Ok(7));
        assert_eq!(of(other, b"app:x:8:8::/:"), Ok(8));
        assert_eq!(of(one, b"app:x:9:9::/:"), Ok(9));
    }
}
