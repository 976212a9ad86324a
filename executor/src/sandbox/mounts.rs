//! Making mounts by descriptor: each filesystem is made or copied detached, given its attributes, and only then attached to a directory that
//! is already open. No path of the image is involved between the look and the mount.

use super::error::Failure;
use super::exposed;
use super::plan::Action;
use super::root::{Missing, Root};
use super::stub::{StubKind, Stubs};
use super::{MountKind, MountSpec, RootSpec, Rung};
use crate::sys::{self, Context as _, Error, Reach, Result};
use kiln_image::record::Record;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount,
    move_mount, open_tree, unmount,
};
use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Device nodes of `/dev` with their numbers; all may be read and written by all (R-RT-7).
pub(super) const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// A root filesystem that is not attached yet.
#[derive(Debug)]
pub(super) struct NewRoot {
    mounted: OwnedFd,
    /// The directory that takes the changes of an overlay.
    upper: Option<OwnedFd>,
    is_attached: bool,
    /// The same, attached nowhere, to outlast the step.
    kept: Option<OwnedFd>,
}

/// Makes the root filesystem, out of paths of the host.
pub(super) fn root_filesystem(spec: &RootSpec, rung: Rung) -> Result<NewRoot> {
    match spec {
        RootSpec::Directory(path) => directory(path),
        // Overlayfs wants a lower layer; without one, the upper layer is the whole root.
        RootSpec::Overlay { lowers, upper, .. } if lowers.is_empty() => directory(upper),
        RootSpec::Overlay {
            lowers,
            upper,
            work,
        } => {
            let changes = open_host(upper)?; // before anything can be mounted on it
            let (mounted, is_attached) = match overlay(lowers, upper, work, rung) {
                Err(Refused::TooOld) => (overlay_by_mount(lowers, upper, work, rung)?, true),
                Err(Refused::For(error)) => return Err(error),
                Ok(detached) => (detached, false),
            };
            Ok(NewRoot {
                mounted,
                upper: Some(changes),
                is_attached,
                kept: None,
            })
        }
    }
}

fn directory(path: &Path) -> Result<NewRoot> {
    let mounted = copy_tree(CWD, path)?;
    sys::mount_setattr(&mounted, MountAttrFlags::MOUNT_ATTR_NODEV, Reach::Tree)?;
    Ok(NewRoot {
        mounted,
        upper: None,
        is_attached: false,
        kept: None,
    })
}

/// A root filesystem that is mounted already.
pub(super) fn root_filesystem_again(spec: &RootSpec, mounted: &OwnedFd) -> Result<NewRoot> {
    Ok(NewRoot {
        mounted: copy_tree(mounted, Path::new(""))?,
        upper: Some(open_host(spec.changes())?),
        is_attached: false,
        kept: None,
    })
}

impl NewRoot {
    /// Keeps the overlay itself, and goes on with a copy of its mount, which has to be possible before it is attached (Linux 6.15).
    pub(super) fn keep(self) -> Self {
        if self.is_attached || self.upper.is_none() {
            return self;
        }
        match copy_tree(&self.mounted, Path::new("")) {
            Ok(copy) => Self {
                kept: Some(self.mounted),
                mounted: copy,
                ..self
            },
            Err(_) => self,
        }
    }

    /// What is kept of it.
    pub(super) fn take_kept(&mut self) -> Option<OwnedFd> {
        self.kept.take()
    }

    /// Attaches it above the root of this process, where pivot_root(2) wants it.
    pub(super) fn attach(self, rung: Rung) -> Result<Root> {
        if !self.is_attached {
            attach_above_host(&self.mounted)?;
        }
        Ok(Root::new(self.mounted, self.upper).recording(rung.records_owners()))
    }
}

/// Whether overlayfs takes each layer as a parameter of its own, and this process may mount it (Linux 6.5).
pub(super) fn knows_layers_by_parameter() -> bool {
    let asked = open_filesystem("overlay").map(|fs| fsconfig_set_string(&fs, "lowerdir+", "/"));
    matches!(asked, Ok(Ok(())))
}

/// Why [`overlay`] made nothing.
enum Refused {
    /// The kernel doesn't know `lowerdir+` (before 6.5).
    TooOld,
    For(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::For(error)
    }
}

