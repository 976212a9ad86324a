//! `/sys` of the container, to be looked at only.

use super::caller::Answered;
use super::listing::{self, Tree};
use super::place::{WRITING, open_patiently};
use super::*;
use rustix::fs::ResolveFlags;

impl Broker {
    /// Something of `/sys`, found without links.
    pub(super) fn system(
        &mut self,
        asked: &Asked<'_>,
        act: Act,
        parts: &[Vec<u8>],
    ) -> Answered<Reply> {
        let Some(sys) = self.sys.clone() else {
            return Ok(Reply::Continue);
        };
        if self.is_hidden(Tree::System, parts) || !is_of_it(&sys, parts) {
            return Err(libc::ENOENT);
        }
        match act {
            Act::Open { flags, .. } if flags & WRITING != 0 => Err(libc::EROFS),
            Act::Access { mode } if mode & libc::W_OK != 0 => Err(libc::EROFS),
            Act::Enter => {
                let real = listing::open_real(&sys, parts)?;
                self.list(Tree::System, parts, &real, 0)?;
                Ok(Reply::Continue)
            }
            Act::Open { flags, mode } => {
                if let Ok(real) = listing::open_real(&sys, parts) {
                    let shown = self.list(Tree::System, parts, &real, flags)?;
                    return self.hand_over(asked, &shown, flags);
                }
                let file = open_patiently(&sys, &joined(parts), flags, mode)?;
                let stat = rustix::fs::fstat(&file).map_err(Errno::raw_os_error)?;
                // Of a directory, which there was not yet a moment before, a way up leads out.
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => Err(libc::EACCES),
                    _ => self.hand_over(asked, &file, flags),
                }
            }
            act => self.perform(asked, act, &sys, &joined(parts)),
        }
    }
}

/// Whether something is `/sys`'s own, and not of something that is mounted there.
fn is_of_it(sys: &OwnedFd, parts: &[Vec<u8>]) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(sys, joined(parts), flags, Mode::empty(), how).is_ok()
}

/// Whether something is named when a directory of `/sys` is listed. A listing's names are files that are made for it, so what is large, and
/// looked at by its name if at all, is left out.
pub(super) fn is_listed(sys: &OwnedFd, parts: &[Vec<u8>]) -> bool {
    let names: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let is_small = match names.as_slice() {
        [b"bus" | b"dev" | b"firmware" | b"module"]
        | [b"devices", b"system", b"memory"]
        | [b"kernel", b"irq" | b"slab"] => false,
        [b"devices", name] => matches!(*name, b"system" | b"virtual"),
        _ => true,
    };
    is_small && is_of_it(sys, parts)
}
