//! Who the step is: groups, user, capabilities.

use super::{CapabilitySet, Resource, Rlimit, User};
use crate::sys::{Context as _, Result};
use rustix::fs::FileType;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet as KernelSet, CapabilitySets};

/// The last capability a kernel may know: sets have 64 bits.
const LAST: u8 = 63;

/// Closes this process's memory and environment to all but who may trace any process (`PR_SET_DUMPABLE`).
pub(super) fn keep_memory_to_itself() {
    let behaviour = rustix::process::DumpableBehavior::NotDumpable;
    let _ = rustix::process::set_dumpable_behavior(behaviour);
}

/// Takes away what is not in `capabilities`, but for the [bounding set](limit_bounding_set), then becomes `user` (R-RT-5).
///
/// Nothing is inheritable or ambient. no_new_privs stays off, so setuid programs work within the bounding set (R-RT-3).
///
/// Users other than 0 keep the same capabilities until the program is executed, which takes them away: so it is found and executed
/// even where only root may, as other runtimes have it.
///
/// With [`CapabilitySet::ALL`] every user has all that kiln has, in all sets (R-RT-6).
pub(super) fn become_user(user: &User, capabilities: CapabilitySet) -> Result<()> {
    rustix::thread::set_keep_capabilities(true).call("prctl", || "PR_SET_KEEPCAPS".into())?;
    let groups: Vec<Gid> = user
        .groups
        .iter()
        .map(|group| Gid::from_raw(*group))
        .collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_groups(&groups)
        .call("setgroups", || format!("{:?}", user.groups))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).call("setresgid", || user.gid.to_string())?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).call("setresuid", || user.uid.to_string())?;
    match capabilities {
        CapabilitySet::ALL => hand_down_all(),
        limited => set_permitted(limited),
    }
}

/// Gives pipes among the standard streams to the user, who can then open them by name: `echo x > /dev/stderr`.
///
/// Other streams are not the step's own, and where that user can't own anything, nothing is lost but this.
pub(super) fn give_streams(user: &User) {
    use rustix::stdio::{stderr, stdin, stdout};
    for stream in [stdin(), stdout(), stderr()] {
        let stat = rustix::fs::fstat(stream);
        if stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo) {
            let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(user.uid)), None);
        }
    }
}

/// Limits given in the spec; others stay as they are (R-RT-14).
pub(super) fn set_limits(limits: &[Rlimit]) -> Result<()> {
    for limit in limits {
        let value = rustix::process::Rlimit {
            current: limit.soft,
            maximum: limit.hard,
        };
        rustix::process::setrlimit(limit.resource.into(), value)
            .call("setrlimit", || format!("{limit:?}"))?;
    }
    Ok(())
}

/// Takes away what is not in `keep` from all programs that are executed from now on.
pub(super) fn limit_bounding_set(keep: CapabilitySet) -> Result<()> {
    for number in (0..=LAST).filter(|number| !keep.contains(*number)) {
        let capability = KernelSet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Err(rustix::io::Errno::INVAL) => break, // the kernel knows no more than these
            dropped => dropped.call("prctl", || format!("PR_CAPBSET_DROP, {number}"))?,
        }
    }
    Ok(())
}

fn set_permitted(wanted: CapabilitySet) -> Result<()> {
    let held = rustix::thread::capabilities(None).call("capget", String::new)?;
    let set = KernelSet::from_bits_retain(wanted.mask()) & held.permitted;
    let sets = CapabilitySets {
        effective: set,
        permitted: set,
        inheritable: KernelSet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).call("capset", || format!("{wanted:?}"))?;
    rustix::thread::clear_ambient_capability_set()
        .call("prctl", || "PR_CAP_AMBIENT_CLEAR_ALL".into())
}

/// Makes all that is permitted effective, inheritable and ambient, so that it survives the execution of a program.
fn hand_down_all() -> Result<()> {
    let held = rustix::thread::capabilities(None).call("capget", String::new)?;
    let sets = CapabilitySets {
        effective: held.permitted,
        permitted: held.permitted,
        inheritable: held.permitted,
    };
    rustix::thread::set_capabilities(None, sets).call("capset", || "all".into())?;
    for capability in held.permitted.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)
            .call("prctl", || format!("PR_CAP_AMBIENT_RAISE, {capability:?}"))?;
    }
    Ok(())
}

impl From<Resource> for rustix::process::Resource {
    fn from(resource: Resource) -> Self {
        match resource {
            Resource::As => Self::As,
            Resource::Core => Self::Core,
            Resource::Cpu => Self::Cpu,
            Resource::Data => Self::Data,
            Resource::Fsize => Self::Fsize,
            Resource::Locks => Self::Locks,
            Resource::Memlock => Self::Memlock,
            Resource::Msgqueue => Self::Msgqueue,
            Resource::Nice => Self::Nice,
            Resource::Nofile => Self::Nofile,
            Resource::Nproc => Self::Nproc,
            Resource::Rss => Self::Rss,
            Resource::Rtprio => Self::Rtprio,
            Resource::Rttime => Self::Rttime,
            Resource::Sigpending => Self::Sigpending,
            Resource::Stack => Self::Stack,
        }
    }
}
