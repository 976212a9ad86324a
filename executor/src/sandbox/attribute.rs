//! Calls that change extended attributes, answered because kiln's own records stand in one ([`kiln_image::record`]).
//!
//! Whoever may make no device nodes, or give no files away, must not write such a record either: the layer would have the device, or the
//! owner. A filter can't see which attribute a call names, and another thread can exchange the name until the kernel looks. So calls of those
//! who may not are never handed on: name and value are read once, and who answers makes the change itself, as the caller.
//! Callers who could record the same by mknod(2) and chown(2) have their calls done by the kernel.
//!
//! io_uring changes attributes without a call. The default profile refuses it, and `--security=insecure` is for those who are trusted.

use super::remote::Answered;
use crate::sys::{Notification, Reply};
use kiln_image::record::is_record;
use nix::libc;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::ffi::CString;

/// The longest name and the longest value that the kernel takes, in bytes (`linux/limits.h`).
const MAX_NAME: usize = 255;
const MAX_VALUE: usize = 65536;

/// The calls.
pub(super) const CALLS: [i64; 6] = [
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];

/// Their numbers in programs of the machine's 32-bit relative: i386 and arm have the same.
pub(super) const FOREIGN: [i64; 6] = [226, 227, 228, 235, 236, 237];

/// `setxattrat` and `removexattrat` of Linux 6.13, on all architectures. Nobody relies on them yet, so for a step they are not there.
pub(super) const ABSENT: [u32; 2] = [463, 466];

/// Which call it is by the machine's own numbers. Of foreign programs no others are asked about.
pub(super) fn number(note: &Notification) -> i64 {
    let foreign = FOREIGN.iter().position(|number| *number == note.call);
    match foreign {
        Some(index) if note.is_foreign() => CALLS[index],
        _ => note.call,
    }
}

/// Where the arguments of such a call are, behind the one that says of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    name: u64,
    /// `None` for a removal.
    value: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Value {
    address: u64,
    size: u64,
    flags: u32,
}

/// A change, as it was when its arguments were read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    name: CString,
    value: Option<(Vec<u8>, XattrFlags)>,
}

impl Request {
    /// Of one of [`CALLS`].
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the kernel, too, takes the low half of a register for an int"
    )]
    pub(super) fn of(note: &Notification) -> Self {
        let [_, name, address, size, flags, _] = note.args;
        let sets = CALLS[..3].contains(&number(note));
        let value = sets.then_some(Value {
            address,
            size,
            flags: flags as u32,
        });
        Self { name, value }
    }

    /// Reads name and value, with the kernel's errors.
    pub(super) fn read(
        &self,
        string: impl FnOnce(u64) -> Answered<Vec<u8>>,
        bytes: impl FnOnce(u64, &mut [u8]) -> Answered<()>,
    ) -> Answered<Change> {
        let known = XattrFlags::CREATE | XattrFlags::REPLACE;
        let flags = self.value.map_or(0, |value| value.flags);
        let flags = XattrFlags::from_bits(flags).filter(|flags| known.contains(*flags));
        let flags = flags.ok_or(libc::EINVAL)?;
        let name = match string(self.name) {
            Err(libc::ENAMETOOLONG) => Err(libc::ERANGE),
            read => read,
        }?;
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(libc::ERANGE);
        }
        let value = match self.value {
            None => None,
            Some(Value { address, size, .. }) => {
                let size = usize::try_from(size).ok().filter(|size| *size <= MAX_VALUE);
                let mut value = vec![0; size.ok_or(libc::E2BIG)?];
                if !value.is_empty() {
                    bytes(address, &mut value)?;
                }
                Some((value, flags))
            }
        };
        let name = CString::new(name).map_err(|_| libc::EFAULT)?;
        Ok(Change { name, value })
    }
}

impl Change {
    /// The attribute's name.
    pub(super) fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }

    /// The value that it is to have; `None` for a removal.
    pub(super) fn value(&self) -> Option<&[u8]> {
        self.value.as_ref().map(|(value, _)| value.as_slice())
    }

    /// Refuses it if it is about kiln's record, of which a step can neither have one nor be rid of one. Programs that copy all attributes
    /// pass over what a filesystem doesn't take.
    pub(super) fn check(&self) -> Answered<()> {
        match (is_record(self.name()), &self.value) {
            (false, _) => Ok(()),
            (true, Some(_)) => Err(libc::ENOTSUP),
            (true, None) => Err(libc::ENODATA),
        }
    }

    /// Makes it to what `object` names: a magic link of `/proc`, as the calls take no descriptor that is open for nothing.
    pub(super) fn perform(&self, object: &str) -> Answered<Reply> {
        let changed = match &self.value {
            Some((value, flags)) => rustix::fs::setxattr(object, &self.name, value, *flags),
            None => rustix::fs::removexattr(object, &self.name),
        };
        changed.map_err(Errno::raw_os_error)?;
        Ok(Reply::Value(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &[u8] = kiln_image::record::XATTR.as_bytes();

    fn request(call: i64, foreign: bool, size: u64, flags: u64) -> Request {
        Request::of(&Notification::example(
            call,
            foreign,
            [9, 1, 2, size, flags, 0],
        ))
    }

    fn read(request: Request, name: &[u8]) -> Answered<Change> {
        request.read(
            |_| Ok(name.to_vec()),
            |_, value| {
                value.fill(b'v');
                Ok(())
            },
        )
    }

    #[test]
    fn records_can_be_neither_set_nor_removed() {
        let checked =
            |call, foreign, name: &[u8]| read(request(call, foreign, 2, 0), name)?.check();
        for (index, native) in CALLS.into_iter().enumerate() {
            let refusal = if index < 3 {
                libc::ENOTSUP
            } else {
                libc::ENODATA
            };
            for (call, foreign) in [(native, false), (FOREIGN[index], true)] {
                assert_eq!(checked(call, foreign, RECORD), Err(refusal), "{call}");
                assert_eq!(
                    checked(call, foreign, b"user.kiln.recorded"),
                    Ok(()),
                    "{call}"
                );
            }
        }
    }

    #[test]
    fn arguments_are_wrong_as_the_kernel_has_it() {
        let set = |size, flags, name: &[u8]| {
            let request = request(libc::SYS_setxattr, false, size, flags);
            read(request, name).map(|change| change.value.map(|(value, _)| value.len()))
        };
        let long = [b'x'; MAX_NAME + 1];
        assert_eq!(set(0, 2, b"user.a"), Ok(Some(0)));
        assert_eq!(set(65536, 1, &long[1..]), Ok(Some(65536)));
        assert_eq!(set(65537, 0, b"user.a"), Err(libc::E2BIG));
        assert_eq!(set(u64::MAX, 0, b"user.a"), Err(libc::E2BIG));
        assert_eq!(set(1, 4, b"user.a"), Err(libc::EINVAL));
        assert_eq!(set(1, 0, b""), Err(libc::ERANGE));
        assert_eq!(set(1, 0, &long), Err(libc::ERANGE));
        // A removal has neither value nor flags: what is in those registers is nothing.
        let removal = request(libc::SYS_fremovexattr, false, u64::MAX, u64::MAX);
        assert_eq!(
            read(removal, b"user.a").map(|change| change.value),
            Ok(None)
        );
    }
}
