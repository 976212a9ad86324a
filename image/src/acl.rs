//! Access lists (acl(5)) in the form of the attributes in which the kernel shows them.
//!
//! A list can name users and groups, by their numbers in the user namespace that looks. Where a number has none of the machine's behind it,
//! the kernel takes no such list, so [`crate::record`] keeps it in an attribute of its own, and what it means for a file's mode is worked out here.

use std::borrow::Cow;

/// The attribute of the list that says who may do what.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of the list that new objects in a directory get.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

/// `POSIX_ACL_XATTR_VERSION` of `linux/posix_acl_xattr.h`.
const VERSION: u32 = 2;

/// Tags of `linux/posix_acl.h`, in the order that they have in a list.
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// What entries have for a number that name nobody.
const NOBODY: u32 = u32::MAX;

/// A list that the kernel would take, if it knew all whom it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessList {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    /// Read, write, execute as in a mode.
    rights: u16,
    id: u32,
}

/// Somebody who wants to use a file.
#[derive(Debug, Clone, Copy)]
pub struct Visitor<'a> {
    /// Their user.
    pub uid: u32,
    /// All their groups.
    pub groups: &'a [u32],
}

impl AccessList {
    /// Reads an attribute's value; `None` for what the kernel would refuse, whoever is named.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk::<4>()?;
        let (entries, []) = rest.as_chunks::<8>() else {
            return None;
        };
        let entries: Vec<Entry> = entries.iter().map(Entry::from_bytes).collect();
        let list = Self { entries };
        (u32::from_le_bytes(*version) == VERSION && list.is_valid()).then_some(list)
    }

    /// The attribute's value.
    pub fn to_bytes(&self) -> Vec<u8> {
        let entries = self.entries.iter().flat_map(|entry| entry.to_bytes());
        VERSION.to_le_bytes().into_iter().chain(entries).collect()
    }

    /// One each of owner, owning group and others, and a mask if anybody is named; in that order.
    fn is_valid(&self) -> bool {
        let count = |tag| self.entries.iter().filter(|entry| entry.tag == tag).count();
        let known = [OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHER];
        let named = count(USER) + count(GROUP) > 0;
        let proper = |entry: &Entry| {
            known.contains(&entry.tag) && entry.rights <= 7 && !entry.names_no_one()
        };
        self.entries.iter().all(proper)
            && self.entries.is_sorted_by_key(|entry| entry.tag)
            && [OWNER, OWNING_GROUP, OTHER].map(count) == [1; 3]
            && (count(MASK) == 1 || count(MASK) == 0 && !named)
    }

    /// Whether it names somebody besides root.
    pub fn names_others(&self) -> bool {
        let names = |entry: &Entry| matches!(entry.tag, USER | GROUP) && entry.id != 0;
        self.entries.iter().any(names)
    }

    /// The permission bits of a file that has it. Those of the group are the mask's, if there is one.
    pub fn mode(&self) -> u32 {
        let group = self.rights(MASK).or(self.rights(OWNING_GROUP));
        let bits = [self.rights(OWNER), group, self.rights(OTHER)];
        bits.into_iter()
            .fold(0, |mode, rights| mode << 3 | u32::from(rights.unwrap_or(0)))
    }

    /// The list after the file's mode has been changed.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        let group = self.group_bits();
        for (tag, shift) in [(OWNER, 6), (group, 3), (OTHER, 0)] {
            self.set_rights(tag, bits(mode, shift));
        }
        self
    }

    /// The list, and the mode, of something that is made with `mode` in a directory that gives it this one.
    pub fn inherited(&self, mode: u32) -> (Self, u32) {
        let mut list = self.clone();
        let group = list.group_bits();
        for (tag, shift) in [(OWNER, 6), (group, 3), (OTHER, 0)] {
            let granted = list.rights(tag).unwrap_or(0) & bits(mode, shift);
            list.set_rights(tag, granted);
        }
        let mode = (mode & !0o777) | list.mode();
        (list, mode)
    }

    /// Whether somebody who isn't the owner may do all of `wanted`, which are bits as in a mode. `owner` and `group` are the file's.
    pub fn grants(&self, visitor: Visitor<'_>, owner: u32, group: u32, wanted: u32) -> bool {
        let mask = self.rights(MASK).unwrap_or(7);
        let allows = |rights: u16| u32::from(rights) & wanted == wanted;
        if visitor.uid == owner {
            return self.rights(OWNER).is_some_and(allows);
        }
        let user = |entry: &&Entry| entry.tag == USER && entry.id == visitor.uid;
        if let Some(entry) = self.entries.iter().find(user) {
            return allows(entry.rights & mask);
        }
        let theirs = |entry: &&Entry| match entry.tag {
            OWNING_GROUP => visitor.groups.contains(&group),
            GROUP => visitor.groups.contains(&entry.id),
            _ => false,
        };
        let mut groups = self.entries.iter().filter(theirs).peekable();
        match groups.peek() {
            Some(_) => groups.any(|entry| allows(entry.rights & mask)),
            None => self.rights(OTHER).is_some_and(allows),
        }
    }

    const fn group_bits(&self) -> u16 {
        // A list without a mask is one of three entries.
        match self.entries.len() {
            3 => OWNING_GROUP,
            _ => MASK,
        }
    }

    fn rights(&self, tag: u16) -> Option<u16> {
        let entry = self.entries.iter().find(|entry| entry.tag == tag)?;
        Some(entry.rights)
    }

    fn set_rights(&mut self, tag: u16, rights: u16) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.tag == tag) {
            entry.rights = rights;
        }
    }
}

