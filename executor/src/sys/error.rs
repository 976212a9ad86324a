//! A failed system call as data: which one, with which arguments, and the kernel's answer.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Error>;

/// A system call that failed. It can be sent from one process to another and keeps its meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// The call as the man pages name it, `mount`.
    pub call: Cow<'static, str>,
    /// The arguments that matter, as a reader would write them: `proc, /proc`.
    pub args: String,
    /// The kernel's error number.
    pub errno: i32,
}

impl Error {
    /// Names a failed call.
    pub fn new(call: &'static str, args: impl Into<String>, errno: i32) -> Self {
        Self {
            call: Cow::Borrowed(call),
            args: args.into(),
            errno,
        }
    }

    /// The last error of the C library, for a call made just before.
    pub fn last(call: &'static str, args: impl Into<String>) -> Self {
        Self::new(call, args, nix::errno::Errno::last_raw())
    }

    /// The error's symbol, `EPERM`.
    pub fn symbol(&self) -> String {
        format!("{:?}", nix::errno::Errno::from_raw(self.errno))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = nix::errno::Errno::from_raw(self.errno).desc();
        let mut text = text.to_owned();
        // `I/O error` stays as it is.
        if text.chars().nth(1).is_some_and(char::is_lowercase) {
            text[..1].make_ascii_lowercase();
        }
        write!(
            f,
            "{}({}): {text} ({})",
            self.call,
            self.args,
            self.symbol()
        )
    }
}

impl std::error::Error for Error {}

/// Adds the name and the arguments of a call to its result.
pub(crate) trait Context<T> {
    /// The same result, its error naming `call` and `args`; `args` is only formatted on failure.
    fn call(self, call: &'static str, args: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn call(self, call: &'static str, args: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::new(call, args(), errno.raw_os_error()))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn call(self, call: &'static str, args: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::new(call, args(), errno as i32))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn call(self, call: &'static str, args: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::new(call, args(), errno(&error)))
    }
}

/// The number in an error of the standard library. Some libraries wrap it, and leave the kind alone.
fn errno(error: &std::io::Error) -> i32 {
    use std::io::ErrorKind;
    error.raw_os_error().unwrap_or_else(|| match error.kind() {
        ErrorKind::ReadOnlyFilesystem => nix::libc::EROFS,
        ErrorKind::PermissionDenied => nix::libc::EACCES,
        ErrorKind::StorageFull => nix::libc::ENOSPC,
        ErrorKind::NotFound => nix::libc::ENOENT,
        _ => nix::libc::EIO,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_error_names_call_arguments_and_errno() {
        let error = Error::new("mount", "proc, /proc", nix::libc::EPERM);
        assert_eq!(
            error.to_string(),
            "mount(proc, /proc): operation not permitted (EPERM)"
        );
    }

    #[test]
    fn a_wrapped_error_keeps_its_number() {
        let missing = tempfile::tempdir_in("/nowhere/at/all").map(drop);
        let error = missing.call("mkdir", || "tmp".into()).unwrap_err();
        assert_eq!(error.errno, nix::libc::ENOENT);
    }
}
