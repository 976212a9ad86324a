//! The terminal of a step (`kiln run -t`): one of the step's own `/dev/pts`, as it must have a name there for `ttyname(3)` to find it.
//!
//! Nothing is looked up by a name that could lead elsewhere (CVE-2025-52565, CVE-2019-19921): the master comes from the filesystem that was just made,
//! before there is a root around it, and the other end from the master.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;

use super::kernel_trees::KernelTrees;
use super::mounts::{attach, copy_tree};
use crate::sys::{Context as _, Error, Result};

/// Gives the step a terminal in the place of the one that its standard input is, of the same size, for its three streams and as its
/// `/dev/console`. Returns the master, which is for kiln.
pub(super) fn give_terminal(trees: &KernelTrees) -> Result<OwnedFd> {
    let stdin = rustix::stdio::stdin();
    let size = rustix::termios::tcgetwinsize(stdin).call("ioctl", || "TIOCGWINSZ".into())?;
    let (master, own) = open(trees)?;
    rustix::termios::tcsetwinsize(&master, size).call("ioctl", || "TIOCSWINSZ".into())?;
    put_console(trees, &own)?;
    rustix::stdio::dup2_stdin(&own).call("dup2", || "stdin".into())?;
    rustix::stdio::dup2_stdout(&own).call("dup2", || "stdout".into())?;
    rustix::stdio::dup2_stderr(&own).call("dup2", || "stderr".into())?;
    Ok(master)
}

/// Opens both ends of a new one.
fn open(trees: &KernelTrees) -> Result<(OwnedFd, OwnedFd)> {
    const PTMX: &str = "/dev/pts/ptmx";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = trees.open_with(PTMX, flags)?;
    let found = rustix::fs::fstatfs(&master).call("fstatfs", || PTMX.into())?;
    if found.f_type != DEVPTS_MAGIC {
        return Err(Error::new("openat2", PTMX, nix::libc::ENXIO));
    }
    rustix::pty::unlockpt(&master).call("ioctl", || "TIOCSPTLCK".into())?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let own =
        rustix::pty::ioctl_tiocgptpeer(&master, flags).call("ioctl", || "TIOCGPTPEER".into())?;
    Ok((master, own))
}

fn put_console(trees: &KernelTrees, own: &OwnedFd) -> Result<()> {
    const CONSOLE: &str = "/dev/console";
    let dev = trees.open("/dev")?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(&dev, "console", flags, Mode::from_raw_mode(0o600))
        .call("openat", || CONSOLE.into())?;
    attach(
        copy_tree(own, Path::new(""))?,
        trees.open(CONSOLE)?,
        CONSOLE,
    )
}

/// `DEVPTS_SUPER_MAGIC` of `linux/magic.h`.
const DEVPTS_MAGIC: rustix::fs::FsWord = 0x1cd1;
