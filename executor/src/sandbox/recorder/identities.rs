//! All that processes of a step have been, by number: what a process carries along is the number of its identity.

use super::caller::Answered;
use super::identity::Identity;
use nix::libc;
use std::collections::HashMap;

/// How many ids all identities together may have: some 10 MiB. A step that goes through more, as nothing but an attack on kiln's memory does,
/// gets what the kernel says when it has none left for ids (setuid(2)).
const MAX_IDS: usize = 1 << 20;

/// As many ids as take the place of what an identity has besides its supplementary groups.
const IDS_OF_EACH: usize = 20;

/// Identities and their numbers.
#[derive(Debug)]
pub(super) struct Identities {
    /// The first process's first.
    all: Vec<Identity>,
    numbers: HashMap<Identity, usize>,
    ids: usize,
}

impl Identities {
    pub(super) fn new(first: Identity) -> Self {
        Self {
            ids: IDS_OF_EACH + first.groups.len(),
            numbers: HashMap::from([(first.clone(), 0)]),
            all: vec![first],
        }
    }

    /// The identity with a number. Whoever has none of ours is as the first process was.
    pub(super) fn get(&self, number: Option<usize>) -> &Identity {
        let known = number.and_then(|number| self.all.get(number));
        known.unwrap_or(&self.all[0])
    }

    /// The number of an identity.
    pub(super) fn number(&mut self, identity: Identity) -> Answered<usize> {
        if let Some(number) = self.numbers.get(&identity) {
            return Ok(*number);
        }
        let ids = self.ids + IDS_OF_EACH + identity.groups.len();
        if ids > MAX_IDS {
            return Err(libc::EAGAIN);
        }
        self.ids = ids;
        let number = self.all.len();
        self.all.push(identity.clone());
        self.numbers.insert(identity, number);
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::User;

    fn identity(uid: u32, groups: u32) -> Identity {
        Identity::of(&User {
            uid,
            gid: 0,
            groups: (0..groups).collect(),
        })
    }

    #[test]
    fn an_identity_has_one_number() {
        let mut identities = Identities::new(identity(0, 0));
        assert_eq!(identities.number(identity(5, 1)), Ok(1));
        assert_eq!(identities.number(identity(0, 0)), Ok(0));
        assert_eq!(identities.number(identity(5, 1)), Ok(1));
        assert_eq!(identities.get(Some(1)).user.real, 5);
        assert_eq!(identities.get(Some(2)).user.real, 0);
        assert_eq!(identities.get(None).user.real, 0);
    }

    #[test]
    fn their_number_has_a_limit_and_those_known_stay() {
        let mut identities = Identities::new(identity(0, 0));
        let mut many = (1..100).map(|uid| (uid, identities.number(identity(uid, 65_000))));
        let refused = many.find(|(_, number)| number.is_err());
        assert_eq!(refused, Some((17, Err(libc::EAGAIN))));
        drop(many);
        assert_eq!(identities.number(identity(16, 65_000)), Ok(16));
    }
}
