//! What of a folder is sent as a context and what is left out, each with the rule that said so. No file is opened.

use std::io;
use std::os::fd::OwnedFd;

use kiln_image::ImagePath;
use kiln_parser::{IgnoreFile, Rule};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::folder::ContextOptions;
use super::walk::DEEPEST;
use crate::error::{BuildError, Cause};

/// One object of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextEntry {
    /// Where, below the folder.
    pub path: ImagePath,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a file; 0 for anything else.
    pub size: u64,
    /// Whether a step can see it. A directory that is left out is sent all the same if something in it is (R-IGN-7).
    pub sent: bool,
    /// The last rule that is about it, which decides (R-IGN-6); `None` if none is.
    pub rule: Option<Rule>,
}

/// What kind of object it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO, a socket or a device.
    Special,
}

/// Lists a folder, a directory before what is in it, names in order. What is below a directory that is left out as a whole is
/// not looked at.
pub fn inventory(folder: &ContextOptions) -> Result<Vec<ContextEntry>, BuildError> {
    let listed = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&folder.root, flags, Mode::empty())?;
        let mut entries = Vec::new();
        list(&root, &ImagePath::root(), 0, &folder.ignore, &mut entries)?;
        Ok(entries)
    };
    listed()
        .map_err(Cause::file("read the build context", &folder.root))
        .map_err(BuildError::new)
}

/// Whether anything is sent.
fn list(
    directory: &OwnedFd,
    at: &ImagePath,
    depth: usize,
    ignore: &IgnoreFile,
    entries: &mut Vec<ContextEntry>,
) -> io::Result<bool> {
    if depth > DEEPEST {
        return Err(io::Error::other(format!(
            "directories are nested deeper than {DEEPEST} levels"
        )));
    }
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut something_is_sent = false;
    for name in names {
        let path = at.child(name.as_bytes());
        let stat = match rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue, // gone since it was listed
            result => result?,
        };
        let text = path.to_string();
        let verdict = ignore.verdict(&text);
        let kind = kind(FileType::from_raw_mode(stat.st_mode));
        something_is_sent |= !verdict.ignored;
        let position = entries.len();
        entries.push(ContextEntry {
            path: path.clone(),
            kind,
            size: match kind {
                EntryKind::File => u64::try_from(stat.st_size).unwrap_or(0),
                _ => 0,
            },
            sent: !verdict.ignored,
            rule: verdict.rule,
        });
        if kind != EntryKind::Directory || (verdict.ignored && !ignore.may_reinclude_below(&text)) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let below = rustix::fs::openat(directory, &name, flags, Mode::empty())?;
        if list(&below, &path, depth + 1, ignore, entries)? {
            entries[position].sent = true;
            something_is_sent = true;
        }
    }
    Ok(something_is_sent)
}

fn kind(found: FileType) -> EntryKind {
    match found {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        _ => EntryKind::Special,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::super::modes::ContextModes;
    use super::*;

    #[test]
    fn each_path_has_its_rule() {
        // R-IGN-6, R-IGN-7
        let folder = tempfile::tempdir().unwrap();
        for directory in ["logs/old", "src", "whole/below"] {
            fs::create_dir_all(folder.path().join(directory)).unwrap();
        }
        for file in [
            "a.md",
            "logs/x",
            "logs/keep",
            "logs/old/y",
            "src/main",
            "whole/below/z",
        ] {
            fs::write(folder.path().join(file), file).unwrap();
        }
        let options = ContextOptions {
            root: folder.path().to_owned(),
            shown: ".".to_owned(),
            ignore: IgnoreFile::parse("*.md\nlogs\nwhole\n!logs/keep\n").unwrap(),
            ignore_name: None,
            modes: ContextModes::Kept,
        };
        let shown = |entry: &ContextEntry| {
            let sign = if entry.sent { '+' } else { '-' };
            let line = entry.rule.as_ref().map_or(0, |rule| rule.line);
            format!("{sign}{} {line}", entry.path)
        };
        let entries = inventory(&options).unwrap();
        assert_eq!(
            entries.iter().map(shown).collect::<Vec<_>>(),
            [
                "-a.md 1",
                "+logs 2",
                "+logs/keep 4",
                "-logs/old 2",
                "-logs/x 2",
                "+src 0",
                "+src/main 0",
                "-whole 3",
            ]
        );
        assert_eq!(entries[2].size, 9);
    }
}
