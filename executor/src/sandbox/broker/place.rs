//! What the broker does with what is asked for, once it is clear what that is.

use super::caller::Answered;
use super::listing::{self, Tree};
use super::resolve::{is_magic, is_number};
use super::*;
use crate::sandbox::kernels::is_kernels;
use crate::sandbox::memory_file::memory_file;
use crate::sandbox::mounts::NODES;

/// What can't be done in a `/proc` of others.
pub(super) const WRITING: i32 = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;

impl Broker {
    /// Something of `/proc`.
    pub(super) fn process(
        &mut self,
        asked: &Asked<'_>,
        act: Act,
        parts: &[Vec<u8>],
    ) -> Answered<Reply> {
        if self.is_hidden(Tree::Processes, parts) {
            return Err(libc::ENOENT);
        }
        let proc = Rc::clone(&self.proc);
        let number = parts.first().filter(|name| is_number(name));
        let Some(number) = number else {
            let writes = match act {
                Act::Open { flags, .. } => flags & WRITING != 0,
                Act::Access { mode } => mode & libc::W_OK != 0,
                Act::Alter(_) => true,
                _ => false,
            };
            if writes {
                return Err(libc::EROFS);
            }
            if !parts.is_empty() && !asked.may_read_setting(parts, act) {
                return Err(libc::EACCES);
            }
            return self.in_proc(asked, act, parts, &proc, parts);
        };
        // From here on by its directory, as numbers are given again.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = rustix::fs::openat(&*proc, number.as_slice(), flags, Mode::empty());
        let own = own.map_err(Errno::raw_os_error)?;
        let is_own = *number == asked.status.process.to_string().as_bytes();
        if !is_own && !self.family.has(&proc, &own) {
            return Err(libc::ENOENT);
        }
        self.in_proc(asked, act, parts, &own, &parts[1..])
    }

    /// The same where it is clear that the caller may see it. It is at `below` in the directory `base`.
    fn in_proc(
        &mut self,
        asked: &Asked<'_>,
        act: Act,
        parts: &[Vec<u8>],
        base: &OwnedFd,
        below: &[Vec<u8>],
    ) -> Answered<Reply> {
        match act {
            Act::Enter => {
                self.enter(asked, parts, base, below)?;
                Ok(Reply::Continue)
            }
            Act::Execute if is_magic(parts) => self.execute(asked, base, below),
            Act::Alter(_) if !(is_magic(parts) && asked.follow) => Err(libc::EPERM),
            Act::Open { flags, mode } => {
                if let Some(text) = self.told(parts) {
                    return self.hand_over(asked, &memory_file(&text, &self.proc)?, flags);
                }
                let leads_to_open = is_magic(parts) && asked.follow;
                if !leads_to_open && let Ok(real) = listing::open_real(base, below) {
                    let shown = self.list(Tree::Processes, parts, &real, flags)?;
                    let reply = self.hand_over(asked, &shown, flags)?;
                    if let (Some(b"fd"), Reply::Value(fd)) =
                        (below.last().map(Vec::as_slice), &reply)
                    {
                        listing::add_link(
                            &shown,
                            &fd.to_string(),
                            &[b"/proc/", &*joined(parts)].concat(),
                        );
                    }
                    return Ok(reply);
                }
                let mode = mode & !asked.status.umask;
                let file = open_patiently(base, &joined(below), flags, mode)?;
                let writes = flags & WRITING != 0;
                if is_way_out(&file, leads_to_open && writes)? {
                    return Err(libc::EACCES);
                }
                self.hand_over(asked, &file, flags)
            }
            Act::ReadLink { out, size } if asked.own_link.is_some() => {
                let text = asked.own_link.as_deref().unwrap_or_default();
                write_link(&asked.caller, text.as_bytes(), out, size)
            }
            act => self.perform(asked, act, base, &joined(below)),
        }
    }

