//! The recorder: owners for a step that can have but one id, and devices for one in a user namespace ([`Scope`]).
//!
//! ```text
//! step: chown(2) ──seccomp: wait──▶ recorder: finds the file, lets the kernel do what it can, records the rest ──▶ step: 0
//! step: stat(2)  ──seccomp: wait──▶ recorder: is something recorded? no: the kernel answers; yes: it is shown
//! ```
//!
//! A thread of kiln answers the calls that the kernel would refuse or answer wrongly: calls about owners of files ([`book`]), calls that
//! make files for somebody who is not root, device nodes, and calls about who the process itself is ([`identity`]).
//!
//! The thread enters the step's mount namespace, so that paths lead where they lead for the step, and acts on objects that it has
//! open. It does nothing that the step's own processes, which are the same user, could not do. This is *no border*: it makes a step
//! believe in owners, and in some of what they mean ([`permission`]). The border is the namespaces.
//!
//! Records stand in an attribute of the files. Calls that could write it are answered, too ([`attribute`]), else a user of the step could
//! have the layer say of a file what only root may make of it.
//!
//! Which identity a process has is a number in its limit on real time (`RLIMIT_RTTIME`), which the kernel hands on through fork and
//! exec and otherwise ignores, as no process of a step is scheduled in real time: no process has to be followed. Programs can't change it,
//! and see it nowhere but in `/proc/PID/limits`.

mod access_list;
mod attribute;
mod book;
mod call;
mod caller;
mod device;
mod heirloom;
mod identities;
mod identity;
mod lookup;
mod peer;
mod permission;
mod process;
mod program;
mod rights;
mod signal;
mod way;

use super::capability::{CHOWN, MKNOD, SYS_CHROOT};
use super::family::Family;
use super::surroundings::share_processes;
use super::{RootSpec, SandboxSpec};
use crate::sys::{self, Context as _, Reply};
use book::Book;
use call::{At, Call, IdentityCall, TEMPORARY};
use caller::{Answered, Caller, Place, Spot, open_path};
use identities::Identities;
use identity::{Changed, Identity, MAX_GROUPS};
use kiln_image::acl::AccessList;
use kiln_image::record::{Device, Inode, Record};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, pidfd_send_signal};
use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

pub(super) use call::{ABSENT, wanted};

/// What there is to record of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Owners, devices and identities, and what these may do ([`permission`]).
    Everything,
    /// Device nodes alone ([`device`]). `looks`: and that they look like some.
    Devices { looks: bool },
}

impl Scope {
    /// `None` where the kernel does it all.
    pub(super) const fn of(spec: &SandboxSpec) -> Option<Self> {
        match spec.rung {
            rung if rung.records_owners() => Some(Self::Everything),
            rung if rung.records_devices() => Some(Self::Devices {
                looks: spec.has_devices,
            }),
            _ => None,
        }
    }
}

/// What was recorded of files that can have no attribute, as they are in the directory of changes.
pub(super) type Captured = HashMap<Inode, Record>;

/// A running recorder. It ends when the last process of its step has.
#[derive(Debug)]
pub(super) struct Recorder {
    thread: JoinHandle<Captured>,
    scope: Scope,
    /// Why it could not begin.
    failure: Receiver<sys::Error>,
}

/// One that has not been told where the calls arrive.
#[derive(Debug)]
pub(super) struct Expecting {
    listener: SyncSender<OwnedFd>,
    recorder: Recorder,
}

impl Expecting {
    /// Has it begin. If it can't, the step ends.
    pub(super) fn begin(self, listener: OwnedFd) -> Recorder {
        sys::take_turns(listener.as_fd());
        let _ = self.listener.send(listener); // who has the other end has begun to wait for it
        self.recorder
    }
}

