//! The kernel's filesystems of a step, `/proc`, `/dev` and `/sys`, made before there is a root that they belong in.
//!
//! They depend on the step's namespaces and on little else, so a process that waits for a step can have them ready. Only what is mounted
//! somewhere can be mounted on, so they are made at a place that nobody needs, of the surrounding `/proc` or of an [`Anteroom`](super::anteroom::Anteroom), one on top of
//! another, and moved into the root from the top down, each with all that is mounted on it.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::Rung;
use super::error::Failure;
use super::mounts::{
    NODES, Workshop, attach, copy_tree, is_directory, mount_point, new_filesystem,
};
use super::plan::{Filesystem, KernelAction};
use super::root::Root;
use crate::sys::{self, Context as _, Error, Reach, Result};

/// Directories that every `/proc` has, and that no step is shown anything of.
const PLACES: [&str; 3] = ["/proc/driver", "/proc/fs", "/proc/bus"];

/// As whose the kernel shows what belongs to nobody in a user namespace.
const OVERFLOW_ID: u32 = 65534;

/// Where the host has other filesystems within its `/sys`. A new one has nothing there.
const WITHIN_SYSTEM: [&str; 8] = [
    "/sys/fs/bpf",
    "/sys/fs/cgroup",
    "/sys/fs/fuse/connections",
    "/sys/fs/pstore",
    "/sys/kernel/config",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
];

/// Links of `/dev` (R-RT-7).
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Directories of `/dev` that filesystems are mounted on.
const DIRECTORIES: [&str; 3] = ["pts", "shm", "mqueue"];

/// Where they are made, and what is there already.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) place: OwnedFd,
    pub(super) trees: Vec<(&'static str, Root)>,
    pub(super) nothing: Option<OwnedFd>,
}

impl Ground {
    /// An empty one at this directory.
    pub(super) fn at(place: OwnedFd) -> Self {
        Self {
            place,
            trees: Vec::new(),
            nothing: None,
        }
    }

    /// In the surrounding `/proc`.
    pub(super) fn surrounding() -> Result<Self> {
        place().map(Self::at)
    }
}

/// Filesystems with what is mounted on them, each waiting to be moved to its target in a root.
#[derive(Debug)]
pub(super) struct KernelTrees {
    place: OwnedFd,
    rung: Rung,
    /// In the order in which they were made, by their targets.
    trees: Vec<(&'static str, Root)>,
    /// An empty read-only directory, where it was first mounted.
    nothing: Option<OwnedFd>,
}

impl KernelTrees {
    /// Makes them in this process's namespaces. Mounts there must be private already.
    pub(super) fn make(
        actions: &[KernelAction],
        rung: Rung,
        ground: Ground,
    ) -> std::result::Result<Self, Failure> {
        let failure = |stage: String| move |cause| Failure::Setup { stage, cause };
        let Ground {
            place,
            trees,
            nothing,
        } = ground;
        let mut made = Self {
            place,
            rung,
            trees,
            nothing,
        };
        for action in actions {
            made.perform(action).map_err(failure(action.to_string()))?;
        }
        Ok(made)
    }

    /// Moves them to their targets in the root, where no link may lead. A target that the image lacks is made.
    pub(super) fn move_into(
        self,
        root: &Root,
        workshop: &mut Workshop,
    ) -> std::result::Result<(), Failure> {
        for (target, tree) in self.trees.into_iter().rev() {
            let moved = mount_point(root, target, workshop)
                .and_then(|found| attach(tree.fd(), &found, target));
            moved.map_err(|cause| Failure::Setup {
                stage: format!("mount on `{target}`"),
                cause,
            })?;
        }
        Ok(())
    }

    /// This process's mount namespace, where no other `/proc` can tell it.
    pub(super) fn mount_namespace(&self) -> Result<OwnedFd> {
        let name = "self/ns/mnt";
        let processes = self.tree_of("/proc").map(|(tree, _)| tree.fd());
        let processes =
            processes.ok_or_else(|| Error::new("openat", name, Errno::NOENT.raw_os_error()))?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat(processes, name, flags, Mode::empty()).call("openat", || name.into())
    }

