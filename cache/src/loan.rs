//! What is moved from its place in the store into a directory below `tmp/` for a while, and how it comes home when the process that
//! moved it dies.
//!
//! A note lies beside: which inode, where it is, where it belongs. Whoever sweeps that directory reads the note first.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags};

/// What names of notes begin with.
const PREFIX: &str = "loan-";

/// Something that is away from its place. Its note stays until [`Loan::end`], whatever becomes of this value.
#[derive(Debug)]
pub struct Loan {
    note: PathBuf,
}

impl Loan {
    /// Notes, before it is done, that `home`, a path in the store `root`, moves to `place`, relative to the scratch directory `scratch`.
    pub fn begin(root: &Path, scratch: &Path, home: &Path, place: &Path) -> io::Result<Self> {
        let inode = fs::symlink_metadata(home)?.ino();
        let home = home.strip_prefix(root).map_err(io::Error::other)?;
        let parts = [inode.to_string().as_bytes(), bytes(place), bytes(home)].join(&0);
        let mut note = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempfile_in(scratch)?;
        io::Write::write_all(&mut note, &parts)?;
        let (_, note) = note.keep().map_err(|error| error.error)?;
        Ok(Self { note })
    }

    /// It is home again.
    pub fn end(self) -> io::Result<()> {
        fs::remove_file(self.note)
    }
}

/// Moves home whatever notes in `session`, a dead process's directory in `tmp/` of the store `root`, say. What can't be moved is lost
/// with the rest.
pub(crate) fn bring_home(root: &Path, session: &Path) {
    let below = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten();
    for scratch in below(session) {
        for entry in below(&scratch.path()) {
            if entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()) {
                let _ = settle(root, &scratch.path(), &entry.path());
            }
        }
    }
}

/// A step may have put anything in the way, links included: nothing is followed, and only what was moved there moves back.
fn settle(root: &Path, scratch: &Path, note: &Path) -> Option<()> {
    let text = fs::read(note).ok()?;
    let mut parts = text.splitn(3, |byte| *byte == 0);
    let inode: u64 = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let place = Path::new(OsStr::from_bytes(parts.next()?));
    let home = Path::new(OsStr::from_bytes(parts.next()?));
    let is_plain = |path: &Path| {
        path.components()
            .all(|part| matches!(part, Component::Normal(_)))
    };
    if !is_plain(place) || !is_plain(home) {
        return None;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let scratch = File::open(scratch).ok()?;
    let parent = place.parent().filter(|path| !path.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let parent = rustix::fs::openat2(scratch, parent, flags, Mode::empty(), how).ok()?;
    let name = place.file_name()?;
    let found = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    // The number may be another's by now, but that of a link never is what was moved.
    let is_link = FileType::from_raw_mode(found.st_mode) == FileType::Symlink;
    if found.st_ino != inode || is_link {
        return None;
    }
    let home = root.join(home);
    rustix::fs::renameat_with(&parent, name, CWD, home, RenameFlags::NOREPLACE).ok()
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;

    use super::*;
    use crate::Store;

    /// A store with something of a dead process in `tmp/`, and the scratch directory in there.
    fn store(dir: &Path) -> (Store, PathBuf) {
        let store = Store::open(dir).unwrap();
        let scratch = dir.join("tmp/kiln-dead/0");
        fs::create_dir_all(scratch.join("root/var")).unwrap();
        fs::create_dir_all(dir.join("mounts/id/x-0")).unwrap();
        fs::write(dir.join("mounts/id/x-0/kept"), "kept").unwrap();
        (store, scratch)
    }

    #[test]
    fn what_a_dead_process_had_moved_comes_home() {
        let dir = tempfile::tempdir().unwrap();
        let (store, scratch) = store(dir.path());
        let home = dir.path().join("mounts/id/x-0");
        Loan::begin(dir.path(), &scratch, &home, Path::new("root/var/cache")).unwrap();
        fs::rename(&home, scratch.join("root/var/cache")).unwrap();
        store.sweep();
        assert_eq!(fs::read_to_string(home.join("kept")).unwrap(), "kept");
        assert!(!scratch.exists());
    }

    #[test]
    fn what_was_never_moved_or_is_home_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (store, scratch) = store(dir.path());
        let home = dir.path().join("mounts/id/x-0");
        Loan::begin(dir.path(), &scratch, &home, Path::new("root/var/cache")).unwrap();
        let loan = Loan::begin(dir.path(), &scratch, &home, Path::new("root/c")).unwrap();
        loan.end().unwrap();
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 2);
        store.sweep();
        assert!(home.join("kept").exists());
    }

    #[test]
    fn a_link_that_has_got_its_number_stays_away() {
        let dir = tempfile::tempdir().unwrap();
        let (store, scratch) = store(dir.path());
        let home = dir.path().join("mounts/id/x-0");
        let link = scratch.join("root/var/cache");
        symlink("/etc", &link).unwrap();
        let number = fs::symlink_metadata(&link).unwrap().ino();
        fs::remove_dir_all(&home).unwrap();
        let parts = [&number.to_string(), "root/var/cache", "mounts/id/x-0"].join("\0");
        fs::write(scratch.join("loan-x"), parts).unwrap();
        store.sweep();
        assert!(!home.is_symlink());
    }

    #[test]
    fn a_link_in_the_way_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
        let (store, scratch) = store(dir.path());
        let home = dir.path().join("mounts/id/x-0");
        Loan::begin(dir.path(), &scratch, &home, Path::new("root/var/cache")).unwrap();
        fs::rename(&home, outside.path().join("cache")).unwrap();
        fs::remove_dir(scratch.join("root/var")).unwrap();
        symlink(outside.path(), scratch.join("root/var")).unwrap();
        store.sweep();
        assert!(!home.exists() && outside.path().join("cache/kept").exists());
    }
}
