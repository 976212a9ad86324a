//! Who a process of the step believes to be: user and group ids as the kernel's rules change them (credentials(7)).
//!
//! Where one id is mapped no process can become anybody else, so calls that would are answered from here.

use nix::libc::{EINVAL, EPERM};

/// "Leave it as it is" of setresuid(2) and chown(2).
pub(super) const KEEP: u32 = u32::MAX;

/// More supplementary groups than any kernel takes.
pub(super) const MAX_GROUPS: usize = 65_536;

/// The three ids of a kind, and the one that files are made and looked at with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ids {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    pub(super) files: u32,
}

/// A process's users and groups.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) user: Ids,
    pub(super) group: Ids,
    pub(super) groups: Vec<u32>,
    pub(super) rights: Rights,
}

/// Root's capabilities, all of them or none (capabilities(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Rights {
    /// Could be used after a capset(2).
    permitted: bool,
    /// Are in use.
    effective: bool,
    /// Stay permitted when root becomes a user (`PR_SET_KEEPCAPS`).
    keep: bool,
}

/// Success, or an error number.
pub(super) type Changed = Result<(), i32>;

impl Ids {
    const fn all(id: u32) -> Self {
        Self {
            real: id,
            effective: id,
            saved: id,
            files: id,
        }
    }

    const fn has(&self, id: u32) -> bool {
        id == self.real || id == self.effective || id == self.saved
    }

    /// setuid(2), setgid(2).
    fn set(&mut self, id: u32, privileged: bool) -> Changed {
        if privileged {
            *self = Self::all(id);
        } else if id == self.real || id == self.saved {
            (self.effective, self.files) = (id, id);
        } else {
            return Err(EPERM);
        }
        Ok(())
    }

    /// setreuid(2), setregid(2).
    fn set_two(&mut self, real: u32, effective: u32, privileged: bool) -> Changed {
        let before = *self;
        let real_ok = real == KEEP || real == before.real || real == before.effective;
        let effective_ok = effective == KEEP || before.has(effective);
        let allowed = real_ok && effective_ok;
        if !(privileged || allowed) {
            return Err(EPERM);
        }
        self.real = chosen(real, before.real);
        self.effective = chosen(effective, before.effective);
        if real != KEEP || (effective != KEEP && effective != before.real) {
            self.saved = self.effective;
        }
        self.files = self.effective;
        Ok(())
    }

    /// setresuid(2), setresgid(2).
    fn set_three(&mut self, [real, effective, saved]: [u32; 3], privileged: bool) -> Changed {
        let before = *self;
        let ok = |id| id == KEEP || before.has(id);
        let allowed = ok(real) && ok(effective) && ok(saved);
        if !(privileged || allowed) {
            return Err(EPERM);
        }
        self.real = chosen(real, before.real);
        self.effective = chosen(effective, before.effective);
        self.saved = chosen(saved, before.saved);
        self.files = self.effective;
        Ok(())
    }

    /// setfsuid(2), setfsgid(2): returns what it was, whether it was changed or not.
    fn set_files(&mut self, id: u32, privileged: bool) -> u32 {
        let before = self.files;
        if id != KEEP && (privileged || self.has(id) || id == before) {
            self.files = id;
        }
        before
    }
}

const fn chosen(asked: u32, before: u32) -> u32 {
    if asked == KEEP { before } else { asked }
}

impl Identity {
    /// A process that begins as this user.
    pub(super) fn of(user: &crate::sandbox::User) -> Self {
        Self {
            user: Ids::all(user.uid),
            group: Ids::all(user.gid),
            groups: sorted(user.groups.clone()),
            rights: Rights::of(user.uid == 0),
        }
    }

    /// The same before it is the step's program: to reach that it has all rights, whoever it is, as with runc.
    pub(super) fn about_to_begin(user: &crate::sandbox::User) -> Self {
        Self {
            rights: Rights::of(true),
            ..Self::of(user)
        }
    }

