//! A directory whose insides are opened without leaving it.
//!
//! What is below may have been put there by a hostile layer or RUN, so a path is never given to the host's
//! resolver: openat2(2) with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS` opens it, or, where the kernel or a
//! seccomp filter has no openat2, one openat(2) with `O_NOFOLLOW` for each component.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::ImagePath;

/// A directory on disk; paths are opened below it and no symlink is ever followed.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// Set once openat2 was found missing, to ask only once.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

impl Root {
    /// Opens the directory at `path`, which the caller vouches for: its own symlinks are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            fd: rustix::fs::open(path, flags, Mode::empty())?,
        })
    }

    /// A directory that is open already.
    pub fn from_fd(directory: OwnedFd) -> Self {
        Self { fd: directory }
    }

    /// Opens the directory at `path`.
    pub fn directory(&self, path: &ImagePath) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok(self.open_beneath(path, flags)?)
    }

    /// Opens the regular file at `path` for reading; anything else is an error, and a FIFO doesn't block.
    pub fn file(&self, path: &ImagePath) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.open_beneath(path, flags)?;
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        Ok(File::from(fd))
    }

    fn open_beneath(&self, path: &ImagePath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if !NO_OPENAT2.load(Ordering::Relaxed) {
            match open_resolved(self.fd.as_fd(), path, flags) {
                // EPERM: seccomp profiles written before openat2 answer so.
                Err(Errno::NOSYS | Errno::PERM) => NO_OPENAT2.store(true, Ordering::Relaxed),
                result => return result,
            }
        }
        open_by_component(self.fd.as_fd(), path, flags)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The path's bytes as the kernel wants them: the root is `.`.
fn kernel_path(path: &ImagePath) -> &OsStr {
    OsStr::from_bytes(if path.is_root() {
        b"."
    } else {
        path.as_bytes()
    })
}

fn open_resolved(
    root: BorrowedFd<'_>,
    path: &ImagePath,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, kernel_path(path), flags, Mode::empty(), resolve)
}

fn open_by_component(
    root: BorrowedFd<'_>,
    path: &ImagePath,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut components = path.components();
    let last = components.next_back().unwrap_or(b".");
    let mut directory: Option<OwnedFd> = None;
    for name in components {
        let above = directory.as_ref().map_or(root, AsFd::as_fd);
        directory = Some(rustix::fs::openat(
            above,
            OsStr::from_bytes(name),
            step,
            Mode::empty(),
        )?);
    }
    let above = directory.as_ref().map_or(root, AsFd::as_fd);
    rustix::fs::openat(above, OsStr::from_bytes(last), flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;

    use super::*;

    type Opener = fn(BorrowedFd<'_>, &ImagePath, OFlags) -> rustix::io::Result<OwnedFd>;

    #[test]
    fn both_ways_of_opening_stay_below_and_follow_no_symlink() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/file"), "x").unwrap();
        symlink("/etc", dir.path().join("out")).unwrap();
        symlink("a", dir.path().join("in")).unwrap();
        symlink("file", dir.path().join("a/b/link")).unwrap();

        let root = Root::open(dir.path()).unwrap();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for open in [open_resolved as Opener, open_by_component] {
            for found in ["", "a", "a/b", "a/b/file"] {
                assert!(
                    open(root.as_fd(), &ImagePath::clean(found.as_bytes()), flags).is_ok(),
                    "{found}"
                );
            }
            for refused in ["out", "out/passwd", "in", "in/b", "in/b/file", "a/b/link"] {
                assert!(
                    open(root.as_fd(), &ImagePath::clean(refused.as_bytes()), flags).is_err(),
                    "{refused}"
                );
            }
        }
    }

    #[test]
    fn only_regular_files_have_contents() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("fifo"),
            FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert!(root.file(&ImagePath::clean(b"d")).is_err());
        assert!(root.file(&ImagePath::clean(b"fifo")).is_err());
    }
}
