//! The broker: a `/proc`, a `/dev` and a `/sys` for a step that can have no mounts.
//!
//! ```text
//! step: open(2), stat(2) … ──seccomp: wait──▶ broker: does the path lead to /proc, /dev or /sys?
//!                                               no: the kernel answers, in the step's own root
//!                                               yes: it is looked up in the container's, as the caller, and handed over
//! ```
//!
//! The broker is the step's parent process ([`super::minder`]). It stands in the step's root, too, so that paths lead and links read as
//! they do for the step, and holds the container's `/proc`, `/dev` and `/sys` open from before.
//!
//! What a step gets of `/proc` are files of its own processes and files that are the same for everybody, but those which hide in the
//! other sandboxes as well; outside of its own processes it can only read. It never gets a directory of the real `/proc`, as a way
//! up leads out of that ([`listing`]), and what it opens is opened as the user that it is ([`guise`]).
//!
//! A user's calls that change extended attributes are answered as well ([`attribute`]), and what mounts would not let be changed is
//! refused ([`mounted`]).
//!
//! Programs' set-ID bits do nothing in such a step, unless kiln has the right to load filters as it is. One that comes to execute a program
//! for them ends, if it can be begun again without a broker ([`set_id`]).
//!
//! A process that has changed its user and not executed a program since can't be looked into. Its calls, those of programs for another
//! architecture, and calls with paths that the broker does not answer are the kernel's: it finds what [`super::furnish`] put there.

mod alter;
mod attribute;
mod call;
mod caller;
mod execute;
mod guise;
mod layered;
mod listing;
mod mounted;
mod node;
mod place;
mod resolve;
mod set_id;
mod system;

use super::family::Family;
use super::footing::in_first_user_namespace;
use super::message::{self, Socket};
use super::{Network, SandboxSpec, plan};
use crate::sys::{self, Context as _, Notification, Reply};
use attribute::Changed;
use call::{Act, At, Call, Change, How};
use caller::{Answered, Caller, Status, Who};
use guise::Guise;
use layered::Moment;
use nix::libc;
use resolve::{Place, Resolver, joined, parts};
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::CapabilitySet as KernelSet;
use std::collections::HashSet;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;

pub(super) use call::{Wanted, When, wanted};
pub(super) use mounted::{Mounts, Place as MountPlace};
pub(super) use set_id::is_first_needed;

/// What the broker needs from before it changes its root.
pub(super) struct Outside {
    proc: Rc<OwnedFd>,
    dev: Rc<OwnedFd>,
    sys: Option<Rc<OwnedFd>>,
    need: Option<OwnedFd>,
}

/// What came of a call.
pub(super) enum Served {
    /// The step goes on.
    GoesOn,
    /// The step is to end, and kiln has been told for which program. The call is not answered.
    Ends,
}

/// What answers a step's calls.
pub(super) struct Broker {
    listener: OwnedFd,
    proc: Rc<OwnedFd>,
    dev: Rc<OwnedFd>,
    /// The container may have none.
    sys: Option<Rc<OwnedFd>>,
    mounts: Mounts,
    /// What was made earlier is of a layer below.
    began: Moment,
    family: Family,
    /// The step's first process.
    first: i32,
    guise: Guise,
    root: (u64, u64),
    hostname: String,
    /// Whether what tells of the network is shown.
    network: bool,
    /// Whether devices in the root's `/dev` are only there by name.
    devices: bool,
    /// Whether the kernel makes device nodes for the step.
    makes_nodes: bool,
    /// Names of links that lead to `/proc`, `/dev` or `/sys`.
    names: HashSet<Vec<u8>>,
    /// Whether somebody may be in a directory of `/proc`, `/dev` or `/sys`, or have one open.
    inside: bool,
    /// Numbers of terminals that the step has opened.
    terminals: HashSet<Vec<u8>>,
    /// The number of the one that the step was given, if any.
    console: Option<Vec<u8>>,
    /// Programs that were executed by way of `/proc`.
    programs: Vec<Vec<u8>>,
    /// Where kiln hears of the program for which the step is to be begun again, if it can be.
    need: Option<OwnedFd>,
}

/// Somebody's call, and what is known about them.
struct Asked<'a> {
    caller: Caller<'a>,
    status: Status,
    /// The path.
    told: Told,
    /// Whether a link at the end is followed.
    follow: bool,
    /// The text of a link that differs from caller to caller, if it is that what is asked for.
    own_link: Option<String>,
}

/// A path in the caller's memory.
struct Told {
    address: u64,
    text: Vec<u8>,
}