/// An overlay, detached. Each layer is one parameter, so that neither their number nor odd characters in their paths matter.
fn overlay(
    lowers: &[PathBuf],
    upper: &Path,
    work: &Path,
    rung: Rung,
) -> std::result::Result<OwnedFd, Refused> {
    let fs = open_filesystem("overlay")?;
    for lower in lowers.iter().rev() {
        match fsconfig_set_string(&fs, "lowerdir+", lower) {
            Err(Errno::INVAL) if lower.as_path() == lowers[lowers.len() - 1] => {
                return Err(Refused::TooOld);
            }
            set => set.call("fsconfig", || {
                format!("overlay, lowerdir+, {}", lower.display())
            })?,
        }
    }
    fsconfig_set_string(&fs, "upperdir", upper).call("fsconfig", || {
        format!("overlay, upperdir, {}", upper.display())
    })?;
    fsconfig_set_string(&fs, "workdir", work).call("fsconfig", || {
        format!("overlay, workdir, {}", work.display())
    })?;
    for (option, value) in OVERLAY_OPTIONS {
        fsconfig_set_string(&fs, *option, *value)
            .call("fsconfig", || format!("overlay, {option}={value}"))?;
    }
    if rung.is_in_user_namespace() {
        fsconfig_set_flag(&fs, "userxattr").call("fsconfig", || "overlay, userxattr".into())?;
    }
    let _ = fsconfig_set_flag(&fs, "volatile"); // only saves time; Linux 5.10
    create(&fs, "overlay")?;
    Ok(detach(&fs, "overlay", MountAttrFlags::MOUNT_ATTR_NODEV)?)
}

/// What the kernel may have other defaults for, and what would put more than plain changes into the upper directory.
const OVERLAY_OPTIONS: &[(&str, &str)] = &[
    ("redirect_dir", "nofollow"),
    ("metacopy", "off"),
    ("index", "off"),
];

/// An overlay made by mount(2) on top of its own upper directory, for kernels before 6.5. All layers must fit into a page.
fn overlay_by_mount(lowers: &[PathBuf], upper: &Path, work: &Path, rung: Rung) -> Result<OwnedFd> {
    let lowers: Vec<_> = lowers.iter().rev().map(|lower| escape(lower)).collect();
    let mut options = [
        &b"lowerdir="[..],
        &lowers.join(&b':'),
        b",upperdir=",
        &escape(upper),
        b",workdir=",
        &escape(work),
    ]
    .concat();
    for (option, value) in OVERLAY_OPTIONS {
        options.extend(format!(",{option}={value}").bytes());
    }
    if rung.is_in_user_namespace() {
        options.extend(b",userxattr");
    }
    let args = || {
        format!(
            "overlay, {}, {}",
            upper.display(),
            String::from_utf8_lossy(&options)
        )
    };
    let options = CString::new(options.clone())
        .map_err(|_| Error::new("mount", args(), nix::libc::EINVAL))?;
    mount(
        "overlay",
        upper,
        "overlay",
        MountFlags::NODEV,
        options.as_c_str(),
    )
    .call("mount", args)?;
    open_host(upper)
}

/// A path as overlayfs wants it inside an option string.
pub(super) fn escape(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes().iter();
    bytes
        .flat_map(|byte| {
            if b",:\\".contains(byte) {
                vec![b'\\', *byte]
            } else {
                vec![*byte]
            }
        })
        .collect()
}

/// Does one action of the plan for the root filesystem.
pub(super) fn perform(
    action: &Action<'_>,
    rung: Rung,
    root: &Root,
    workshop: &mut Workshop,
    stubs: &mut Stubs,
) -> std::result::Result<(), Failure> {
    let done = match action {
        Action::Expose => exposed::expose(root, rung),
        Action::Asked(spec) => match workshop.next_source() {
            Ok(source) => return asked(spec, &source, root, workshop, stubs),
            Err(error) => Err(error),
        },
    };
    done.map_err(|cause| Failure::Setup {
        stage: action.to_string(),
        cause,
    })
}

