//! What a process believes that it may do: its sets of capabilities, as the kernel's rules change them (capabilities(7)).
//!
//! The kernel's own sets stay what they were: what the step does with files takes them. What they don't hold is in no believed set either.

use super::identity::{Changed, Ids};
use crate::sandbox::CapabilitySet;
use crate::sandbox::capability::{
    CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, LINUX_IMMUTABLE, MAC_OVERRIDE, MKNOD,
    SETPCAP,
};
use nix::libc::{EINVAL, EPERM};

/// A program's attribute with its own.
pub(super) const ATTRIBUTE: &str = "security.capability";

/// Sets by number, and bits that say what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Rights {
    pub(super) permitted: u64,
    pub(super) effective: u64,
    pub(super) inheritable: u64,
    pub(super) bounding: u64,
    pub(super) ambient: u64,
    pub(super) secure: u32,
}

/// What capset(2) sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sets {
    pub(super) effective: u64,
    pub(super) permitted: u64,
    pub(super) inheritable: u64,
}

/// A program's capabilities (`setcap`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OfFile {
    permitted: u64,
    inheritable: u64,
    effective: bool,
}

/// `SECURE_NOROOT`, `SECURE_NO_SETUID_FIXUP`, `SECURE_KEEP_CAPS`, `SECURE_NO_CAP_AMBIENT_RAISE` of `linux/securebits.h`. The bit above each locks it.
const NO_ROOT: u32 = 1;
const NO_FIXUP: u32 = 1 << 2;
const KEEP: u32 = 1 << 4;
const NO_AMBIENT: u32 = 1 << 6;
const LOCKS: u32 = (NO_ROOT | NO_FIXUP | KEEP | NO_AMBIENT) << 1;
const ALL_BITS: u32 = LOCKS | LOCKS >> 1;

/// What root that gives up its id for files alone can't do any more (setfsuid(2)).
const OF_FILES: u64 = set(&[
    CHOWN,
    DAC_OVERRIDE,
    DAC_READ_SEARCH,
    FOWNER,
    FSETID,
    LINUX_IMMUTABLE,
    MKNOD,
    MAC_OVERRIDE,
]);

/// Who has these is asked nothing about files.
const ALL_ABOUT_FILES: u64 = set(&[CHOWN, DAC_OVERRIDE, FOWNER, FSETID]);

const fn set(capabilities: &[u8]) -> u64 {
    let mut set = 0;
    let mut at = 0;
    while at < capabilities.len() {
        set |= 1 << capabilities[at];
        at += 1;
    }
    set
}

/// The bit of a capability, if there is such a one.
fn bit(capability: u64) -> Result<u64, i32> {
    let bit = u32::try_from(capability)
        .ok()
        .and_then(|it| 1u64.checked_shl(it));
    bit.filter(|bit| bit & CapabilitySet::named().mask() != 0)
        .ok_or(EINVAL)
}

impl Rights {
    /// Those of root in a step with these capabilities. All of them are everybody's (R-RT-6).
    pub(super) fn first(capabilities: CapabilitySet) -> Self {
        let mask = capabilities.mask() & CapabilitySet::named().mask();
        let handed_down = match capabilities {
            CapabilitySet::ALL => mask,
            _ => 0,
        };
        Self {
            permitted: mask,
            effective: mask,
            inheritable: handed_down,
            bounding: mask,
            ambient: handed_down,
            secure: 0,
        }
    }

    pub(super) const fn has(&self, capability: u8) -> bool {
        self.effective & set(&[capability]) != 0
    }

    pub(super) const fn has_all_about_files(&self) -> bool {
        self.effective & ALL_ABOUT_FILES == ALL_ABOUT_FILES
    }

    /// What a change of users changes.
    pub(super) fn users_changed(&mut self, before: &Ids, after: &Ids) {
        if self.secure & NO_FIXUP != 0 {
            return;
        }
        if before.has(0) && !after.has(0) {
            if self.secure & KEEP == 0 {
                (self.permitted, self.effective) = (0, 0);
            }
            self.ambient = 0;
        }
        match (before.effective, after.effective) {
            (0, 0) => {}
            (0, _) => self.effective = 0,
            (_, 0) => self.effective = self.permitted,
            _ => {}
        }
    }

