//! Mount points that an image lacks: made for a step, taken away after it, so that no layer shows them (R-LAY-14, R-MNT-17).
//!
//! Making a file in a directory of a lower layer leaves three traces in an overlay's upper directory: the file, a copy of every
//! directory above it, and new modification times. All three are undone. What the step itself made or changed stays: a mount point that
//! is no longer empty, a directory whose owner, mode, times or attributes are not those it had.

use crate::sys::{Context as _, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Everything that was made below a root so that mounts had a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stubs {
    /// In the order they were made: parents first.
    pub(super) made: Vec<Stub>,
    /// Directories of lower layers that were copied up by it.
    copied_up: Vec<CopiedUp>,
}

/// One mount point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stub {
    /// Relative to the root, without links.
    pub(super) path: Vec<u8>,
    pub(super) kind: StubKind,
}

/// A mount point is of the kind of what is mounted on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum StubKind {
    Directory,
    File,
}

/// A directory as it was before it was copied up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct CopiedUp {
    path: Vec<u8>,
    attributes: Attributes,
}

/// What of a directory would show in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, i64),
}

impl Stubs {
    /// Notes a directory that is about to be copied up, with its attributes in the image.
    pub(super) fn remember_copied_up(&mut self, path: Vec<u8>, stat: &Stat) {
        if self.copied_up.iter().all(|known| known.path != path) {
            self.copied_up.push(CopiedUp {
                path,
                attributes: Attributes::of(stat),
            });
        }
    }

    /// Notes a directory at the top of the root.
    pub(super) fn remember_made(&mut self, path: &str) {
        let stub = Stub {
            path: path.trim_start_matches('/').into(),
            kind: StubKind::Directory,
        };
        if !self.made.contains(&stub) {
            self.made.insert(0, stub);
        }
    }

    /// Undoes what was made, in the directory that holds the step's changes.
    pub(super) fn remove(&self, changes: &Path) -> Result<()> {
        if self.made.is_empty() {
            return Ok(());
        }
        let root = File::open(changes).call("open", || changes.display().to_string())?;
        for stub in self.made.iter().rev() {
            remove_empty(&root, &stub.path, stub.kind)?;
        }
        let mut directories: Vec<_> = self.copied_up.iter().collect();
        directories.sort_by_key(|directory| std::cmp::Reverse(directory.path.len())); // a child's path is longer than its parent's
        for directory in directories {
            if as_it_was(&root, directory) {
                remove_empty(&root, &directory.path, StubKind::Directory)?;
            }
        }
        Ok(())
    }
}

impl Attributes {
    fn of(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: times(stat),
        }
    }
}

/// Whether the path is there below `root`, links not followed.
pub(super) fn is_below(root: &OwnedFd, path: &[u8]) -> bool {
    open_below(root, path, OFlags::PATH).is_ok()
}

/// Gives a directory back the modification time that it had.
pub(super) fn restore_times(directory: impl AsFd, before: &Stat) -> rustix::io::Result<()> {
    let (tv_sec, tv_nsec) = times(before);
    let keep = Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_OMIT,
    };
    let times = Timestamps {
        last_access: keep,
        last_modification: Timespec { tv_sec, tv_nsec },
    };
    rustix::fs::utimensat(directory, ".", &times, AtFlags::empty())
}

/// Removes an empty file or directory, and leaves its parent as old as it was. What is gone or no longer empty is left alone.
fn remove_empty(root: &File, path: &[u8], kind: StubKind) -> Result<()> {
    let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&b""[..], path),
    };
    let Ok(parent) = open_below(root, parent, OFlags::PATH | OFlags::DIRECTORY) else {
        return Ok(());
    };
    let Ok(stat) = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return Ok(());
    };
    let file = FileType::from_raw_mode(stat.st_mode);
    let flags = match kind {
        StubKind::Directory if file == FileType::Directory => AtFlags::REMOVEDIR,
        StubKind::File if file == FileType::RegularFile && stat.st_size == 0 => AtFlags::empty(),
        StubKind::Directory | StubKind::File => return Ok(()),
    };
    let text = || String::from_utf8_lossy(path).into_owned();
    let before = rustix::fs::fstat(&parent).call("fstat", text)?;
    match rustix::fs::unlinkat(&parent, name, flags) {
        Ok(()) => restore_times(&parent, &before).call("utimensat", text),
        Err(Errno::NOTEMPTY | Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).call("unlinkat", text),
    }
}

