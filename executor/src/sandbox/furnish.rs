//! What a step without mounts of its own gets in their place: things that stand in its root filesystem while it runs, and are gone after it.
//!
//! What the image has at such a place is moved aside and comes back. A directory that kiln made for the step, and a cache, is moved in
//! and, the cache, out again, so nothing is copied that need not be. While the step runs it can do as it likes with all of it, links
//! included. So each place is held by the descriptor of the directory that it is in, and nothing is ever looked up by a path again.

use super::broker;
use super::error::Failure;
use super::mounts::{self, NODES, TMPFS_MODE, mode_from_below};
use super::root::{Missing, Root, open_inside};
use super::stub::{self, StubKind, Stubs};
use super::{MountKind, MountSpec, SandboxSpec};
use crate::sys::{self, Context as _, Error, Result};
use kiln_cache::Loan;
use kiln_image::contents::DirContents;
use kiln_image::scan::scan_directory;
use kiln_image::tar::{UnpackOptions, Whiteouts, apply_changeset};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Everything put into a root. Dropping it takes it out again.
#[derive(Debug)]
pub(crate) struct Furnishing {
    /// In the order they were put there.
    pieces: Vec<Piece>,
    stubs: Stubs,
    /// Directories at the top that the image lacks.
    kernel: Vec<String>,
    root: PathBuf,
    /// The directory that is kiln's own.
    own: Option<PathBuf>,
    /// On the root's own filesystem, so that moving is renaming.
    aside: TempDir,
    /// How many paths below `aside` were given out.
    paths: usize,
}

/// One thing that was put somewhere.
#[derive(Debug)]
struct Piece {
    parent: OwnedFd,
    /// The directories from the root to the parent, with what they were.
    way: Vec<(OsString, Stat)>,
    name: OsString,
    /// What was put there. As long as this is open nothing else can have its number.
    made: Option<OwnedFd>,
    /// What the image has there, below `aside`.
    displaced: PathBuf,
    /// Where it came from and belongs.
    home: Option<PathBuf>,
    /// For who comes after a sudden death.
    loan: Option<Loan>,
}

/// What of the surrounding `/proc` is the same for everybody, and can be shown as it is at this moment.
const OF_PROC: [&str; 11] = [
    "cpuinfo",
    "filesystems",
    "loadavg",
    "meminfo",
    "stat",
    "uptime",
    "version",
    "sys/kernel/ostype",
    "sys/kernel/osrelease",
    "sys/kernel/version",
    "sys/vm/overcommit_memory",
];

/// Where in the store things are that are for one step.
const SCRATCH: &str = "tmp";

/// Puts into a directory what belongs there.
type Fill<'a> = &'a dyn Fn(&Path) -> io::Result<()>;

