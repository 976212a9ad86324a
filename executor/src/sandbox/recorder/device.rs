//! Device nodes for a step that has all its ids but is in a user namespace, where the kernel makes none (mknod(2)).
//!
//! A device becomes an empty file of the caller's with a record. Asking for each stat(2) would make programs that look at many files several times
//! slower, so calls that look are answered from here only in a step that is likely to have devices: because its image does, or because its
//! command line names mknod. In others a device looks like the empty file that it is.

use super::caller::{Answered, Caller};
use super::{At, Server};
use crate::sys::Reply;
use kiln_image::record::{Device, Record};
use nix::libc;
use nix::unistd::{setfsgid, setfsuid};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Gid;
use rustix::thread::{CapabilitySet, set_capabilities, set_thread_groups};

/// What the kernel would know of a caller whose identity is real.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Actor {
    /// The user and group that files are made with.
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    umask: u32,
    capabilities: CapabilitySet,
}

/// Which device a mknod(2) makes; `None` if it makes something else. A character device 0:0 is overlayfs's mark of a removal, which the
/// kernel makes or refuses by itself.
pub(super) fn device(mode: u32, device: u64) -> Option<Device> {
    // The kernel takes the encoding of the C library, of which 32 bits are in use.
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let block = match mode & libc::S_IFMT {
        libc::S_IFBLK => true,
        libc::S_IFCHR if major != 0 || minor != 0 => false,
        _ => return None,
    };
    Some(Device {
        block,
        major,
        minor,
    })
}

impl Server {
    /// mknod(2) by a process whose identity is real.
    pub(super) fn make_device(
        &mut self,
        caller: &Caller<'_>,
        at: &At,
        mode: u32,
        device: Device,
    ) -> Answered<Reply> {
        let maker = Actor::of(caller)?;
        if !maker.may_make_devices() {
            return Err(libc::EPERM);
        }
        let place = caller.place(at)?;
        let mode = Mode::from_raw_mode(mode & 0o7777 & !maker.umask);
        let (spot, file) = maker.acting(|| {
            let spot = place.spot()?;
            let flags =
                OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&spot.directory, &spot.name, flags, mode);
            Ok((spot, file.map_err(Errno::raw_os_error)?))
        })?;
        let record = Record {
            device: Some(device),
            ..Record::default()
        };
        self.book.note(&file, record).map_err(|_| {
            // A file system without attributes, in a mount: nothing is made there.
            let _ = rustix::fs::unlinkat(&spot.directory, &spot.name, AtFlags::empty());
            libc::EPERM
        })?;
        Ok(Reply::Value(0))
    }
}

/// Whether a caller, whose identity is real, gets to see what there is at a place.
pub(super) fn sees(caller: &Caller<'_>, at: &At) -> bool {
    // What is in the caller's memory can be read only as who this thread is.
    let (Ok(actor), Ok(place)) = (Actor::of(caller), caller.place(at)) else {
        return false;
    };
    actor.acting(|| place.open().map(drop)).is_ok()
}

impl Actor {
    /// Who waits. Whether it still does is to be seen from its paths.
    pub(super) fn of(caller: &Caller<'_>) -> Answered<Self> {
        let status = caller.status().ok_or(libc::ESRCH)?;
        Self::read(&status).ok_or(libc::ESRCH)
    }

    /// From `/proc/PID/status`.
    fn read(status: &str) -> Option<Self> {
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        // Real, effective, saved, and the one for files.
        let last = |ids: &str| ids.split_whitespace().nth(3)?.parse().ok();
        let groups = line("Groups:")?.split_whitespace();
        let effective = u64::from_str_radix(line("CapEff:")?.trim(), 16).ok()?;
        Some(Self {
            uid: last(line("Uid:")?)?,
            gid: last(line("Gid:")?)?,
            groups: groups.map(str::parse).collect::<Result<_, _>>().ok()?,
            umask: u32::from_str_radix(line("Umask:")?.trim(), 8).ok()?,
            capabilities: CapabilitySet::from_bits_retain(effective),
        })
    }

    pub(super) const fn may_make_devices(&self) -> bool {
        self.capabilities.contains(CapabilitySet::MKNOD)
    }

    /// Lets this thread be the caller for a moment: what it makes is theirs, and only what they may do is done.
    pub(super) fn acting<T>(&self, act: impl FnOnce() -> Answered<T>) -> Answered<T> {
        let failed = |errno: Errno| errno.raw_os_error();
        let own = rustix::thread::capabilities(None).map_err(failed)?;
        let own_groups = rustix::process::getgroups().map_err(failed)?;
        let groups: Vec<_> = self.groups.iter().map(|id| Gid::from_raw(*id)).collect();
        set_thread_groups(&groups).map_err(failed)?;
        let own_group = setfsgid(self.gid.into());
        let own_user = setfsuid(self.uid.into());
        let reduced = rustix::thread::CapabilitySets {
            effective: self.capabilities & own.permitted,
            ..own
        };
        let done = set_capabilities(None, reduced)
            .map_err(failed)
            .and_then(|()| act());
        set_capabilities(None, own).map_err(failed)?;
        setfsuid(own_user);
        setfsgid(own_group);
        set_thread_groups(&own_groups).map_err(failed)?;
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsh\nUmask:\t0027\nUid:\t0\t0\t0\t33\nGid:\t0\t0\t0\t50\nGroups:\t4 27 \nCapEff:\t00000000a80425fb\n";

    #[test]
    fn an_actor_is_known_by_the_ids_for_files_and_capabilities() {
        let actor = Actor::read(STATUS).expect("a status");
        assert_eq!((actor.uid, actor.gid, actor.umask), (33, 50, 0o27));
        assert_eq!(actor.groups, [4, 27]);
        assert!(actor.may_make_devices());
        let lacking = Actor::read(&STATUS.replace("a80425fb", "a00425fb"));
        assert!(!lacking.expect("a status").may_make_devices());
        assert_eq!(Actor::read("Umask:\t0022\n"), None);
    }

    #[test]
    fn what_is_no_device_is_the_kernels() {
        let is = |mode, number| device(mode, number).is_some();
        assert!(is(libc::S_IFBLK, 0) && is(libc::S_IFCHR | 0o600, 0x103));
        assert!(!is(libc::S_IFCHR, 0) && !is(libc::S_IFIFO, 0x103) && !is(0, 0x103));
    }
}
