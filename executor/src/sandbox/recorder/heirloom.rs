//! Owners of symlinks and FIFOs that come from the image. They can have no attribute, so that only their paths in the image tell.
//!
//! A step that renames one, gives it another name or changes its mode or times gets a copy of it in its own layer (overlayfs), which no
//! path of the image tells of. So before the kernel does that, the copy is made here, and listed with its owner.

use super::Server;
use super::call::At;
use super::caller::{Caller, Place};
use rustix::fs::{AtFlags, Gid, Uid};

impl Server {
    /// Before something is changed or renamed. What is wrong with the call is the kernel's to tell.
    pub(super) fn keep_record(&mut self, caller: &Caller<'_>, at: &At) {
        let Ok(object) = caller.place(at).and_then(Place::open) else {
            return;
        };
        let Some(record) = self.book.take_from_image(&object) else {
            return;
        };
        // A change of owner that changes nothing makes the copy.
        let (user, group) = (Some(Uid::ROOT), Some(Gid::ROOT));
        if rustix::fs::chownat(&object, "", user, group, AtFlags::EMPTY_PATH).is_ok() {
            let _ = self.book.note(&object, record); // in a list, which takes all
        }
    }

    /// Before something is removed: what is made in its place is somebody else's.
    pub(super) fn drop_record(&mut self, caller: &Caller<'_>, at: &At) {
        if let Ok(object) = caller.place(at).and_then(Place::open) {
            self.book.take_from_image(&object);
        }
    }
}