impl Outside {
    /// Opens what is needed, in the container's root.
    pub(super) fn open() -> sys::Result<Self> {
        let open = |path: &'static str| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).call("open", || path.into())
        };
        Ok(Self {
            proc: Rc::new(open("/proc")?),
            dev: Rc::new(open("/dev")?),
            sys: open("/sys").ok().map(Rc::new),
            need: None,
        })
    }

    /// The step can be begun again, and kiln hears by `need` that it has to be.
    pub(super) fn tells_need_by(&mut self, need: OwnedFd) {
        self.need = Some(need);
    }

    /// The container's `/proc`.
    pub(super) fn proc(&self) -> Rc<OwnedFd> {
        Rc::clone(&self.proc)
    }

    /// Takes the listener from the step's first process, and this process into the step's root. `None` when there is no listener.
    pub(super) fn enter(
        self,
        from: &UnixStream,
        spec: &SandboxSpec,
        first: i32,
    ) -> sys::Result<Option<Broker>> {
        let received = message::receive::<()>(Socket(from.as_fd()));
        let Ok(Some((_, mut fds))) = received else {
            return Ok(None);
        };
        let Some(listener) = fds.pop() else {
            return Ok(None);
        };
        sys::take_turns(listener.as_fd());
        // Before this process has less than the step may still have, and can't look into it.
        let terminal = match spec.terminal {
            true => terminal_of(&self.proc, first),
            false => None,
        };
        // Elsewhere the capability is of no use.
        let capable = in_first_user_namespace();
        rustix::process::chroot(spec.root.changes()).call("chroot", String::new)?;
        rustix::process::chdir("/").call("chdir", || "/".into())?;
        rustix::process::umask(Mode::empty());
        Guise::limit(spec.capabilities).call("capset", String::new)?;
        let held = rustix::thread::capabilities(None)
            .call("capget", String::new)?
            .permitted;
        let root = rustix::fs::stat("/").call("stat", || "/".into())?;
        let mut names: HashSet<_> = spec.links_to_kernel.iter().cloned().collect();
        names.remove(&b""[..]);
        Ok(Some(Broker {
            listener,
            family: Family::own(),
            first,
            began: Moment::now(),
            mounts: Mounts::of(spec, |target| mounted::Place::find(&self.proc, target)),
            proc: self.proc,
            dev: self.dev,
            sys: self.sys,
            guise: Guise::roots(),
            root: (root.st_dev, root.st_ino),
            hostname: spec.hostname.clone(),
            network: spec.network == Network::Host,
            devices: !is_usable_device(Path::new("/dev/null")),
            makes_nodes: capable && held.contains(KernelSet::MKNOD),
            names,
            inside: false,
            terminals: terminal.iter().cloned().collect(),
            console: terminal,
            programs: Vec::new(),
            need: self.need,
        }))
    }
}

impl Broker {
    /// Where calls arrive.
    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Becomes root again, who may end anybody.
    pub(super) fn be_root(&mut self) {
        let _ = self.guise.wear(&Who::default());
    }

    /// Answers the next call. An error means that there will be none.
    pub(super) fn serve(&mut self) -> sys::Result<Served> {
        let Some(note) = sys::receive(self.listener.as_fd())? else {
            return Ok(Served::GoesOn);
        };
        if self.has_to_begin_again(note) {
            return Ok(Served::Ends);
        }
        let reply = self.reply(note).unwrap_or_else(Reply::Error);
        sys::answer(self.listener.as_fd(), note.id, reply);
        Ok(Served::GoesOn)
    }

    fn reply(&mut self, note: Notification) -> Answered<Reply> {
        let proc = Rc::clone(&self.proc);
        let caller = Caller { note, proc: &proc };
        match Call::of(&note) {
            Call::On(at, act) => {
                let Some((at, act)) = told(&caller, at, act) else {
                    return Ok(Reply::Continue);
                };
                let changes = act.changes(at);
                self.check(&caller, changes)?;
                if let [Some(first), Some(second)] = changes {
                    self.note_names(&caller, [first, second]);
                }
                self.look(caller, at, act)
            }
            Call::MakeLink { text, at } => {
                let how = How::Make;
                self.check(&caller, [Some(Change { at, how }), None])?;
                self.note_link(&caller, text, &at)
            }
            Call::MakeNode(new) => {
                let (at, how) = (new.at, How::Make);
                self.check(&caller, [Some(Change { at, how }), None])?;
                self.make_node(&caller, &new)
            }
            Call::Change(first, second) => {
                self.check(&caller, [Some(first), second])?;
                if let Some(second) = second {
                    self.note_names(&caller, [first, second]);
                }
                Ok(Reply::Continue)
            }
            Call::ChangeAttribute(of, request) => {
                if let Changed::At(at) = of {
                    let how = How::Alter;
                    self.check(&caller, [Some(Change { at, how }), None])?;
                }
                self.change_attribute(caller, of, request)
            }
            Call::Name { out } => self.name(&caller, out),
            Call::Other => Ok(Reply::Continue),
        }
    }