    fn perform(&mut self, action: &KernelAction) -> Result<()> {
        match action {
            KernelAction::New(filesystem) if filesystem.kind == "proc" => {
                self.processes(filesystem)
            }
            KernelAction::New(filesystem) => {
                let Filesystem { kind, options, .. } = filesystem;
                let mounted = new_filesystem(kind, options, filesystem.attributes)?;
                self.put(mounted, filesystem.target)
            }
            KernelAction::System => self.system(),
            KernelAction::Devices if self.rung.is_in_user_namespace() => self.bound_devices(),
            KernelAction::Devices => self.devices(),
            KernelAction::Mask(path) => self.mask(path),
            KernelAction::ReadOnly(path) => self.read_only(path),
        }
    }

    /// Attaches a filesystem where its target is: as a tree of its own, or within one.
    fn put(&mut self, mounted: OwnedFd, target: &'static str) -> Result<()> {
        if self.tree_of(target).is_some() {
            return attach(&mounted, self.open(target)?, target);
        }
        attach(&mounted, &self.place, target)?;
        self.trees.push((target, Root::new(mounted, None)));
        Ok(())
    }

    /// The tree that a path leads into, and where in it.
    fn tree_of<'p>(&self, path: &'p str) -> Option<(&Root, &'p str)> {
        self.trees.iter().find_map(|(target, tree)| {
            let rest = path.strip_prefix(target)?;
            (rest.is_empty() || rest.starts_with('/')).then_some((tree, rest))
        })
    }

    /// Opens a path (`O_PATH`) as it will be in the root, on which nothing may be a link.
    pub(super) fn open(&self, path: &str) -> Result<OwnedFd> {
        self.open_with(path, OFlags::PATH | OFlags::CLOEXEC)
    }

    /// The same with these flags, for what is to be used.
    pub(super) fn open_with(&self, path: &str, flags: OFlags) -> Result<OwnedFd> {
        match self.tree_of(path) {
            Some((tree, rest)) => tree.open_without_links_with(rest, flags),
            None => Err(Error::new("openat2", path, Errno::NOENT.raw_os_error())),
        }
    }