/// Whether nothing but the copy-up has happened to a directory.
fn as_it_was(root: &File, directory: &CopiedUp) -> bool {
    let Ok(fd) = open_below(root, &directory.path, OFlags::RDONLY | OFlags::DIRECTORY) else {
        return false;
    };
    let same =
        rustix::fs::fstat(&fd).is_ok_and(|stat| Attributes::of(&stat) == directory.attributes);
    same && !has_attributes_of_its_own(&fd)
}

/// Whether a directory carries extended attributes besides the notes overlayfs makes at a copy-up. One that hides the lower
/// layers' directory (`opaque`) was made anew by the step.
fn has_attributes_of_its_own(directory: &OwnedFd) -> bool {
    let mut names = vec![0; 64 << 10];
    let Ok(length) = rustix::fs::flistxattr(directory, names.as_mut_slice()) else {
        return true;
    };
    let names = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    let mut names = names.into_iter();
    names.any(|name| !is_copy_up_note(name))
}

fn is_copy_up_note(name: &[u8]) -> bool {
    let spaces: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];
    let notes: [&[u8]; 3] = [b"origin", b"impure", b"uuid"];
    let mut own = spaces
        .into_iter()
        .filter_map(|space| name.strip_prefix(space));
    own.any(|name| notes.contains(&name))
}

fn open_below(root: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how)
}

#[expect(
    clippy::unnecessary_cast,
    reason = "the fields' types differ between architectures"
)]
fn times(stat: &Stat) -> (i64, i64) {
    (stat.st_mtime as i64, stat.st_mtime_nsec as i64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::time::SystemTime;

    fn stub(path: &str, kind: StubKind) -> Stub {
        Stub {
            path: path.into(),
            kind,
        }
    }

    #[test]
    fn empty_stubs_vanish_and_their_parents_keep_their_times() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        fs::create_dir_all(run.join("secrets")).unwrap();
        fs::write(run.join("secrets/token"), "").unwrap();
        let old = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::open(&run).unwrap().set_modified(old).unwrap();
        let made = vec![
            stub("run/secrets", StubKind::Directory),
            stub("run/secrets/token", StubKind::File),
        ];
        Stubs {
            made,
            copied_up: Vec::new(),
        }
        .remove(dir.path())
        .unwrap();
        assert_eq!(fs::read_dir(&run).unwrap().count(), 0);
        assert_eq!(fs::metadata(&run).unwrap().modified().unwrap(), old); // R-MNT-17
    }

    #[test]
    fn what_the_step_filled_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("cache")).unwrap();
        fs::write(dir.path().join("cache/kept"), "").unwrap();
        fs::write(dir.path().join("hosts"), "own").unwrap();
        let made = vec![
            stub("cache", StubKind::Directory),
            stub("hosts", StubKind::File),
            stub("gone", StubKind::File),
        ];
        Stubs {
            made,
            copied_up: Vec::new(),
        }
        .remove(dir.path())
        .unwrap();
        assert!(dir.path().join("cache/kept").exists() && dir.path().join("hosts").exists());
    }

    #[test]
    fn a_copied_up_directory_goes_unless_it_was_changed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["same", "changed"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("stub"), "").unwrap();
        }
        let mut stubs = Stubs::default();
        for name in ["same", "changed"] {
            stubs
                .made
                .push(stub(&format!("{name}/stub"), StubKind::File));
            stubs.remember_copied_up(
                name.into(),
                &rustix::fs::stat(dir.path().join(name)).unwrap(),
            );
        }
        fs::set_permissions(
            dir.path().join("changed"),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .unwrap();
        stubs.remove(dir.path()).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["changed"]);
    }
}
