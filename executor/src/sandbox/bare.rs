//! The least the kernel can do for a step, as a measure for what we do: namespaces, overlay, pivot_root, exec. For the benchmark only.

use crate::sys::{self, Cloned, Context as _, SingleThreaded};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::ffi::CString;
use std::os::fd::AsFd as _;
use std::path::Path;

/// Runs `/bin/true` of the directory `lower` with nothing but namespaces, an overlay and a new root, and waits for its end.
///
/// Must be called in a process with one thread, whose parent will be the parent of the program.
pub fn run_true(lower: &Path, upper: &Path, work: &Path) -> sys::Result<()> {
    let proof = SingleThreaded::prove()
        .ok_or_else(|| sys::Error::new("clone3", "several threads", libc::EINVAL))?;
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    match sys::clone_process(&proof, namespaces)? {
        Cloned::New => {
            let _ = become_true(lower, upper, work);
            std::process::exit(1)
        }
        Cloned::Caller(step) => {
            let ended = poll(
                &mut [PollFd::new(step.as_fd(), PollFlags::POLLIN)],
                PollTimeout::NONE,
            );
            ended.map(drop).call("poll", || "pidfd".into())
        }
    }
}

fn become_true(lower: &Path, upper: &Path, work: &Path) -> sys::Result<()> {
    let how = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", how).call("mount", || "/".into())?;
    let (lower, above, work) = (lower.display(), upper.display(), work.display());
    let options = CString::new(format!(
        "lowerdir={lower},upperdir={above},workdir={work},volatile"
    ))
    .unwrap_or_default();
    rustix::mount::mount(
        "overlay",
        upper,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .call("mount", String::new)?;
    rustix::process::chdir(upper).call("chdir", String::new)?;
    rustix::process::pivot_root(".", ".").call("pivot_root", String::new)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).call("umount2", String::new)?;
    let program = c"/bin/true";
    nix::unistd::execve(program, &[program], &[c"PATH=/bin"])
        .map(drop)
        .call("execve", String::new)
}
