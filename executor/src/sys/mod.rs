//! The system calls that neither `nix` nor `rustix` offers safely, one thin wrapper each.
//!
//! This is the only place in the project where unsafe code may stand, so that an audit of it is one sitting: `clone3` (a
//! step is born in its namespaces and as a child of the engine), `clone` on this process's memory, `execve` there, `fork`, `close_range`, `mount_setattr`, the ioctl that brings up a
//! loopback interface, signal dispositions, the session keyring, `waitid` with figures, loading a seccomp program, Landlock's scopes, the mounts of a process, and what it
//! takes to answer another process's calls (seccomp's notifications, `prlimit`, the bytes of `stat`). Everything else goes through
//! the libraries.
//!
//! An [`Error`] names the call and its arguments: `mount(proc, /proc): operation not permitted (EPERM)` needs no debugger.
#![allow(unsafe_code)] // Raw system calls, each with its own SAFETY note; see the list above.

mod clone;
mod error;
mod fd;
mod fork;
mod keyring;
mod landlock;
mod lend;
mod loopback;
mod mount_attr;
mod notify;
mod other;
mod pidfd;
mod seccomp;
mod signals;
mod wait;

pub(crate) use clone::{Cloned, SingleThreaded, clone_process};
pub(crate) use error::Context;
pub use error::{Error, Result};
pub(crate) use fd::{close_from, close_on_exec_from};
pub(crate) use fork::{Forked, fork_process};
pub(crate) use keyring::join_new_session_keyring;
pub(crate) use landlock::{can_keep_to_themselves, keep_to_themselves};
pub(crate) use lend::{Order, Stack, Strings, execute, lend_memory};
pub(crate) use loopback::bring_up_loopback;
pub(crate) use mount_attr::{Reach, clear_mount_attributes, mount_setattr};
pub(crate) use notify::{
    Notification, Reply, add_fd, answer, load_seccomp_listener, receive, still_waits, take_turns,
};
pub(crate) use other::{
    filesystem_of, real_time_limit, stat_bytes, stat_of, statx_bytes, statx_of,
};
pub(crate) use pidfd::{mount_namespace_of, number_of};
pub(crate) use seccomp::{Instruction, load_seccomp};
pub(crate) use signals::reset_signals;
pub(crate) use wait::{ChildEnd, ChildUsage, wait_for_child};
