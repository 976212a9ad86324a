//! As whom the broker gets at files: as whoever asks, so that the kernel refuses it what it would refuse them.

use super::caller::{Answered, Who};
use crate::sandbox::CapabilitySet;
use nix::libc;
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::thread::{CapabilitySet as KernelSet, CapabilitySets};

/// The user that this process seems to be for files. For signals it stays root, so that a user's processes can't touch it.
#[derive(Debug)]
pub(super) struct Guise {
    /// Not known for sure after a change that failed.
    worn: Option<Who>,
}

impl Guise {
    /// Root's, as which the process begins.
    pub(super) fn roots() -> Self {
        Self {
            worn: Some(Who::default()),
        }
    }

    /// Who that is, if it is known.
    pub(super) fn worn(&self) -> Option<Who> {
        self.worn.clone()
    }

    /// Takes away from this process what its step hasn't got either, but for what it takes to become the step's user. Nothing is looked up
    /// with that.
    pub(super) fn limit(capabilities: CapabilitySet) -> rustix::io::Result<()> {
        let held = rustix::thread::capabilities(None)?;
        let has = KernelSet::from_bits_retain(capabilities.mask());
        let changes_user = KernelSet::SETUID | KernelSet::SETGID;
        set(held.permitted & has, held.permitted & (has | changes_user))
    }

    /// Becomes somebody, with the capabilities that they have of those that this process was left.
    pub(super) fn wear(&mut self, who: &Who) -> Answered<()> {
        if self.worn.as_ref() == Some(who) {
            return Ok(());
        }
        self.worn = None;
        let failed = |errno: rustix::io::Errno| errno.raw_os_error();
        let permitted = rustix::thread::capabilities(None)
            .map_err(failed)?
            .permitted;
        set(permitted, permitted).map_err(failed)?;
        let groups: Vec<_> = who
            .groups
            .iter()
            .map(|id| rustix::process::Gid::from_raw(*id))
            .collect();
        rustix::thread::set_thread_groups(&groups).map_err(failed)?;
        setfsgid(Gid::from_raw(who.gid));
        setfsuid(Uid::from_raw(who.uid));
        // These two tell what was, and so what is only when asked again.
        let (user, group) = (
            setfsuid(Uid::from_raw(u32::MAX)),
            setfsgid(Gid::from_raw(u32::MAX)),
        );
        let effective = permitted & KernelSet::from_bits_retain(who.capabilities);
        set(effective, permitted).map_err(failed)?;
        // A change of user has cleared it.
        super::super::minder::end_with_parent().map_err(|error| error.errno)?;
        if (user.as_raw(), group.as_raw()) != (who.uid, who.gid) {
            return Err(libc::EPERM);
        }
        self.worn = Some(who.clone());
        Ok(())
    }
}

fn set(effective: KernelSet, permitted: KernelSet) -> rustix::io::Result<()> {
    let sets = CapabilitySets {
        effective,
        permitted,
        inheritable: KernelSet::empty(),
    };
    rustix::thread::set_capabilities(None, sets)
}
