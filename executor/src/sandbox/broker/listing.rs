//! Directories of `/proc` and `/sys` that a step can list.
//!
//! A descriptor of the real directory would lead out of the root: `openat(fd, "..")`. So a step gets a directory in its own root, with
//! entries of the same names. What they lead to is looked up by the broker when it is asked for.

use super::caller::Answered;
use super::resolve::joined;
use nix::libc;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::OwnedFd;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tree {
    /// `/proc`
    Processes,
    /// `/sys`
    System,
}

impl Tree {
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Processes => "/proc",
            Self::System => "/sys",
        }
    }
}

/// What is in a real directory.
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    kind: FileType,
    /// What it holds, if it is a link that can be read.
    text: Vec<u8>,
}

/// Reads a directory of the real tree, as whoever this process seems to be: links to what is open tell nobody else.
pub(super) fn entries(real: &OwnedFd) -> Answered<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(real).map_err(Errno::raw_os_error)? {
        let entry = entry.map_err(Errno::raw_os_error)?;
        let (name, kind) = (entry.file_name().to_bytes(), entry.file_type());
        if matches!(name, b"." | b"..") {
            continue;
        }
        let text = match kind {
            FileType::Symlink => rustix::fs::readlinkat(real, name, Vec::new()).ok(),
            _ => None,
        };
        entries.push(Entry {
            name: name.to_vec(),
            kind,
            text: text.map(CString::into_bytes).unwrap_or_default(),
        });
    }
    Ok(entries)
}

/// Makes what stands at `parts` below the root's `tree` have these entries and no others; returns it, open with `flags`.
pub(super) fn show(
    tree: Tree,
    parts: &[Vec<u8>],
    entries: &[Entry],
    flags: OFlags,
) -> Answered<OwnedFd> {
    let shown = make(tree, parts)?;
    for entry in entries {
        put(&shown, entry)?;
    }
    let names = entries.iter().map(|entry| &*entry.name).collect();
    remove_others(&shown, &names)?;
    let flags = flags.intersection(OFlags::PATH) | DIRECTORY;
    rustix::fs::openat(&shown, ".", flags, Mode::empty()).map_err(Errno::raw_os_error)
}

/// The directory in the root's `tree`, with those above it.
fn make(tree: Tree, parts: &[Vec<u8>]) -> Answered<OwnedFd> {
    let mut here = rustix::fs::openat(CWD, tree.path(), DIRECTORY, Mode::empty())
        .map_err(Errno::raw_os_error)?;
    for part in parts {
        match rustix::fs::mkdirat(&here, part.as_slice(), Mode::from_raw_mode(0o555)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.raw_os_error()),
        }
        here = rustix::fs::openat(&here, part.as_slice(), DIRECTORY, Mode::empty())
            .map_err(Errno::raw_os_error)?;
    }
    Ok(here)
}

/// Makes an entry of the kind that the real one has.
fn put(shown: &OwnedFd, entry: &Entry) -> Answered<()> {
    let name = &*entry.name;
    let put = match entry.kind {
        FileType::Directory => rustix::fs::mkdirat(shown, name, Mode::from_raw_mode(0o555)),
        FileType::Symlink => link(shown, name, &entry.text),
        _ => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o444);
            rustix::fs::openat(shown, name, flags, mode).map(drop)
        }
    };
    match put {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.raw_os_error()),
    }
}

fn link(shown: &OwnedFd, name: &[u8], text: &[u8]) -> rustix::io::Result<()> {
    let there = rustix::fs::readlinkat(shown, name, Vec::new());
    if text.is_empty() || there.as_ref().is_ok_and(|there| there.as_bytes() == text) {
        return Ok(());
    }
    if there.is_ok() {
        rustix::fs::unlinkat(shown, name, AtFlags::empty())?;
    }
    rustix::fs::symlinkat(text, shown, name)
}

/// The listing of a process's descriptors has one for the listing itself.
pub(super) fn add_link(shown: &OwnedFd, name: &str, text: &[u8]) {
    let _ = rustix::fs::symlinkat(text, shown, name);
}

/// Processes that have ended, descriptors that were closed.
fn remove_others(shown: &OwnedFd, names: &HashSet<&[u8]>) -> Answered<()> {
    for entry in Dir::read_from(shown).map_err(Errno::raw_os_error)? {
        let entry = entry.map_err(Errno::raw_os_error)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") || names.contains(name) {
            continue;
        }
        let _ = match entry.file_type() {
            FileType::Directory => remove_tree(shown, name),
            _ => rustix::fs::unlinkat(shown, name, AtFlags::empty()),
        };
    }
    Ok(())
}

fn remove_tree(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    let directory = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match entry.file_type() {
            FileType::Directory => remove_tree(&directory, name)?,
            _ => rustix::fs::unlinkat(&directory, name, AtFlags::empty())?,
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Opens what is real, without following anything.
pub(super) fn open_real(base: &OwnedFd, parts: &[Vec<u8>]) -> Answered<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(base, joined(parts), DIRECTORY, Mode::empty(), how).map_err(|errno| {
        match errno {
            Errno::LOOP | Errno::XDEV => libc::ENOENT,
            errno => errno.raw_os_error(),
        }
    })
}

/// Lets `/proc/self` of the root lead to a process's directory, for calls that are the kernel's.
pub(super) fn point_self_to(process: i32) -> Answered<()> {
    let _ = rustix::fs::unlinkat(CWD, "/proc/self", AtFlags::empty());
    rustix::fs::symlinkat(process.to_string(), CWD, "/proc/self").map_err(Errno::raw_os_error)
}
