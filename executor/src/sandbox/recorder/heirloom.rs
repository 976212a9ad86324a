//! Owners of symlinks and FIFOs that come from the image. They can have no attribute, so that only their paths in the image tell.
//!
//! A step that renames one, gives it another name or changes its mode or times gets a copy of it in its own layer (overlayfs), which no
//! path of the image tells of. So before the kernel does that, the copy is made here, and listed with its owner.

use super::Server;
use super::book::{can_have_no_attribute, name};
use super::call::At;
use super::caller::{Answered, Caller, Place};
use crate::sys::Reply;
use rustix::fs::{AtFlags, CWD, Gid, Uid};
use rustix::io::Errno;

impl Server {
    /// Before something is changed or renamed. What is wrong with the call is the kernel's to tell.
    pub(super) fn keep_record(&mut self, caller: &Caller<'_>, at: &At) {
        let Ok(object) = caller.place(at).and_then(Place::open) else {
            return;
        };
        let Some(record) = self.book.take_from_path(&object) else {
            return;
        };
        // A change of owner that changes nothing makes the copy.
        let (user, group) = (Some(Uid::ROOT), Some(Gid::ROOT));
        if rustix::fs::chownat(&object, "", user, group, AtFlags::EMPTY_PATH).is_ok() {
            let _ = self.book.note(&object, record); // in a list, which takes all
        }
    }

    /// link(2) of something that can have no attribute: in an overlay the new name has another number, so who owns it is noted again. `None` where
    /// there is nothing to note.
    pub(super) fn link_recorded(
        &mut self,
        caller: &Caller<'_>,
        from: &At,
        to: &At,
    ) -> Answered<Option<Reply>> {
        let Ok(object) = caller.place(from).and_then(Place::open) else {
            return Ok(None);
        };
        let record = self.book.look_up(&object);
        if record.is_plain() || !can_have_no_attribute(&object) {
            return Ok(None);
        }
        let spot = caller.place(to)?.spot()?;
        // By its name in `/proc`, as that of what is open.
        let how = AtFlags::SYMLINK_FOLLOW;
        let named = name(&object);
        rustix::fs::linkat(CWD, named, &spot.directory, &spot.name, how)
            .map_err(Errno::raw_os_error)?;
        self.book.note(&spot.open()?, record)?;
        Ok(Some(Reply::Value(0)))
    }

    /// Before something is removed: what is made in its place is somebody else's.
    pub(super) fn drop_record(&mut self, caller: &Caller<'_>, at: &At) {
        if let Ok(object) = caller.place(at).and_then(Place::open) {
            self.book.take_from_path(&object);
        }
    }
}