    /// Whether it has root's rights.
    pub(super) const fn is_root(&self) -> bool {
        self.rights.effective
    }

    /// Whether it has these, or may take them.
    pub(super) const fn may_have_rights(&self) -> bool {
        self.rights.permitted
    }

    /// Changes the users, and the rights with them.
    fn change_users(&mut self, change: impl FnOnce(&mut Ids, bool) -> Changed) -> Changed {
        let (before, privileged) = (self.user, self.is_root());
        change(&mut self.user, privileged)?;
        let rights = &mut self.rights;
        if before.has(0) && !self.user.has(0) {
            rights.permitted &= rights.keep;
            rights.effective = false;
        }
        if before.effective == 0 && self.user.effective != 0 {
            rights.effective = false;
        }
        if before.effective != 0 && self.user.effective == 0 {
            rights.effective = rights.permitted;
        }
        Ok(())
    }

    /// prctl(2) with `PR_SET_KEEPCAPS`.
    pub(super) fn keep_rights(&mut self, keep: bool) {
        self.rights.keep = keep;
    }

    /// capset(2): whether these sets are to hold anything.
    pub(super) fn set_rights(&mut self, permitted: bool, effective: bool) -> Changed {
        if permitted && !self.rights.permitted {
            return Err(EPERM);
        }
        self.rights.permitted = permitted;
        self.rights.effective = effective && permitted;
        Ok(())
    }

    pub(super) fn set_user(&mut self, id: u32) -> Changed {
        valid(&[id])?;
        self.change_users(|user, privileged| user.set(id, privileged))
    }

    pub(super) fn set_group(&mut self, id: u32) -> Changed {
        valid(&[id])?;
        let privileged = self.is_root();
        self.group.set(id, privileged)
    }

    pub(super) fn set_two_users(&mut self, real: u32, effective: u32) -> Changed {
        self.change_users(|user, privileged| user.set_two(real, effective, privileged))
    }

    pub(super) fn set_two_groups(&mut self, real: u32, effective: u32) -> Changed {
        let privileged = self.is_root();
        self.group.set_two(real, effective, privileged)
    }

    pub(super) fn set_three_users(&mut self, ids: [u32; 3]) -> Changed {
        self.change_users(|user, privileged| user.set_three(ids, privileged))
    }

    pub(super) fn set_three_groups(&mut self, ids: [u32; 3]) -> Changed {
        let privileged = self.is_root();
        self.group.set_three(ids, privileged)
    }

    pub(super) fn set_files_user(&mut self, id: u32) -> u32 {
        let privileged = self.is_root();
        self.user.set_files(id, privileged)
    }

    pub(super) fn set_files_group(&mut self, id: u32) -> u32 {
        let privileged = self.is_root();
        self.group.set_files(id, privileged)
    }

    pub(super) fn set_groups(&mut self, groups: Vec<u32>) -> Changed {
        if !self.is_root() {
            return Err(EPERM);
        }
        self.groups = sorted(groups);
        Ok(())
    }

    /// What execve(2) makes of it: the saved ids follow, and setuid programs change the effective ones.
    pub(super) fn executed(&mut self, setuid: Option<u32>, setgid: Option<u32>) {
        for (ids, set) in [(&mut self.user, setuid), (&mut self.group, setgid)] {
            ids.effective = set.unwrap_or(ids.effective);
            (ids.saved, ids.files) = (ids.effective, ids.effective);
        }
        self.rights = Rights {
            effective: self.user.effective == 0,
            ..Rights::of(self.user.effective == 0 || self.user.real == 0)
        };
    }

    /// The group for files, and the others.
    pub(super) fn all_groups(&self) -> Vec<u32> {
        [&[self.group.files], &self.groups[..]].concat()
    }

    /// Whether a file of this group may be given to that group by the file's owner.
    pub(super) fn is_in_group(&self, group: u32) -> bool {
        self.group.files == group || self.groups.contains(&group)
    }
}

