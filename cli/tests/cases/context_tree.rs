//! A build context written down as text, so that neither git nor a umask changes what it is.
//!
//! One object a line; names with blanks are in double quotes, with JSON's escapes:
//!
//! ```text
//! 0644 name "content\n"
//! 0755 name/
//! 0644 name |                a FIFO
//! name -> target             a symbolic link
//! name => name               another name of a file
//! name tar f=text d/ d/.wh.x= l->f h=>f      an archive of files, directories and links of 7:8
//! name tar.gz f=text
//! ```
//!
//! Directories come before what is in them. All times are [`TIME`].

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

/// 2020-01-01 00:00:00 UTC, in seconds since 1970.
const TIME: i64 = 1_577_836_800;

/// Makes what the text describes below an empty directory, and puts the Dockerfile beside it unless it has one.
pub fn make(root: &Path, text: &str, dockerfile: &str) {
    fs::create_dir_all(root).unwrap();
    let mut made: Vec<(PathBuf, Option<u32>)> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        made.push(make_object(root, line));
    }
    let path = root.join("Dockerfile");
    if !path.exists() {
        fs::write(&path, dockerfile).unwrap();
        made.push((path, Some(0o644)));
    }
    made.insert(0, (root.to_owned(), Some(0o755)));
    // From the innermost out: what is done inside a directory changes its time, and its mode may forbid it.
    for (path, mode) in made.iter().rev() {
        set_time(path);
        if let Some(mode) = *mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

fn make_object(root: &Path, line: &str) -> (PathBuf, Option<u32>) {
    let (mode, rest) = match line.split_once(' ') {
        Some((mode, rest)) if mode.len() == 4 && u32::from_str_radix(mode, 8).is_ok() => {
            (u32::from_str_radix(mode, 8).ok(), rest)
        }
        _ => (None, line),
    };
    let (name, what) = word(rest);
    let path = root.join(&name);
    match what.split_once(' ') {
        Some(("->", target)) => symlink(word(target).0, &path).unwrap(),
        Some(("=>", other)) => fs::hard_link(root.join(word(other).0), &path).unwrap(),
        Some(("tar", members)) => fs::write(&path, tar_of(members)).unwrap(),
        Some(("tar.gz", members)) => {
            let file = fs::File::create(&path).unwrap();
            let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            gzip.write_all(&tar_of(members)).unwrap();
            gzip.finish().unwrap();
        }
        _ if what == "|" => {
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        }
        _ if name.ends_with('/') || what == "/" => fs::create_dir(&path).unwrap(),
        _ => fs::write(&path, word(what).0).unwrap(),
    }
    (path, mode)
}

/// An archive of what the words say, in their order; files have mode 4640, directories 0750.
fn tar_of(members: &str) -> Vec<u8> {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let mut archive = tar::Builder::new(Vec::new());
    for member in members.split(' ') {
        let parts = |sign| member.split_once(sign);
        let (kind, name, link, content) = match (parts("->"), parts("=>"), parts("=")) {
            (Some((name, target)), ..) => (Symlink, name, target, ""),
            (_, Some((name, other)), _) => (Link, name, other, ""),
            (.., Some((name, content))) => (Regular, name, "", content),
            _ => (Directory, member, "", ""),
        };
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(if kind == Directory { 0o750 } else { 0o4640 });
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(TIME.unsigned_abs());
        header.set_size(content.len() as u64);
        // Not by way of paths: names may be hostile.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        archive.append(&header, content.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// The first word, without its quotes, and what follows.
pub fn word(text: &str) -> (String, &str) {
    if !text.starts_with('"') {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        return (word.to_owned(), rest.trim_start());
    }
    let mut words = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let word = words
        .next()
        .unwrap()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    (word, text[words.byte_offset()..].trim_start())
}

fn set_time(path: &Path) {
    let time = Timespec {
        tv_sec: TIME,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