/// What mounts of a step are made from.
#[derive(Debug, Default)]
pub(super) struct Workshop {
    /// Mount points at the top that the image lacks.
    made: Vec<&'static str>,
    /// The files in memory that the spec asks for, each a detached read-only mount, in the order in which they are mounted.
    files: VecDeque<OwnedFd>,
    /// All that the spec asks for, detached, with the kind of mount point it needs, in the order in which it is mounted.
    sources: VecDeque<Result<(OwnedFd, StubKind)>>,
}

/// A directory that no link of the image may lead to.
pub(super) fn mount_point(
    root: &Root,
    path: &'static str,
    workshop: &mut Workshop,
) -> Result<OwnedFd> {
    match root.open_without_links(path) {
        Err(error) if error.errno == Errno::NOENT.raw_os_error() => {
            workshop.made.push(path);
            root.open_or_make(path, Missing::Directory(0, 0)) // stays (R-LAY-14)
        }
        opened => opened,
    }
}

/// What can't be done here is the image's or the instruction's fault: a place below a file, a file on a directory.
fn asked(
    spec: &MountSpec,
    (mounted, kind): &(OwnedFd, StubKind),
    root: &Root,
    workshop: &Workshop,
    stubs: &mut Stubs,
) -> std::result::Result<(), Failure> {
    for path in &workshop.made {
        // A mount point of kiln's own stays, but not if something is asked for on or below it.
        if Path::new(&spec.target).starts_with(path) {
            stubs.remember_made(path);
        }
    }
    let mode = mode_from_below(spec, root);
    let target = root
        .open_or_make(&spec.target, Missing::Stub(*kind, stubs))
        .map_err(|error| Failure::mount_point(&spec.target, error.to_string()))?;
    check_kinds(&spec.target, *kind, &target)?;
    let attached = set_mode(mounted, mode).and_then(|()| attach(mounted, &target, &spec.target));
    attached.map_err(|cause| Failure::Setup {
        stage: Action::Asked(spec).to_string(),
        cause,
    })
}

/// The mode that a tmpfs takes from the directory that is there already, as runc has it.
pub(super) fn mode_from_below(spec: &MountSpec, root: &Root) -> Option<Mode> {
    match spec.kind {
        MountKind::Tmpfs { mode: None, .. } => {
            let stat = rustix::fs::fstat(root.open(&spec.target).ok()?).ok()?;
            Some(Mode::from_raw_mode(stat.st_mode & 0o7777))
        }
        _ => None,
    }
}

/// Of a filesystem that is attached nowhere yet.
fn set_mode(mounted: &OwnedFd, mode: Option<Mode>) -> Result<()> {
    let Some(mode) = mode else {
        return Ok(());
    };
    rustix::fs::fchmod(open_top(mounted)?, mode).call("fchmod", || "tmpfs".into())
}

/// A directory is mounted on a directory only, and a file on what is none.
pub(super) fn check_kinds(
    target: &str,
    kind: StubKind,
    found: &OwnedFd,
) -> std::result::Result<(), Failure> {
    let refused = |reason| Err(Failure::mount_point(target, reason));
    match (kind, is_directory(found)) {
        (StubKind::Directory, Ok(false)) => refused("a directory can't be mounted on a file"),
        (StubKind::File, Ok(true)) => refused("a file can't be mounted on a directory"),
        _ => Ok(()),
    }
}

fn bind(source: &Path, inside: &str, writable: bool) -> Result<(OwnedFd, StubKind)> {
    let opened = open_host(source)?;
    let found = match inside {
        "" => opened,
        path => Root::new(opened, None).open(path)?,
    };
    let kind = if is_directory(&found)? {
        StubKind::Directory
    } else {
        StubKind::File
    };
    let copy = copy_tree(&found, Path::new(""))?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, !writable);
    sys::mount_setattr(&copy, attributes, Reach::Tree)?;
    Ok((copy, kind))
}

/// Of a tmpfs where nothing says another (R-MNT-12).
pub(super) const TMPFS_MODE: u32 = 0o1777;

fn tmpfs(size: Option<u64>, mode: u32, noexec: bool) -> Result<OwnedFd> {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, noexec);
    let mut options = vec![("mode", format!("{mode:o}"))];
    options.extend(size.map(|size| ("size", size.to_string())));
    new_filesystem("tmpfs", &options, attributes)
}