impl Recorder {
    /// Starts one for a step, of which `step` is the first process, while that is set up.
    pub(super) fn expect(spec: &SandboxSpec, step: &OwnedFd) -> sys::Result<Expecting> {
        let scope = Scope::of(spec).unwrap_or(Scope::Devices { looks: false });
        let root = &spec.root;
        let step = step.try_clone();
        let step = step.call("fcntl", || "F_DUPFD_CLOEXEC".into())?;
        let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .call("open", || "/proc".into())?;
        let changes = root.changes();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let upper = rustix::fs::open(changes, flags, Mode::empty())
            .call("open", || changes.display().to_string())?;
        let mut book = Book::new(proc, upper, spec.links.clone());
        if matches!(root, RootSpec::Directory(_)) {
            book.list_image();
        }
        let head = sys::number_of(step.as_fd());
        let head = head.unwrap_or_default();
        // A minder is none of the step's.
        let family = match share_processes(spec) {
            true => Family::below(head),
            false => Family::from(head),
        };
        let first = Identity::about_to_begin(&spec.user, spec.capabilities);
        let (listener, arriving) = mpsc::sync_channel::<OwnedFd>(1);
        let (fail, failure) = mpsc::sync_channel(1);
        let serve = move || {
            let Ok(listener) = arriving.recv() else {
                return Captured::new();
            };
            // Most steps make no devices, and need nobody in their namespaces.
            if matches!(scope, Scope::Devices { .. }) && !awaits_call(&listener) {
                return Captured::new();
            }
            match enter(&step, book.proc()) {
                Ok(root) => {
                    let ends = Ends {
                        listener: Arc::new(listener),
                        family: Arc::new(family),
                    };
                    Server::new(scope, ends, book, root, first).serve()
                }
                Err(error) => {
                    let _ = fail.send(error);
                    // It has a listener of its own until it is its program, which it would wait to be for ever.
                    let _ = pidfd_send_signal(&step, Signal::KILL);
                    Captured::new()
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("sandbox-recorder".into())
            .spawn(serve)
            .call("clone", || "sandbox-recorder thread".into())?;
        let recorder = Self {
            thread,
            scope,
            failure,
        };
        Ok(Expecting { listener, recorder })
    }

    /// Why it could not begin, if so. It has ended the step, then.
    pub(super) fn failure(&self) -> Option<sys::Error> {
        self.failure.try_recv().ok()
    }

    /// Waits for its end, which comes with the step's. `None` if owners were not to be recorded.
    pub(super) fn finish(self) -> Option<Captured> {
        let captured = self.thread.join().unwrap_or_default();
        matches!(self.scope, Scope::Everything).then_some(captured)
    }
}

/// Waits for a call; false when nobody is left who could make one.
fn awaits_call(listener: &OwnedFd) -> bool {
    loop {
        let mut polled = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, PollTimeout::NONE).is_ok() {
            let events = polled[0].revents().unwrap_or(PollFlags::POLLHUP);
            return events.contains(PollFlags::POLLIN);
        }
    }
}

/// Takes this thread into the step's mount namespace. Its working directory is a `/proc` of kiln's own, for names of open objects.
fn enter(step: &OwnedFd, proc: &OwnedFd) -> sys::Result<Root> {
    // A root and a working directory of the thread's own.
    unshare(CloneFlags::CLONE_FS).call("unshare", || "CLONE_FS".into())?;
    setns(step, CloneFlags::CLONE_NEWNS).call("setns", || "step, CLONE_NEWNS".into())?;
    rustix::process::umask(Mode::empty());
    let own = Root::at("/").call("stat", || "/".into())?;
    rustix::process::fchdir(proc).call("fchdir", || "/proc".into())?;
    Ok(own)
}

/// What tells one root directory from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Root {
    device: u64,
    inode: u64,
}

impl Root {
    fn at(path: &str) -> rustix::io::Result<Self> {
        rustix::fs::stat(path).map(|stat| Self::of(&stat))
    }

