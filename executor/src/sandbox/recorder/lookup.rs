//! Where a path of the caller leads, looked up by a thread that is somebody else.
//!
//! Links of `/proc` are what makes a difference. `self` is who looks, and there it is kiln. Those to open objects (`PID/root`, `PID/fd/3`) lead
//! anywhere, kiln's own out of the step's root: where steps see the surrounding `/proc`, kiln is in it. So the kernel is asked to
//! follow none of these. A path with one is gone part by part here, with the caller for `self` and no process but the step's.

use super::caller::{Answered, Caller};
use nix::libc;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Links followed before giving up, as many as the kernel follows.
const MAX_LINKS: usize = 40;

/// The number of the top directory of `/proc` (`PROC_ROOT_INO` of the kernel).
const TOP: u64 = 1;

/// A path, and where it leads from: if there is no directory, it is absolute, and leads from this thread's root, which is the caller's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'a> {
    pub(super) from: Option<BorrowedFd<'a>>,
    pub(super) text: &'a [u8],
    /// Whether a link at the end is followed.
    pub(super) follow: bool,
}

/// How much is done for a path by which the kernel finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// It leads nowhere.
    Little,
    /// It may lead through what the kernel takes for kiln's.
    Much,
}

/// Opens what is at a path, without doing anything to it.
pub(super) fn open(caller: &Caller<'_>, path: Path<'_>, care: Care) -> Answered<OwnedFd> {
    if !path.text.starts_with(b"/proc/") {
        let from = path.from.unwrap_or(rustix::fs::CWD);
        let (flags, how) = (flags(path.follow), ResolveFlags::NO_MAGICLINKS);
        match rustix::fs::openat2(from, path.text, flags, Mode::empty(), how) {
            Err(Errno::LOOP) => {}
            // Most that lead there through `/proc` are names of `/dev`.
            Err(Errno::NOENT) if care == Care::Much || path.text.starts_with(b"/dev/") => {}
            opened => return opened.map_err(Errno::raw_os_error),
        }
    }
    Walk::new(caller, path)?.go(path.follow)
}

/// A way that is gone part by part.
struct Walk<'a> {
    caller: &'a Caller<'a>,
    here: OwnedFd,
    /// Parts still to go.
    ahead: VecDeque<Vec<u8>>,
    links: usize,
}

impl<'a> Walk<'a> {
    fn new(caller: &'a Caller<'a>, path: Path<'_>) -> Answered<Self> {
        let here = match path.from {
            Some(from) if !path.text.starts_with(b"/") => from.try_clone_to_owned(),
            _ => rustix::fs::open("/", flags(true), Mode::empty()).map_err(Into::into),
        };
        let mut ahead = parts(path.text);
        if path.text.ends_with(b"/") {
            ahead.push_back(b".".to_vec()); // which takes a directory
        }
        let here = here.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
        Ok(Self {
            caller,
            here,
            ahead,
            links: 0,
        })
    }

    fn go(mut self, follow: bool) -> Answered<OwnedFd> {
        while let Some(part) = self.ahead.pop_front() {
            let follow = follow || !self.ahead.is_empty();
            self.step(&part, follow).map_err(Errno::raw_os_error)?;
        }
        Ok(self.here)
    }

    fn step(&mut self, part: &[u8], follow: bool) -> rustix::io::Result<()> {
        let found = open_in(&self.here, part, false)?;
        let kind = FileType::from_raw_mode(stat(&found)?.st_mode);
        if !follow || kind != FileType::Symlink {
            self.here = found;
            return Ok(());
        }
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let text = match is_of_proc(&found) {
            true => match self.link_of_proc(part, &found)? {
                Target::Text(text) => text,
                Target::Object(object) => {
                    self.here = object;
                    return Ok(());
                }
            },
            false => text_of(&found)?,
        };
        if text.starts_with(b"/") {
            self.here = rustix::fs::open("/", flags(true), Mode::empty())?;
        }
        for part in parts(&text).into_iter().rev() {
            self.ahead.push_front(part);
        }
        Ok(())
    }

