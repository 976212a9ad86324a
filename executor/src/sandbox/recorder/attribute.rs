//! Extended attributes of a recorded step ([`crate::sandbox::attribute`]).

use super::book::name;
use super::caller::{Answered, Caller, Place};
use super::device::Actor;
use super::{At, Scope, Server};
use crate::sandbox::attribute::{Change, Request};
use crate::sys::Reply;
use kiln_image::record::XATTR;
use nix::libc;

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
            Scope::Devices => change_as_caller(caller, at, request),
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
        if who.is_root() {
            return Ok(Reply::Continue);
        }
        let object = caller.place(at)?.open()?;
        self.check_attribute(&who, &object, change.name())?;
        change.perform(&name(&object))
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
        let Some(shown) = length.and_then(|length| without_record(&names[..length])) else {
            return Ok(Reply::Continue);
        };
        let length = shown.len() as u64;
        if size != 0 {
            (length <= size).then_some(()).ok_or(libc::ERANGE)?;
            caller.write(out, &shown)?;
        }
        Ok(Reply::Value(length.cast_signed()))
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

/// Names that each end in a zero byte, without the record's; `None` if that isn't among them.
fn without_record(names: &[u8]) -> Option<Vec<u8>> {
    let is_record = |name: &&[u8]| name.strip_suffix(b"\0") == Some(XATTR.as_bytes());
    let each = || names.split_inclusive(|byte| *byte == 0);
    each().any(|name| is_record(&name)).then(|| {
        let others = each().filter(|name| !is_record(name));
        others.flatten().copied().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::without_record;

    #[test]
    fn only_the_records_name_is_left_out() {
        let names = b"user.a\0user.kiln.record\0user.kiln.recorded\0";
        let others = &b"user.a\0user.kiln.recorded\0"[..];
        assert_eq!(without_record(names).as_deref(), Some(others));
        assert_eq!(without_record(others), None);
        assert_eq!(
            without_record(b"user.kiln.record\0").as_deref(),
            Some(&b""[..])
        );
        assert_eq!(without_record(b""), None);
    }
}
