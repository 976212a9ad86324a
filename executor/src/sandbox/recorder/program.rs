//! Programs: who executes one may become somebody else, or have more rights, and what it can find out and change of these.

use super::book::name;
use super::call::At;
use super::caller::{Answered, Caller, Place};
use super::identity::{Gift, Identity};
use super::rights::{self, OfFile, Rights, Sets};
use super::{FileType, Server};
use crate::sandbox::script;
use crate::sys::Reply;
use nix::libc;
use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use std::ffi::CString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

/// Versions of the calls about capabilities, and the bytes of what they take (`linux/capability.h`).
const VERSIONS: [(u32, usize); 3] = [(0x1998_0330, 12), (0x2007_1026, 24), (0x2008_0522, 24)];

impl Server {
    /// Before execve(2): a program with a setuid bit changes who the process is. That the call could fail yet, for too many arguments, is not
    /// looked at.
    pub(super) fn execute(&mut self, caller: &Caller<'_>, at: &At) -> Answered<Reply> {
        let who = self.identity(caller);
        let program = match caller.place(at).and_then(Place::seen) {
            Ok(program) => Some(program),
            // One of several places to look for it.
            Err(libc::ENOENT) => return Ok(Reply::Continue),
            Err(_) => None,
        };
        let mut becomes = who.clone();
        let gift = match program {
            Some(program) => match self.interpreter(caller, &who, program)? {
                Some(program) => self.gift(caller, &program),
                None => return Ok(Reply::Continue), // which tells why not
            },
            None => Gift::default(),
        };
        becomes.executed(gift, || caller.gains_nothing())?;
        if becomes != who {
            self.change(caller, becomes)?;
        }
        Ok(Reply::Continue)
    }

