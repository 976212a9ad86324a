//! Processes as `/proc` shows them: with the users, groups and capabilities that they believe to have.

use super::Server;
use super::call::At;
use super::caller::{Answered, Caller};
use super::identity::{Identity, Ids};
use super::lookup::step_process_of;
use crate::sandbox::memory_file::memory_file;
use crate::sys::{self, Reply};
use kiln_image::record::Record;
use nix::libc;
use rustix::fs::{Mode, OFlags};
use std::fmt::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};

/// The line of `/proc/PID/limits` with the limit that tells an identity.
const LIMIT: &str = "Max realtime timeout";

impl Server {
    /// open(2) of `/proc/PID/status`, to read it. `None` if it is of something else.
    pub(super) fn open_status(
        &mut self,
        caller: &Caller<'_>,
        at: &At,
        flags: i32,
    ) -> Option<Answered<Reply>> {
        const OTHERS: i32 = libc::O_ACCMODE | libc::O_PATH | libc::O_DIRECTORY | libc::O_CREAT;
        let path = caller
            .string(at.path.filter(|_| flags & OTHERS == 0)?)
            .ok()?;
        let is_one = path
            .as_bytes()
            .strip_prefix(b"/proc/")?
            .ends_with(b"/status");
        is_one.then(|| self.take_root_of(caller))?.ok()?;
        let directory = caller
            .place(at)
            .and_then(|place| place.open_parent())
            .ok()?;
        let who = self.identity_in(caller, &directory)?;
        let text = read(&directory, "status")?;
        let file = memory_file(&shown(&text, &who), caller.proc).ok()?;
        let (listener, id) = (self.ends.listener.as_fd(), caller.note.id);
        let added = sys::add_fd(listener, id, file.as_fd(), flags & libc::O_CLOEXEC != 0);
        let added = added.map(|number| Reply::Value(number.into()));
        Some(added.map_err(|error| error.errno))
    }

    /// Whose a process is, of which this is the directory of `/proc` or one in it.
    pub(super) fn owner_of_process(&self, caller: &Caller<'_>, object: &OwnedFd) -> Option<Record> {
        let who = self.identity_in(caller, object)?;
        Some(Record {
            uid: who.user.effective,
            gid: who.group.effective,
            device: None,
        })
    }

    /// Who the process is that a directory of `/proc` is of, if it is one of the step's.
    fn identity_in(&self, caller: &Caller<'_>, directory: &OwnedFd) -> Option<Identity> {
        let process = step_process_of(caller, directory)?;
        let limits = read(&process, "limits")?;
        let limit = limits.lines().find_map(|line| line.strip_prefix(LIMIT));
        let number = limit.and_then(|limit| limit.split_whitespace().next()?.parse().ok());
        Some(self.identities.get(number).clone())
    }
}

fn read(directory: &OwnedFd, name: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty()).ok()?;
    std::io::read_to_string(std::fs::File::from(file)).ok()
}

/// `/proc/PID/status` with what somebody believes in place of what is.
fn shown(status: &str, who: &Identity) -> String {
    let mut text = String::with_capacity(status.len() + 64);
    for line in status.split_inclusive('\n') {
        let name = line.split(':').next().unwrap_or_default();
        let written = match believed(name, who) {
            Some(value) => writeln!(text, "{name}:\t{value}"),
            None => text.write_str(line),
        };
        written.expect("a string takes what is written");
    }
    text
}

fn believed(name: &str, who: &Identity) -> Option<String> {
    let ids = |it: &Ids| format!("{}\t{}\t{}\t{}", it.real, it.effective, it.saved, it.files);
    let set = |set: u64| format!("{set:016x}");
    Some(match name {
        "Uid" => ids(&who.user),
        "Gid" => ids(&who.group),
        "Groups" => {
            let groups: Vec<_> = who.groups.iter().map(u32::to_string).collect();
            format!("{} ", groups.join(" "))
        }
        "CapInh" => set(who.rights.inheritable),
        "CapPrm" => set(who.rights.permitted),
        "CapEff" => set(who.rights.effective),
        "CapBnd" => set(who.rights.bounding),
        "CapAmb" => set(who.rights.ambient),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::User;

    #[test]
    fn what_is_believed_takes_the_place_of_what_is() {
        let who = Identity::of(&User {
            uid: 1000,
            gid: 50,
            groups: vec![7, 4],
        });
        let status = "Name:\tUid\nUid:\t0\t0\t0\t0\nGroups:\t \nCapEff:\t00000000a80425fb\nCapBnd:\t0\nNoNewPrivs:\t0\n";
        let expected = "Name:\tUid\nUid:\t1000\t1000\t1000\t1000\nGroups:\t4 7 \nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nNoNewPrivs:\t0\n";
        assert_eq!(shown(status, &who), expected);
    }
}