    /// What the other sandboxes hide, too (R-RT-8), and the network where there is none.
    pub(super) fn is_hidden(&self, tree: Tree, parts: &[Vec<u8>]) -> bool {
        let path = [tree.path().as_bytes(), b"/", &*joined(parts)].concat();
        let is_masked = |masked: &&str| {
            let rest = path.strip_prefix(masked.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        let network = !self.network && parts.iter().skip(1).any(|part| part == b"net");
        network || plan::MASKED.iter().any(is_masked)
    }

    /// What is not as it is outside.
    fn told(&self, parts: &[Vec<u8>]) -> Option<String> {
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        match parts.as_slice() {
            [_, b"mounts"] | [_, b"task", _, b"mounts"] => Some(self.mounts.table()),
            [_, b"mountinfo"] | [_, b"task", _, b"mountinfo"] => Some(self.mounts.info()),
            [b"sys", b"kernel", b"hostname"] => Some(format!("{}\n", self.hostname)),
            _ => None,
        }
    }

    /// A directory in the step's root with the names that `real` has, as far as they are shown.
    pub(super) fn list(
        &mut self,
        tree: Tree,
        parts: &[Vec<u8>],
        real: &OwnedFd,
        flags: i32,
    ) -> Answered<OwnedFd> {
        self.inside = true;
        let mut entries = listing::entries(real)?;
        self.be_root();
        let (proc, sys) = (Rc::clone(&self.proc), self.sys.clone());
        let is_shown = |name: &[u8]| {
            let path = [parts, &[name.to_vec()]].concat();
            if self.is_hidden(tree, &path) {
                return false;
            }
            if let (Tree::System, Some(sys)) = (tree, &sys) {
                return system::is_listed(sys, &path);
            }
            if !parts.is_empty() || !is_number(name) {
                return true;
            }
            let directory = rustix::fs::openat(
                &*proc,
                name,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            );
            directory.is_ok_and(|directory| self.family.has(&proc, &directory))
        };
        entries.retain(|entry| is_shown(&entry.name));
        let flags = OFlags::from_bits_retain(flags.cast_unsigned());
        listing::show(tree, parts, &entries, flags)
    }

    /// Makes a directory that the kernel then lets the caller enter.
    fn enter(
        &mut self,
        asked: &Asked<'_>,
        parts: &[Vec<u8>],
        base: &OwnedFd,
        below: &[Vec<u8>],
    ) -> Answered<()> {
        match listing::open_real(base, below) {
            Ok(real) => drop(self.list(Tree::Processes, parts, &real, 0)?),
            Err(errno) => {
                // A link to a directory, such as `PID/cwd`.
                let (Some((_, above)), Some((_, below))) = (parts.split_last(), below.split_last())
                else {
                    return Err(errno);
                };
                let real = listing::open_real(base, below)?;
                drop(self.list(Tree::Processes, above, &real, 0)?);
            }
        }
        listing::point_self_to(asked.status.process)
    }

    /// Something of `/dev`.
    pub(super) fn device(
        &mut self,
        asked: &Asked<'_>,
        act: Act,
        parts: &[Vec<u8>],
    ) -> Answered<Reply> {
        let dev = Rc::clone(&self.dev);
        let names: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        match names.as_slice() {
            [] | [b"pts"] => {
                self.inside |= matches!(act, Act::Open { .. } | Act::Enter);
                Ok(Reply::Continue)
            }
            [b"tty"] if self.devices => match (act, controlling_terminal(&asked.caller)) {
                (Act::Open { .. }, Some(fd)) => {
                    let base = asked.caller.open("fd", OFlags::PATH)?;
                    self.perform(asked, act, &base, fd.as_bytes())
                }
                (Act::Open { .. }, None) => Err(libc::ENXIO),
                _ => self.perform(asked, act, &dev, b"tty"),
            },
            [name] if self.devices && NODES.iter().any(|(node, ..)| node.as_bytes() == *name) => {
                self.perform(asked, act, &dev, name)
            }
            // The root's own link.
            [b"ptmx"] if !asked.follow || act.reads_link() => Ok(Reply::Continue),
            [b"ptmx"] | [b"pts", b"ptmx"] => match act {
                Act::Open { flags, .. } => {
                    let master = open_patiently(&dev, b"ptmx", flags, 0)?;
                    let name = rustix::pty::ptsname(&master, Vec::new());
                    let name = name.map_err(Errno::raw_os_error)?;
                    if let Some(number) = super::parts(name.to_bytes()).last() {
                        self.terminals.insert(number.to_vec());
                    }
                    self.hand_over(asked, &master, flags)
                }
                act => self.perform(asked, act, &dev, b"ptmx"),
            },
            [b"console"] => match self.console.clone() {
                Some(number) => self.perform(asked, act, &dev, &[&b"pts/"[..], &number].concat()),
                None => Ok(Reply::Continue),
            },
            [b"pts", number] if self.terminals.contains(*number) => {
                self.perform(asked, act, &dev, &[b"pts/", *number].concat())
            }
            _ => Ok(Reply::Continue),
        }
    }

    /// Does what is asked for with what is at `path` in `base`.
    pub(super) fn perform(
        &mut self,
        asked: &Asked<'_>,
        act: Act,
        base: &OwnedFd,
        path: &[u8],
    ) -> Answered<Reply> {
        let path = if path.is_empty() { b"." } else { path };
        let look = || {
            let mut flags = OFlags::PATH | OFlags::CLOEXEC;
            flags.set(OFlags::NOFOLLOW, !asked.follow);
            rustix::fs::openat(base, path, flags, Mode::empty()).map_err(Errno::raw_os_error)
        };
        match act {
            Act::Open { flags, mode } => {
                let file = open_patiently(base, path, flags, mode & !asked.status.umask)?;
                self.hand_over(asked, &file, flags)
            }
            Act::Stat { out } => {
                let stat = sys::stat_of(look()?.as_raw_fd()).map_err(|error| error.errno)?;
                asked.caller.write(out, sys::stat_bytes(&stat))?;
                Ok(Reply::Value(0))
            }
            Act::Statx { flags, mask, out } => {
                let statx = sys::statx_of(look()?.as_raw_fd(), flags, mask);
                let statx = statx.map_err(|error| error.errno)?;
                asked.caller.write(out, sys::statx_bytes(&statx))?;
                Ok(Reply::Value(0))
            }
            Act::StatFilesystem { out } => {
                let found = sys::filesystem_of(look()?.as_raw_fd());
                asked
                    .caller
                    .write(out, &found.map_err(|error| error.errno)?)?;
                Ok(Reply::Value(0))
            }
            Act::ReadLink { out, size } => {
                let text = rustix::fs::readlinkat(base, path, Vec::new());
                let text = text.map_err(Errno::raw_os_error)?;
                write_link(&asked.caller, text.as_bytes(), out, size)
            }
            Act::Access { mode } => {
                let mut flags = AtFlags::EACCESS;
                flags.set(AtFlags::SYMLINK_NOFOLLOW, !asked.follow);
                let mode = Access::from_bits_retain(mode.cast_unsigned());
                rustix::fs::accessat(base, path, mode, flags).map_err(Errno::raw_os_error)?;
                Ok(Reply::Value(0))
            }
            Act::Link { to } => self.link(asked, to, base, path),
            Act::Alter(how) => self.alter(asked, how, &look()?),
            Act::Attributes { name, out, size } => {
                self.show_attributes(asked, name, (out, size), &look()?)
            }
            Act::OpenAsTold { .. } | Act::Enter | Act::Execute => Ok(Reply::Continue),
        }
    }

    /// Gives what is at `path` in `base` another name, as is done with a file that was made without one.
    fn link(&mut self, asked: &Asked<'_>, to: At, base: &OwnedFd, path: &[u8]) -> Answered<Reply> {
        let name = self.string(&asked.caller, to.path)?;
        let directory = asked.caller.base(to.directory, &name)?;
        if !sys::still_waits(self.listener.as_fd(), asked.caller.note.id) {
            return Err(libc::ESRCH);
        }
        rustix::fs::linkat(base, path, &directory, &name[..], AtFlags::SYMLINK_FOLLOW)
            .map_err(Errno::raw_os_error)?;
        Ok(Reply::Value(0))
    }

    /// Gives the caller a descriptor.
    pub(super) fn hand_over(
        &self,
        asked: &Asked<'_>,
        file: &OwnedFd,
        flags: i32,
    ) -> Answered<Reply> {
        let close_on_exec = flags & libc::O_CLOEXEC != 0;
        let id = asked.caller.note.id;
        sys::add_fd(self.listener.as_fd(), id, file.as_fd(), close_on_exec)
            .map(|fd| Reply::Value(fd.into()))
            .map_err(|error| error.errno)
    }
}

impl Asked<'_> {
    /// Whether the caller may open this, if it is a setting of the kernel: those don't ask for whom one is for files, but who one is.
    fn may_read_setting(&self, parts: &[Vec<u8>], act: Act) -> bool {
        let opens = matches!(act, Act::Open { .. } | Act::Access { .. });
        if self.status.who.uid == 0 || !opens || parts[0] != b"sys" {
            return true;
        }
        let stat = rustix::fs::statat(self.caller.proc, joined(parts), AtFlags::empty());
        stat.is_ok_and(|stat| stat.st_mode & libc::S_IROTH != 0)
    }
}

/// Opens something without waiting for anybody: other calls are waiting for this.
pub(super) fn open_patiently(
    base: &OwnedFd,
    path: &[u8],
    flags: i32,
    mode: u32,
) -> Answered<OwnedFd> {
    let asked = OFlags::from_bits_retain(flags.cast_unsigned());
    let opened = asked | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let mode = Mode::from_raw_mode(mode & 0o7777);
    let file = rustix::fs::openat(base, path, opened, mode).map_err(Errno::raw_os_error)?;
    if !asked.intersects(OFlags::NONBLOCK | OFlags::PATH) {
        let flags = rustix::fs::fcntl_getfl(&file).map_err(Errno::raw_os_error)?;
        rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK).map_err(Errno::raw_os_error)?;
    }
    Ok(file)
}