impl Rights {
    const fn of(root: bool) -> Self {
        Self {
            permitted: root,
            effective: root,
            keep: false,
        }
    }
}

/// As the kernel keeps them.
fn sorted(mut groups: Vec<u32>) -> Vec<u32> {
    groups.sort_unstable();
    groups
}

fn valid(ids: &[u32]) -> Changed {
    match ids.contains(&KEEP) {
        true => Err(EINVAL),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::User;

    fn root() -> Identity {
        Identity::of(&User::default())
    }

    #[test]
    fn root_that_gave_itself_up_stays_what_it_became() {
        let mut apt = root();
        assert_eq!(apt.set_groups(vec![65534]), Ok(()));
        assert_eq!(apt.set_three_groups([65534; 3]), Ok(()));
        assert_eq!(apt.set_three_users([42; 3]), Ok(()));
        assert_eq!(apt.set_user(0), Err(EPERM));
        assert_eq!(apt.set_three_users([KEEP, 0, KEEP]), Err(EPERM));
        assert_eq!(apt.set_groups(Vec::new()), Err(EPERM));
        assert_eq!(apt.user, Ids::all(42));
    }

    #[test]
    fn an_effective_user_can_be_taken_back() {
        let mut su = root();
        assert_eq!(su.set_three_users([KEEP, 1000, KEEP]), Ok(()));
        assert_eq!((su.user.real, su.user.saved, su.user.files), (0, 0, 1000));
        assert_eq!(su.set_user(0), Ok(()));
        assert!(su.is_root());
        assert_eq!(su.set_two_users(1000, 1000), Ok(()));
        assert_eq!(su.set_two_users(0, KEEP), Err(EPERM));
        assert_eq!(su.user, Ids::all(1000));
    }

    #[test]
    fn kept_rights_are_used_again_by_capset() {
        let mut setpriv = root();
        setpriv.keep_rights(true);
        assert_eq!(setpriv.set_three_users([6; 3]), Ok(()));
        assert_eq!(setpriv.set_three_groups([12; 3]), Err(EPERM));
        assert_eq!(setpriv.set_rights(true, true), Ok(()));
        assert_eq!(setpriv.set_three_groups([12; 3]), Ok(()));
        setpriv.executed(None, None);
        assert!(!setpriv.is_root());
        assert_eq!(setpriv.set_rights(true, true), Err(EPERM));
    }

    #[test]
    fn root_in_a_program_of_another_has_rights_to_take_up() {
        let mut at = root();
        at.executed(Some(1), Some(2));
        assert_eq!((at.user.effective, at.group.files), (1, 2));
        assert!(!at.is_root() && at.may_have_rights());
        assert_eq!(at.set_user(0), Ok(()));
        assert!(at.is_root());
    }

    #[test]
    fn a_setuid_program_of_root_is_root() {
        let user = User {
            uid: 1000,
            gid: 1000,
            groups: vec![27],
        };
        let mut sudo = Identity::of(&user);
        sudo.executed(Some(0), None);
        assert!(sudo.is_root() && sudo.user.real == 1000);
        assert_eq!(sudo.set_user(0), Ok(()));
        assert_eq!(sudo.user, Ids::all(0));
        assert!(sudo.is_in_group(27) && !sudo.is_in_group(28));
    }

    #[test]
    fn a_user_has_no_rights_once_the_program_is_there() {
        let user = User {
            uid: 1000,
            gid: 1000,
            groups: Vec::new(),
        };
        let mut step = Identity::about_to_begin(&user);
        assert!(step.is_root());
        step.executed(None, None);
        assert_eq!(step, Identity::of(&user));
        assert_eq!(step.set_rights(true, true), Err(EPERM));
    }

    #[test]
    fn the_id_for_files_is_told_as_it_was() {
        let mut server = root();
        assert_eq!(server.set_files_user(7), 0);
        assert_eq!(server.set_files_user(KEEP), 7);
        assert_eq!(server.user.effective, 0);
    }
}