impl Furnishing {
    /// Puts everything in its place.
    pub(super) fn place(spec: &SandboxSpec) -> std::result::Result<Self, Failure> {
        let (mut furnishing, root) = Self::begin(spec).map_err(unfurnished)?;
        let mounts =
            broker::Mounts::of(spec, |target| Some(broker::MountPlace::named(target))).table();
        let trees: [(_, Fill<'_>); 3] = [
            ("/proc", &|proc| fill_proc(proc, &mounts)),
            ("/sys", &|_| Ok(())),
            ("/dev", &fill_dev),
        ];
        for (path, fill) in trees {
            let placed = furnishing.kernel_directory(&root, path, fill);
            placed.map_err(|cause| not_mounted(path, cause))?;
        }
        let written: Vec<_> = spec.mounts.iter().filter_map(written_source).collect();
        for mount in &spec.mounts {
            let target = mount.target.as_str();
            let failed = |cause| not_mounted(target, cause);
            furnishing.forget_directory_of(target);
            let mode = mode_from_below(mount, &root);
            let (made, home, kind) = furnishing.piece(mount, mode, &written).map_err(failed)?;
            let place = furnishing.mount_point(&root, target, kind)?;
            furnishing.put(&place, &made, home).map_err(failed)?;
        }
        Ok(furnishing)
    }

    /// One without anything in it, and the root.
    fn begin(spec: &SandboxSpec) -> Result<(Self, Root)> {
        let directory = spec.root.changes();
        let beside = directory.parent().unwrap_or(directory);
        let aside = TempDir::new_in(beside).call("mkdir", || beside.display().to_string())?;
        let furnishing = Self {
            pieces: Vec::new(),
            stubs: Stubs::default(),
            kernel: Vec::new(),
            root: directory.to_owned(),
            own: spec.own.clone(),
            aside,
            paths: 0,
        };
        let root = open_directory(directory)?;
        Ok((furnishing, Root::new(root, None)))
    }

    /// Takes everything out. The pieces go in the reverse order, as one may stand in another.
    pub(super) fn clear(&mut self) -> Result<()> {
        while let Some(piece) = self.pieces.pop() {
            piece.take_out(&self.root)?;
        }
        self.stubs.remove(&self.root)?;
        self.stubs = Stubs::default();
        Ok(())
    }

    /// A directory that the image's links have no say in; one that is missing stays, empty (R-LAY-14).
    fn kernel_directory(&mut self, root: &Root, path: &str, fill: Fill<'_>) -> Result<()> {
        if !root.exists_without_links(path)? {
            root.open_or_make(path, Missing::Directory(0, 0))?;
            self.kernel.push(path.to_owned());
        }
        let made = self.new_directory(0o755)?;
        fill(&made).call("mknod", || path.to_owned())?;
        self.put(&root.open_without_links(path)?, &made, None)
    }

    /// What was missing doesn't stay if something is asked for on or below it.
    fn forget_directory_of(&mut self, target: &str) {
        let directory = self
            .kernel
            .iter()
            .find(|path| Path::new(target).starts_with(path));
        if let Some(directory) = directory {
            self.stubs.remember_made(directory);
        }
    }

    /// One mount's contents, where they are to go afterwards, if anywhere, and the kind of place they need. One without a mode has that of what
    /// is `below`. The sources that any mount of the step lets it write to are `written`.
    fn piece(
        &mut self,
        mount: &MountSpec,
        below: Option<Mode>,
        written: &[&Path],
    ) -> Result<(PathBuf, Option<PathBuf>, StubKind)> {
        Ok(match &mount.kind {
            MountKind::Tmpfs { mode, owner, .. } => {
                let mode = mode.or(below.map(Mode::as_raw_mode));
                let made = self.new_directory(mode.unwrap_or(TMPFS_MODE))?;
                if let Some((uid, gid)) = *owner {
                    let given = std::os::unix::fs::chown(&made, Some(uid), Some(gid));
                    given.call("chown", || format!("{uid}, {gid}"))?;
                }
                (made, None, StubKind::Directory)
            }
            MountKind::File {
                contents,
                mode,
                uid,
                gid,
            } => {
                let file = self.new_path();
                write_file(&file, contents, *mode & 0o777, (*uid, *gid))
                    .call("write", || mount.target.clone())?;
                (file, None, StubKind::File)
            }
            MountKind::Bind { source, inside, .. }
                if inside.is_empty()
                    && self.may_move(source, written.contains(&source.as_path())) =>
            {
                let moved = self.moved(source)?;
                let kind = kind_of(moved.as_deref().unwrap_or(source))?;
                match moved {
                    Some(place) => (self.link_to(&place)?, None, kind),
                    None => (source.clone(), Some(source.clone()), kind),
                }
            }
            MountKind::Bind { source, inside, .. } => {
                let moved = self.moved(source)?;
                let copied = self.copy_of(moved.as_ref().unwrap_or(source), inside)?;
                let kind = kind_of(&copied)?;
                (copied, None, kind)
            }
        })
    }

    fn mount_point(
        &mut self,
        root: &Root,
        target: &str,
        kind: StubKind,
    ) -> std::result::Result<OwnedFd, Failure> {
        let missing = Missing::Stub(kind, &mut self.stubs);
        let place = root
            .open_or_make(target, missing)
            .map_err(|error| Failure::mount_point(target, error.to_string()))?;
        mounts::check_kinds(target, kind, &place)?;
        Ok(place)
    }

    /// Where something is now that was moved into the root, or that is in something that was.
    fn moved(&self, source: &Path) -> Result<Option<PathBuf>> {
        let place_of = |piece: &Piece| {
            let rest = source.strip_prefix(piece.home.as_ref()?).ok()?;
            let place = path_of(piece.made.as_ref()?);
            Some(place.map(|place| place.components().chain(rest.components()).collect()))
        };
        self.pieces.iter().find_map(place_of).transpose()
    }

    /// A link for what can't be in two places.
    fn link_to(&mut self, place: &Path) -> Result<PathBuf> {
        let text = || place.display().to_string();
        let below = place.strip_prefix(&self.root).map_err(io::Error::other);
        let target = Path::new("/").join(below.call("symlink", text)?);
        let link = self.new_path();
        symlink(target, &link).call("symlink", text)?;
        Ok(link)
    }

    /// What is somebody else's can't be taken from them, and what is kept and may not be changed is not trusted to the step.
    fn may_move(&self, source: &Path, writable: bool) -> bool {
        self.is_own(source) && (writable || !self.is_kept(source))
    }

    fn is_own(&self, source: &Path) -> bool {
        self.own.as_ref().is_some_and(|own| source.starts_with(own))
    }

    /// Whether it is kiln's and outlives the step.
    fn is_kept(&self, source: &Path) -> bool {
        let own = self.own.as_ref();
        own.is_some_and(|own| source.starts_with(own) && !source.starts_with(own.join(SCRATCH)))
    }

    /// Notes that something that is kept moves to `name` in `parent`.
    fn loan(&self, home: &Path, parent: &OwnedFd, name: &OsStr) -> Result<Option<Loan>> {
        let (Some(own), true) = (&self.own, self.is_kept(home)) else {
            return Ok(None);
        };
        let scratch = self.root.parent().unwrap_or(&self.root);
        let place = path_of(parent)?.join(name);
        let begun = place
            .strip_prefix(scratch)
            .map_err(io::Error::other)
            .and_then(|place| Loan::begin(own, scratch, home, place));
        begun.map(Some).call("write", || home.display().to_string())
    }

    /// Moves `made` to where `place` is, and what is there aside.
    fn put(&mut self, place: &OwnedFd, made: &Path, home: Option<PathBuf>) -> Result<()> {
        let (parent, name) = parent_of(place)?;
        let text = || name.display().to_string();
        let before = rustix::fs::fstat(&parent).call("fstat", text)?;
        let way = way_to(&self.root, &path_of(&parent)?).call("stat", text)?;
        let loan = match &home {
            Some(home) => self.loan(home, &parent, &name)?,
            None => None,
        };
        let displaced = self.new_path();
        rustix::fs::renameat(&parent, &name, CWD, &displaced).call("renameat", text)?;
        let mut piece = Piece {
            parent,
            way,
            name: name.clone(),
            made: None,
            displaced,
            home: None,
            loan,
        };
        let moved = rustix::fs::renameat(CWD, made, &piece.parent, &name).call("renameat", text);
        if moved.is_ok() {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(&piece.parent, &name, flags, Mode::empty());
            piece.home = home;
            piece.made = Some(opened.call("openat", text)?);
        }
        let as_old = stub::restore_times(&piece.parent, &before).call("utimensat", text);
        self.pieces.push(piece);
        moved.and(as_old)
    }

    /// A selection of a layer's directory, which is the store's.
    fn copy_of(&mut self, source: &Path, inside: &str) -> Result<PathBuf> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::new("copy", format!("{inside}: {error}"), nix::libc::EIO)
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found = match inside.is_empty() {
            true => rustix::fs::open(source, flags, Mode::empty())
                .call("open", || source.display().to_string())?,
            false => {
                let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                open_inside(&open_directory(source)?, inside, flags, how)
                    .call("openat2", || inside.to_owned())?
            }
        };
        let path = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
        let copied = self.new_path();
        let stat = rustix::fs::fstat(&found).call("fstat", || inside.to_owned())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            fs::copy(&path, &copied).call("copy", || inside.to_owned())?;
            return Ok(copied);
        }
        let path = path.join("."); // of what is open, and not of what has its name by now
        fs::create_dir(&copied).call("mkdir", || inside.to_owned())?;
        let contents = DirContents::open(&path).call("open", || inside.to_owned())?;
        let draft = scan_directory(&path).map_err(|error| failed(&error))?;
        let changeset = draft.complete(&contents).map_err(|error| failed(&error))?;
        let options = UnpackOptions::privileged(Whiteouts::Ignore);
        apply_changeset(&changeset, &contents, &copied, &options)
            .map_err(|error| failed(&error))?;
        let (uid, gid) = (Some(stat.st_uid), Some(stat.st_gid));
        std::os::unix::fs::chown(&copied, uid, gid).call("chown", || inside.to_owned())?;
        let mode = Permissions::from_mode(stat.st_mode & 0o7777);
        fs::set_permissions(&copied, mode).call("chmod", || inside.to_owned())?;
        Ok(copied)
    }

    fn new_directory(&mut self, mode: u32) -> Result<PathBuf> {
        let path = self.new_path();
        let text = || path.display().to_string();
        fs::create_dir(&path).call("mkdir", text)?;
        fs::set_permissions(&path, Permissions::from_mode(mode)).call("chmod", text)?;
        Ok(path)
    }

    fn new_path(&mut self) -> PathBuf {
        self.paths += 1;
        self.aside.path().join(self.paths.to_string())
    }
}

