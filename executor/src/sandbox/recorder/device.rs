//! Device nodes for a step that has all its ids but is in a user namespace, where the kernel makes none (mknod(2)).
//!
//! A device becomes an empty file of the caller's with a record. Calls that look at it are *not* answered from here, so the step that
//! made a device sees an empty file: asking for each stat(2) would make programs that look at many files several times slower.

use super::caller::{Answered, Caller};
use super::{At, Server};
use crate::sys::Reply;
use kiln_image::record::{Device, Record};
use nix::libc;
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// `CAP_MKNOD` of `linux/capability.h`.
const MKNOD: u64 = 1 << 27;

/// What the kernel would know of whoever makes a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Maker {
    /// The user and group that files are made with.
    uid: u32,
    gid: u32,
    umask: u32,
    may: bool,
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
        let maker = Maker::read(&caller.status().ok_or(libc::ESRCH)?).ok_or(libc::ESRCH)?;
        if !maker.may {
            return Err(libc::EPERM);
        }
        let place = caller.place(at)?;
        let mode = Mode::from_raw_mode(mode & 0o7777 & !maker.umask);
        let file = maker.acting(|| {
            let flags =
                OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(place.directory(), place.path(), flags, mode)
        })?;
        let record = Record {
            device: Some(device),
            ..Record::default()
        };
        self.book.note(&file, record).map_err(|_| {
            // A file system without attributes, in a mount: nothing is made there.
            let _ = rustix::fs::unlinkat(place.directory(), place.path(), AtFlags::empty());
            libc::EPERM
        })?;
        Ok(Reply::Value(0))
    }
}

impl Maker {
    /// From `/proc/PID/status`.
    fn read(status: &str) -> Option<Self> {
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        // Real, effective, saved, and the one for files.
        let last = |ids: &str| ids.split_whitespace().nth(3)?.parse().ok();
        let effective = u64::from_str_radix(line("CapEff:")?.trim(), 16).ok()?;
        Some(Self {
            uid: last(line("Uid:")?)?,
            gid: last(line("Gid:")?)?,
            umask: u32::from_str_radix(line("Umask:")?.trim(), 8).ok()?,
            may: effective & MKNOD != 0,
        })
    }

    /// Lets this thread be the maker for a call: what it makes is theirs, and only where they may.
    fn acting(&self, make: impl Fn() -> rustix::io::Result<OwnedFd>) -> Answered<OwnedFd> {
        let own_group = setfsgid(Gid::from_raw(self.gid));
        let own_user = setfsuid(Uid::from_raw(self.uid));
        let made = make();
        setfsuid(own_user);
        setfsgid(own_group);
        made.map_err(Errno::raw_os_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tsh\nUmask:\t0027\nUid:\t0\t0\t0\t33\nGid:\t0\t0\t0\t50\nCapEff:\t00000000a80425fb\n";

    #[test]
    fn a_maker_is_known_by_the_ids_for_files_and_a_capability() {
        let maker = |status: &str| Maker::read(status);
        let expected = Maker {
            uid: 33,
            gid: 50,
            umask: 0o27,
            may: true,
        };
        assert_eq!(maker(STATUS), Some(expected));
        let lacking = STATUS.replace("a80425fb", "a00425fb");
        assert_eq!(
            maker(&lacking),
            Some(Maker {
                may: false,
                ..expected
            })
        );
        assert_eq!(maker("Umask:\t0022\n"), None);
    }

    #[test]
    fn what_is_no_device_is_the_kernels() {
        let is = |mode, number| device(mode, number).is_some();
        assert!(is(libc::S_IFBLK, 0) && is(libc::S_IFCHR | 0o600, 0x103));
        assert!(!is(libc::S_IFCHR, 0) && !is(libc::S_IFIFO, 0x103) && !is(0, 0x103));
    }
}
