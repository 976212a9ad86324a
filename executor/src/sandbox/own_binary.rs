//! kiln's own binary as the helper runs it: such that `/proc/self/exe` in a step never leads to a file that can be written to
//! (CVE-2019-5736).
//!
//! Where kiln may mount, that is the binary itself behind an overlay that has no upper directory: a filesystem that nobody can make writable,
//! whatever their rights, and that takes no copy. It belongs to no mount namespace. Elsewhere it is a sealed copy in memory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use crate::sys::{self, Context as _};

/// This process's binary, and how it can be executed.
const EXE: &str = "/proc/self/exe";

/// An overlay without an upper directory needs two lower ones. What the second has doesn't matter, but neither may lie in the other.
const OTHERS: [&str; 4] = ["/etc", "/usr", "/var", "/dev"];

/// A binary that can be executed as long as this is open.
#[derive(Debug)]
pub(super) struct OwnBinary {
    _held: OwnedFd,
    path: PathBuf,
}

impl OwnBinary {
    /// The binary behind a filesystem that is read-only for good. To be allowed to mount that, this thread may enter a mount namespace of
    /// its own.
    pub(super) fn read_only() -> Option<Self> {
        let path = fs::read_link(EXE).ok()?;
        let overlay = read_only_overlay(path.parent()?)?;
        let shown = within(&overlay, path.file_name()?);
        // It may have been exchanged since, or be gone.
        let (own, found) = (fs::metadata(EXE).ok()?, fs::metadata(&path).ok()?);
        let is_own = (own.dev(), own.ino()) == (found.dev(), found.ino());
        is_own.then_some(Self {
            _held: overlay,
            path: shown,
        })
    }

    /// A copy in memory, which nobody can change any more.
    pub(super) fn sealed_copy() -> sys::Result<Self> {
        let copy = sealed_copy()?;
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd()).into();
        Ok(Self { _held: copy, path })
    }

    /// A path to execute it by, for this process alone.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn within(directory: &OwnedFd, name: &OsStr) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    path.push(name);
    path
}

fn read_only_overlay(directory: &Path) -> Option<OwnedFd> {
    let other = OTHERS.map(Path::new).into_iter().find(|other| {
        let apart = !other.starts_with(directory) && !directory.starts_with(other);
        apart && fs::symlink_metadata(other).is_ok_and(|found| found.is_dir())
    })?;
    let has_special = |byte: &u8| b":,\\".contains(byte);
    if directory.as_os_str().as_bytes().iter().any(has_special) {
        return None;
    }
    let lowers = [directory, other]
        .map(Path::as_os_str)
        .join(OsStr::new(":"));
    mounted(&lowers).or_else(|| {
        // In a user namespace only mount namespaces that were made there can be changed.
        unshare(CloneFlags::CLONE_NEWNS).ok()?;
        mounted(&lowers)
    })
}

fn mounted(lowers: &OsStr) -> Option<OwnedFd> {
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    fsconfig_set_string(&overlay, "lowerdir", lowers).ok()?;
    fsconfig_create(&overlay).ok()?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&overlay, FsMountFlags::FSMOUNT_CLOEXEC, attributes).ok()
}

fn sealed_copy() -> sys::Result<OwnedFd> {
    let mut binary = File::open(EXE).call("open", || EXE.into())?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = rustix::fs::memfd_create("kiln-sandbox", flags)
        .call("memfd_create", || "kiln-sandbox".into())?;
    let mut copy = File::from(copy);
    io::copy(&mut binary, &mut copy).call("copy", || format!("{EXE}, memfd"))?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals).call("fcntl", || "F_ADD_SEALS".into())?;
    Ok(copy.into())
}
