//! Mode, owner, times and length of what a caller has open, changed by its name in `/proc`: so do programs that have opened something for
//! its name only, with which the kernel lets them do nothing else. systemd's are such, and so is what packages do to make their users.

use super::caller::Answered;
use super::*;
use crate::sandbox::kernels::is_kernels;
use rustix::fs::{Gid, Timespec, Timestamps, Uid};

/// What changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alteration {
    Mode(u32),
    /// Either may be none, which is told by all bits.
    Owner {
        uid: u32,
        gid: u32,
    },
    /// Both times stand at an address in the caller's memory, and are now if that is null.
    Times(u64, Clock),
    Length(u64),
}

/// In what times are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// utime(2)
    Seconds,
    /// utimes(2)
    Microseconds,
    /// utimensat(2)
    Nanoseconds,
}

impl Broker {
    /// Changes what `object` stands for, as the caller. Of the kernel's own things and of the container's devices nothing is changed.
    pub(super) fn alter(
        &self,
        asked: &Asked<'_>,
        how: Alteration,
        object: &OwnedFd,
    ) -> Answered<Reply> {
        let stat = rustix::fs::fstat(object).map_err(Errno::raw_os_error)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        if is_kernels(object)? || (is_device && self.devices) {
            return Err(libc::EPERM);
        }
        let name = format!("self/fd/{}", object.as_raw_fd());
        let changed = match how {
            Alteration::Mode(mode) => {
                let mode = Mode::from_raw_mode(mode & 0o7777);
                rustix::fs::chmodat(&*self.proc, name, mode, AtFlags::empty())
            }
            Alteration::Owner { uid, gid } => {
                let uid = (uid != u32::MAX).then(|| Uid::from_raw(uid));
                let gid = (gid != u32::MAX).then(|| Gid::from_raw(gid));
                rustix::fs::chownat(object, "", uid, gid, AtFlags::EMPTY_PATH)
            }
            Alteration::Times(at, clock) => {
                let times = times(&asked.caller, at, clock)?;
                rustix::fs::utimensat(&*self.proc, name, &times, AtFlags::empty())
            }
            Alteration::Length(_) if kind == FileType::Directory => Err(Errno::ISDIR),
            Alteration::Length(_) if kind != FileType::RegularFile => Err(Errno::INVAL),
            Alteration::Length(length) => {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&*self.proc, name, flags, Mode::empty());
                file.and_then(|file| rustix::fs::ftruncate(file, length))
            }
        };
        changed.map_err(Errno::raw_os_error)?;
        Ok(Reply::Value(0))
    }
}

/// Last access and last change as a caller tells them.
fn times(caller: &Caller<'_>, at: u64, clock: Clock) -> Answered<Timestamps> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    if at == 0 {
        return Ok(Timestamps {
            last_access: now,
            last_modification: now,
        });
    }
    let mut bytes = [0; 32];
    let told = match clock {
        Clock::Seconds => &mut bytes[..16],
        Clock::Microseconds | Clock::Nanoseconds => &mut bytes[..],
    };
    caller.read(at, told)?;
    let (words, _) = bytes.as_chunks::<8>();
    let word = |n: usize| i64::from_ne_bytes(words[n]);
    let time = |n: usize| -> Answered<Timespec> {
        let (tv_sec, tv_nsec) = match clock {
            Clock::Seconds => (word(n), 0),
            Clock::Microseconds => {
                let fraction = word(2 * n + 1);
                if !(0..1_000_000).contains(&fraction) {
                    return Err(libc::EINVAL);
                }
                (word(2 * n), fraction * 1000)
            }
            Clock::Nanoseconds => (word(2 * n), word(2 * n + 1)),
        };
        Ok(Timespec { tv_sec, tv_nsec })
    };
    Ok(Timestamps {
        last_access: time(0)?,
        last_modification: time(1)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What this process has at an address, read as a caller's.
    fn read(at: &[i64], clock: Clock) -> Answered<[(i64, i64); 2]> {
        let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let note = Notification {
            thread: std::process::id().cast_signed(),
            ..Notification::example(0, false, [0; 6])
        };
        let caller = Caller {
            note,
            proc: &proc.unwrap(),
        };
        let address = if at.is_empty() { 0 } else { at.as_ptr() as u64 };
        let told = times(&caller, address, clock)?;
        Ok([told.last_access, told.last_modification].map(|time| (time.tv_sec, time.tv_nsec)))
    }

    #[test]
    fn times_are_read_as_each_call_has_them() {
        let (seconds, micro, nano) = (Clock::Seconds, Clock::Microseconds, Clock::Nanoseconds);
        assert_eq!(read(&[1, 2], seconds), Ok([(1, 0), (2, 0)]));
        assert_eq!(read(&[1, 2, 3, 4], micro), Ok([(1, 2000), (3, 4000)]));
        assert_eq!(read(&[1, 1_000_000, 3, 4], micro), Err(libc::EINVAL));
        assert_eq!(read(&[-1, i64::MAX, 3, 4], micro), Err(libc::EINVAL));
        let omitted = rustix::fs::UTIME_OMIT;
        assert_eq!(read(&[1, omitted, 3, 4], nano), Ok([(1, omitted), (3, 4)]));
        let now = (0, rustix::fs::UTIME_NOW);
        assert_eq!(read(&[], micro), Ok([now, now]));
    }
}
