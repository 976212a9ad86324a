//! What a step without mounts of its own gets in their place: things that stand in its root filesystem while it runs, and are gone after it.
//!
//! What the image has at such a place is moved aside and comes back. A directory that kiln made for the step, and a cache, is moved in
//! and, the cache, out again, so nothing is copied that need not be. While the step runs it can do as it likes with all of it, links
//! included. So each place is held by the descriptor of the directory that it is in, and nothing is ever looked up by a path again.

use super::broker;
use super::mounts::NODES;
use super::root::{Missing, Root, open_inside};
use super::stub::{self, StubKind, Stubs};
use super::{MountKind, MountSpec, SandboxSpec};
use crate::sys::{Context as _, Error, Result};
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
pub(super) struct Furnishing {
    /// In the order they were put there.
    pieces: Vec<Piece>,
    stubs: Stubs,
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
    name: OsString,
    /// What was put there. As long as this is open nothing else can have its number.
    made: Option<OwnedFd>,
    /// Of the parent.
    before: Stat,
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

impl Furnishing {
    /// Puts everything in its place.
    pub(super) fn place(spec: &SandboxSpec) -> Result<Self> {
        let directory = spec.root.changes();
        let beside = directory.parent().unwrap_or(directory);
        let aside = TempDir::new_in(beside).call("mkdir", || beside.display().to_string())?;
        let mut furnishing = Self {
            pieces: Vec::new(),
            stubs: Stubs::default(),
            root: directory.to_owned(),
            own: spec.own.clone(),
            aside,
            paths: 0,
        };
        let root = open_directory(directory)?;
        let root = Root::new(root, None);
        furnishing.kernel_directory(&root, "/proc", fill_proc)?;
        furnishing.kernel_directory(&root, "/sys", |_| Ok(()))?;
        furnishing.kernel_directory(&root, "/dev", fill_dev)?;
        for mount in &spec.mounts {
            furnishing.mount(&root, mount)?;
        }
        Ok(furnishing)
    }

    /// Takes everything out. The pieces go in the reverse order, as one may stand in another.
    pub(super) fn clear(&mut self) -> Result<()> {
        while let Some(piece) = self.pieces.pop() {
            piece.take_out(self.aside.path())?;
        }
        self.stubs.remove(&self.root)?;
        self.stubs = Stubs::default();
        Ok(())
    }

    /// A directory that the image's links have no say in; one that is missing stays, empty (R-LAY-14).
    fn kernel_directory(
        &mut self,
        root: &Root,
        path: &str,
        fill: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<()> {
        if !root.exists_without_links(path)? {
            root.open_or_make(path, Missing::Directory(0, 0))?;
        }
        let made = self.new_directory(0o755)?;
        fill(&made).call("mknod", || path.to_owned())?;
        self.put(&root.open_without_links(path)?, &made, None)
    }

    fn mount(&mut self, root: &Root, mount: &MountSpec) -> Result<()> {
        let (made, home, kind) = match &mount.kind {
            MountKind::Tmpfs { mode, .. } => {
                (self.new_directory(*mode)?, None, StubKind::Directory)
            }
            MountKind::File {
                contents,
                mode,
                uid,
                gid,
            } => {
                let file = self.new_path();
                write_file(&file, contents, *mode, (*uid, *gid))
                    .call("write", || mount.target.clone())?;
                (file, None, StubKind::File)
            }
            MountKind::Bind {
                source,
                inside,
                writable,
            } if inside.is_empty() && self.may_move(source, *writable) => {
                let kind = kind_of(source)?;
                (source.clone(), Some(source.clone()), kind)
            }
            MountKind::Bind { source, inside, .. } => {
                let copied = self.copy_of(source, inside)?;
                let kind = kind_of(&copied)?;
                (copied, None, kind)
            }
        };
        let missing = Missing::Stub(kind, &mut self.stubs);
        let place = root.open_or_make(&mount.target, missing)?;
        self.put(&place, &made, home)
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
        let before = rustix::fs::fstat(&parent).call("fstat", || name.display().to_string())?;
        let loan = match &home {
            Some(home) => self.loan(home, &parent, &name)?,
            None => None,
        };
        let displaced = self.new_path();
        let text = || name.display().to_string();
        rustix::fs::renameat(&parent, &name, CWD, &displaced).call("renameat", text)?;
        let mut piece = Piece {
            parent,
            name: name.clone(),
            made: None,
            before,
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
        self.pieces.push(piece);
        moved
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
    fn take_out(self, aside: &Path) -> Result<()> {
        let text = || self.name.display().to_string();
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let found = rustix::fs::statat(&self.parent, &self.name, flags).ok();
        if let Some(found) = found {
            let home = self.home.as_ref().filter(|_| self.is_what_was_made(&found));
            if home.is_none_or(|home| self.moved_to(home).is_err()) {
                let gone = aside.join(format!("gone-{}", found.st_ino));
                self.moved_to(&gone).call("renameat2", text)?;
            }
        }
        if !found.is_some_and(|found| self.is_what_was_made(&found)) {
            self.take_out_of_elsewhere(aside);
        }
        if let Some(loan) = self.loan {
            let _ = loan.end(); // at worst somebody looks in vain
        }
        let how = RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(CWD, &self.displaced, &self.parent, &self.name, how)
            .call("renameat2", text)?;
        stub::restore_times(&self.parent, &self.before).call("utimensat", text)
    }

    /// The same for what the step has moved from its place: it is no part of the image there either. What it has removed is not found.
    fn take_out_of_elsewhere(&self, aside: &Path) {
        let Some((parent, name)) = self.made.as_ref().and_then(|made| parent_of(made).ok()) else {
            return;
        };
        let found = rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW);
        let Some(found) = found.ok().filter(|found| self.is_what_was_made(found)) else {
            return;
        };
        let gone = aside.join(format!("gone-{}", found.st_ino));
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

fn fill_proc(proc: &Path) -> io::Result<()> {
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
    fs::write(proc.join("mounts"), broker::MOUNTS)
}