/// The bits of one class.
fn bits(mode: u32, shift: u32) -> u16 {
    u16::try_from(mode >> shift & 7).unwrap_or(0)
}

impl Entry {
    fn from_bytes(&[a, b, c, d, id @ ..]: &[u8; 8]) -> Self {
        let tag = u16::from_le_bytes([a, b]);
        let id = match tag {
            USER | GROUP => u32::from_le_bytes(id),
            _ => NOBODY,
        };
        Self {
            tag,
            rights: u16::from_le_bytes([c, d]),
            id,
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        let halves = [self.tag.to_le_bytes(), self.rights.to_le_bytes()];
        [&halves.concat()[..], &self.id.to_le_bytes()].concat()
    }

    fn names_no_one(&self) -> bool {
        matches!(self.tag, USER | GROUP) && self.id == NOBODY
    }
}

/// Whether an attribute is an access list that names somebody besides root.
pub(crate) fn names_others(name: &[u8], value: &[u8]) -> bool {
    (name == ACCESS || name == DEFAULT)
        && AccessList::from_bytes(value).is_some_and(|list| list.names_others())
}

/// What the kernel would show of an access list of a file with this mode.
pub fn shown<'a>(name: &[u8], value: &'a [u8], mode: u32) -> Cow<'a, [u8]> {
    match AccessList::from_bytes(value) {
        Some(list) if name == ACCESS => Cow::Owned(list.with_mode(mode).to_bytes()),
        _ => Cow::Borrowed(value),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As `setfacl -m u:1000:rwx,g:5:r` makes it of a file with mode 640.
    const LIST: [(u16, u16, u32); 6] = [
        (OWNER, 6, NOBODY),
        (USER, 7, 1000),
        (OWNING_GROUP, 4, NOBODY),
        (GROUP, 4, 5),
        (MASK, 7, NOBODY),
        (OTHER, 0, NOBODY),
    ];

    fn bytes(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entries = entries.iter().flat_map(|&(tag, rights, id)| {
            let entry = Entry { tag, rights, id };
            entry.to_bytes()
        });
        VERSION.to_le_bytes().into_iter().chain(entries).collect()
    }

    fn list() -> AccessList {
        AccessList::from_bytes(&bytes(&LIST)).unwrap()
    }

    #[test]
    fn lists_are_read_back_and_wrong_ones_are_none() {
        assert_eq!(list().to_bytes(), bytes(&LIST));
        let wrong: [&[(u16, u16, u32)]; 5] = [
            &[],
            &LIST[..5],                                     // nothing for others
            &[LIST[0], LIST[1], LIST[2], LIST[5]],          // somebody named, and no mask
            &[LIST[1], LIST[0], LIST[2], LIST[4], LIST[5]], // out of order
            &[(OWNER, 8, NOBODY), LIST[2], LIST[5]],
        ];
        for entries in wrong {
            assert_eq!(AccessList::from_bytes(&bytes(entries)), None, "{entries:?}");
        }
        assert_eq!(AccessList::from_bytes(&bytes(&LIST)[1..]), None);
        assert!(list().names_others());
        let minimal = bytes(&[LIST[0], LIST[2], LIST[5]]);
        assert!(!AccessList::from_bytes(&minimal).unwrap().names_others());
    }

    #[test]
    fn the_mask_is_the_modes_group() {
        assert_eq!(list().mode(), 0o670);
        let changed = list().with_mode(0o750);
        assert_eq!(changed.mode(), 0o750);
        let (owner, owning) = (changed.rights(OWNER), changed.rights(OWNING_GROUP));
        assert_eq!(
            (owner, changed.rights(MASK), owning),
            (Some(7), Some(5), Some(4))
        );
    }

    #[test]
    fn what_is_made_gets_no_more_than_it_asks_for() {
        let (file, mode) = list().inherited(0o2644);
        assert_eq!(mode, 0o2640);
        assert_eq!((file.rights(MASK), file.rights(USER)), (Some(4), Some(7)));
        assert_eq!(list().inherited(0o777).1, 0o670);
    }

    #[test]
    fn rights_are_of_the_first_that_fits() {
        let grants =
            |uid, groups: &[u32], wanted| list().grants(Visitor { uid, groups }, 7, 50, wanted);
        assert!(grants(7, &[], 6) && !grants(7, &[50], 1));
        assert!(grants(1000, &[], 7));
        assert!(grants(8, &[50], 4) && !grants(8, &[50, 5], 2));
        assert!(!grants(8, &[8], 4));
        let masked = list().with_mode(0o640);
        let visitor = Visitor {
            uid: 1000,
            groups: &[],
        };
        assert!(masked.grants(visitor, 7, 50, 4) && !masked.grants(visitor, 7, 50, 2));
    }
}