    /// What a change of the id for files changes.
    pub(super) fn files_user_changed(&mut self, before: u32, after: u32) {
        match (before, after) {
            _ if self.secure & NO_FIXUP != 0 => {}
            (0, 0) => {}
            (0, _) => self.effective &= !OF_FILES,
            (_, 0) => self.effective |= self.permitted & OF_FILES,
            _ => {}
        }
    }

    /// capset(2).
    pub(super) fn set(&mut self, wanted: Sets) -> Changed {
        let within = |set: u64, other: u64| set & !other == 0;
        let gained = !within(wanted.inheritable, self.inheritable | self.permitted);
        let refused = gained && !self.has(SETPCAP)
            || !within(wanted.inheritable, self.inheritable | self.bounding)
            || !within(wanted.permitted, self.permitted)
            || !within(wanted.effective, wanted.permitted);
        if refused {
            return Err(EPERM);
        }
        self.effective = wanted.effective;
        self.permitted = wanted.permitted;
        self.inheritable = wanted.inheritable;
        self.ambient &= wanted.permitted & wanted.inheritable;
        Ok(())
    }

    /// prctl(2) with `PR_SET_KEEPCAPS`.
    pub(super) fn keep(&mut self, keep: u64) -> Changed {
        if keep > 1 {
            return Err(EINVAL);
        }
        if self.secure & KEEP << 1 != 0 {
            return Err(EPERM);
        }
        self.secure &= !KEEP;
        if keep == 1 {
            self.secure |= KEEP;
        }
        Ok(())
    }

    pub(super) const fn keeps(&self) -> bool {
        self.secure & KEEP != 0
    }

    /// `PR_SET_SECUREBITS`.
    pub(super) fn secure(&mut self, bits: u64) -> Changed {
        let bits = u32::try_from(bits).map_err(|_| EPERM)?;
        let locks = self.secure & LOCKS;
        let changes_locked = locks >> 1 & (self.secure ^ bits) != 0;
        if changes_locked || locks & !bits != 0 || bits & !ALL_BITS != 0 || !self.has(SETPCAP) {
            return Err(EPERM);
        }
        self.secure = bits;
        Ok(())
    }

    /// `PR_CAPBSET_READ`.
    pub(super) fn is_bounded(&self, capability: u64) -> Result<bool, i32> {
        Ok(self.bounding & bit(capability)? != 0)
    }

    /// `PR_CAPBSET_DROP`.
    pub(super) fn bound(&mut self, capability: u64) -> Changed {
        if !self.has(SETPCAP) {
            return Err(EPERM);
        }
        self.bounding &= !bit(capability)?;
        Ok(())
    }

    /// `PR_CAP_AMBIENT_IS_SET`.
    pub(super) fn is_ambient(&self, capability: u64) -> Result<bool, i32> {
        Ok(self.ambient & bit(capability)? != 0)
    }

    /// `PR_CAP_AMBIENT_RAISE`.
    pub(super) fn raise_ambient(&mut self, capability: u64) -> Changed {
        let bit = bit(capability)?;
        if bit & self.permitted & self.inheritable == 0 || self.secure & NO_AMBIENT != 0 {
            return Err(EPERM);
        }
        self.ambient |= bit;
        Ok(())
    }

    /// `PR_CAP_AMBIENT_LOWER`.
    pub(super) fn lower_ambient(&mut self, capability: u64) -> Changed {
        self.ambient &= !bit(capability)?;
        Ok(())
    }

