//! Files to which a layer gives several names, as overlayfs has them: one changes by the name that it is changed by, and stays as it is by the
//! others.
//!
//! Whether something is of a layer shows in the time that it was made at. That is no border: a descriptor that is open already isn't asked about.

use super::call::How;
use super::caller::Answered;
use super::mounted::Subject;
use super::*;
use rustix::fs::{CWD, Gid, Statx, StatxFlags, Timespec, Timestamps, Uid, XattrFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;

/// Seconds and nanoseconds of the clock that files are dated by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64, i64);

/// A name for as long as a copy is made.
const UNFINISHED: &str = ".kiln-copied-up";

impl Moment {
    /// What is made from now on in this root has no earlier one. Filesystems may be ahead of the coarse clock.
    pub(super) fn now() -> Self {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let made = rustix::fs::open("/", flags, Mode::RUSR | Mode::WUSR)
            .and_then(|file| rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME));
        made.ok()
            .and_then(|made| Self::in_statx(&made))
            .unwrap_or_else(|| {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
                Self(now.tv_sec, now.tv_nsec)
            })
    }

    /// When something was made, if its filesystem knows.
    fn of(path: &[u8]) -> Option<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let found = rustix::fs::statx(CWD, path, flags, StatxFlags::BTIME).ok()?;
        Self::in_statx(&found)
    }

    fn in_statx(found: &Statx) -> Option<Self> {
        let made = found.stx_btime;
        let known = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        known.then_some(Self(made.tv_sec, made.tv_nsec.into()))
    }
}

impl Broker {
    /// Before changes of `places`, each with the mount that it is in: the first is the root.
    pub(super) fn be_layered(
        &mut self,
        caller: &Caller<'_>,
        places: &[(How, Subject, usize)],
    ) -> Answered<()> {
        for (how, subject, mount) in places {
            let changes = matches!(how, How::Write { .. } | How::Alter | How::Keep | How::Move);
            // What gets one more name is one file by both from then on.
            let is_shared = subject.shared || matches!(how, How::Keep);
            let is_file = subject.kind == Some(FileType::RegularFile);
            let may_concern = *mount == 0 && changes && is_file && is_shared;
            let concerns = may_concern && self.is_of_layer(&subject.path);
            if concerns && self.shares_root(caller) {
                copy_up(&subject.path).map_err(Errno::raw_os_error)?;
            }
        }
        Ok(())
    }

    fn is_of_layer(&self, path: &[u8]) -> bool {
        Moment::of(path).is_some_and(|made| made < self.began)
    }
}

/// Makes a file of its own of one name of a file.
fn copy_up(path: &[u8]) -> rustix::io::Result<()> {
    let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let (above, name) = (&path[..=slash], OsStr::from_bytes(&path[slash + 1..]));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(above, flags, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
    let times = times(&rustix::fs::fstat(&directory)?);
    let made = write_copy(&directory, &file)
        .and_then(|()| rustix::fs::renameat(&directory, UNFINISHED, &directory, name));
    if made.is_err() {
        let _ = rustix::fs::unlinkat(&directory, UNFINISHED, AtFlags::empty());
    }
    // Nothing has happened in the directory.
    made.and(rustix::fs::futimens(&directory, &times))
}

fn write_copy(directory: &OwnedFd, file: &OwnedFd) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(directory, UNFINISHED, flags, Mode::RUSR | Mode::WUSR)?;
    if rustix::fs::ioctl_ficlone(&copy, file).is_err() {
        let io = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let (mut from, mut to) = (file.try_clone().map(File::from).map_err(io)?, {
            copy.try_clone().map(File::from).map_err(io)?
        });
        std::io::copy(&mut from, &mut to).map_err(io)?;
    }
    let stat = rustix::fs::fstat(file)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(&copy, Some(uid), Some(gid))?;
    rustix::fs::fchmod(&copy, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_attributes(file, &copy);
    rustix::fs::futimens(&copy, &times(&stat))
}

/// As far as root may in the step.
fn copy_attributes(from: &OwnedFd, to: &OwnedFd) {
    let mut names = vec![0; 65536];
    let length = rustix::fs::flistxattr(from, &mut names).unwrap_or(0);
    let names = names[..length].split(|byte| *byte == 0);
    for name in names.filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let length = rustix::fs::fgetxattr(from, name, &mut value);
        let Ok(length) = length else { continue };
        let _ = rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty());
    }
}

fn times(stat: &rustix::fs::Stat) -> Timestamps {
    let time = |tv_sec, nanos: u64| Timespec {
        tv_sec,
        tv_nsec: nanos.cast_signed(),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn a_copy_is_as_the_file_was_and_the_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), "content").unwrap();
        fs::hard_link(at("a"), at("b")).unwrap();
        fs::set_permissions(at("a"), fs::Permissions::from_mode(0o4750)).unwrap();
        let before = fs::metadata(at("a")).unwrap();
        let above = fs::metadata(dir.path()).unwrap();
        copy_up(at("a").as_os_str().as_bytes()).unwrap();
        let after = fs::metadata(at("a")).unwrap();
        assert_ne!(after.ino(), before.ino());
        assert_eq!(
            (after.nlink(), fs::metadata(at("b")).unwrap().nlink()),
            (1, 1)
        );
        assert_eq!(after.mode(), before.mode());
        assert_eq!(after.modified().unwrap(), before.modified().unwrap());
        assert_eq!(fs::read(at("a")).unwrap(), b"content");
        let now = fs::metadata(dir.path()).unwrap();
        assert_eq!(now.modified().unwrap(), above.modified().unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