    /// A string in the caller's memory. For another user's, it takes being that user.
    fn string(&mut self, caller: &Caller<'_>, address: u64) -> Answered<Vec<u8>> {
        match caller.string(address) {
            Err(libc::EPERM | libc::EACCES) => {
                self.guise.wear(&caller.status()?.who)?;
                caller.string(address)
            }
            read => read,
        }
    }

    /// Finds out where a call's path leads, and answers if that is to `/proc`, `/dev` or `/sys`.
    fn look(&mut self, caller: Caller<'_>, at: At, act: Act) -> Answered<Reply> {
        let Ok(path) = self.string(&caller, at.path) else {
            self.empty_null();
            return Ok(Reply::Continue); // which tells what is wrong with it
        };
        let begins_inside = self.inside && self.begins_inside(&caller, at.directory, &path);
        if !begins_inside && !self.may_lead(&path) {
            return Ok(Reply::Continue);
        }
        let status = caller.status()?;
        self.guise.wear(&status.who)?;
        let base = match path.starts_with(b"/") {
            true => Ok(Vec::new()),
            false => caller.directory(at.directory),
        };
        let (Ok(base), true) = (base, self.shares_root(&caller)) else {
            return Ok(Reply::Continue);
        };
        let resolver = self.resolver(caller, &status);
        let place = resolver.resolve(&base, &path, at.follow)?;
        let own_link = match &place {
            Place::Proc(parts) if act.reads_link() => resolver.own_link(parts),
            _ => None,
        };
        // Else what was read may be another's, with the number of a thread that is gone.
        if !sys::still_waits(self.listener.as_fd(), caller.note.id) {
            return Err(libc::ESRCH);
        }
        let asked = Asked {
            caller,
            status,
            follow: at.follow || path.ends_with(b"/"),
            told: Told {
                address: at.path,
                text: path,
            },
            own_link,
        };
        match place {
            Place::Elsewhere => Ok(Reply::Continue),
            Place::Inside(path) => {
                let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
                let root = root.map_err(Errno::raw_os_error)?;
                self.perform(&asked, act, &root, &path[1..])
            }
            Place::Device(_) | Place::System(_) if matches!(act, Act::Alter(_)) => {
                Ok(Reply::Continue)
            }
            Place::Device(parts) => self.device(&asked, act, &parts),
            Place::Proc(parts) => self.process(&asked, act, &parts),
            Place::System(parts) => self.system(&asked, act, &parts),
        }
    }

