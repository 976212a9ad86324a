//! The way to what a user asks for: each directory on it they must be allowed to search.
//!
//! That is asked of the directories that a thing is in after all links, and of those on the way to it as far as the path says which. Where a path begins
//! at a directory that the caller has got to already, what is above that doesn't count.

use super::call::{At, Call};
use super::caller::{Answered, Caller};
use super::identity::Identity;
use super::permission::SEARCH;
use super::{Mode, OFlags, OwnedFd, Server};

/// Everybody may search a directory with these bits.
const ALL: u32 = 0o111;

impl Server {
    /// Checks the ways to all that a call names.
    pub(super) fn check_ways(&self, caller: &Caller<'_>, call: &Call) -> Answered<()> {
        let who = self.identity(caller);
        if who.is_root() {
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
        let Some(parent) = place.open_parent().ok().and_then(|it| self.book.path(&it)) else {
            return Ok(());
        };
        self.check_all(who, base.as_deref(), &parent)?;
        match place.open().ok().filter(|_| at.follow) {
            Some(object) => self.check_behind_link(who, &object, &parent),
            None => Ok(()),
        }
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

/// Whether a directory is another or below it.
fn is_in(directory: &[u8], other: &[u8]) -> bool {
    let rest = directory.strip_prefix(other);
    rest.is_some_and(|rest| other.is_empty() || rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::is_in;

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
