//! What a process may do that believes to be a user: the mode bits and owners as the kernel checks them for real users.
//!
//! Checked is what changes a tree: making, removing, renaming and linking in a directory, opening a file to write, changing a mode; and reading,
//! and searching on the way ([`super::way`]). What is wrong with a call for other reasons is the kernel's to tell.

use super::access_list::change_mode;
use super::call::{At, Times};
use super::caller::{Answered, Caller, Place};
use super::identity::Identity;
use super::{Server, TEMPORARY, access_list, rights};
use crate::sandbox::capability::{DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETFCAP};
use crate::sandbox::kernels;
use crate::sys::Reply;
use kiln_image::acl::Visitor;
use nix::libc;
use rustix::fs::Stat;
use std::os::fd::OwnedFd;

/// Mode bits of one class.
const READ: u32 = 4;
const WRITE: u32 = 2;
pub(super) const SEARCH: u32 = 1;
/// All bits that chmod(2) looks at.
const PERMISSIONS: u32 = 0o7777;

impl Server {
    /// unlink(2), rmdir(2).
    pub(super) fn remove(&mut self, caller: &Caller<'_>, at: &At) -> Answered<Reply> {
        let who = self.identity(caller);
        if !who.is_root() && is_there(caller, at) {
            self.check_removal(&who, caller, at)?;
        }
        self.drop_record(caller, at);
        Ok(Reply::Continue)
    }

    /// rename(2): what is replaced is removed.
    pub(super) fn rename(&mut self, caller: &Caller<'_>, from: &At, to: &At) -> Answered<Reply> {
        let who = self.identity(caller);
        if !who.is_root() && is_there(caller, from) {
            self.check_removal(&who, caller, from)?;
            self.check_removal(&who, caller, to)?;
        }
        self.keep_record(caller, from);
        self.keep_record(caller, to); // which may be exchanged, or stay
        Ok(Reply::Continue)
    }

    /// link(2). Who could not read and write a file may not give it another name, nor to what is no file or a set-ID program
    /// (`fs.protected_hardlinks`).
    pub(super) fn hard_link(&mut self, caller: &Caller<'_>, from: &At, to: &At) -> Answered<Reply> {
        let who = self.identity(caller);
        if !who.is_root() {
            self.check_link(&who, caller, from, to)?;
        }
        self.keep_record(caller, from);
        let linked = self.link_recorded(caller, from, to)?;
        Ok(linked.unwrap_or(Reply::Continue))
    }

    fn check_link(&self, who: &Identity, caller: &Caller<'_>, from: &At, to: &At) -> Answered<()> {
        let Ok(file) = caller.place(from)?.open() else {
            return Ok(());
        };
        let Some(spot) = caller.place(to)?.spot().ok().filter(|to| !to.is_taken()) else {
            return Ok(());
        };
        if !self.owns(who, &file) {
            let may = is_harmless(&file) && self.check(who, &file, READ | WRITE).is_ok();
            may.then_some(()).ok_or(libc::EPERM)?;
        }
        self.check_entry(who, &spot.directory)
    }

    /// chmod(2). The set-group-ID bit is for who is in the file's group; others don't get it, and are not told.
    pub(super) fn change_mode(
        &mut self,
        caller: &Caller<'_>,
        at: &At,
        mode: u32,
    ) -> Answered<Reply> {
        let who = self.identity(caller);
        if !who.is_root()
            && let Ok(object) = caller.place(at)?.open()
            && !is_kernels(&object)
        {
            let record = self.book.look_up(&object);
            if record.uid != who.user.files && !who.can(FOWNER) {
                return Err(libc::EPERM);
            }
            let is_others = !who.is_in_group(record.gid) && !who.can(FSETID);
            if mode & libc::S_ISGID != 0 && is_others {
                self.keep_record(caller, at);
                change_mode(&object, mode & !libc::S_ISGID & PERMISSIONS)?;
                return Ok(Reply::Value(0));
            }
        }
        self.keep_record(caller, at);
        Ok(Reply::Continue)
    }

    /// utimensat(2): who may write may say that something was changed just now, its owner anything.
    pub(super) fn change_times(
        &mut self,
        caller: &Caller<'_>,
        at: &At,
        times: Times,
    ) -> Answered<Reply> {
        let who = self.identity(caller);
        if !who.is_root()
            && let Ok(object) = caller.place(at)?.open()
            && !is_kernels(&object)
            && !self.owns(&who, &object)
        {
            match said(caller, times) {
                Said::Nothing => {}
                Said::Now => self.check(&who, &object, WRITE)?,
                Said::Else => return Err(libc::EPERM),
            }
        }
        self.keep_record(caller, at);
        Ok(Reply::Continue)
    }