impl Workshop {
    /// Makes the files. Only mounts that are attached somewhere can be copied, so the filesystem that they are in is attached to the
    /// host's root for that moment. It must be gone before the root is exchanged, which takes away the topmost mount there.
    pub(super) fn new(mounts: &[MountSpec], rung: Rung) -> Result<Self> {
        let files: Vec<_> = mounts
            .iter()
            .filter(|mount| matches!(mount.kind, MountKind::File { .. }))
            .collect();
        let mut workshop = Self::default();
        if !files.is_empty() {
            let place =
                new_filesystem("tmpfs", &[("mode", "0700".into())], MountAttrFlags::empty())?;
            attach_above_host(&place)?;
            let made = files
                .iter()
                .enumerate()
                .map(|(number, mount)| file(&place, number, &mount.kind, rung));
            workshop.files = made.collect::<Result<_>>()?;
            rustix::process::fchdir(&place).call("fchdir", || "tmpfs".into())?;
            unmount(".", UnmountFlags::DETACH).call("umount2", || "tmpfs, MNT_DETACH".into())?;
        }
        Ok(workshop)
    }

    /// Opens what is at paths of the host, and makes the rest. A failure is told when the mount's turn comes.
    pub(super) fn fetch(&mut self, mounts: &[MountSpec], rung: Rung) {
        for mount in mounts {
            let source = match &mount.kind {
                MountKind::Bind {
                    source,
                    inside,
                    writable,
                } => bind(source, inside, *writable),
                MountKind::Tmpfs {
                    size,
                    mode,
                    owner,
                    noexec,
                } => tmpfs(*size, mode.unwrap_or(TMPFS_MODE), *noexec).and_then(|mounted| {
                    if let Some(owner) = owner {
                        give_to(&open_top(&mounted)?, *owner, rung)?;
                    }
                    Ok((mounted, StubKind::Directory))
                }),
                MountKind::File { .. } => Ok((self.next_file(), StubKind::File)),
            };
            self.sources.push_back(source);
        }
    }

    fn next_file(&mut self) -> OwnedFd {
        self.files
            .pop_front()
            .expect("there is one for each mount that is a file")
    }

    fn next_source(&mut self) -> Result<(OwnedFd, StubKind)> {
        self.sources
            .pop_front()
            .expect("all that the spec asks for has been fetched")
    }
}

/// Makes something in memory somebody's. Where owners are recorded, a tmpfs has the attributes for it from Linux 6.6 on.
fn give_to(file: &OwnedFd, (uid, gid): (u32, u32), rung: Rung) -> Result<()> {
    let args = || format!("{uid}, {gid}");
    if rung.records_owners() {
        let device = None;
        let record = Record { uid, gid, device };
        return record.write(file).call("fsetxattr", args);
    }
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::fchown(file, uid, gid).call("fchown", args)
}

/// The root of a filesystem that is attached nowhere yet.
fn open_top(mounted: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(mounted, ".", flags, Mode::empty()).call("openat", || "tmpfs".into())
}

/// A file in memory as a detached read-only mount.
fn file(place: &OwnedFd, number: usize, kind: &MountKind, rung: Rung) -> Result<OwnedFd> {
    let MountKind::File {
        contents,
        mode,
        uid,
        gid,
    } = kind
    else {
        return Err(Error::new("open_tree", "not a file", nix::libc::EINVAL));
    };
    let name = number.to_string();
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(place, &name, flags, Mode::from_raw_mode(*mode))
        .call("openat", || "tmpfs".into())?;
    match give_to(&file, (*uid, *gid), rung) {
        Err(_) if rung.records_owners() => {} // then it is root's, and can be read all the same
        given => given?,
    }
    std::io::Write::write_all(&mut std::fs::File::from(file), contents)
        .call("write", || "tmpfs".into())?;
    let copy = copy_tree(place, Path::new(&name))?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, mode & 0o111 == 0); // R-MNT-14
    sys::mount_setattr(&copy, attributes, Reach::Mount)?;
    Ok(copy)
}

