//! What would be mounts of a step: to the kernel what stands in their place is the rest of the root.
//!
//! So what it would refuse is refused here: changes of what is read-only, the removal of what is mounted, names in another filesystem. That
//! is no border, as a descriptor that is open already isn't asked about; it keeps a step from what it can't do elsewhere.

use super::alter::Alteration;
use super::call::{Act, At, Change, How};
use super::caller::{Answered, Caller};
use super::*;
use crate::sandbox::{MountKind, MountSpec};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

/// All of them, in the order in which they are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sandbox) struct Mounts(Vec<Mount>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    place: Place,
    read_only: bool,
    kind: &'static str,
    source: &'static str,
    options: &'static str,
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sandbox) struct Place {
    /// In the root, without links and without a slash at the end.
    pub(in crate::sandbox) path: Vec<u8>,
    /// What is there, by device and inode: a directory above can be moved.
    pub(in crate::sandbox) object: Option<(u64, u64)>,
}

/// What a change is about.
pub(super) struct Subject {
    pub(super) path: Vec<u8>,
    /// What is there, if anything.
    pub(super) kind: Option<FileType>,
    /// Whether it has several names.
    pub(super) shared: bool,
}

/// What every step has (R-RT-7).
const STANDARD: [(&str, &str, &str, bool, &str); 8] = [
    ("/", "overlay", "overlay", false, "relatime"),
    (
        "/proc",
        "proc",
        "proc",
        false,
        "nosuid,nodev,noexec,relatime",
    ),
    (
        "/proc/sys",
        "proc",
        "proc",
        true,
        "nosuid,nodev,noexec,relatime",
    ),
    ("/dev", "tmpfs", "tmpfs", false, "nosuid,nodev"),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        false,
        "nosuid,noexec,relatime",
    ),
    (
        "/dev/shm",
        "tmpfs",
        "shm",
        false,
        "nosuid,nodev,noexec,relatime",
    ),
    (
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        false,
        "nosuid,nodev,noexec,relatime",
    ),
    (
        "/sys",
        "sysfs",
        "sysfs",
        true,
        "nosuid,nodev,noexec,relatime",
    ),
];

impl Mounts {
    /// Those of a step. `place` finds a path without links.
    pub(in crate::sandbox) fn of(spec: &SandboxSpec, find: impl Fn(&str) -> Option<Place>) -> Self {
        let standard = STANDARD.into_iter();
        let standard = standard.filter_map(|(path, kind, source, read_only, options)| {
            Some(Mount {
                place: match path {
                    "/proc/sys" => Place::named(path), // made when it is asked for
                    path => find(path)?,
                },
                read_only,
                kind,
                source,
                options,
            })
        });
        let asked = spec.mounts.iter().filter_map(|mount| {
            let read_only = is_read_only(mount);
            let (kind, source, options) = match &mount.kind {
                MountKind::Bind { .. } => ("overlay", "overlay", "relatime"),
                MountKind::Tmpfs { .. } => ("tmpfs", "tmpfs", "nosuid,nodev,relatime"),
                MountKind::File { .. } => ("tmpfs", "tmpfs", "nosuid,nodev,noexec,relatime"),
            };
            Some(Mount {
                place: find(&mount.target)?,
                read_only,
                kind,
                source,
                options,
            })
        });
        Self(standard.chain(asked).collect())
    }

    /// What `/proc/mounts` says.
    pub(in crate::sandbox) fn table(&self) -> String {
        let mut text = String::new();
        for mount in &self.0 {
            let (path, access) = (escaped(&mount.place.path), mount.access());
            let (source, kind, options) = (mount.source, mount.kind, mount.options);
            let _ = writeln!(text, "{source} {path} {kind} {access},{options} 0 0");
        }
        text
    }