    /// What execve(2) makes of it, where the program's set-ID bits have made `after` of the users `before`. `other_group`: and of the effective group one that
    /// the caller is not in. Whether no more is to be gained is asked only where something would be; what is gained then, users too, is not (`false`).
    pub(super) fn executed(
        &mut self,
        (before, after): (&Ids, &Ids),
        other_group: bool,
        file: Option<OfFile>,
        gains_nothing: impl FnOnce() -> bool,
    ) -> Result<bool, i32> {
        let has_root = |id: u32| id == 0 && self.secure & NO_ROOT == 0;
        let (mut permitted, mut all_effective) = (0, false);
        if let Some(file) = file {
            permitted = self.bounding & file.permitted | self.inheritable & file.inheritable;
            if file.effective && file.permitted & !permitted != 0 {
                return Err(EPERM);
            }
            all_effective = file.effective;
        }
        // A user's program of root's that has capabilities has these alone.
        let has_its_own = file.is_some() && after.real != 0 && after.effective == 0;
        if !has_its_own {
            if has_root(after.effective) || has_root(after.real) {
                permitted = self.bounding | self.inheritable;
            }
            all_effective |= has_root(after.effective);
        }
        let changes = before.effective != after.effective || other_group;
        let gains = changes || permitted & !self.permitted != 0;
        let allowed = !(gains && gains_nothing());
        if !allowed {
            permitted &= self.permitted;
        }
        if file.is_some() || changes {
            self.ambient = 0;
        }
        self.permitted = permitted | self.ambient;
        self.effective = match all_effective {
            true => self.permitted,
            false => self.ambient,
        };
        self.secure &= !KEEP;
        Ok(allowed)
    }
}