impl Drop for Furnishing {
    fn drop(&mut self) {
        let _ = self.clear(); // only after a failure is there still something to do
    }
}

impl Piece {
    /// Moves what was put there away or back to where it belongs, and what was there before back.
    fn take_out(mut self, root: &Path) -> Result<()> {
        let text = || self.name.display().to_string();
        let before = rustix::fs::fstat(&self.parent).call("fstat", text)?;
        let found = found_at(&self.parent, &self.name);
        let is_there = found.is_some_and(|found| self.is_what_was_made(&found));
        if found.is_some() {
            let home = self.home.as_ref().filter(|_| is_there);
            if home.is_none_or(|home| self.moved_to(home).is_err()) {
                let gone = self.displaced.with_extension("gone");
                self.moved_to(&gone).call("renameat2", text)?;
            }
        }
        if !is_there {
            self.take_out_of_elsewhere();
        }
        if let Some(loan) = self.loan.take() {
            let _ = loan.end(); // at worst somebody looks in vain
        }
        match self.put_back(&self.parent) {
            Err(Errno::NOENT) => match make_way(root, &self.way).call("mkdir", text)? {
                Some(parent) => self.put_back_anew(&parent).call("renameat2", text),
                None => Ok(()), // the step has something else there
            },
            back => {
                back.call("renameat2", text)?;
                stub::restore_times(&self.parent, &before).call("utimensat", text)
            }
        }
    }