    /// What `/proc/PID/mountinfo` says.
    pub(super) fn info(&self) -> String {
        let mut text = String::new();
        for (number, mount) in (1..).zip(&self.0) {
            let parent = u8::from(number > 1);
            let (path, access) = (escaped(&mount.place.path), mount.access());
            let (source, kind, options) = (mount.source, mount.kind, mount.options);
            let _ = writeln!(
                text,
                "{number} {parent} 0:{number} / {path} {access},{options} - {kind} {source} {access}"
            );
        }
        text
    }

    /// Whether nothing can be made at a path without links.
    pub(in crate::sandbox) fn keep_as_is(&self, path: &str) -> bool {
        self.0[self.around(path.as_bytes())].read_only
    }

    /// The one that a path is in, by its number.
    fn around(&self, path: &[u8]) -> usize {
        let is_in = |mount: &Mount| {
            let rest = path.strip_prefix(mount.place.path.as_slice());
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        let numbered = self.0.iter().enumerate();
        let around = numbered.filter(|(_, mount)| is_in(mount));
        // One thing that is asked for at several places stands in one.
        let deepest = around.max_by_key(|(_, mount)| (mount.place.path.len(), !mount.read_only));
        deepest.map_or(0, |(number, _)| number)
    }

    /// The one that a change is in: a name is its directory's.
    fn concerned(&self, how: How, subject: &Subject) -> usize {
        match how {
            How::Remove | How::Move => self.around(above(&subject.path)),
            _ => self.around(&subject.path),
        }
    }

    /// Why the kernel would refuse a change, if all these were mounts, and which of them it is about.
    fn refusal(&self, how: How, subject: &Subject) -> Option<(i32, usize)> {
        let concerned = self.concerned(how, subject);
        let changes = match (how, subject.kind) {
            (How::Remove | How::Move, _) => true,
            (How::Keep, _) | (How::Make, Some(_)) | (How::Alter, None) => false,
            (How::Make, None) | (How::Alter, Some(_)) => true,
            (How::Write { makes }, None) => makes,
            (How::Ask, None) => false,
            // What is written to another program or a device is no change.
            (How::Write { .. } | How::Ask, Some(kind)) => kind == FileType::RegularFile,
        };
        if changes && self.0[concerned].read_only {
            return Some((libc::EROFS, concerned));
        }
        let is_itself = |mount: &Mount| mount.place.path == subject.path;
        let itself = self
            .0
            .iter()
            .position(is_itself)
            .filter(|_| matches!(how, How::Remove | How::Move));
        itself.map(|number| (libc::EBUSY, number))
    }

    /// Whether one still stands where it was put.
    fn is_there(&self, number: usize) -> bool {
        let place = &self.0[number].place;
        let path = [place.path.as_slice(), b"/."].concat();
        let path = match number {
            0 => &path[..],
            _ => &place.path[..],
        };
        let found = rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino));
        place.object.is_none_or(|object| found == Ok(object))
    }
}

impl Mount {
    const fn access(&self) -> &'static str {
        match self.read_only {
            true => "ro",
            false => "rw",
        }
    }
}

impl Act {
    /// What it changes.
    pub(super) fn changes(self, at: At) -> [Option<Change>; 2] {
        let one = |how| [Some(Change { at, how }), None];
        match self {
            Self::Open { flags, .. } => {
                let makes = flags & libc::O_CREAT != 0;
                let writes = flags & (libc::O_WRONLY | libc::O_RDWR | libc::O_TRUNC) != 0;
                match makes || writes {
                    true if writes => one(How::Write { makes }),
                    true => one(How::Make),
                    false => [None, None],
                }
            }
            Self::Access { mode } if mode & libc::W_OK != 0 => one(How::Ask),
            Self::Alter(Alteration::Length(_)) => one(How::Write { makes: false }),
            Self::Alter(_) => one(How::Alter),
            Self::Link { to } => {
                let [from, _] = one(How::Keep);
                let how = How::Make;
                [from, Some(Change { at: to, how })]
            }
            _ => [None, None],
        }
    }
}

