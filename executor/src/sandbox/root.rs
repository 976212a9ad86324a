//! Looking up and making paths inside a step's root, whose links and directories are whatever the image's author liked.
//!
//! No path of the image is ever resolved by the host: either the kernel resolves it below the root (`openat2`, `RESOLVE_IN_ROOT`), or,
//! where something is missing and has to be made, this walks it component by component, holding each directory open, so that nothing
//! can be exchanged for a link between a look and a step.

use super::stub::{Stub, StubKind, Stubs};
use crate::sys::{Context as _, Error, Result};
use kiln_image::record::Record;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Links followed before giving up, as many as Linux' own resolver times a few.
const MAX_LINKS: usize = 255;

/// As often a look-up is disturbed by others before giving up: each try takes microseconds.
const MAX_DISTURBANCES: usize = 100_000;

/// The root filesystem of a step, by descriptor.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    /// The directory that takes the changes of an overlay; see [`Stubs`].
    upper: Option<OwnedFd>,
    /// Whether owners are recorded, as there is but one id.
    records: bool,
}

/// What to do with a part of a path that is missing.
#[derive(Debug)]
pub(super) enum Missing<'a> {
    /// Make an empty mount point that is to vanish after the step; the last component is of this kind.
    Stub(StubKind, &'a mut Stubs),
    /// Make directories that stay (R-LAY-14), owned by these ids.
    Directory(u32, u32),
}

impl Root {
    pub(super) fn new(fd: OwnedFd, upper: Option<OwnedFd>) -> Self {
        Self {
            fd,
            upper,
            records: false,
        }
    }

    /// The same, in which owners are recorded if `records`.
    pub(super) fn recording(self, records: bool) -> Self {
        Self { records, ..self }
    }

    /// The directory that takes the changes of an overlay.
    pub(super) fn upper(&self) -> Option<BorrowedFd<'_>> {
        self.upper.as_ref().map(AsFd::as_fd)
    }

    /// The root directory itself.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens a path (`O_PATH`); links are followed inside the root. Magic links of `/proc` are refused.
    pub(super) fn open(&self, path: &str) -> Result<OwnedFd> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        self.resolve(path, OFlags::PATH | OFlags::CLOEXEC, how)
    }

    /// Opens a path on which nothing may be a link, for kernel filesystems (CVE-2019-19921).
    pub(super) fn open_without_links(&self, path: &str) -> Result<OwnedFd> {
        self.open_without_links_with(path, OFlags::PATH | OFlags::CLOEXEC)
    }

    /// The same with these flags, for what is to be used.
    pub(super) fn open_without_links_with(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        self.resolve(path, flags, how)
    }

    /// Whether a path on which nothing may be a link is there.
    pub(super) fn exists_without_links(&self, path: &str) -> Result<bool> {
        match self.open_without_links(path) {
            Err(error) if error.errno == Errno::NOENT.raw_os_error() => Ok(false),
            opened => opened.map(|_| true),
        }
    }

    /// Opens a path, making what is missing.
    pub(super) fn open_or_make(&self, path: &str, missing: Missing<'_>) -> Result<OwnedFd> {
        match self.open(path) {
            Err(error) if error.errno == Errno::NOENT.raw_os_error() => {
                Walk::new(self, path).make(missing)
            }
            opened => opened,
        }
    }

    fn resolve(&self, path: &str, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd> {
        let path_or_root = if path.is_empty() { "/" } else { path };
        open_inside(&self.fd, path_or_root, flags, how).call("openat2", || path.to_owned())
    }
}

