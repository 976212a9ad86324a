//! The way to what a user asks for: each directory on it they must be allowed to search.
//!
//! That is asked of the directories that a thing is in after all links, and of those that the path goes through before. Where a path begins
//! at a directory that the caller has got to already, what is above that doesn't count.

use super::call::{At, Call};
use super::caller::{Answered, Caller, Place};
use super::identity::Identity;
use super::permission::SEARCH;
use super::{Mode, OFlags, OwnedFd, Server};
use crate::sandbox::capability::{DAC_OVERRIDE, DAC_READ_SEARCH};

/// Everybody may search a directory with these bits.
const ALL: u32 = 0o111;

impl Server {
    /// Checks the ways to all that a call names.
    pub(super) fn check_ways(&self, caller: &Caller<'_>, call: &Call) -> Answered<()> {
        let who = self.identity(caller);
        if who.can(DAC_OVERRIDE) || who.can(DAC_READ_SEARCH) {
            return Ok(());
        }
        let mut paths = call.paths().into_iter().flatten();
        paths.try_for_each(|at| self.check_way(&who, caller, at))
    }

    fn check_way(&self, who: &Identity, caller: &Caller<'_>, at: &At) -> Answered<()> {
        let path = match at.path {
            Some(address) if address != 0 => caller.string(address)?,
            _ => return Ok(()),
        };
        let is_below = |directory: &[u8]| path.as_bytes().starts_with(directory);
        if path.is_empty() || is_below(b"/proc/") || is_below(b"/dev/") {
            return Ok(()); // the kernel checks these itself
        }
        let place = caller.place(at)?;
        let base = place.base().and_then(|base| self.book.path(base));
        let parent = place.open_parent();
        let parent = parent.ok().and_then(|it| self.book.path(&it));
        let directories = directories(path.as_bytes());
        if !directories.is_empty() && !is_direct(base.as_deref(), directories, parent.as_deref()) {
            self.check_through(who, &place, base.as_deref(), directories)?;
        }
        let Some(parent) = parent else {
            return Ok(());
        };
        self.check_all(who, base.as_deref(), &parent)?;
        let may_be_link = at.follow && !names_no_entry(path.as_bytes());
        match place.open().ok().filter(|_| may_be_link) {
            Some(object) => self.check_behind_link(who, &object, &parent),
            None => Ok(()),
        }
    }

    /// Checks each directory that a path names: `..` and links lead away from where it has been.
    fn check_through(
        &self,
        who: &Identity,
        place: &Place<'_>,
        base: Option<&[u8]>,
        directories: &[u8],
    ) -> Answered<()> {
        let ends = (1..=directories.len())
            .filter(|end| *end == directories.len() || directories[*end] == b'/');
        for end in ends {
            let through = place.through(&directories[..end]).ok();
            let Some(through) = through.and_then(|it| self.book.path(&it)) else {
                return Ok(()); // the kernel tells what is wrong with it
            };
            self.check_all(who, base, &through)?;
        }
        Ok(())
    }

    /// A link at the end leads to another directory.
    fn check_behind_link(&self, who: &Identity, object: &OwnedFd, before: &[u8]) -> Answered<()> {
        let Some(path) = self.book.path(object) else {
            return Ok(());
        };
        let slash = path.iter().rposition(|byte| *byte == b'/');
        match &path[..slash.unwrap_or(0)] {
            parent if parent == before => Ok(()),
            parent => self.check_all(who, None, parent),
        }
    }

    /// Checks a directory and all above it, but those above `base` if it is below that. Paths are without the first slash.
    fn check_all(&self, who: &Identity, base: Option<&[u8]>, directory: &[u8]) -> Answered<()> {
        let begin = match base {
            Some(base) if is_in(directory, base) => base.len(),
            _ => 0,
        };
        let ends = (begin..=directory.len())
            .filter(|end| *end == directory.len() || *end == begin || directory[*end] == b'/');
        for end in ends {
            let path = [b"/", &directory[..end]].concat();
            let open = rustix::fs::stat(&path[..]).is_ok_and(|stat| stat.st_mode & ALL == ALL);
            if open {
                continue;
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            if let Ok(object) = rustix::fs::open(&path[..], flags, Mode::empty()) {
                self.check(who, &object, SEARCH)?;
            }
        }
        Ok(())
    }
}

/// What a path says of where its last component is.
fn directories(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/');
    let last = &path[..end.map_or(0, |end| end + 1)];
    let slash = last.iter().rposition(|byte| *byte == b'/');
    &last[..slash.unwrap_or(0)]
}

/// Whether a path ends with `.` or `..`, which are no links.
fn names_no_entry(path: &[u8]) -> bool {
    let last = path
        .rsplit(|byte| *byte == b'/')
        .find(|part| !part.is_empty());
    matches!(last, Some(b"." | b".."))
}

/// Whether directories that a path names, from `base` if it is relative, are those above `parent` and no others.
fn is_direct(base: Option<&[u8]>, directories: &[u8], parent: Option<&[u8]>) -> bool {
    let base = base.filter(|_| !directories.starts_with(b"/"));
    let parts = |path| <[u8]>::split(path, |byte| *byte == b'/').filter(|part| !part.is_empty());
    let named = parts(base.unwrap_or_default()).chain(parts(directories));
    parent.is_some_and(|parent| named.eq(parts(parent)))
}

/// Whether a directory is another or below it.
fn is_in(directory: &[u8], other: &[u8]) -> bool {
    let rest = directory.strip_prefix(other);
    rest.is_some_and(|rest| other.is_empty() || rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::{directories, is_direct, is_in, names_no_entry};

    #[test]
    fn a_path_names_directories() {
        for (path, expected) in [
            ("/a/b/c", "/a/b"),
            ("/a/b/c/", "/a/b"),
            ("/a", ""),
            ("a", ""),
            ("a/../b", "a/.."),
            ("/", ""),
        ] {
            assert_eq!(directories(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }

    #[test]
    fn dots_are_no_links() {
        for (path, expected) in [
            (".", true),
            ("a/..", true),
            ("a/../", true),
            ("..a", false),
            ("./a", false),
            ("/", false),
        ] {
            assert_eq!(names_no_entry(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn a_way_is_direct_where_it_leads_down_alone() {
        for (base, directories, parent, expected) in [
            (None, "/a/b", Some("a/b"), true),
            (None, "/a//b", Some("a/b"), true),
            (None, "/a/..", Some(""), false),
            (None, "/link", Some("target"), false),
            (None, "/a/nothing", None, false),
            (Some("x"), "a", Some("x/a"), true),
            (Some("x"), "..", Some(""), false),
        ] {
            let base = base.map(str::as_bytes);
            let found = is_direct(base, directories.as_bytes(), parent.map(str::as_bytes));
            assert_eq!(found, expected, "{base:?} {directories}");
        }
    }

    #[test]
    fn a_directory_is_in_itself_and_those_above() {
        for (directory, other, expected) in [
            ("a/b", "", true),
            ("a/b", "a", true),
            ("a/b", "a/b", true),
            ("ab", "a", false),
            ("a", "a/b", false),
        ] {
            let found = is_in(directory.as_bytes(), other.as_bytes());
            assert_eq!(found, expected, "{directory} {other}");
        }
    }
}