impl Broker {
    /// Refuses what mounts would.
    pub(super) fn check(
        &mut self,
        caller: &Caller<'_>,
        changes: [Option<Change>; 2],
    ) -> Answered<()> {
        let mut places = Vec::new();
        for change in changes.into_iter().flatten() {
            let Some(subject) = self.subject(caller, change.at)? else {
                return Ok(()); // the kernel tells what is wrong with it
            };
            let around = self.mounts.concerned(change.how, &subject);
            places.push((change.how, subject, around));
        }
        // Both names of a renaming, or of a link, have to be in one filesystem.
        if let [(_, from, one), (.., other)] = places.as_slice()
            && one != other
            && from.kind.is_some()
            && self.mounts.is_there(*one)
            && self.mounts.is_there(*other)
        {
            return Err(libc::EXDEV);
        }
        let refusals = places.iter();
        let mut refusals =
            refusals.filter_map(|(how, subject, _)| self.mounts.refusal(*how, subject));
        match refusals.next() {
            Some((errno, mount)) if self.mounts.is_there(mount) && self.shares_root(caller) => {
                Err(errno)
            }
            _ => self.be_layered(caller, &places),
        }
    }

    /// What is at a path of the caller, found as root, in the step's root.
    fn subject(&mut self, caller: &Caller<'_>, at: At) -> Answered<Option<Subject>> {
        let Ok(path) = self.string(caller, at.path) else {
            return Ok(None);
        };
        if path.is_empty() {
            return Ok(None);
        }
        let full = match path.starts_with(b"/") {
            true => path,
            false => match self.directory(caller, at.directory) {
                Ok(base) => [base.as_slice(), b"/", &path].concat(),
                Err(_) => return Ok(None),
            },
        };
        self.guise.wear(&Who::default())?;
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !at.follow && !full.ends_with(b"/"));
        match rustix::fs::open(&full[..], flags, Mode::empty()) {
            Ok(found) => {
                let stat = rustix::fs::fstat(&found).map_err(Errno::raw_os_error)?;
                let kind = Some(FileType::from_raw_mode(stat.st_mode));
                let shared = stat.st_nlink > 1;
                let path = path_of(&self.proc, &found);
                Ok(path.map(|path| Subject { path, kind, shared }))
            }
            Err(Errno::NOENT) => Ok(self.missing(&full)),
            Err(_) => Ok(None),
        }
    }

    /// Something that may be made.
    fn missing(&self, path: &[u8]) -> Option<Subject> {
        let (name, above) = {
            let mut parts: Vec<&[u8]> = parts(path).collect();
            (parts.pop()?, [b"/", parts.join(&b'/').as_slice()].concat())
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&above[..], flags, Mode::empty()).ok()?;
        let directory = path_of(&self.proc, &directory)?;
        Some(Subject {
            path: [directory.as_slice(), b"/", name].concat(),
            kind: None,
            shared: false,
        })
    }
}

impl Place {
    /// One of which nothing but its name is known.
    pub(in crate::sandbox) fn named(path: &str) -> Self {
        Self {
            path: path.trim_end_matches('/').into(),
            object: None,
        }
    }

    /// Finds one, for a process that is in the root.
    pub(super) fn find(proc: &OwnedFd, target: &str) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let found = rustix::fs::open(target, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&found).ok()?;
        Some(Self {
            path: path_of(proc, &found)?,
            object: Some((stat.st_dev, stat.st_ino)),
        })
    }
}

/// The path of what is open, without a slash at the end: nothing for the root.
fn path_of(proc: &OwnedFd, object: &OwnedFd) -> Option<Vec<u8>> {
    let link = format!("self/fd/{}", object.as_raw_fd());
    let path = rustix::fs::readlinkat(proc, link, Vec::new()).ok()?;
    let path = path.into_bytes();
    match path.as_slice() {
        b"/" => Some(Vec::new()),
        [b'/', ..] => Some(path),
        _ => None,
    }
}

fn above(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    &path[..slash.unwrap_or(0)]
}