    const fn of(stat: &rustix::fs::Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// What is to be said of something that is made.
struct New {
    record: Record,
    /// What its directory has for it ([`access_list`]).
    list: Option<AccessList>,
}

impl New {
    /// The mode that it is made with.
    fn mode(&self, caller: &Caller<'_>, asked: u32) -> Mode {
        Mode::from_raw_mode(match &self.list {
            Some(list) => list.inherited(asked & 0o7777).1,
            None => asked & 0o7777 & !caller.umask(),
        })
    }
}

/// Who calls, and where the calls arrive.
#[derive(Clone)]
struct Ends {
    listener: Arc<OwnedFd>,
    family: Arc<Family>,
}

struct Server {
    scope: Scope,
    ends: Ends,
    book: Book,
    /// The root that this thread has now; a step may use chroot(2).
    root: Root,
    identities: Identities,
}

impl Server {
    fn new(scope: Scope, ends: Ends, book: Book, root: Root, first: Identity) -> Self {
        Self {
            scope,
            ends,
            book,
            root,
            identities: Identities::new(first),
        }
    }

    /// Answers calls until nobody is left who could ask.
    fn serve(mut self) -> Captured {
        while awaits_call(&self.ends.listener) {
            match sys::receive(self.ends.listener.as_fd()) {
                Ok(Some(note)) => {
                    let reply = self.reply(note);
                    sys::answer(self.ends.listener.as_fd(), note.id, reply);
                }
                Ok(None) => {}
                Err(_) => break,
            }
        }
        self.book.into_captured()
    }

    fn reply(&mut self, note: sys::Notification) -> Reply {
        let call = Call::of(&note);
        let (ends, proc) = (self.ends.clone(), Arc::clone(self.book.proc()));
        let caller = Caller {
            note,
            listener: ends.listener.as_fd(),
            proc: &proc,
            family: &ends.family,
        };
        let status = match call {
            Call::Open { at, flags, .. } => self.open_status(&caller, &at, flags),
            _ => None,
        };
        if let Some(replied) = status {
            return replied.unwrap_or_else(Reply::Error);
        }
        let replied = match call {
            Call::Identity(call) => self.identity_call(&caller, call),
            Call::Control { option, values } => self.control(&caller, option, values),
            Call::ShowCapabilities { header, sets } => {
                self.show_capabilities(&caller, header, sets)
            }
            Call::SetCapabilities { header, sets } => self.set_capabilities(&caller, header, sets),
            Call::ShowPeer {
                socket,
                out,
                length,
            } => self.show_peer(&caller, socket, out, length),
            Call::Signal { process, signal } => self.signal(&caller, process, signal),
            Call::ChangeRoot => match self.identity(&caller).can(SYS_CHROOT) {
                true => Ok(Reply::Continue),
                false => Err(libc::EPERM),
            },
            Call::Limits { resource, out } => limits(&caller, resource, out),
            call if call.only_reads() && self.identity(&caller).is_root() => Ok(Reply::Continue),
            call => self
                .take_root_of(&caller)
                .and_then(|()| self.file_call(&caller, call)),
        };
        replied.unwrap_or_else(Reply::Error)
    }

    /// Gives this thread the root of the caller.
    fn take_root_of(&mut self, caller: &Caller<'_>) -> Answered<()> {
        let name = format!("{}/root", caller.note.thread);
        let stat = rustix::fs::statat(caller.proc, &name, AtFlags::empty())
            .map_err(Errno::raw_os_error)?;
        let root = Root::of(&stat);
        if root != self.root {
            let changed = open_path(caller.proc, &name)
                .and_then(rustix::process::fchdir)
                .and_then(|()| rustix::process::chroot("."))
                .and_then(|()| rustix::process::fchdir(caller.proc));
            changed.map_err(Errno::raw_os_error)?;
            self.root = root;
        }
        Ok(())
    }

    fn file_call(&mut self, caller: &Caller<'_>, call: Call) -> Answered<Reply> {
        if self.scope == Scope::Everything {
            self.check_ways(caller, &call)?;
        }
        match call {
            Call::Chown { at, uid, gid } => self.chown(caller, &at, uid, gid),
            Call::Stat { at, out } => self.stat(caller, &at, out),
            Call::Statx {
                at,
                flags,
                mask,
                out,
            } => self.statx(caller, &at, (flags, mask), out),
            Call::Open { at, flags, mode } => self.open(caller, &at, flags, mode),
            Call::MakeDirectory { at, mode } => self.make_directory(caller, &at, mode),
            Call::MakeNode { at, mode, device } => self.make_node(caller, &at, mode, device),
            Call::MakeLink { text, at } => self.make_link(caller, text, &at),
            Call::Remove { at } => self.remove(caller, &at),
            Call::Rename { from, to } => self.rename(caller, &from, &to),
            Call::HardLink { from, to } => self.hard_link(caller, &from, &to),
            Call::ChangeMode { at, mode } => self.change_mode(caller, &at, mode),
            Call::ChangeTimes { at, times } => self.change_times(caller, &at, times),
            Call::Truncate { at } => self.truncate(caller, &at),
            Call::Bind { address, length } => self.bind(caller, address, length),
            Call::Access { at, mode } => self.access(caller, &at, mode),
            Call::Enter { at } => self.enter(caller, &at),
            Call::Execute { at } => self.execute(caller, &at),
            Call::ChangeAttribute { at, request } => self.change_attribute(caller, &at, request),
            Call::ShowAttribute {
                at,
                name,
                out,
                size,
            } => Self::show_attribute(caller, &at, (name, out, size)),
            Call::ListAttributes { at, out, size } => self.list_attributes(caller, &at, out, size),
            _ => Ok(Reply::Continue),
        }
    }

    /// Lets the kernel do what it does at a change of owner (copy up, clear setuid bits and capabilities), and records the owner.
    fn chown(&mut self, caller: &Caller<'_>, at: &At, uid: u32, gid: u32) -> Answered<Reply> {
        let object = caller.place(at)?.open()?;
        let before = self.book.look_up(&object);
        let who = self.identity(caller);
        if !who.can(CHOWN) {
            let owns = before.uid == who.user.files;
            let same_user = uid == identity::KEEP || uid == before.uid;
            let own_group = gid == identity::KEEP || gid == before.gid || who.is_in_group(gid);
            if !(owns && same_user && own_group) {
                return Err(libc::EPERM);
            }
        }
        let real = |id: u32| (id != identity::KEEP).then_some(0);
        let (user, group) = (real(uid).map(Uid::from_raw), real(gid).map(Gid::from_raw));
        rustix::fs::chownat(&object, "", user, group, AtFlags::EMPTY_PATH)
            .map_err(Errno::raw_os_error)?;
        let record = Record {
            uid: if uid == identity::KEEP {
                before.uid
            } else {
                uid
            },
            gid: if gid == identity::KEEP {
                before.gid
            } else {
                gid
            },
            ..before
        };
        if record != before || !record.is_plain() {
            self.book.note(&object, record)?;
        }
        Ok(Reply::Value(0))
    }

    fn stat(&mut self, caller: &Caller<'_>, at: &At, out: u64) -> Answered<Reply> {
        let Some((object, record)) = self.recorded(caller, at) else {
            return Ok(Reply::Continue);
        };
        let Ok(mut stat) = sys::stat_of(object.as_raw_fd()) else {
            return Ok(Reply::Continue);
        };
        if matches!(self.scope, Scope::Everything) {
            (stat.st_uid, stat.st_gid) = (record.uid, record.gid);
        }
        if let Some(device) = record.device {
            stat.st_mode = (stat.st_mode & 0o7777) | device_type(&device);
            stat.st_rdev = rustix::fs::makedev(device.major, device.minor);
        }
        caller.write(out, sys::stat_bytes(&stat))?;
        Ok(Reply::Value(0))
    }

    fn statx(
        &mut self,
        caller: &Caller<'_>,
        at: &At,
        (flags, mask): (i32, u32),
        out: u64,
    ) -> Answered<Reply> {
        let Some((object, record)) = self.recorded(caller, at) else {
            return Ok(Reply::Continue);
        };
        let Ok(mut statx) = sys::statx_of(object.as_raw_fd(), flags, mask) else {
            return Ok(Reply::Continue);
        };
        if matches!(self.scope, Scope::Everything) {
            (statx.stx_uid, statx.stx_gid) = (record.uid, record.gid);
        }
        if let Some(device) = record.device {
            let kind = device_type(&device);
            let mode = (u32::from(statx.stx_mode) & 0o7777) | kind;
            statx.stx_mode = u16::try_from(mode).unwrap_or_default();
            (statx.stx_rdev_major, statx.stx_rdev_minor) = (device.major, device.minor);
        }
        caller.write(out, sys::statx_bytes(&statx))?;
        Ok(Reply::Value(0))
    }

    /// The object that is looked at, if there is more to say of it than the kernel would. Whatever is wrong with the call is the kernel's
    /// to tell.
    fn recorded(&self, caller: &Caller<'_>, at: &At) -> Option<(OwnedFd, Record)> {
        let object = caller.place(at).and_then(Place::seen).ok()?;
        let mut record = self.book.look_up(&object);
        if matches!(self.scope, Scope::Devices { .. }) {
            record.device?;
            device::sees(caller, at).then_some(())?;
        } else if let Some(owner) = self.owner_of_process(caller, &object) {
            record = owner;
        }
        let tells_more = !record.is_plain() || self.is_foreign(&object);
        tells_more.then_some((object, record))
    }

    /// Whether its owner has no id here, as that of `/proc`, `/sys` and the machine's devices: for the step that is root.
    fn is_foreign(&self, object: &OwnedFd) -> bool {
        matches!(self.scope, Scope::Everything)
            && rustix::fs::fstat(object).is_ok_and(|stat| stat.st_uid != 0 || stat.st_gid != 0)
    }

    /// What must be recorded of something new in this directory.
    fn new_record(&self, who: &Identity, parent: &OwnedFd) -> Answered<Record> {
        let stat = rustix::fs::fstat(parent).map_err(Errno::raw_os_error)?;
        let gid = match stat.st_mode & libc::S_ISGID {
            0 => who.group.files,
            _ => self.book.look_up(parent).gid,
        };
        Ok(Record {
            uid: who.user.files,
            gid,
            device: None,
        })
    }

    /// What is new and the place for it; `None` where the kernel can do it all.
    fn to_make(&self, caller: &Caller<'_>, at: &At) -> Answered<Option<(New, Spot)>> {
        let Ok(spot) = caller.place(at)?.spot() else {
            return Ok(None);
        };
        let new = self.new_in(caller, &spot.directory, spot.is_taken())?;
        Ok(new.map(|new| (new, spot)))
    }

    /// What is new in a directory; `None` where the kernel can do it all.
    fn new_in(&self, caller: &Caller<'_>, parent: &OwnedFd, taken: bool) -> Answered<Option<New>> {
        let who = self.identity(caller);
        let new = New {
            record: self.new_record(&who, parent)?,
            list: access_list::given_by(parent),
        };
        if new.record.is_plain() && new.list.is_none() {
            return Ok(None);
        }
        // What is there already can't be made.
        if !taken {
            self.check_entry(&who, parent)?;
        }
        Ok(Some(new))
    }

    /// Records what was made just now with the mode that [`New::mode`] says.
    fn note_new(&mut self, object: &OwnedFd, new: &New, asked: u32) -> Answered<()> {
        if !new.record.is_plain() {
            self.book.note(object, new.record)?;
        }
        match &new.list {
            Some(list) => access_list::inherit(object, &list.inherited(asked).0, list),
            None => Ok(()),
        }
    }

    /// open(2) to write, or with `O_CREAT` or `O_TMPFILE`.
    fn open(&mut self, caller: &Caller<'_>, at: &At, flags: i32, mode: u32) -> Answered<Reply> {
        self.check_open(&self.identity(caller), caller, at, flags)?;
        if flags & (libc::O_CREAT | TEMPORARY) == 0 {
            return Ok(Reply::Continue);
        }
        let place = caller.place(at)?;
        if flags & TEMPORARY != 0 {
            return self.open_temporary(caller, place, flags, mode);
        }
        let place = match flags & (libc::O_EXCL | libc::O_NOFOLLOW) {
            0 => place.followed_to_nothing(),
            _ => Some(place),
        };
        let Some(Ok(spot)) = place.map(|place| place.spot()) else {
            return Ok(Reply::Continue); // there is a file, or no directory
        };
        let taken = spot.is_taken();
        let new = self.new_in(caller, &spot.directory, taken)?;
        let Some(new) = new.filter(|_| !taken) else {
            return Ok(Reply::Continue);
        };
        // What somebody else has put there meanwhile must not be opened by this thread: a link to `/dev/tty` would be kiln's own terminal.
        let flags = flags | libc::O_EXCL;
        self.open_new(caller, (&spot.directory, &spot.name), &new, (flags, mode))
    }

    /// open(2) with `O_TMPFILE`, of which the path is that of a directory.
    fn open_temporary(
        &mut self,
        caller: &Caller<'_>,
        place: Place<'_>,
        flags: i32,
        mode: u32,
    ) -> Answered<Reply> {
        let Ok(directory) = place.open() else {
            return Ok(Reply::Continue);
        };
        match self.new_in(caller, &directory, false)? {
            Some(new) => self.open_new(caller, (&directory, c"."), &new, (flags, mode)),
            None => Ok(Reply::Continue),
        }
    }

    /// Makes a file and hands it over.
    fn open_new(
        &mut self,
        caller: &Caller<'_>,
        (directory, name): (&OwnedFd, &CStr),
        new: &New,
        (flags, mode): (i32, u32),
    ) -> Answered<Reply> {
        let asked = OFlags::from_bits_retain(flags.cast_unsigned());
        let opened = rustix::fs::openat(
            directory,
            name,
            asked | OFlags::CLOEXEC | OFlags::NOCTTY,
            new.mode(caller, mode),
        );
        let Ok(file) = opened else {
            return Ok(Reply::Continue); // and tells why not
        };
        self.note_new(&file, new, mode)?;
        let close_on_exec = flags & libc::O_CLOEXEC != 0;
        let added = sys::add_fd(
            self.ends.listener.as_fd(),
            caller.note.id,
            file.as_fd(),
            close_on_exec,
        );
        added
            .map(|fd| Reply::Value(fd.into()))
            .map_err(|error| error.errno)
    }

    fn make_directory(&mut self, caller: &Caller<'_>, at: &At, mode: u32) -> Answered<Reply> {
        let Some((new, spot)) = self.to_make(caller, at)? else {
            return Ok(Reply::Continue);
        };
        let made = new.mode(caller, mode);
        rustix::fs::mkdirat(&spot.directory, &spot.name, made).map_err(Errno::raw_os_error)?;
        self.note_new(&spot.open()?, &new, mode)?;
        Ok(Reply::Value(0))
    }

    fn make_link(&mut self, caller: &Caller<'_>, text: u64, at: &At) -> Answered<Reply> {
        let Some((new, spot)) = self.to_make(caller, at)? else {
            return Ok(Reply::Continue);
        };
        let text = caller.string(text)?;
        rustix::fs::symlinkat(&text, &spot.directory, &spot.name).map_err(Errno::raw_os_error)?;
        self.book.note(&spot.open()?, new.record)?;
        Ok(Reply::Value(0))
    }

    /// mknod(2): a device becomes an empty file with a record.
    fn make_node(
        &mut self,
        caller: &Caller<'_>,
        at: &At,
        mode: u32,
        device: u64,
    ) -> Answered<Reply> {
        let (number, device) = (device, device::device(mode, device));
        let device = match (self.scope, device) {
            (Scope::Everything, Some(device)) => device,
            (Scope::Everything, None) => {
                return self.make_plain_node(caller, at, mode, number);
            }
            (Scope::Devices { .. }, Some(device)) => {
                return self.make_device(caller, at, mode, device);
            }
            (Scope::Devices { .. }, None) => return Ok(Reply::Continue),
        };
        let who = self.identity(caller);
        if !who.can(MKNOD) {
            return Err(libc::EPERM);
        }
        let spot = caller.place(at)?.spot()?;
        if !spot.is_taken() {
            self.check_entry(&who, &spot.directory)?;
        }
        let record = Record {
            device: Some(device),
            ..self.new_record(&who, &spot.directory)?
        };
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode & 0o7777 & !caller.umask());
        let file = rustix::fs::openat(&spot.directory, &spot.name, flags, mode)
            .map_err(Errno::raw_os_error)?;
        self.book.note(&file, record)?;
        Ok(Reply::Value(0))
    }

    /// Files, FIFOs and sockets.
    fn make_plain_node(
        &mut self,
        caller: &Caller<'_>,
        at: &At,
        mode: u32,
        device: u64,
    ) -> Answered<Reply> {
        let Some((new, spot)) = self.to_make(caller, at)? else {
            return Ok(Reply::Continue);
        };
        let kind = FileType::from_raw_mode(mode);
        let made = new.mode(caller, mode);
        rustix::fs::mknodat(&spot.directory, &spot.name, kind, made, device)
            .map_err(Errno::raw_os_error)?;
        self.note_new(&spot.open()?, &new, mode)?;
        Ok(Reply::Value(0))
    }

    /// bind(2): the file of a socket, which the kernel makes, belongs to who makes it.
    fn bind(&mut self, caller: &Caller<'_>, address: u64, length: u32) -> Answered<Reply> {
        let Some(path) = caller.socket_path(address, length)? else {
            return Ok(Reply::Continue);
        };
        let who = self.identity(caller);
        let spot = match caller.place_of(path, false)?.spot() {
            Ok(spot) if !spot.is_taken() => spot,
            _ => return Ok(Reply::Continue), // which can't be made
        };
        self.check_entry(&who, &spot.directory)?;
        let record = self.new_record(&who, &spot.directory)?;
        self.book.expect_socket(&spot, record);
        Ok(Reply::Continue)
    }

    /// Who the caller is.
    fn identity(&self, caller: &Caller<'_>) -> Identity {
        self.identity_of(caller.note.thread)
    }

    /// Who a thread is.
    fn identity_of(&self, thread: i32) -> Identity {
        let number = sys::real_time_limit(thread).ok();
        let number = number.and_then(|limit| usize::try_from(limit).ok());
        self.identities.get(number).clone()
    }

    fn change(&mut self, caller: &Caller<'_>, identity: Identity) -> Answered<()> {
        let number = self.identities.number(identity)?;
        let limit = Rlimit {
            current: Some(number as u64),
            maximum: None,
        };
        let thread = Pid::from_raw(caller.note.thread).ok_or(libc::ESRCH)?;
        rustix::process::prlimit(Some(thread), Resource::Rttime, limit)
            .map(drop)
            .map_err(Errno::raw_os_error)
    }

    fn identity_call(&mut self, caller: &Caller<'_>, call: IdentityCall) -> Answered<Reply> {
        let mut who = self.identity(caller);
        let value = |id: u32| Ok(Reply::Value(id.into()));
        let changed: Changed = match call {
            IdentityCall::User => return value(who.user.real),
            IdentityCall::EffectiveUser => return value(who.user.effective),
            IdentityCall::Group => return value(who.group.real),
            IdentityCall::EffectiveGroup => return value(who.group.effective),
            IdentityCall::ThreeUsers(out) => return write_three(caller, out, who.user),
            IdentityCall::ThreeGroups(out) => return write_three(caller, out, who.group),
            IdentityCall::Groups { size, list } => {
                return write_groups(caller, size, list, &who.groups);
            }
            IdentityCall::SetUser(id) => who.set_user(id),
            IdentityCall::SetGroup(id) => who.set_group(id),
            IdentityCall::SetTwoUsers(real, effective) => who.set_two_users(real, effective),
            IdentityCall::SetTwoGroups(real, effective) => who.set_two_groups(real, effective),
            IdentityCall::SetThreeUsers(ids) => who.set_three_users(ids),
            IdentityCall::SetThreeGroups(ids) => who.set_three_groups(ids),
            IdentityCall::SetFilesUser(id) => {
                let before = who.set_files_user(id);
                self.change(caller, who)?;
                return value(before);
            }
            IdentityCall::SetFilesGroup(id) => {
                let before = who.set_files_group(id);
                self.change(caller, who)?;
                return value(before);
            }
            IdentityCall::SetGroups { size, list } => {
                who.set_groups(read_groups(caller, size, list)?)
            }
        };
        changed?;
        self.change(caller, who)?;
        Ok(Reply::Value(0))
    }
}

const fn device_type(device: &Device) -> u32 {
    if device.block {
        libc::S_IFBLK
    } else {
        libc::S_IFCHR
    }
}

/// The limit that identities are kept in seems to be unlimited, and stays so whatever is said: PAM sets all limits anew.
fn limits(caller: &Caller<'_>, resource: u32, out: Option<u64>) -> Answered<Reply> {
    if resource != libc::RLIMIT_RTTIME {
        return Ok(Reply::Continue);
    }
    if let Some(out) = out {
        caller.write(out, &[0xff; 16])?; // twice RLIM_INFINITY
    }
    Ok(Reply::Value(0))
}

fn write_three(caller: &Caller<'_>, out: [u64; 3], ids: identity::Ids) -> Answered<Reply> {
    for (address, id) in out.into_iter().zip([ids.real, ids.effective, ids.saved]) {
        caller.write(address, &id.to_ne_bytes())?;
    }
    Ok(Reply::Value(0))
}

fn write_groups(caller: &Caller<'_>, size: i32, list: u64, groups: &[u32]) -> Answered<Reply> {
    let count = i64::try_from(groups.len()).unwrap_or(0);
    if size != 0 {
        if i64::from(size) < count {
            return Err(libc::EINVAL);
        }
        let bytes: Vec<u8> = groups
            .iter()
            .flat_map(|group| group.to_ne_bytes())
            .collect();
        if !bytes.is_empty() {
            caller.write(list, &bytes)?;
        }
    }
    Ok(Reply::Value(count))
}

fn read_groups(caller: &Caller<'_>, size: i32, list: u64) -> Answered<Vec<u32>> {
    let count = usize::try_from(size).map_err(|_| libc::EINVAL)?;
    if count > MAX_GROUPS {
        return Err(libc::EINVAL);
    }
    let mut bytes = vec![0; count * 4];
    if count > 0 {
        caller.read(list, &mut bytes)?;
    }
    let (ids, _) = bytes.as_chunks::<4>();
    Ok(ids.iter().map(|id| u32::from_ne_bytes(*id)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sandbox::Rung;
    use rustix::process::{PidfdFlags, pidfd_open};
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command};

    fn begin_for(step: &Child, listener: OwnedFd) -> Recorder {
        let place = tempfile::tempdir().unwrap();
        let root = RootSpec::Directory(place.path().to_owned());
        let mut spec = SandboxSpec::new(root, ["true"]);
        spec.rung = Rung::UsernsSingle;
        let number = Pid::from_child(step);
        let step = pidfd_open(number, PidfdFlags::empty()).unwrap();
        Recorder::expect(&spec, &step).unwrap().begin(listener)
    }

    /// It would wait for ever to be its program: who is to answer that would never hear of it.
    #[test]
    fn a_step_ends_whose_recorder_cannot_begin() {
        let without_rights = || {
            let none = CapabilitySets {
                effective: CapabilitySet::empty(),
                permitted: CapabilitySet::empty(),
                inheritable: CapabilitySet::empty(),
            };
            set_capabilities(None, none).unwrap();
            let mut step = Command::new("sleep").arg("1000").spawn().unwrap();
            let (listener, _) = rustix::pipe::pipe().unwrap();
            let recorder = begin_for(&step, listener);
            assert_eq!(step.wait().unwrap().signal(), Some(libc::SIGKILL));
            let failure = recorder.failure().unwrap();
            assert_eq!((&*failure.call, failure.errno), ("setns", libc::EPERM));
            recorder.finish();
        };
        std::thread::spawn(without_rights).join().unwrap();
    }
}