impl OfFile {
    /// From the [attribute](ATTRIBUTE), a `vfs_cap_data` of `linux/capability.h`.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<4>();
        let word = |at: usize| words.get(at).map(|word| u32::from_le_bytes(*word));
        let first = word(0)?;
        let pairs = match (first >> 24, words.len()) {
            (1, 3) => 1,
            (2, 5) | (3, 6) => 2,
            _ => return None,
        };
        let both = |at: usize| {
            let high = if pairs == 2 { word(at + 2)? } else { 0 };
            Some(u64::from(word(at)?) | u64::from(high) << 32)
        };
        let known = CapabilitySet::named().mask();
        Some(Self {
            permitted: both(1)? & known,
            inheritable: both(2)? & known,
            effective: first & 1 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::capability::{KILL, NET_RAW, SYS_ADMIN};

    const ROOT: Ids = Ids::all(0);
    const USER: Ids = Ids::all(1000);

    fn root() -> Rights {
        Rights::first(CapabilitySet::DOCKER_DEFAULT)
    }

    fn user() -> Rights {
        let mut user = root();
        user.users_changed(&ROOT, &USER);
        user
    }

    fn file(permitted: &[u8], inheritable: &[u8], effective: bool) -> Option<OfFile> {
        Some(OfFile {
            permitted: set(permitted),
            inheritable: set(inheritable),
            effective,
        })
    }

    fn execute(
        rights: &mut Rights,
        users: (&Ids, &Ids),
        file: Option<OfFile>,
    ) -> Result<bool, i32> {
        rights.executed(users, false, file, || false)
    }

    #[test]
    fn a_user_has_what_a_program_gives_within_the_bounds() {
        let mut rights = user();
        assert_eq!((rights.permitted, rights.bounding), (0, root().bounding));
        let gives = file(&[CHOWN, KILL], &[], true);
        assert_eq!(execute(&mut rights, (&USER, &USER), gives), Ok(true));
        assert_eq!(rights.effective, set(&[CHOWN, KILL]));
        let idle = file(&[CHOWN], &[], false);
        assert_eq!(execute(&mut rights, (&USER, &USER), idle), Ok(true));
        assert_eq!((rights.permitted, rights.effective), (set(&[CHOWN]), 0));
        let too_much = file(&[SYS_ADMIN], &[], true);
        assert_eq!(execute(&mut rights, (&USER, &USER), too_much), Err(EPERM));
        assert_eq!(execute(&mut rights, (&USER, &USER), None), Ok(true));
        assert_eq!(rights, user());
    }

    #[test]
    fn who_may_gain_nothing_gains_nothing() {
        let mut rights = user();
        let gives = file(&[CHOWN], &[], true);
        let asked = rights.executed((&USER, &USER), false, gives, || true);
        assert_eq!((asked, rights.permitted), (Ok(false), 0));
        let mut rights = root();
        let unasked = rights.executed((&ROOT, &ROOT), false, None, || panic!("gains nothing"));
        assert_eq!((unasked, rights), (Ok(true), root()));
    }

    #[test]
    fn what_is_dropped_is_there_no_more() {
        let mut rights = root();
        assert_eq!(rights.bound(CHOWN.into()), Ok(()));
        assert_eq!(rights.is_bounded(CHOWN.into()), Ok(false));
        assert!(rights.has(CHOWN));
        assert_eq!(execute(&mut rights, (&ROOT, &ROOT), None), Ok(true));
        assert!(!rights.has(CHOWN) && !rights.has_all_about_files());
        assert_eq!(rights.bound(63), Err(EINVAL));
        assert_eq!(rights.is_bounded(u64::MAX), Err(EINVAL));
        assert_eq!(user().bound(CHOWN.into()), Err(EPERM));
    }

    #[test]
    fn what_is_ambient_is_handed_down_to_users() {
        let mut rights = root();
        assert_eq!(rights.raise_ambient(KILL.into()), Err(EPERM)); // not inheritable
        let wanted = Sets {
            effective: rights.permitted,
            permitted: rights.permitted,
            inheritable: set(&[KILL]),
        };
        assert_eq!(rights.set(wanted), Ok(()));
        assert_eq!(rights.keep(1), Ok(()));
        rights.users_changed(&ROOT, &USER);
        assert_eq!(rights.raise_ambient(KILL.into()), Ok(()));
        assert_eq!(execute(&mut rights, (&USER, &USER), None), Ok(true));
        assert_eq!(
            (rights.effective, rights.ambient),
            (set(&[KILL]), set(&[KILL]))
        );
        let of_its_own = file(&[NET_RAW], &[KILL], true);
        assert_eq!(execute(&mut rights, (&USER, &USER), of_its_own), Ok(true));
        assert_eq!(
            (rights.effective, rights.ambient),
            (set(&[NET_RAW, KILL]), 0)
        );
    }

    #[test]
    fn sets_grow_only_by_what_may_be_had() {
        let mut rights = user();
        let sets = |effective, permitted, inheritable| Sets {
            effective,
            permitted,
            inheritable,
        };
        assert_eq!(rights.set(sets(0, 1, 0)), Err(EPERM));
        assert_eq!(rights.set(sets(0, 0, 1)), Err(EPERM));
        let mut rights = root();
        assert_eq!(rights.set(sets(0, rights.permitted, 0)), Ok(()));
        assert_eq!(rights.set(sets(1, 0, 0)), Err(EPERM));
        assert_eq!(
            rights.set(sets(0, rights.permitted, 1 << SYS_ADMIN)),
            Err(EPERM)
        );
        assert_eq!(rights.set(sets(1, 1, 0)), Ok(()));
    }

    #[test]
    fn bits_that_are_locked_stay() {
        let mut rights = root();
        assert_eq!(rights.secure(u64::from(NO_ROOT | NO_ROOT << 1)), Ok(()));
        assert_eq!(rights.secure(0), Err(EPERM));
        assert_eq!(execute(&mut rights, (&ROOT, &ROOT), None), Ok(true));
        assert_eq!((rights.permitted, rights.effective), (0, 0));
        let mut rights = root();
        assert_eq!(rights.secure(u64::from(KEEP << 1)), Ok(()));
        assert_eq!(rights.keep(1), Err(EPERM));
        assert_eq!(
            (root().keep(2), root().secure(1 << 9)),
            (Err(EINVAL), Err(EPERM))
        );
    }

    #[test]
    fn root_for_files_alone_is_root_for_files() {
        let mut rights = root();
        rights.files_user_changed(0, 1000);
        assert!(!rights.has(CHOWN) && rights.has(KILL));
        rights.files_user_changed(1000, 0);
        assert_eq!(rights, root());
    }

    #[test]
    fn an_attribute_is_read_in_each_of_its_versions() {
        let words = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        let read = |it: &[u32]| OfFile::from_bytes(&words(it));
        let gives = file(&[NET_RAW], &[CHOWN], true);
        assert_eq!(read(&[0x0100_0001, 1 << NET_RAW, 1]), gives);
        assert_eq!(read(&[0x0200_0001, 1 << NET_RAW, 1, 0, 0]), gives);
        assert_eq!(read(&[0x0300_0001, 1 << NET_RAW, 1, 0, 0, 7]), gives);
        assert_eq!(read(&[0x0200_0001, 1]), None);
        assert_eq!(read(&[0x0400_0001, 1, 1, 0, 0]), None);
        assert_eq!(OfFile::from_bytes(b"x"), None);
    }
}
