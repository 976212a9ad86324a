//! Lists a build context: one lstat an entry, directories in parallel, nothing opened but directories.
//!
//! Every directory is opened by file descriptor below its parent without following links, so a context that
//! changes underneath can at worst show different files, never files from elsewhere.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kiln_cache::FileStat;
use kiln_image::{Digest, ImagePath, Kind, Metadata, Node, Timestamp};
use kiln_parser::IgnoreFile;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

/// One object of a context. A file's digest is not known yet.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Where, below the context.
    pub path: ImagePath,
    /// What, as an image sees it: owned by root, whole seconds, no attributes (R-COPY-15, R-CACHE-15).
    pub node: Node,
    /// What lstat said that changes with the content.
    pub stat: FileStat,
}

/// How deep directories may be nested: far above any real context, and well within a thread's stack.
pub(super) const DEEPEST: usize = 512;

/// Lists everything below `root` that `ignore` keeps, in the order of paths: a directory before what is in it. The root
/// itself is left out.
pub(crate) fn walk(root: &Path, ignore: &IgnoreFile) -> io::Result<Vec<Found>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(root, flags, Mode::empty())?;
    walk_directory(&fd, &ImagePath::root(), ignore)
}

fn walk_directory(fd: &OwnedFd, at: &ImagePath, ignore: &IgnoreFile) -> io::Result<Vec<Found>> {
    if at.components().count() > DEEPEST {
        return Err(io::Error::other(format!(
            "directories are nested deeper than {DEEPEST} levels"
        )));
    }
    let names = names(fd)?;
    // Idle threads take a part of the names; whoever goes on alone puts all in one list.
    names
        .par_iter()
        .try_fold(Vec::new, |mut found, name| {
            walk_entry(fd.as_fd(), at, name, ignore, &mut found).map(|()| found)
        })
        .try_reduce(Vec::new, |found, more| Ok(joined(found, more)))
}

/// The names in a directory, sorted.
fn names(fd: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    let mut directory = RawDir::new(fd, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = directory.next() {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn joined(mut found: Vec<Found>, mut more: Vec<Found>) -> Vec<Found> {
    if found.is_empty() {
        return more;
    }
    found.append(&mut more);
    found
}

fn walk_entry(
    parent: BorrowedFd<'_>,
    at: &ImagePath,
    name: &CStr,
    ignore: &IgnoreFile,
    found: &mut Vec<Found>,
) -> io::Result<()> {
    let path = at.child(name.to_bytes());
    let ignored = !ignore.rules().is_empty() && ignore.ignores(&path.to_string());
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()), // gone since it was listed
        result => result.map_err(|errno| named(&path, errno))?,
    };
    let file_type = FileType::from_raw_mode(stat.st_mode);
    if file_type != FileType::Directory {
        if !ignored {
            let node = match node(parent, name, &stat) {
                Err(Errno::NOENT) => return Ok(()),
                result => result.map_err(|errno| named(&path, errno))?,
            };
            let stat = FileStat::from(&stat);
            found.push(Found { path, node, stat });
        }
        return Ok(());
    }
    if ignored && !ignore.may_reinclude_below(&path.to_string()) {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        result => result.map_err(|errno| named(&path, errno))?,
    };
    let mut below = walk_directory(&fd, &path, ignore)?;
    if ignored && below.is_empty() {
        return Ok(());
    }
    // A kept path below an ignored directory brings that directory along (R-IGN-7).
    let node = Node::directory(metadata(&stat));
    let stat = FileStat::from(&stat);
    found.push(Found { path, node, stat });
    found.append(&mut below);
    Ok(())
}

/// What went wrong, and where below the context.
fn named(path: &ImagePath, errno: Errno) -> io::Error {
    match errno {
        // It was a directory or a link a moment ago, and no link is followed to find out what it is now.
        Errno::NOTDIR | Errno::LOOP | Errno::INVAL => {
            io::Error::other(format!("`{path}` changed while it was listed"))
        }
        errno => io::Error::new(
            errno.kind(),
            format!("`{path}`: {}", io::Error::from(errno)),
        ),
    }
}

fn node(parent: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> rustix::io::Result<Node> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            digest: Digest::UNKNOWN,
        },
        FileType::Symlink => Kind::Symlink {
            target: rustix::fs::readlinkat(parent, name, Vec::new())?.into_bytes(),
        },
        FileType::CharacterDevice => Kind::CharDevice {
            major: rustix::fs::major(stat.st_rdev),
            minor: rustix::fs::minor(stat.st_rdev),
        },
        FileType::BlockDevice => Kind::BlockDevice {
            major: rustix::fs::major(stat.st_rdev),
            minor: rustix::fs::minor(stat.st_rdev),
        },
        FileType::Fifo => Kind::Fifo,
        // A socket can't be copied; BuildKit sends it as an empty file.
        _ => Kind::File {
            size: 0,
            digest: Digest::of(b""),
        },
    };
    let is_socket = FileType::from_raw_mode(stat.st_mode) == FileType::Socket;
    let is_linked = stat.st_nlink > 1 && !is_socket;
    Ok(Node {
        metadata: metadata(stat),
        kind,
        link: is_linked.then(|| hard_link_group(stat)),
    })
}

fn metadata(stat: &Stat) -> Metadata {
    let mut metadata = Metadata::with_mode(stat.st_mode & 0o7777);
    metadata.mtime = Timestamp::from_secs(stat.st_mtime);
    metadata
}

/// Names of one file share a number; device and inode are mixed, as contexts may span file systems.
fn hard_link_group(stat: &Stat) -> u64 {
    stat.st_ino ^ stat.st_dev.rotate_left(40)
}