/// Whether what was opened is more than was shown: a directory of the real `/proc`, which there was not yet a moment before, or
/// by way of a descriptor that can only be read (`/proc/self/fd/3`) a setting of the kernel, `anew` to be written to.
fn is_way_out(file: &OwnedFd, anew: bool) -> Answered<bool> {
    let stat = rustix::fs::fstat(file).map_err(Errno::raw_os_error)?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(is_kernels(file)? && (is_directory || anew))
}

fn write_link(
    caller: &super::caller::Caller<'_>,
    text: &[u8],
    out: u64,
    size: u64,
) -> Answered<Reply> {
    let length = usize::try_from(size).unwrap_or(usize::MAX).min(text.len());
    if size == 0 {
        return Err(libc::EINVAL);
    }
    caller.write(out, &text[..length])?;
    Ok(Reply::Value(i64::try_from(length).unwrap_or(0)))
}

/// Which of the caller's standard streams is its controlling terminal.
fn controlling_terminal(caller: &super::caller::Caller<'_>) -> Option<String> {
    let file = caller.open("stat", OFlags::RDONLY).ok()?;
    let stat = std::io::read_to_string(std::fs::File::from(file)).ok()?;
    // `pid (name) state parent group session terminal …`
    let number: u64 = stat.rsplit_once(") ")?.1.split(' ').nth(4)?.parse().ok()?;
    let is_it = |fd: &String| {
        let path = format!("{}/fd/{fd}", caller.note.thread);
        let stat = rustix::fs::statat(caller.proc, path, AtFlags::empty());
        stat.is_ok_and(|stat| number != 0 && stat.st_rdev == number)
    };
    ["0", "1", "2"].map(str::to_owned).into_iter().find(is_it)
}
