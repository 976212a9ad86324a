//! Access lists that name users and groups who have no id here, which the kernel takes none of. They stand in attributes of the recorder's own, and what the
//! kernel would do about them is done here: the mode follows the list and the list the mode, and what is made in a directory gets the list that this has
//! for it.

use super::book::name;
use super::caller::Answered;
use kiln_image::acl::{self, AccessList};
use kiln_image::record::place_of_list;
use nix::libc;
use rustix::fs::{FileType, Mode, XattrFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Longer lists are rare: seven people or groups by name.
const USUAL: usize = 96;
/// The longest value that the kernel takes, in bytes (`linux/limits.h`).
const MOST: usize = 65536;

/// The list of an object under its own `name`, if it is one of ours, as the kernel would show it.
pub(super) fn shown(object: &OwnedFd, list: &[u8]) -> Option<Vec<u8>> {
    let value = read(object, list)?;
    let stat = rustix::fs::fstat(object).ok()?;
    Some(acl::shown(list, &value, stat.st_mode).into_owned())
}

/// The list that decides who may do what with an object, if it is one of ours.
pub(super) fn of(object: &OwnedFd) -> Option<AccessList> {
    AccessList::from_bytes(&shown(object, acl::ACCESS)?)
}

/// The list of ours that a directory has for what is made in it.
pub(super) fn given_by(directory: &OwnedFd) -> Option<AccessList> {
    AccessList::from_bytes(&read(directory, acl::DEFAULT)?)
}

fn read(object: &OwnedFd, list: &[u8]) -> Option<Vec<u8>> {
    let place = place_of_list(list)?;
    let mut value = vec![0; USUAL];
    let mut length = rustix::fs::getxattr(name(object), place, &mut value);
    if length == Err(Errno::RANGE) {
        value.resize(MOST, 0);
        length = rustix::fs::getxattr(name(object), place, &mut value);
    }
    value.truncate(length.ok()?);
    Some(value)
}

/// Gives an object a list, if that is one to be recorded; `None` where it is the kernel's to take or to refuse.
pub(super) fn set(object: &OwnedFd, list: &[u8], value: &[u8]) -> Answered<Option<()>> {
    let known = AccessList::from_bytes(value).filter(AccessList::names_others);
    let (Some(wanted), Some(_)) = (known, place_of_list(list)) else {
        forget(object, list);
        return Ok(None);
    };
    let stat = rustix::fs::fstat(object).map_err(Errno::raw_os_error)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {}
        FileType::RegularFile if list == acl::ACCESS => {}
        FileType::RegularFile => return Err(libc::EACCES),
        _ => return Ok(None),
    }
    write(object, list, &wanted)?;
    // The kernel's own, of root alone, would count still.
    let own = std::str::from_utf8(list).unwrap_or_default();
    let _ = rustix::fs::removexattr(name(object), own);
    if list == acl::ACCESS {
        change_mode(object, (stat.st_mode & 0o7000) | wanted.mode())?;
    }
    Ok(Some(()))
}

/// Takes away a list of ours; false if there is none.
pub(super) fn forget(object: &OwnedFd, list: &[u8]) -> bool {
    place_of_list(list).is_some_and(|place| rustix::fs::removexattr(name(object), place).is_ok())
}

/// Gives something that was made just now what its directory has for it. `list` is as it was inherited.
pub(super) fn inherit(object: &OwnedFd, list: &AccessList, default: &AccessList) -> Answered<()> {
    let stat = rustix::fs::fstat(object).map_err(Errno::raw_os_error)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => write(object, acl::DEFAULT, default)?,
        FileType::RegularFile => {}
        _ => return Ok(()),
    }
    write(object, acl::ACCESS, list)
}

fn write(object: &OwnedFd, list: &[u8], value: &AccessList) -> Answered<()> {
    let place = place_of_list(list).ok_or(libc::ENOTSUP)?;
    let none = XattrFlags::empty();
    rustix::fs::setxattr(name(object), place, &value.to_bytes(), none).map_err(Errno::raw_os_error)
}

/// chmod(2) of an open object.
pub(super) fn change_mode(object: &OwnedFd, mode: u32) -> Answered<()> {
    let mode = Mode::from_raw_mode(mode);
    rustix::fs::chmod(name(object), mode).map_err(Errno::raw_os_error)
}