    fn put_back(&self, parent: &OwnedFd) -> rustix::io::Result<()> {
        let how = RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(CWD, &self.displaced, parent, &self.name, how)
    }

    /// The same where the step has removed the directory, which it can't where there are mounts. What it has made there since would
    /// then be in the mount.
    fn put_back_anew(&self, parent: &OwnedFd) -> rustix::io::Result<()> {
        if found_at(parent, &self.name).is_some() {
            let gone = self.displaced.with_extension("gone");
            rustix::fs::renameat(parent, &self.name, CWD, &gone)?;
        }
        self.put_back(parent)
    }

    /// The same for what the step has moved from its place: it is no part of the image there either. What it has removed is not found.
    fn take_out_of_elsewhere(&self) {
        let Some((parent, name)) = self.made.as_ref().and_then(|made| parent_of(made).ok()) else {
            return;
        };
        let found = found_at(&parent, &name);
        if !found.is_some_and(|found| self.is_what_was_made(&found)) {
            return;
        }
        let gone = self.displaced.with_extension("moved");
        for to in self.home.iter().chain([&gone]) {
            if rustix::fs::renameat_with(&parent, &name, CWD, to, RenameFlags::NOREPLACE).is_ok() {
                return;
            }
        }
    }

    fn is_what_was_made(&self, found: &Stat) -> bool {
        let made = self.made.as_ref().map(rustix::fs::fstat);
        made.is_some_and(|made| {
            made.is_ok_and(|made| (made.st_dev, made.st_ino) == (found.st_dev, found.st_ino))
        })
    }

