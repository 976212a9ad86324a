//! Who a process of the step believes to be: user and group ids as the kernel's rules change them (credentials(7)).
//!
//! Where one id is mapped no process can become anybody else, so calls that would are answered from here.

use super::rights::{OfFile, Rights};
use crate::sandbox::capability::{CapabilitySet, SETGID, SETUID};
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

/// What a program gives whoever executes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gift {
    /// By its setuid and setgid bits.
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) capabilities: Option<OfFile>,
}

/// Success, or an error number.
pub(super) type Changed = Result<(), i32>;

impl Ids {
    pub(super) const fn all(id: u32) -> Self {
        Self {
            real: id,
            effective: id,
            saved: id,
            files: id,
        }
    }

    pub(super) const fn has(&self, id: u32) -> bool {
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
    /// A process before it is this user's program: to reach that it has all that the step may have, whoever it is, as with runc.
    pub(super) fn about_to_begin(user: &crate::sandbox::User, capabilities: CapabilitySet) -> Self {
        Self {
            user: Ids::all(user.uid),
            group: Ids::all(user.gid),
            groups: sorted(user.groups.clone()),
            rights: Rights::first(capabilities),
        }
    }

    /// Whether it may do with files what it likes.
    pub(super) const fn is_root(&self) -> bool {
        self.rights.has_all_about_files()
    }

    pub(super) const fn can(&self, capability: u8) -> bool {
        self.rights.has(capability)
    }

    /// Changes the users, and the rights with them.
    fn change_users(&mut self, change: impl FnOnce(&mut Ids, bool) -> Changed) -> Changed {
        let (before, privileged) = (self.user, self.can(SETUID));
        change(&mut self.user, privileged)?;
        self.rights.users_changed(&before, &self.user);
        Ok(())
    }

    pub(super) fn set_user(&mut self, id: u32) -> Changed {
        valid(&[id])?;
        self.change_users(|user, privileged| user.set(id, privileged))
    }

    pub(super) fn set_group(&mut self, id: u32) -> Changed {
        valid(&[id])?;
        let privileged = self.can(SETGID);
        self.group.set(id, privileged)
    }

    pub(super) fn set_two_users(&mut self, real: u32, effective: u32) -> Changed {
        self.change_users(|user, privileged| user.set_two(real, effective, privileged))
    }

    pub(super) fn set_two_groups(&mut self, real: u32, effective: u32) -> Changed {
        let privileged = self.can(SETGID);
        self.group.set_two(real, effective, privileged)
    }

    pub(super) fn set_three_users(&mut self, ids: [u32; 3]) -> Changed {
        self.change_users(|user, privileged| user.set_three(ids, privileged))
    }

    pub(super) fn set_three_groups(&mut self, ids: [u32; 3]) -> Changed {
        let privileged = self.can(SETGID);
        self.group.set_three(ids, privileged)
    }

    pub(super) fn set_files_user(&mut self, id: u32) -> u32 {
        let privileged = self.can(SETUID);
        let before = self.user.set_files(id, privileged);
        self.rights.files_user_changed(before, self.user.files);
        before
    }

    pub(super) fn set_files_group(&mut self, id: u32) -> u32 {
        let privileged = self.can(SETGID);
        self.group.set_files(id, privileged)
    }

    pub(super) fn set_groups(&mut self, groups: Vec<u32>) -> Changed {
        if !self.can(SETGID) {
            return Err(EPERM);
        }
        self.groups = sorted(groups);
        Ok(())
    }

    /// What execve(2) makes of it: the saved ids follow, and setuid programs change the effective ones. `gains_nothing` is asked only where something is to
    /// be gained.
    pub(super) fn executed(&mut self, gift: Gift, gains_nothing: impl FnOnce() -> bool) -> Changed {
        let (before, is_of_group) = (self.user, gift.group.map(|id| self.is_in_group(id)));
        self.user.effective = gift.user.unwrap_or(before.effective);
        self.group.effective = gift.group.unwrap_or(self.group.effective);
        let other_group = is_of_group == Some(false);
        let users = (&before, &self.user);
        let file = gift.capabilities;
        let gained = self
            .rights
            .executed(users, other_group, file, gains_nothing)?;
        for ids in [&mut self.user, &mut self.group] {
            if !gained {
                ids.effective = ids.real;
            }
            (ids.saved, ids.files) = (ids.effective, ids.effective);
        }
        Ok(())
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
impl Identity {
    /// A user whose program has begun.
    pub(super) fn of(user: &crate::sandbox::User) -> Self {
        let mut identity = Self::about_to_begin(user, CapabilitySet::DOCKER_DEFAULT);
        let begun = identity.executed(Gift::default(), || false);
        begun.expect("a program without capabilities");
        identity
    }
}

#[cfg(test)]
mod tests {
    use super::super::rights::Sets;
    use super::*;
    use crate::sandbox::User;

    fn root() -> Identity {
        Identity::of(&User::default())
    }

    fn execute(identity: &mut Identity, gift: Gift) {
        assert_eq!(identity.executed(gift, || false), Ok(()));
    }

    fn set_to(user: Option<u32>, group: Option<u32>) -> Gift {
        Gift {
            user,
            group,
            capabilities: None,
        }
    }

    fn all(set: u64) -> Sets {
        Sets {
            effective: set,
            permitted: set,
            inheritable: 0,
        }
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
        assert_eq!(setpriv.rights.keep(1), Ok(()));
        assert_eq!(setpriv.set_three_users([6; 3]), Ok(()));
        assert_eq!(setpriv.set_three_groups([12; 3]), Err(EPERM));
        let all = all(setpriv.rights.permitted);
        assert_eq!(setpriv.rights.set(all), Ok(()));
        assert_eq!(setpriv.set_three_groups([12; 3]), Ok(()));
        execute(&mut setpriv, Gift::default());
        assert!(!setpriv.is_root() && !setpriv.rights.keeps());
        assert_eq!(setpriv.rights.set(all), Err(EPERM));
    }

    #[test]
    fn root_in_a_program_of_another_has_rights_to_take_up() {
        let mut at = root();
        execute(&mut at, set_to(Some(1), Some(2)));
        assert_eq!((at.user.effective, at.group.files), (1, 2));
        assert!(!at.is_root() && at.rights.permitted != 0);
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
        let asked = sudo.clone();
        execute(&mut sudo, set_to(Some(0), None));
        assert!(sudo.is_root() && sudo.user.real == 1000);
        assert_eq!(sudo.set_user(0), Ok(()));
        assert_eq!(sudo.user, Ids::all(0));
        assert!(sudo.is_in_group(27) && !sudo.is_in_group(28));
        let mut refused = asked.clone();
        let program = set_to(Some(0), None);
        assert_eq!(refused.executed(program, || true), Ok(()));
        assert_eq!(refused, asked);
    }

    #[test]
    fn a_user_has_no_rights_once_the_program_is_there() {
        let user = User {
            uid: 1000,
            gid: 1000,
            groups: Vec::new(),
        };
        let mut step = Identity::about_to_begin(&user, CapabilitySet::DOCKER_DEFAULT);
        assert!(step.is_root());
        let held = all(step.rights.permitted);
        execute(&mut step, Gift::default());
        assert_eq!(step, Identity::of(&user));
        assert_eq!(step.rights.set(held), Err(EPERM));
        let mut all = Identity::about_to_begin(&user, CapabilitySet::ALL);
        execute(&mut all, Gift::default());
        assert!(all.is_root() && all.rights.ambient == all.rights.bounding); // R-RT-6
    }

    #[test]
    fn the_id_for_files_is_told_as_it_was() {
        let mut server = root();
        assert_eq!(server.set_files_user(7), 0);
        assert_eq!(server.set_files_user(KEEP), 7);
        assert_eq!(server.user.effective, 0);
    }
}