    fn if_there(&self, path: &str) -> Result<Option<OwnedFd>> {
        match self.open(path) {
            Err(error) if error.errno == Errno::NOENT.raw_os_error() => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// `/proc`. In a user namespace a new one is refused where parts of the surrounding one are hidden, as in most containers: it would show
    /// them. Then a step sees the surrounding one, read-only: there are more processes in it than the step's own, and by other numbers, if the
    /// step has a pid namespace all the same ([`super::surroundings`]).
    fn processes(&mut self, filesystem: &Filesystem) -> Result<()> {
        let attributes = filesystem.attributes;
        let mounted = match new_filesystem(filesystem.kind, &filesystem.options, attributes) {
            // A file system of a pid namespace that is not ours can't even be made.
            Err(error) if error.errno == Errno::PERM.raw_os_error() => {
                let copy = copy_tree(CWD, Path::new("/proc"))?;
                let attributes = attributes | MountAttrFlags::MOUNT_ATTR_RDONLY;
                sys::mount_setattr(&copy, attributes, Reach::Tree)?;
                copy
            }
            mounted => mounted?,
        };
        self.put(mounted, filesystem.target)
    }

    /// `/sys`. Whoever mounts a new one must be root of the user namespace that the network namespace belongs to, and the host's network
    /// is not ours inside of a user namespace. Then the host's own is shown, read-only and without what else is mounted in it.
    fn system(&mut self) -> Result<()> {
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC
            | MountAttrFlags::MOUNT_ATTR_RDONLY;
        match new_filesystem("sysfs", &[], attributes) {
            Err(error) if error.errno == Errno::PERM.raw_os_error() => {}
            mounted => return self.put(mounted?, "/sys"),
        }
        let copy = copy_tree(CWD, Path::new("/sys"))?;
        sys::mount_setattr(&copy, attributes, Reach::Tree)?;
        self.put(copy, "/sys")?;
        for path in WITHIN_SYSTEM {
            if let Some(directory) = self.if_there(path)?
                && is_mount(&directory)?
            {
                let nothing = new_filesystem("tmpfs", &[("size", "0".into())], attributes)?;
                attach(nothing, directory, path)?;
            }
        }
        Ok(())
    }

    /// The nodes of `/dev` where none can be made: each is the host's own, bound on an empty file.
    fn bound_devices(&self) -> Result<()> {
        let dev = self.open("/dev")?;
        for (name, ..) in NODES {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&dev, name, flags, Mode::from_raw_mode(0o666))
                .call("openat", || format!("/dev/{name}"))?;
            let path = format!("/dev/{name}");
            let node = copy_tree(CWD, Path::new(&path))?;
            if is_of_the_namespace(&node)? {
                sys::mount_setattr(&node, MountAttrFlags::MOUNT_ATTR_RDONLY, Reach::Mount)?;
            }
            attach(node, self.open(&path)?, &path)?;
        }
        links_and_directories(&dev)?;
        sys::mount_setattr(&dev, MountAttrFlags::MOUNT_ATTR_NODEV, Reach::Mount)
    }

    fn devices(&self) -> Result<()> {
        let dev = self.open("/dev")?;
        for (name, major, minor) in NODES {
            let mode = Mode::from_raw_mode(0o666);
            rustix::fs::mknodat(
                &dev,
                name,
                FileType::CharacterDevice,
                mode,
                rustix::fs::makedev(major, minor),
            )
            .call("mknodat", || format!("/dev/{name}, c {major}:{minor}"))?;
        }
        links_and_directories(&dev)?;
        // A step may make device nodes, as an image may have them, but only these can be opened: each is a mount of its own,
        // and everything else is `nodev`. Otherwise `mknod` and `cat` would read the host's disks.
        for (name, ..) in NODES {
            let path = format!("/dev/{name}");
            let node = self.open(&path)?;
            attach(copy_tree(&node, Path::new(""))?, &node, &path)?;
        }
        sys::mount_setattr(&dev, MountAttrFlags::MOUNT_ATTR_NODEV, Reach::Mount)
    }

    fn mask(&mut self, path: &'static str) -> Result<()> {
        let Some(target) = self.if_there(path)? else {
            return Ok(());
        };
        if !is_directory(&target)? {
            let null = copy_tree(self.open("/dev/null")?, Path::new(""))?;
            return attach(&null, &target, path);
        }
        match &self.nothing {
            Some(nothing) => attach(copy_tree(nothing, Path::new(""))?, &target, path),
            None => {
                let nothing = new_nothing()?;
                attach(&nothing, &target, path)?;
                self.nothing = Some(nothing);
                Ok(())
            }
        }
    }

    fn read_only(&self, path: &'static str) -> Result<()> {
        let Some(target) = self.if_there(path)? else {
            return Ok(());
        };
        let copy = copy_tree(&target, Path::new(""))?;
        sys::mount_setattr(&copy, MountAttrFlags::MOUNT_ATTR_RDONLY, Reach::Tree)?;
        attach(&copy, &target, path)
    }
}

/// An empty directory that nobody can write to.
pub(super) fn new_nothing() -> Result<OwnedFd> {
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
    new_filesystem("tmpfs", &[("size", "0".into())], read_only)
}

/// Whether a node has an owner in this user namespace, whose root could give it another mode and owner, for all of the machine. Read-only, it
/// can be written to all the same.
fn is_of_the_namespace(node: &OwnedFd) -> Result<bool> {
    let stat = rustix::fs::fstat(node).call("fstat", || "a device".into())?;
    Ok(stat.st_uid != OVERFLOW_ID)
}

/// Whether something is mounted right there.
fn is_mount(place: &OwnedFd) -> Result<bool> {
    let found = rustix::fs::statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::empty());
    let found = found.call("statx", || "a directory of `/sys`".into())?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn place() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut opened = PLACES
        .into_iter()
        .map(|place| rustix::fs::open(place, flags, Mode::empty()).call("open", || place.into()));
    let first = opened.next().expect("there is one");
    opened.fold(first, std::result::Result::or)
}

fn links_and_directories(dev: &OwnedFd) -> Result<()> {
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dev, name)
            .call("symlinkat", || format!("{target}, /dev/{name}"))?;
    }
    for name in DIRECTORIES {
        rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))
            .call("mkdirat", || format!("/dev/{name}"))?;
    }
    Ok(())
}
