//! The system calls that neither `nix` nor `rustix` offers safely, one thin wrapper each.
//!
//! This is the only place in the project where unsafe code may stand, so that an audit of it is one sitting: `clone3` (a
//! step is born in its namespaces and as a child of the engine), `mount_setattr`, `execve` with a prepared argument block,
//! the ioctls that bring up a loopback interface, and loading a seccomp program. Everything else goes through the libraries.
//!
//! An [`Error`] names the call and its arguments: `mount(proc, /proc): operation not permitted (EPERM)` needs no debugger.
#![allow(unsafe_code)] // Raw system calls, each with its own SAFETY note; see the list above.

mod clone;
mod error;
mod fd;
mod loopback;
mod mount_attr;
mod seccomp;
mod signals;

pub use error::{Error, Result};
