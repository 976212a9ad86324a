//! What has changed in a plain directory since an earlier look.
//!
//! For root filesystems that are copies, where no overlay says what a step did. A file's content, owner, mode, attributes and number
//! of links can't change without its change time (`ctime`), which no program can set. So nothing is read but what has a new one.
//! Except on tmpfs, where a page that was read through a shared mapping can be written to with no further fault, and so no new time: there files
//! are not left out, and [`Draft::normalise`] compares what they contain.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::time::{ClockId, clock_gettime};

use super::{Draft, Look, Marks, Owners, Scan, ScanError};
use crate::tar::number_links;
use crate::{Change, ImagePath, Node};

/// What tells each object of a directory from what it may be later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamps {
    objects: HashMap<ImagePath, Stamp>,
}

/// Inode and change time, in seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed: (i64, u64),
}

impl Stamps {
    /// Looks at everything below a directory. Whatever changes after this has returned is noticed.
    pub fn take(directory: &Path) -> Result<Self, ScanError> {
        let mut scan = Scan::new(directory, Marks::None, &Owners::Own)?;
        scan.look = Look::Stamps;
        scan.read()?;
        scan.seen.outlive_the_clock_tick(directory);
        Ok(scan.seen)
    }

    /// What a scan has seen below a directory of which nothing has changed since but its own owner and mode. Whatever changes after this has
    /// returned is noticed.
    pub fn again(mut self, directory: &Path) -> Result<Self, ScanError> {
        self.renew(directory, [&ImagePath::root()])?;
        self.outlive_the_clock_tick(directory);
        Ok(self)
    }