pub(super) fn new_filesystem(
    kind: &str,
    options: &[(&str, String)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let fs = open_filesystem(kind)?;
    for (name, value) in options {
        let set = if value.is_empty() {
            fsconfig_set_flag(&fs, *name)
        } else {
            fsconfig_set_string(&fs, *name, value)
        };
        set.call("fsconfig", || format!("{kind}, {name}={value}"))?;
    }
    create(&fs, kind)?;
    detach(&fs, kind, attributes)
}

/// A filesystem to be configured; its source, which `df` shows, is its kind.
fn open_filesystem(kind: &str) -> Result<OwnedFd> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).call("fsopen", || kind.into())?;
    fsconfig_set_string(&fs, "source", kind).call("fsconfig", || format!("{kind}, source"))?;
    Ok(fs)
}

/// Makes the filesystem; on failure the kernel's own words, if it left any, are in the error.
fn create(fs: &OwnedFd, kind: &str) -> Result<()> {
    fsconfig_create(fs.as_fd()).call("fsconfig", || match kernel_message(fs) {
        Some(message) => format!("{kind}, create: {message}"),
        None => format!("{kind}, create"),
    })
}

fn kernel_message(fs: &OwnedFd) -> Option<String> {
    let mut buffer = [0; 512];
    let length = rustix::io::read(fs, &mut buffer).ok()?;
    Some(
        String::from_utf8_lossy(&buffer[..length])
            .trim_start_matches("e ")
            .trim()
            .to_owned(),
    )
}

fn detach(fs: &OwnedFd, kind: &str, attributes: MountAttrFlags) -> Result<OwnedFd> {
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).call("fsmount", || kind.into())
}

/// A detached copy of the mounts from `path` on; an empty path is the descriptor itself.
pub(super) fn copy_tree(dir: impl AsFd, path: &Path) -> Result<OwnedFd> {
    let at = if path.as_os_str().is_empty() {
        AtFlags::EMPTY_PATH
    } else {
        AtFlags::empty()
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let flags = flags | OpenTreeFlags::from_bits_retain(at.bits());
    open_tree(dir, path, flags).call("open_tree", || path.display().to_string())
}

pub(super) fn attach(mounted: impl AsFd, target: impl AsFd, name: &str) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mounted, "", target, "", flags).call("move_mount", || name.into())
}

/// Attaches on top of the host's root. Paths that begin at `/` still mean the host's, as this process' root stays below.
pub(super) fn attach_above_host(mounted: &OwnedFd) -> Result<()> {
    move_mount(
        mounted,
        "",
        CWD,
        "/",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .call("move_mount", || "/".into())
}

/// Opens something of the host that is no link: a link could be a step's, left in a place that steps can write to.
fn open_host(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened =
        rustix::fs::open(path, flags, Mode::empty()).call("open", || path.display().to_string())?;
    let stat = rustix::fs::fstat(&opened).call("fstat", || path.display().to_string())?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => Err(Error::new(
            "open",
            path.display().to_string(),
            nix::libc::ELOOP,
        )),
        _ => Ok(opened),
    }
}

pub(super) fn is_directory(fd: &OwnedFd) -> Result<bool> {
    let stat = rustix::fs::fstat(fd).call("fstat", String::new)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::print_stderr)]
    use super::*;
    use std::fs;

    #[test]
    fn odd_characters_in_an_option_string_are_escaped() {
        assert_eq!(escape(Path::new("/a:b,c\\d")), b"/a\\:b\\,c\\\\d");
    }

    /// The way for kernels before 6.5, which this machine's may not be, in a mount namespace of this thread.
    #[test]
    fn sandbox_overlay_by_mount_has_all_layers() {
        if !rustix::process::geteuid().is_root() {
            return eprintln!("*** SKIPPED: needs root ***");
        }
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["low:er", "top,most", "upper", "work"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("name"), name).unwrap();
        }
        fs::remove_file(path("upper").join("name")).unwrap();
        let seen = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                    let how = rustix::mount::MountPropagationFlags::PRIVATE
                        | rustix::mount::MountPropagationFlags::REC;
                    rustix::mount::mount_change("/", how).unwrap();
                    let root = overlay_by_mount(
                        &[path("low:er"), path("top,most")],
                        &path("upper"),
                        &path("work"),
                        Rung::Root,
                    )
                    .unwrap();
                    let file =
                        rustix::fs::openat(&root, "name", OFlags::RDONLY, Mode::empty()).unwrap();
                    std::io::read_to_string(fs::File::from(file)).unwrap()
                })
                .join()
                .unwrap()
        });
        assert_eq!(seen, "top,most");
    }
}