    /// truncate(2).
    pub(super) fn truncate(&self, caller: &Caller<'_>, at: &At) -> Answered<Reply> {
        let who = self.identity(caller);
        if let Ok(object) = caller.place(at)?.open()
            && !is_directory(&object)
        {
            self.check(&who, &object, WRITE)?;
        }
        Ok(Reply::Continue)
    }

    /// access(2).
    pub(super) fn access(&self, caller: &Caller<'_>, at: &At, mode: i32) -> Answered<Reply> {
        let who = self.identity(caller);
        if !who.is_root()
            && let Ok(object) = caller.place(at)?.open()
        {
            let wanted = mode.cast_unsigned() & 7;
            self.check(&who, &object, wanted)?;
        }
        Ok(Reply::Continue)
    }

    /// chdir(2).
    pub(super) fn enter(&self, caller: &Caller<'_>, at: &At) -> Answered<Reply> {
        let who = self.identity(caller);
        if let Ok(object) = caller.place(at)?.open()
            && is_directory(&object)
        {
            self.check(&who, &object, SEARCH)?;
        }
        Ok(Reply::Continue)
    }

    /// execve(2).
    pub(super) fn check_program(&self, who: &Identity, program: &OwnedFd) -> Answered<()> {
        self.check(who, program, SEARCH) // to execute is the same bit
    }

    /// setxattr(2), removexattr(2): attributes of users are for who may write, access lists for who owns, others for root.
    pub(super) fn check_attribute(
        &self,
        who: &Identity,
        object: &OwnedFd,
        name: &[u8],
    ) -> Answered<()> {
        let is_of = |class: &[u8]| name.starts_with(class);
        if is_of(b"user.") {
            let sticky = is_sticky(object);
            return match sticky && !self.owns(who, object) {
                true => Err(libc::EPERM),
                false => self.check(who, object, WRITE),
            };
        }
        let others = is_of(b"security.") || is_of(b"trusted.");
        if name == rights::ATTRIBUTE.as_bytes() && who.can(SETFCAP) {
            return Ok(());
        }
        match others || is_of(b"system.") && !self.owns(who, object) {
            true => Err(libc::EPERM),
            false => Ok(()),
        }
    }

    /// open(2) of what may be there already.
    pub(super) fn check_open(
        &self,
        who: &Identity,
        caller: &Caller<'_>,
        at: &At,
        flags: i32,
    ) -> Answered<()> {
        let mut wanted = 0;
        if flags & (libc::O_WRONLY | libc::O_RDWR | libc::O_TRUNC) != 0 {
            wanted |= WRITE;
        }
        if flags & (libc::O_WRONLY | libc::O_PATH) == 0 {
            wanted |= READ;
        }
        if who.is_root() || wanted == 0 || flags & (libc::O_EXCL | TEMPORARY) != 0 {
            return Ok(());
        }
        let Ok(object) = caller.place(at)?.open() else {
            return Ok(());
        };
        if flags & libc::O_DIRECTORY != 0 && !is_directory(&object) {
            return Ok(()); // which is what the kernel says of it
        }
        self.check(who, &object, wanted)?;
        // To read without a trace is for the owner.
        match flags & libc::O_NOATIME != 0 && !self.owns(who, &object) && !is_kernels(&object) {
            true => Err(libc::EPERM),
            false => Ok(()),
        }
    }

    /// Whether something may be made in or taken out of a directory.
    pub(super) fn check_entry(&self, who: &Identity, directory: &OwnedFd) -> Answered<()> {
        self.check(who, directory, WRITE | SEARCH)
    }

    /// In a directory with the sticky bit things are their owners'.
    fn check_removal(&self, who: &Identity, caller: &Caller<'_>, at: &At) -> Answered<()> {
        let place = caller.place(at)?;
        let Ok(parent) = place.open_parent() else {
            return Ok(());
        };
        self.check_entry(who, &parent)?;
        let sticky = is_sticky(&parent);
        match place.open() {
            Ok(object) if sticky && !self.owns(who, &parent) && !self.owns(who, &object) => {
                Err(libc::EPERM)
            }
            _ => Ok(()),
        }
    }

    fn owns(&self, who: &Identity, object: &OwnedFd) -> bool {
        who.can(FOWNER) || self.book.look_up(object).uid == who.user.files
    }