    /// The same, where whoever looks has changed these objects since.
    pub fn renew<'p>(
        &mut self,
        directory: &Path,
        paths: impl IntoIterator<Item = &'p ImagePath>,
    ) -> Result<(), ScanError> {
        for path in paths {
            let found = directory.join(OsStr::from_bytes(path.as_bytes()));
            let stat = rustix::fs::lstat(found).map_err(|errno| ScanError {
                act: "stat",
                path: path.clone(),
                source: errno.into(),
            })?;
            self.objects.insert(path.clone(), Stamp::of(&stat));
        }
        Ok(())
    }

    /// File systems write down the time of the last tick: a change within the tick of the latest stamp would not show, nor would an object that
    /// takes the place and the number of another.
    fn outlive_the_clock_tick(&self, directory: &Path) {
        let latest = self.objects.values().map(|stamp| stamp.changed).max();
        while latest.is_some_and(|latest| latest >= time_of_changes(directory)) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Reads what is not as it was at the time of `before`: changed and new objects, and removals. Returns what it has seen, too.
pub fn scan_since(
    directory: &Path,
    before: &Stamps,
    owners: &Owners,
) -> Result<(Draft, Stamps), ScanError> {
    scan_where(!is_on_tmpfs(directory), directory, before, owners)
}

fn scan_where(
    contents_are_dated: bool,
    directory: &Path,
    before: &Stamps,
    owners: &Owners,
) -> Result<(Draft, Stamps), ScanError> {
    let mut scan = Scan::new(directory, Marks::None, owners)?;
    scan.look = Look::Since(before);
    scan.contents_are_dated = contents_are_dated;
    scan.read()?;
    let removed: Vec<ImagePath> = scan.removed(before).cloned().collect();
    let mut changes = scan.changes;
    changes.extend(removed.into_iter().map(|path| (path, Change::Remove)));
    number_links(changes.values_mut());
    Ok((Draft::from_iter(changes), scan.seen))
}

impl Scan<'_> {
    /// Whether an object is not to be read.
    pub(super) fn is_left_out(&mut self, path: &ImagePath, stat: &Stat) -> bool {
        let stamp = Stamp::of(stat);
        let has_content =
            stat.st_size > 0 && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let is_dated = self.contents_are_dated || !has_content;
        let left_out = match self.look {
            Look::Everything => return false,
            Look::Since(before) => is_dated && before.objects.get(path) == Some(&stamp),
            Look::Stamps => true,
        };
        self.seen.objects.insert(path.clone(), stamp);
        left_out
    }

    /// What is gone, but not what went with the directory that it was in.
    fn removed<'b>(&'b self, before: &'b Stamps) -> impl Iterator<Item = &'b ImagePath> {
        let gone = |path: &&ImagePath| !self.seen.objects.contains_key(*path);
        let in_a_directory = |path: &&ImagePath| {
            path.parent().is_some_and(|parent| {
                let changed = self.changes.get(&parent).and_then(Change::node);
                self.seen.objects.contains_key(&parent) && changed.is_none_or(Node::is_directory)
            })
        };
        before.objects.keys().filter(gone).filter(in_a_directory)
    }
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino,
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// `TMPFS_MAGIC` of `linux/magic.h`.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

fn is_on_tmpfs(directory: &Path) -> bool {
    rustix::fs::statfs(directory).is_ok_and(|found| found.f_type == TMPFS)
}

/// The time that a change below this directory has now, at least.
fn time_of_changes(directory: &Path) -> (i64, u64) {
    let tick = clock_gettime(ClockId::RealtimeCoarse);
    advanced(directory).unwrap_or((tick.tv_sec, tick.tv_nsec.unsigned_abs()))
}

/// The change time of a file that was made just now, and has no name. Since Linux 6.13 a file that changes after somebody has looked has the true
/// time, and nothing has an earlier one from then on; so a file is made to change before. No directory's times are changed by this.
fn advanced(directory: &Path) -> rustix::io::Result<(i64, u64)> {
    let mode = Mode::RUSR | Mode::WUSR;
    let make = || {
        rustix::fs::open(
            directory,
            OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
            mode,
        )
    };
    let changing = make()?;
    rustix::fs::fstat(&changing)?;
    rustix::fs::fchmod(&changing, mode)?;
    rustix::fs::fstat(&changing)?;
    let made = rustix::fs::fstat(make()?)?;
    Ok(Stamp::of(&made).changed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_a_scan_has_seen_serves_the_next() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let mut before = Stamps::default();
        for (name, expected) in [("one", 3), ("two", 2), ("three", 2)] {
            fs::write(dir.path().join(name), "").unwrap();
            let (draft, seen) = scan_where(true, dir.path(), &before, &Owners::Own).unwrap();
            assert_eq!(draft.iter().count(), expected, "{name}");
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
            before = seen.again(dir.path()).unwrap();
            let (draft, _) = scan_where(true, dir.path(), &before, &Owners::Own).unwrap();
            assert_eq!(draft.iter().count(), 0);
        }
    }

    /// At once, so within a tick of the clock, and where the file system gives the number of a file that is gone to the next.
    #[test]
    fn what_takes_the_place_of_another_has_changed() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let file = dir.path().join("file");
        for _ in 0..50 {
            fs::write(&file, "x").unwrap();
            let before = Stamps::take(dir.path()).unwrap();
            fs::remove_file(&file).unwrap();
            fs::write(&file, "y").unwrap();
            let (draft, _) = scan_where(true, dir.path(), &before, &Owners::Own).unwrap();
            let changed: Vec<_> = draft.iter().map(|(path, _)| path.to_string()).collect();
            assert_eq!(changed, ["", "file"]);
        }
    }

    #[test]
    fn where_contents_are_not_dated_no_file_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        fs::write(dir.path().join("empty"), "").unwrap();
        let before = Stamps::take(dir.path()).unwrap();
        for (dated, expected) in [(true, &[][..]), (false, &["file"])] {
            let (draft, _) = scan_where(dated, dir.path(), &before, &Owners::Own).unwrap();
            let named: Vec<_> = draft.iter().map(|(path, _)| path.to_string()).collect();
            assert_eq!(named, expected);
        }
    }

    #[test]
    fn what_has_changed_since() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("d/e")).unwrap();
        for name in ["same", "rewritten", "mode", "d/gone", "d/e/same"] {
            fs::write(path(name), "x").unwrap();
        }
        let before = Stamps::take(dir.path()).unwrap();
        assert!(
            scan_where(true, dir.path(), &before, &Owners::Own)
                .unwrap()
                .0
                .is_empty()
        );

        fs::write(path("rewritten"), "y").unwrap();
        fs::set_permissions(path("mode"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(path("d/gone")).unwrap();
        symlink("same", path("new")).unwrap();
        let (draft, _) = scan_where(true, dir.path(), &before, &Owners::Own).unwrap();
        let listing: Vec<String> = draft
            .iter()
            .map(|(path, change)| match change {
                Change::Remove => format!("-{path}"),
                Change::Put(_) | Change::Opaque(_) => path.to_string(),
            })
            .collect();
        // Directories that something was made or removed in have a new change time, too.
        assert_eq!(listing, ["", "d", "-d/gone", "mode", "new", "rewritten"]);
    }
}