/// A walk along a path, from the root down.
struct Walk<'a> {
    root: &'a Root,
    path: &'a str,
    /// Components still to go.
    ahead: VecDeque<Vec<u8>>,
    /// Where the walk is: each directory with its name, without the root.
    behind: Vec<(Vec<u8>, OwnedFd)>,
    links: usize,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Root, path: &'a str) -> Self {
        Self {
            root,
            path,
            ahead: components(path.as_bytes()).collect(),
            behind: Vec::new(),
            links: 0,
        }
    }

    fn make(mut self, mut missing: Missing<'_>) -> Result<OwnedFd> {
        while let Some(name) = self.ahead.pop_front() {
            match name.as_slice() {
                b".." => drop(self.behind.pop()),
                _ => self.step(name, &mut missing)?,
            }
        }
        match self.behind.pop() {
            Some((_, fd)) => Ok(fd),
            None => self
                .root
                .fd
                .try_clone()
                .call("fcntl", || "F_DUPFD_CLOEXEC".into()),
        }
    }

    /// Goes down one component.
    fn step(&mut self, name: Vec<u8>, missing: &mut Missing<'_>) -> Result<()> {
        let fd = match open_component(self.here(), &name) {
            Err(Errno::NOENT) => {
                self.make_component(&name, missing)?;
                open_component(self.here(), &name)
            }
            opened => opened,
        };
        let fd = fd.call("openat", || self.describe(&name))?;
        if is_on_proc(&fd) {
            // Nothing can be made there, and its magic links lead anywhere.
            return Err(Error::new("openat", self.path, Errno::NOENT.raw_os_error()));
        }
        let stat = rustix::fs::fstat(&fd).call("fstat", || self.describe(&name))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            return self.follow(&fd);
        }
        self.behind.push((name, fd));
        Ok(())
    }

    /// Puts a link's target in front of what is still to go; an absolute one starts at the root again.
    fn follow(&mut self, link: &OwnedFd) -> Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Error::new("openat", self.path, Errno::LOOP.raw_os_error()));
        }
        let target = rustix::fs::readlinkat(link, "", Vec::new())
            .call("readlinkat", || self.path.to_owned())?;
        let target = target.as_bytes();
        if target.starts_with(b"/") {
            self.behind.clear();
        }
        for component in components(target).collect::<Vec<_>>().into_iter().rev() {
            self.ahead.push_front(component);
        }
        Ok(())
    }

    fn make_component(&self, name: &[u8], missing: &mut Missing<'_>) -> Result<()> {
        match missing {
            Missing::Directory(uid, gid) => {
                self.make_directory(name)?;
                if self.root.records {
                    return self.record(name, *uid, *gid);
                }
                let owner = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
                rustix::fs::chownat(
                    self.here(),
                    name,
                    owner.0,
                    owner.1,
                    AtFlags::SYMLINK_NOFOLLOW,
                )
                .call("fchownat", || self.describe(name))
            }
            Missing::Stub(kind, stubs) => {
                let kind = if self.ahead.is_empty() {
                    *kind
                } else {
                    StubKind::Directory
                };
                self.make_stub(name, kind, stubs)
            }
        }
    }

    fn record(&self, name: &[u8], uid: u32, gid: u32) -> Result<()> {
        let record = Record {
            uid,
            gid,
            device: None,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(self.here(), name, flags, Mode::empty());
        let written = opened.and_then(|directory| record.write(directory));
        written.call("fsetxattr", || self.describe(name))
    }

    /// Makes a mount point, and leaves the directory that it is in as old as it was.
    fn make_stub(&self, name: &[u8], kind: StubKind, stubs: &mut Stubs) -> Result<()> {
        let before = rustix::fs::fstat(self.here()).call("fstat", || self.describe(b""))?;
        self.remember_parents(&before, stubs);
        match kind {
            StubKind::Directory => self.make_directory(name)?,
            StubKind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::openat(self.here(), name, flags, Mode::from_raw_mode(0o644))
                    .call("openat", || format!("{}, O_CREAT", self.describe(name)))?;
            }
        }
        stubs.made.push(Stub {
            path: self.join(self.behind.len(), name),
            kind,
        });
        super::stub::restore_times(self.here(), &before).call("utimensat", || self.describe(b""))
    }

    /// Notes each directory above a stub that is not in the upper layer yet: making the stub copies it up.
    fn remember_parents(&self, here: &Stat, stubs: &mut Stubs) {
        let Some(upper) = &self.root.upper else {
            return;
        };
        for depth in (1..=self.behind.len()).rev() {
            let path = self.join(depth, b"");
            if super::stub::is_below(upper, &path) {
                return; // and so is everything above it
            }
            let stat = if depth == self.behind.len() {
                Ok(*here)
            } else {
                rustix::fs::fstat(&self.behind[depth - 1].1)
            };
            if let Ok(stat) = stat {
                stubs.remember_copied_up(path, &stat);
            }
        }
    }

    /// A directory that everybody can look into, whatever umask kiln was started with: one that stays is in the layer.
    fn make_directory(&self, name: &[u8]) -> Result<()> {
        const MODE: u32 = 0o755;
        let text = || self.describe(name);
        rustix::fs::mkdirat(self.here(), name, Mode::from_raw_mode(MODE)).call("mkdirat", text)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(self.here(), name, flags, Mode::empty());
        let made = made.call("openat", text)?;
        let mode = rustix::fs::fstat(&made).call("fstat", text)?.st_mode & 0o7777;
        match mode & MODE == MODE {
            true => Ok(()),
            false => {
                rustix::fs::fchmod(&made, Mode::from_raw_mode(mode | MODE)).call("fchmod", text)
            }
        }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.behind
            .last()
            .map_or(self.root.fd(), |(_, fd)| fd.as_fd())
    }

    /// The path of the first `depth` directories and `name`, relative to the root.
    fn join(&self, depth: usize, name: &[u8]) -> Vec<u8> {
        let names = self.behind[..depth].iter().map(|(name, _)| name.as_slice());
        let names = names.chain((!name.is_empty()).then_some(name));
        names.collect::<Vec<_>>().join(&b'/')
    }

    fn describe(&self, name: &[u8]) -> String {
        format!(
            "/{}",
            String::from_utf8_lossy(&self.join(self.behind.len(), name))
        )
    }
}

