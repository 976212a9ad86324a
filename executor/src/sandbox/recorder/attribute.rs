//! Extended attributes of a recorded step ([`crate::sandbox::attribute`]).

use super::book::name;
use super::caller::{Answered, Caller, Place};
use super::device::Actor;
use super::{At, Scope, Server, access_list, rights};
use crate::sandbox::attribute::{Change, Request};
use crate::sys::Reply;
use kiln_image::record::{is_record, list_in, place_of_list};
use nix::libc;
use std::os::fd::OwnedFd;

/// The longest list of names that the kernel makes, in bytes (`linux/limits.h`).
const MAX_LIST: usize = 65536;

impl Server {
    /// setxattr(2), removexattr(2) and their relatives.
    pub(super) fn change_attribute(
        &mut self,
        caller: &Caller<'_>,
        at: &At,
        request: Request,
    ) -> Answered<Reply> {
        match self.scope {
            Scope::Everything => self.change_as_believed(caller, at, request),
            Scope::Devices { .. } => change_as_caller(caller, at, request),
        }
    }

    /// Even root writes no records: a program that copies attributes would give a file's owner along with them.
    fn change_as_believed(
        &self,
        caller: &Caller<'_>,
        at: &At,
        request: Request,
    ) -> Answered<Reply> {
        let change = read(caller, request)?;
        change.check()?;
        let who = self.identity(caller);
        let is_list = place_of_list(change.name()).is_some();
        let is_capability = change.name() == rights::ATTRIBUTE.as_bytes();
        if who.is_root() && !is_list && !is_capability {
            return Ok(Reply::Continue);
        }
        let object = caller.place(at)?.open()?;
        self.check_attribute(&who, &object, change.name())?;
        if is_list && change_list(&object, &change)? {
            return Ok(Reply::Value(0));
        }
        change.perform(&name(&object))
    }

    /// getxattr(2) and its relatives of an access list, if it is one of the recorder's. All else is the kernel's to tell.
    pub(super) fn show_attribute(
        caller: &Caller<'_>,
        at: &At,
        (attribute, out, size): (u64, u64, u64),
    ) -> Answered<Reply> {
        let Ok(attribute) = caller.string(attribute) else {
            return Ok(Reply::Continue);
        };
        let list = attribute.as_bytes();
        if is_record(list) {
            return Err(libc::ENODATA);
        }
        if place_of_list(list).is_none() {
            return Ok(Reply::Continue);
        }
        let object = caller.place(at).and_then(Place::open).ok();
        match object.and_then(|object| access_list::shown(&object, list)) {
            Some(value) => hand_over(caller, &value, out, size),
            None => Ok(Reply::Continue),
        }
    }

    /// listxattr(2) and its relatives, without the record's name. Whatever is wrong with the call is the kernel's to tell.
    pub(super) fn list_attributes(
        &self,
        caller: &Caller<'_>,
        at: &At,
        out: u64,
        size: u64,
    ) -> Answered<Reply> {
        let mut names = vec![0; MAX_LIST];
        let listed = caller.place(at).and_then(Place::open).ok();
        let length =
            listed.and_then(|object| rustix::fs::listxattr(name(&object), &mut names).ok());
        match length.and_then(|length| without_records(&names[..length])) {
            Some(shown) => hand_over(caller, &shown, out, size),
            None => Ok(Reply::Continue),
        }
    }
}

/// Gives a caller a value, or its length if they have no room for any.
fn hand_over(caller: &Caller<'_>, value: &[u8], out: u64, size: u64) -> Answered<Reply> {
    let length = value.len() as u64;
    if size != 0 {
        (length <= size).then_some(()).ok_or(libc::ERANGE)?;
        caller.write(out, value)?;
    }
    Ok(Reply::Value(length.cast_signed()))
}

/// Changes an access list; false if it is the kernel's to do.
fn change_list(object: &OwnedFd, change: &Change) -> Answered<bool> {
    match change.value() {
        Some(value) => Ok(access_list::set(object, change.name(), value)?.is_some()),
        None => Ok(access_list::forget(object, change.name())),
    }
}

/// Who may make devices may record them, as by copying one with its attributes.
fn change_as_caller(caller: &Caller<'_>, at: &At, request: Request) -> Answered<Reply> {
    let actor = Actor::of(caller)?;
    if actor.may_make_devices() {
        return Ok(Reply::Continue);
    }
    let change = read(caller, request)?;
    change.check()?;
    let place = caller.place(at)?;
    actor.acting(|| change.perform(&name(&place.open()?)))
}

fn read(caller: &Caller<'_>, request: Request) -> Answered<Change> {
    request.read(
        |address| caller.string(address).map(std::ffi::CString::into_bytes),
        |address, buffer| caller.read(address, buffer),
    )
}

/// Names that each end in a zero byte, without the record's and with those of access lists for what stands for them; `None` if neither is
/// among them.
fn without_records(names: &[u8]) -> Option<Vec<u8>> {
    let each = || {
        let names = names.split(|byte| *byte == 0);
        names.filter(|name| !name.is_empty())
    };
    each().any(is_record).then(|| {
        let shown = each().filter_map(|name| match is_record(name) {
            true => list_in(name),
            false => Some(name),
        });
        shown
            .flat_map(|name| [name, b"\0"])
            .flatten()
            .copied()
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::without_records;

    #[test]
    fn only_the_records_name_is_left_out() {
        let names = b"user.a\0user.kiln.record\0user.kiln.recorded\0";
        let others = &b"user.a\0user.kiln.recorded\0"[..];
        assert_eq!(without_records(names).as_deref(), Some(others));
        assert_eq!(without_records(others), None);
        assert_eq!(
            without_records(b"user.kiln.record\0").as_deref(),
            Some(&b""[..])
        );
        assert_eq!(without_records(b""), None);
        let list = without_records(b"user.kiln.acl.default\0user.a\0");
        assert_eq!(
            list.as_deref(),
            Some(&b"system.posix_acl_default\0user.a\0"[..])
        );
    }
}