    fn link_of_proc(&self, part: &[u8], link: &OwnedFd) -> rustix::io::Result<Target> {
        let is_top = is_top(&self.here)?;
        match part {
            b"self" | b"thread-self" if is_top => {
                let number = self.own_number(&self.here).ok_or(Errno::NOENT)?;
                return Ok(Target::Text(match part {
                    b"self" => number.process.into_bytes(),
                    _ => format!("{}/task/{}", number.process, number.thread).into_bytes(),
                }));
            }
            _ => {}
        }
        let how = ResolveFlags::NO_MAGICLINKS;
        let followed = rustix::fs::openat2(&self.here, part, flags(true), Mode::empty(), how);
        match followed {
            Err(Errno::LOOP) if self.is_steps() => {
                open_in(&self.here, part, true).map(Target::Object)
            }
            Err(Errno::LOOP) => Err(Errno::ACCESS),
            _ => text_of(link).map(Target::Text),
        }
    }

    /// Whether the process whose directory of `/proc` this is in belongs to the step.
    fn is_steps(&self) -> bool {
        step_process_of(self.caller, &self.here).is_some()
    }

    /// The numbers of the caller in a `/proc`, of which this is the top.
    fn own_number(&self, top: &OwnedFd) -> Option<Number> {
        let status = self.caller.status()?;
        let line = |name: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| line.strip_prefix(name))
        };
        let last = |name: &str| Some(line(name)?.split_whitespace().next_back()?.to_owned());
        let (process, thread) = match Sight::from(top) {
            Sight::Blind => ("NStgid:", "NSpid:"),
            Sight::Same => ("Tgid:", "Pid:"),
            Sight::Other => return None,
        };
        Some(Number {
            process: last(process)?,
            thread: last(thread)?,
        })
    }
}

/// What a link of `/proc` leads to.
enum Target {
    Text(Vec<u8>),
    Object(OwnedFd),
}

/// How a caller is known in a `/proc`.
struct Number {
    process: String,
    thread: String,
}

/// What a `/proc` shows of kiln.
enum Sight {
    /// Nothing: it is that of the step's own processes.
    Blind,
    /// This process, with the number that it knows itself by: it is the surrounding one.
    Same,
    /// This process, with another number.
    Other,
}

impl Sight {
    fn from(top: &OwnedFd) -> Self {
        let own = rustix::process::getpid().as_raw_nonzero().to_string();
        match rustix::fs::readlinkat(top, "self", Vec::new()) {
            Err(Errno::NOENT) => Self::Blind,
            Ok(number) if number.as_bytes() == own.as_bytes() => Self::Same,
            _ => Self::Other,
        }
    }
}

/// The directory of the process of the step's that a directory of `/proc` is of.
pub(super) fn step_process_of(caller: &Caller<'_>, directory: &OwnedFd) -> Option<OwnedFd> {
    let (process, top) = is_of_proc(directory).then(|| process_of(directory))??;
    let is_steps = match Sight::from(&top) {
        Sight::Blind => true,
        Sight::Same => caller.family.has(caller.proc, &process),
        Sight::Other => false,
    };
    is_steps.then_some(process)
}

/// The process that something of `/proc` is of, as its directory, and the top of that `/proc`.
fn process_of(object: &OwnedFd) -> Option<(OwnedFd, OwnedFd)> {
    let mut process = object.try_clone().ok()?;
    loop {
        let above = open_in(&process, b"..", false).ok()?;
        if !is_of_proc(&above) {
            return None;
        }
        if is_top(&above).ok()? {
            return Some((process, above));
        }
        process = above;
    }
}

fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    let parts = parts.filter(|part| !matches!(*part, b"" | b"."));
    parts.map(<[u8]>::to_vec).collect()
}

fn flags(follow: bool) -> OFlags {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, !follow);
    flags
}

fn open_in(directory: &OwnedFd, part: &[u8], follow: bool) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(directory, part, flags(follow), Mode::empty())
}

fn text_of(link: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
    let text = rustix::fs::readlinkat(link.as_fd(), "", Vec::new())?;
    Ok(text.into_bytes())
}

fn stat(object: &OwnedFd) -> rustix::io::Result<rustix::fs::Stat> {
    rustix::fs::statat(object, "", AtFlags::EMPTY_PATH)
}

fn is_top(of_proc: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(stat(of_proc)?.st_ino == TOP)
}

/// Whether it is of a `/proc`.
pub(super) fn is_of_proc(object: &OwnedFd) -> bool {
    /// `PROC_SUPER_MAGIC` of `linux/magic.h`.
    const PROC: rustix::fs::FsWord = 0x9fa0;
    rustix::fs::fstatfs(object).is_ok_and(|found| found.f_type == PROC)
}