    pub(super) fn check(&self, who: &Identity, object: &OwnedFd, wanted: u32) -> Answered<()> {
        let Some(stat) = stat(object) else {
            return Ok(());
        };
        let kind = stat.st_mode & libc::S_IFMT;
        let is_checked = matches!(kind, libc::S_IFREG | libc::S_IFDIR) && !is_kernels(object);
        if !is_checked || overrides(who, kind == libc::S_IFDIR, wanted) {
            return Ok(());
        }
        let record = self.book.look_up(object);
        if wanted & WRITE == 0 && !self.book.can_tell(object) {
            return Ok(()); // a secret on a tmpfs before Linux 6.6 is whose it is said to be
        }
        let may = match access_list::of(object) {
            Some(list) => {
                let (uid, groups) = (who.user.files, &who.all_groups()[..]);
                list.grants(Visitor { uid, groups }, record.uid, record.gid, wanted)
            }
            None => granted(who, (record.uid, record.gid), stat.st_mode) & wanted == wanted,
        };
        match may {
            true => Ok(()),
            false => Err(libc::EACCES),
        }
    }
}

/// Whether somebody needs no bit for what is wanted.
const fn overrides(who: &Identity, directory: bool, wanted: u32) -> bool {
    let looks = match directory {
        true => wanted & WRITE == 0,
        false => wanted == READ,
    };
    who.can(DAC_OVERRIDE) || looks && who.can(DAC_READ_SEARCH)
}

/// The bits of the class that somebody is in.
fn granted(who: &Identity, (uid, gid): (u32, u32), mode: u32) -> u32 {
    if who.user.files == uid {
        mode >> 6 & 7
    } else if who.is_in_group(gid) {
        mode >> 3 & 7
    } else {
        mode & 7
    }
}

/// What a call wants a file's times to be.
enum Said {
    /// What they are.
    Nothing,
    /// The moment of the call, both.
    Now,
    Else,
}

fn said(caller: &Caller<'_>, times: Times) -> Said {
    let address = match times {
        Times::Now => return Said::Now,
        Times::Old => return Said::Else,
        Times::At(address) => address,
    };
    let mut words = [0; 32];
    if caller.read(address, &mut words).is_err() {
        return Said::Nothing; // the kernel can't read them either
    }
    let nanos = |words: &[u8]| i64::from_ne_bytes(words.try_into().unwrap_or_default());
    match [&words[8..16], &words[24..]].map(nanos) {
        [libc::UTIME_OMIT, libc::UTIME_OMIT] => Said::Nothing,
        [libc::UTIME_NOW, libc::UTIME_NOW] => Said::Now,
        _ => Said::Else,
    }
}

/// Whether there is something at a place, if only perhaps.
fn is_there(caller: &Caller<'_>, at: &At) -> bool {
    caller.place(at).and_then(Place::open).err() != Some(libc::ENOENT)
}

fn is_directory(object: &OwnedFd) -> bool {
    stat(object).is_some_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Whether it is a file that gives nobody who executes it anything.
fn is_harmless(file: &OwnedFd) -> bool {
    const SETS_GROUP: u32 = libc::S_ISGID | libc::S_IXGRP;
    stat(file).is_some_and(|stat| {
        let mode = stat.st_mode;
        mode & libc::S_IFMT == libc::S_IFREG
            && mode & libc::S_ISUID == 0
            && mode & SETS_GROUP != SETS_GROUP
    })
}

/// Whether it is a directory in which things are their owners'.
fn is_sticky(object: &OwnedFd) -> bool {
    const STICKY: u32 = libc::S_IFDIR | libc::S_ISVTX;
    stat(object).is_some_and(|stat| stat.st_mode & STICKY == STICKY)
}

fn stat(object: &OwnedFd) -> Option<Stat> {
    rustix::fs::fstat(object).ok()
}

/// Whether it is of `/proc` or `/sys`, whose owners no record tells.
fn is_kernels(object: &OwnedFd) -> bool {
    kernels::is_kernels(object).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::User;

    #[test]
    fn the_first_class_that_fits_decides() {
        let who = Identity::of(&User {
            uid: 1000,
            gid: 1000,
            groups: vec![50],
        });
        assert_eq!(granted(&who, (1000, 50), 0o073), 0); // the owner's bits, though the group has more
        assert_eq!(granted(&who, (0, 50), 0o751), 5);
        assert_eq!(granted(&who, (0, 1000), 0o720), 2);
        assert_eq!(granted(&who, (0, 0), 0o1777), 7);
    }
}
