//! Looking at another process and writing its answers: a limit of it, and the kernel's structures as bytes.

use super::{Error, Result};
use nix::libc;

/// Structures that the kernel fills for `stat(2)` and `statx(2)`, as this machine's programs expect them.
use nix::libc::{stat as Stat, statx as Statx};

/// The soft limit on time without sleep of a process, in microseconds. It binds only processes scheduled in real time, and is handed on from
/// parent to child and through exec.
pub(crate) fn real_time_limit(process: i32) -> Result<u64> {
    // SAFETY: rlimit64 is two integers, for which zero is a valid value.
    let mut found: libc::rlimit64 = unsafe { std::mem::zeroed() };
    // SAFETY: no new limit is given; found may be written through the call.
    let done = unsafe {
        libc::prlimit64(
            process,
            libc::RLIMIT_RTTIME,
            std::ptr::null(),
            &raw mut found,
        )
    };
    if done == 0 {
        Ok(found.rlim_cur)
    } else {
        Err(Error::last("prlimit", format!("{process}, RLIMIT_RTTIME")))
    }
}

/// The bytes of a structure.
pub(crate) fn stat_bytes(stat: &Stat) -> &[u8] {
    // SAFETY: the structure is integers without uninitialised padding: it began as zeros and the kernel filled it as bytes.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(stat).cast(), size_of::<Stat>()) }
}

/// The bytes of a structure.
pub(crate) fn statx_bytes(statx: &Statx) -> &[u8] {
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(statx).cast(), size_of::<Statx>()) }
}

/// The bytes of what `fstatfs(2)` tells of the filesystem that an open object is on.
pub(crate) fn filesystem_of(fd: i32) -> Result<Vec<u8>> {
    // SAFETY: the structure is integers, for which zero is a valid value.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: found may be written through the call.
    let done = unsafe { libc::fstatfs(fd, &raw mut found) };
    if done != 0 {
        return Err(Error::last("fstatfs", String::new()));
    }
    let (start, length) = (std::ptr::from_ref(&found).cast(), size_of_val(&found));
    // SAFETY: as above.
    Ok(unsafe { std::slice::from_raw_parts::<u8>(start, length) }.to_vec())
}

/// What is known of an open object, as `fstat(2)` has it.
pub(crate) fn stat_of(fd: i32) -> Result<Stat> {
    // SAFETY: the structure is integers, for which zero is a valid value.
    let mut found: Stat = unsafe { std::mem::zeroed() };
    // SAFETY: found may be written through the call.
    let done = unsafe { libc::fstat(fd, &raw mut found) };
    if done == 0 {
        Ok(found)
    } else {
        Err(Error::last("fstat", String::new()))
    }
}

/// What is known of an open object, as `statx(2)` has it with these flags and this mask.
pub(crate) fn statx_of(fd: i32, flags: i32, mask: u32) -> Result<Statx> {
    // SAFETY: the structure is integers, for which zero is a valid value.
    let mut found: Statx = unsafe { std::mem::zeroed() };
    let flags = (flags & !libc::AT_SYMLINK_NOFOLLOW) | libc::AT_EMPTY_PATH;
    // SAFETY: the path is an empty C string, and found may be written through the call.
    let done = unsafe { libc::statx(fd, c"".as_ptr(), flags, mask, &raw mut found) };
    if done == 0 {
        Ok(found)
    } else {
        Err(Error::last("statx", String::new()))
    }
}