    fn resolver<'a>(&self, caller: Caller<'a>, status: &Status) -> Resolver<'a> {
        Resolver {
            caller,
            process: status.process,
            first: self.first,
            proc: caller.proc,
            sys: self.sys.clone(),
        }
    }

    /// What nobody can be seen writing to a `/dev/null` that is only there by name is not to be read from it.
    fn empty_null(&mut self) {
        if self.devices {
            self.be_root();
            let how = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let _ = rustix::fs::open("/dev/null", how | OFlags::CLOEXEC, Mode::empty());
        }
    }

    /// Whether a path may lead to `/proc`, `/dev` or `/sys`, by its looks: most don't, and that has to be cheap.
    fn may_lead(&self, path: &[u8]) -> bool {
        if parts(path).next().is_some_and(is_ours) {
            return true;
        }
        let goes_up = parts(path).any(|part| part == b"..");
        parts(path).any(|part| (goes_up && is_ours(part)) || self.names.contains(part))
    }

    /// Whether a path is relative to a directory of `/proc`, `/dev` or `/sys`.
    fn begins_inside(&mut self, caller: &Caller<'_>, directory: i32, path: &[u8]) -> bool {
        if path.is_empty() || path.starts_with(b"/") {
            return false;
        }
        let base = self.directory(caller, directory);
        base.is_ok_and(|base| parts(&base).next().is_some_and(is_ours))
    }

    /// The path of a caller's directory. For another user's, it takes being that user.
    fn directory(&mut self, caller: &Caller<'_>, directory: i32) -> Answered<Vec<u8>> {
        match caller.directory(directory) {
            Err(libc::EPERM | libc::EACCES) => {
                self.guise.wear(&caller.status()?.who)?;
                caller.directory(directory)
            }
            base => base,
        }
    }

    /// Whether the caller's root is the step's, and not one that it has made itself. For another user's, it takes being that user.
    fn shares_root(&mut self, caller: &Caller<'_>) -> bool {
        let path = format!("{}/root", caller.note.thread);
        let look = || rustix::fs::statat(caller.proc, &path, AtFlags::empty());
        let found = match look() {
            Err(Errno::ACCESS | Errno::PERM) => {
                let Ok(status) = caller.status() else {
                    return false;
                };
                let before = self.guise.worn();
                let worn = self.guise.wear(&status.who);
                let found = worn.is_ok().then(look);
                let back = before.map(|before| self.guise.wear(&before));
                match (found, back) {
                    (Some(found), Some(Ok(()))) => found,
                    _ => return false,
                }
            }
            found => found,
        };
        found.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.root)
    }

    /// A link that leads to `/proc`, `/dev` or `/sys` makes its name one to look out for.
    fn note_link(&mut self, caller: &Caller<'_>, text: u64, at: &At) -> Answered<Reply> {
        let text = self.string(caller, text).unwrap_or_default();
        let mut named = parts(&text);
        if named.any(|part| is_ours(part) || self.names.contains(part)) {
            self.note_name(caller, *at);
        }
        Ok(Reply::Continue)
    }

    /// So does another name for one.
    fn note_names(&mut self, caller: &Caller<'_>, changes: [Change; 2]) {
        if self.names.is_empty() {
            return;
        }
        for (from, to) in [(changes[0], changes[1]), (changes[1], changes[0])] {
            let moves = matches!(from.how, How::Move | How::Keep);
            let name = moves.then(|| self.last_name(caller, from.at)).flatten();
            if name.is_some_and(|name| self.names.contains(&name)) {
                self.note_name(caller, to.at);
            }
        }
    }

    fn note_name(&mut self, caller: &Caller<'_>, at: At) {
        let name = self.last_name(caller, at);
        self.names.extend(name);
    }

    fn last_name(&mut self, caller: &Caller<'_>, at: At) -> Option<Vec<u8>> {
        let path = self.string(caller, at.path).ok()?;
        parts(&path).last().map(<[u8]>::to_vec)
    }

    /// uname(2) with the step's own host name.
    fn name(&mut self, caller: &Caller<'_>, out: u64) -> Answered<Reply> {
        const FIELD: usize = 65;
        self.guise.wear(&caller.status()?.who)?;
        let personality = caller
            .open("personality", OFlags::RDONLY)
            .map(|file| std::io::read_to_string(std::fs::File::from(file)).unwrap_or_default());
        if personality.is_ok_and(|text| text.trim().bytes().any(|digit| digit != b'0')) {
            return Ok(Reply::Continue); // one that wants to hear of another machine
        }
        let uname = rustix::system::uname();
        let fields = [
            uname.sysname().to_bytes(),
            self.hostname.as_bytes(),
            uname.release().to_bytes(),
            uname.version().to_bytes(),
            uname.machine().to_bytes(),
            uname.domainname().to_bytes(),
        ];
        let mut bytes = [0; FIELD * 6];
        for (field, text) in bytes.chunks_exact_mut(FIELD).zip(fields) {
            let length = text.len().min(FIELD - 1);
            field[..length].copy_from_slice(&text[..length]);
        }
        caller.write(out, &bytes)?;
        Ok(Reply::Value(0))
    }
}

/// Whether what a path begins with is answered here.
fn is_ours(part: &[u8]) -> bool {
    matches!(part, b"proc" | b"dev" | b"sys")
}

/// A call with what it has in the caller's memory; `None` if that is not to be understood.
fn told(caller: &Caller<'_>, at: At, act: Act) -> Option<(At, Act)> {
    let Act::OpenAsTold { how, size } = act else {
        return Some((at, act));
    };
    let (flags, mode) = read_how(caller, how, size)?;
    let follow = flags & libc::O_NOFOLLOW == 0;
    Some((At { follow, ..at }, Act::Open { flags, mode }))
}

/// The number of the terminal that is somebody's standard input.
fn terminal_of(proc: &OwnedFd, process: i32) -> Option<Vec<u8>> {
    let name = rustix::fs::readlinkat(proc, format!("{process}/fd/0"), Vec::new()).ok()?;
    let number = name.to_bytes().strip_prefix(b"/dev/pts/")?;
    Some(number.to_vec())
}

/// Whether a node is there that can be used: it can't on a filesystem that is mounted without devices.
pub(super) fn is_usable_device(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let stat = rustix::fs::open(path, flags, Mode::empty()).and_then(rustix::fs::fstat);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice)
}

/// The flags and mode of an openat2(2) that asks for nothing more.
fn read_how(caller: &Caller<'_>, how: u64, size: u64) -> Option<(i32, u32)> {
    let mut words = [0; 24];
    if size != words.len() as u64 {
        return None;
    }
    caller.read(how, &mut words).ok()?;
    let (words, _) = words.as_chunks::<8>();
    let [flags, mode, resolve] = [0, 1, 2].map(|n: usize| u64::from_ne_bytes(words[n]));
    (resolve == 0).then_some(())?;
    Some((i32::try_from(flags).ok()?, u32::try_from(mode).ok()?))
}