    /// The program that runs a script, if it is one: what counts is what that gives. `None` if there is none.
    fn interpreter(
        &self,
        caller: &Caller<'_>,
        who: &Identity,
        mut program: OwnedFd,
    ) -> Answered<Option<OwnedFd>> {
        for _ in 0..=script::MOST {
            if !who.is_root() {
                self.check_program(who, &program)?;
            }
            let Some(path) = run_by(&program) else {
                return Ok(Some(program));
            };
            let place = caller.place_of(path, true);
            match place.and_then(Place::seen) {
                Ok(found) => program = found,
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// What a program gives. Those of root's programs, too: `crontab` leaves its files to a group.
    fn gift(&self, caller: &Caller<'_>, program: &OwnedFd) -> Gift {
        let Ok(stat) = rustix::fs::fstat(program) else {
            return Gift::default();
        };
        let mounted = rustix::fs::fstatvfs(program);
        let gives = mounted.is_ok_and(|it| !it.f_flag.contains(StatVfsMountFlags::NOSUID));
        if !gives || !start_of(program).is_some_and(|start| start.starts_with(script::ELF)) {
            return Gift::default();
        }
        let has = |bits| stat.st_mode & bits == bits;
        let (of_user, of_group) = (has(libc::S_ISUID), has(libc::S_ISGID | libc::S_IXGRP));
        let sets_ids = (of_user || of_group) && !caller.gains_nothing();
        let record = sets_ids.then(|| self.book.look_up(program));
        Gift {
            user: record.filter(|_| of_user).map(|record| record.uid),
            group: record.filter(|_| of_group).map(|record| record.gid),
            capabilities: capabilities(program),
        }
    }

    /// prctl(2), as far as it is about rights.
    pub(super) fn control(
        &mut self,
        caller: &Caller<'_>,
        option: i32,
        values: [u64; 4],
    ) -> Answered<Reply> {
        let before = self.identity(caller);
        let mut who = before.clone();
        let rights = &mut who.rights;
        let value = match option {
            libc::PR_GET_KEEPCAPS => rights.keeps().into(),
            libc::PR_SET_KEEPCAPS => rights.keep(values[0]).map(|()| 0)?,
            libc::PR_GET_SECUREBITS => rights.secure.into(),
            libc::PR_SET_SECUREBITS => rights.secure(values[0]).map(|()| 0)?,
            libc::PR_CAPBSET_READ => rights.is_bounded(values[0])?.into(),
            libc::PR_CAPBSET_DROP => rights.bound(values[0]).map(|()| 0)?,
            libc::PR_CAP_AMBIENT => ambient(rights, values)?,
            _ => return Ok(Reply::Continue),
        };
        if who != before {
            self.change(caller, who)?;
        }
        Ok(Reply::Value(value))
    }

    /// capget(2). What is wrong with a call is the kernel's to tell.
    pub(super) fn show_capabilities(
        &self,
        caller: &Caller<'_>,
        header: u64,
        sets: u64,
    ) -> Answered<Reply> {
        let Some((process, size)) = read_header(caller, header)? else {
            return Ok(Reply::Continue);
        };
        let number = caller.number_in_step()?;
        let who = match process {
            _ if sets == 0 => return Ok(Reply::Continue),
            0 => self.identity(caller),
            own if own == number => self.identity(caller),
            other => match caller.find(other) {
                Some(thread) => self.identity_of(thread),
                None => return Ok(Reply::Continue),
            },
        };
        let Rights {
            effective,
            permitted,
            inheritable,
            ..
        } = who.rights;
        let sets_of = [effective, permitted, inheritable];
        let halves = [0, 32].map(|shift| sets_of.map(|set| (set >> shift) as u32));
        let bytes: Vec<u8> = halves
            .as_flattened()
            .iter()
            .flat_map(|it| it.to_ne_bytes())
            .collect();
        caller.write(sets, &bytes[..size])?;
        Ok(Reply::Value(0))
    }

    /// capset(2). The kernel's own sets are not touched: what the step may do with files is the recorder's matter.
    pub(super) fn set_capabilities(
        &mut self,
        caller: &Caller<'_>,
        header: u64,
        sets: u64,
    ) -> Answered<Reply> {
        let Some((process, size)) = read_header(caller, header)? else {
            return Ok(Reply::Continue);
        };
        if process != 0 && process != caller.number_in_step()? {
            return Err(libc::EPERM);
        }
        let mut bytes = [0; 24];
        caller.read(sets, &mut bytes[..size])?;
        let (words, _) = bytes.as_chunks::<4>();
        let half = |at: usize| u64::from(u32::from_ne_bytes(words[at]));
        let set = |at: usize| half(at) | half(at + 3) << 32;
        let mut who = self.identity(caller);
        who.rights.set(Sets {
            effective: set(0),
            permitted: set(1),
            inheritable: set(2),
        })?;
        self.change(caller, who)?;
        Ok(Reply::Value(0))
    }
}

/// Of which process a call about capabilities is, and how long their sets are.
fn read_header(caller: &Caller<'_>, header: u64) -> Answered<Option<(u32, usize)>> {
    let mut words = [0; 8];
    caller.read(header, &mut words)?;
    let (words, _) = words.as_chunks::<4>();
    let [version, process] = [words[0], words[1]].map(u32::from_ne_bytes);
    let known = VERSIONS.iter().find(|(known, _)| *known == version);
    Ok(known.map(|(_, size)| (process, *size)))
}

/// prctl(2) with `PR_CAP_AMBIENT`.
fn ambient(rights: &mut Rights, [what, capability, rest @ ..]: [u64; 4]) -> Answered<i64> {
    if rest != [0; 2] {
        return Err(libc::EINVAL);
    }
    match i32::try_from(what) {
        Ok(libc::PR_CAP_AMBIENT_CLEAR_ALL) if capability == 0 => rights.ambient = 0,
        Ok(libc::PR_CAP_AMBIENT_IS_SET) => return rights.is_ambient(capability).map(Into::into),
        Ok(libc::PR_CAP_AMBIENT_RAISE) => rights.raise_ambient(capability)?,
        Ok(libc::PR_CAP_AMBIENT_LOWER) => rights.lower_ambient(capability)?,
        _ => return Err(libc::EINVAL),
    }
    Ok(0)
}

/// A program's own capabilities.
fn capabilities(program: &OwnedFd) -> Option<OfFile> {
    let mut value = [0; 32];
    let length = rustix::fs::getxattr(name(program), rights::ATTRIBUTE, &mut value).ok()?;
    OfFile::from_bytes(&value[..length])
}

/// The path of what is to run a script.
fn run_by(program: &OwnedFd) -> Option<CString> {
    let start = start_of(program)?;
    script::interpreter(&start).and_then(|word| CString::new(word).ok())
}

/// What the kernel knows a program by.
fn start_of(program: &OwnedFd) -> Option<Vec<u8>> {
    let is_file =
        |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    rustix::fs::fstat(program)
        .ok()
        .filter(|stat| is_file(*stat))?;
    let mut start = Vec::with_capacity(script::START);
    // Nobody's lease is waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(name(program), flags, Mode::empty()).ok()?);
    file.take(script::START as u64)
        .read_to_end(&mut start)
        .ok()?;
    Some(start)
}