    /// Nobody else's file is replaced.
    fn moved_to(&self, path: &Path) -> rustix::io::Result<()> {
        rustix::fs::renameat_with(&self.parent, &self.name, CWD, path, RenameFlags::NOREPLACE)
    }
}

fn found_at(parent: &OwnedFd, name: &OsStr) -> Option<Stat> {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()
}

/// The directories from the root down to one, that one included.
fn way_to(root: &Path, directory: &Path) -> io::Result<Vec<(OsString, Stat)>> {
    let below = directory.strip_prefix(root).map_err(io::Error::other)?;
    let mut path = root.to_owned();
    let mut way = Vec::new();
    for name in below {
        path.push(name);
        way.push((name.to_owned(), rustix::fs::lstat(&path)?));
    }
    Ok(way)
}

/// Opens the directory at the end of the way, making what is no longer there as it was. `None` where something else is in the way.
fn make_way(root: &Path, way: &[(OsString, Stat)]) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here = rustix::fs::open(root, flags, Mode::empty())?;
    for (name, stat) in way {
        let made = rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(0o700));
        let next = match rustix::fs::openat(&here, name, flags, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            opened => opened?,
        };
        match made {
            Ok(()) => {
                let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                rustix::fs::fchown(&next, Some(uid), Some(gid))?;
                rustix::fs::fchmod(&next, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        here = next;
    }
    Ok(Some(here))
}

/// What a mount lets the step write to.
fn written_source(mount: &MountSpec) -> Option<&Path> {
    match &mount.kind {
        MountKind::Bind {
            source,
            writable: true,
            ..
        } => Some(source),
        _ => None,
    }
}

/// The directory that an object is in, and its name there.
fn parent_of(place: &OwnedFd) -> Result<(OwnedFd, OsString)> {
    let path = path_of(place)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new("mount", "/", nix::libc::EBUSY));
    };
    Ok((open_directory(parent)?, name.to_owned()))
}

fn path_of(object: &OwnedFd) -> Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", object.as_raw_fd());
    fs::read_link(&link).call("readlink", || link.clone())
}

/// As the other rungs have it.
fn not_mounted(target: &str, cause: sys::Error) -> Failure {
    Failure::Setup {
        stage: format!("mount on `{target}`"),
        cause,
    }
}

fn unfurnished(cause: sys::Error) -> Failure {
    Failure::Setup {
        stage: "furnish the root filesystem of the step".into(),
        cause,
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).call("open", || path.display().to_string())
}

fn kind_of(path: &Path) -> Result<StubKind> {
    let found = fs::symlink_metadata(path).call("stat", || path.display().to_string())?;
    Ok(match found.is_dir() {
        true => StubKind::Directory,
        false => StubKind::File,
    })
}

fn write_file(path: &Path, contents: &[u8], mode: u32, owner: (u32, u32)) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.set_permissions(Permissions::from_mode(mode & 0o700))?;
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    rustix::fs::fchown(&file, Some(uid), Some(gid))?;
    file.write_all(contents)?;
    file.set_permissions(Permissions::from_mode(mode))
}

fn fill_dev(dev: &Path) -> io::Result<()> {
    for (name, major, minor) in NODES {
        let node = dev.join(name);
        let device = rustix::fs::makedev(major, minor);
        let kind = FileType::CharacterDevice;
        match rustix::fs::mknodat(CWD, &node, kind, Mode::from_raw_mode(0o666), device) {
            // A name alone: the broker has the container's.
            Err(Errno::PERM) => drop(File::create_new(&node)?),
            made => made?,
        }
        fs::set_permissions(&node, Permissions::from_mode(0o666))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name))?;
    }
    for (name, mode) in [("shm", 0o1777), ("mqueue", 0o1777), ("pts", 0o755)] {
        let directory = dev.join(name);
        fs::create_dir(&directory)?;
        fs::set_permissions(&directory, Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn fill_proc(proc: &Path, mounts: &str) -> io::Result<()> {
    for name in OF_PROC {
        let Ok(text) = fs::read(Path::new("/proc").join(name)) else {
            continue; // hidden here as well
        };
        let file = proc.join(name);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(file, text)?;
    }
    fs::write(proc.join("mounts"), mounts)
}