fn is_read_only(mount: &MountSpec) -> bool {
    match mount.kind {
        MountKind::Bind { writable, .. } => !writable,
        MountKind::Tmpfs { .. } => false,
        MountKind::File { .. } => true,
    }
}

/// A path as the kernel writes one in such a table.
fn escaped(path: &[u8]) -> String {
    if path.is_empty() {
        return "/".into();
    }
    let path = std::ffi::OsStr::from_bytes(path).to_string_lossy();
    path.chars().fold(String::new(), |mut text, it| {
        match it {
            ' ' | '\t' | '\n' | '\\' => {
                let _ = write!(text, "\\{:03o}", u32::from(it));
            }
            it => text.push(it),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::RootSpec;

    fn mounts() -> Mounts {
        let mut spec = SandboxSpec::new(RootSpec::Directory("/r".into()), ["true"]);
        spec.mounts = vec![
            MountSpec::bind("/s", "/src", false),
            MountSpec::bind("/c", "/src/a cache", true),
            MountSpec::file("/etc/hosts", ""),
        ];
        Mounts::of(&spec, |target| Some(Place::named(target)))
    }

    fn refusal(how: How, path: &str, kind: Option<FileType>) -> Option<i32> {
        let path = path.into();
        let shared = false;
        let refusal = mounts().refusal(how, &Subject { path, kind, shared });
        refusal.map(|(errno, _)| errno)
    }

    #[test]
    fn what_mounts_would_refuse_is_refused() {
        let file = Some(FileType::RegularFile);
        let write = |makes| How::Write { makes };
        let (read_only, busy) = (Some(libc::EROFS), Some(libc::EBUSY));
        assert_eq!(refusal(write(true), "/src/new", None), read_only);
        assert_eq!(refusal(write(false), "/src/new", None), None); // there is nothing
        assert_eq!(refusal(write(false), "/src/f", file), read_only);
        assert_eq!(refusal(write(false), "/src/p", Some(FileType::Fifo)), None);
        assert_eq!(refusal(write(true), "/src/a cache/x", None), None);
        assert_eq!(refusal(write(true), "/srcs", None), None);
        assert_eq!(refusal(How::Make, "/src/d", None), read_only);
        let directory = Some(FileType::Directory);
        assert_eq!(refusal(How::Make, "/src/d", directory), None); // it is there
        assert_eq!(refusal(How::Make, "/sys/x", None), read_only);
        assert_eq!(refusal(How::Alter, "/src", directory), read_only);
        assert_eq!(refusal(How::Alter, "/etc/hosts", file), read_only);
        assert_eq!(refusal(How::Remove, "/etc/hosts", file), busy);
        assert_eq!(refusal(How::Remove, "/etc/passwd", file), None);
        assert_eq!(refusal(How::Remove, "/src", directory), busy);
        assert_eq!(refusal(How::Remove, "/src/f", file), read_only);
        assert_eq!(refusal(How::Remove, "/src/a cache", directory), read_only);
        assert_eq!(refusal(How::Remove, "/proc", directory), busy);
        for (path, kept) in [
            ("/src/x/y", true),
            ("/sys/x", true),
            ("/src/a cache/x", false),
            ("/srcs", false),
        ] {
            assert_eq!(mounts().keep_as_is(path), kept, "{path}");
        }
    }

    #[test]
    fn tables_are_the_kernels() {
        let (table, info) = (mounts().table(), mounts().info());
        assert!(table.starts_with("overlay / overlay rw,relatime 0 0\nproc /proc proc rw,"));
        assert!(table.contains("overlay /src/a\\040cache overlay rw,relatime 0 0\n"));
        assert!(table.contains("sysfs /sys sysfs ro,nosuid"));
        assert!(
            info.starts_with("1 0 0:1 / / rw,relatime - overlay overlay rw\n2 1 0:2 / /proc rw,")
        );
        assert_eq!(table.lines().count(), info.lines().count());
    }
}
