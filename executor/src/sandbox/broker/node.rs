//! Device nodes that a step makes without the capability for it: an empty file, with an attribute that says which device it stands
//! for ([`kiln_image::record`]). Layers have the device then.

use super::caller::Answered;
use super::*;
use kiln_image::record::{Device, Record};

/// mknod(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NewNode {
    pub(super) at: At,
    pub(super) mode: u32,
    pub(super) device: u64,
}

impl Broker {
    pub(super) fn make_node(&mut self, caller: &Caller<'_>, new: &NewNode) -> Answered<Reply> {
        let block = match FileType::from_raw_mode(new.mode) {
            FileType::BlockDevice => true,
            // A whiteout, which overlayfs makes for nobody.
            FileType::CharacterDevice if new.device == 0 => return Err(libc::EPERM),
            FileType::CharacterDevice => false,
            _ => return Ok(Reply::Continue),
        };
        let path = self.string(caller, new.at.path)?;
        let status = caller.status()?;
        self.guise.wear(&status.who)?;
        if status.who.uid != 0 || self.makes_nodes || !self.shares_root(caller) {
            return Ok(Reply::Continue);
        }
        let directory = caller.base(new.at.directory, &path)?;
        if !sys::still_waits(self.listener.as_fd(), caller.note.id) {
            return Err(libc::ESRCH);
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(new.mode & 0o7777 & !status.umask);
        let file =
            rustix::fs::openat(&directory, &path[..], flags, mode).map_err(Errno::raw_os_error)?;
        let record = Record {
            device: Some(Device {
                block,
                major: rustix::fs::major(new.device),
                minor: rustix::fs::minor(new.device),
            }),
            ..Record::default()
        };
        if record.write(&file).is_err() {
            let _ = rustix::fs::unlinkat(&directory, &path[..], AtFlags::empty());
            return Err(libc::EPERM);
        }
        Ok(Reply::Value(0))
    }
}