/// `openat2(2)`, again where something was renamed anywhere on the machine while it went through a `..`: the kernel can't tell then
/// whether it stayed inside, and says so.
pub(super) fn open_inside(
    root: &OwnedFd,
    path: &str,
    flags: OFlags,
    how: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let open = || rustix::fs::openat2(root, path, flags, Mode::empty(), how);
    let disturbed = |opened: &rustix::io::Result<OwnedFd>| matches!(opened, Err(Errno::AGAIN));
    let mut tries = std::iter::repeat_with(open).take(MAX_DISTURBANCES);
    let settled = tries.find(|opened| !disturbed(opened));
    settled.unwrap_or(Err(Errno::AGAIN))
}

fn open_component(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(
        dir,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn is_on_proc(fd: &OwnedFd) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|found| found.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."))
        .map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root(dir: &std::path::Path) -> Root {
        Root::new(fs::File::open(dir).unwrap().into(), None)
    }

    fn make(root: &Root, path: &str, kind: StubKind) -> Vec<String> {
        let mut stubs = Stubs::default();
        root.open_or_make(path, Missing::Stub(kind, &mut stubs))
            .unwrap();
        stubs
            .made
            .iter()
            .map(|stub| String::from_utf8(stub.path.clone()).unwrap())
            .collect()
    }

    #[test]
    fn what_is_missing_is_made_and_noted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        assert_eq!(
            make(&root(dir.path()), "/run/secrets/token", StubKind::File),
            ["run/secrets", "run/secrets/token"]
        );
        assert!(dir.path().join("run/secrets/token").is_file());
        assert_eq!(
            make(&root(dir.path()), "/run/secrets/token", StubKind::File),
            [""; 0]
        ); // there already
    }

    #[test]
    fn links_never_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("root");
        fs::create_dir_all(inside.join("etc")).unwrap();
        symlink(
            "../../../../run/resolve/stub.conf",
            inside.join("etc/resolv.conf"),
        )
        .unwrap();
        symlink("/outside", inside.join("absolute")).unwrap();
        let root = root(&inside);
        assert_eq!(
            make(&root, "/etc/resolv.conf", StubKind::File),
            ["run", "run/resolve", "run/resolve/stub.conf"]
        );
        assert_eq!(
            make(&root, "/absolute/x", StubKind::Directory),
            ["outside", "outside/x"]
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_circle_of_links_ends() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        let error = root(dir.path())
            .open_or_make("/a/x", Missing::Directory(0, 0))
            .unwrap_err();
        assert_eq!(error.symbol(), "ELOOP");
        assert_eq!(
            root(dir.path())
                .open_without_links("/a")
                .unwrap_err()
                .symbol(),
            "ELOOP"
        );
    }
}
