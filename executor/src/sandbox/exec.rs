//! Becoming the program: look-up in `PATH` inside the root, then execve(2).

use super::error::Failure;
use crate::sys::{self, Order, Strings};
use nix::errno::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program as it is to be executed. Where the memory is another process's, that process drops it.
#[derive(Debug)]
pub(super) struct Attempt {
    program: String,
    /// Where it may be, in the order in which these are tried.
    candidates: Vec<CString>,
    argv: Strings,
    env: Strings,
}

impl Attempt {
    pub(super) fn new(argv: &[String], env: &[(String, String)]) -> Self {
        let string = |text: String| CString::new(text).ok();
        let program = argv.first().cloned().unwrap_or_default();
        let candidates = candidates(&program, env).into_iter();
        let variables = env.iter().map(|(name, value)| format!("{name}={value}"));
        Self {
            candidates: candidates.filter_map(string).collect(),
            argv: Vec::from_iter(argv.iter().cloned().filter_map(string)).into(),
            env: Vec::from_iter(variables.filter_map(string)).into(),
            program,
        }
    }

    /// Replaces this process by the program; returns only the reason why that could not be (R-RT-15). The memory is in order while it tries.
    pub(super) fn execute(&self, order: &Order) -> Failure {
        let program = || self.program.clone();
        let mut refused = None;
        for path in &self.candidates {
            let was_searched_for = path.to_bytes() != self.program.as_bytes();
            if was_searched_for && !path.to_bytes().starts_with(b"/") {
                match is_program(path) {
                    false => continue,
                    true => return found_relative(program()),
                }
            }
            let errno = sys::execute(path, &self.argv, &self.env, order);
            match verdict(path, errno) {
                Verdict::NotHere => {}
                Verdict::Refused(reason) => refused = refused.or(Some(reason)),
                Verdict::Final(reason) => {
                    return Failure::ProgramNotExecutable {
                        program: program(),
                        reason,
                    };
                }
            }
        }
        match refused {
            Some(reason) => Failure::ProgramNotExecutable {
                program: program(),
                reason,
            },
            None => Failure::ProgramNotFound { program: program() },
        }
    }
}

/// The paths to try, in order.
pub(super) fn candidates(program: &str, env: &[(String, String)]) -> Vec<String> {
    if program.is_empty() {
        return Vec::new();
    }
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let path = env
        .iter()
        .find(|(name, _)| name == "PATH")
        .map_or(DEFAULT_PATH, |(_, value)| value);
    // An empty entry is the working directory, as for a shell.
    path.split(':')
        .map(|dir| match dir {
            "" => format!("./{program}"),
            dir => format!("{dir}/{program}"),
        })
        .collect()
}

fn is_program(path: &CStr) -> bool {
    Path::new(OsStr::from_bytes(path.to_bytes()))
        .metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// As in Go's `exec.LookPath`, whoever wants a program of the working directory must say so.
fn found_relative(program: String) -> Failure {
    Failure::ProgramNotExecutable {
        program,
        reason: "cannot run executable found relative to current directory".into(),
    }
}

/// What a failed execve means for the search.
enum Verdict {
    /// Try the next directory.
    NotHere,
    /// Try the next directory; if none has it, this is why.
    Refused(String),
    /// It was found, and can't be executed.
    Final(String),
}

fn verdict(path: &CStr, errno: Errno) -> Verdict {
    let there = Path::new(&*path.to_string_lossy()).metadata();
    match (errno, there) {
        (Errno::ENOENT, Ok(_)) => {
            Verdict::Final("its interpreter or dynamic loader is not in the image".into())
        }
        (Errno::ENOENT | Errno::ENOTDIR, _) => Verdict::NotHere,
        (Errno::EACCES, Ok(found)) if found.is_dir() && !path.to_bytes().starts_with(b"/") => {
            Verdict::NotHere
        }
        (Errno::EACCES, Ok(found)) if found.is_dir() => Verdict::Refused("is a directory".into()),
        (Errno::EACCES, _) => Verdict::Refused("permission denied".into()),
        (errno, _) => Verdict::Final(lower_first(errno.desc())),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_ascii_lowercase().to_string() + chars.as_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_follow_the_environments_path() {
        let env = |path: &str| vec![("PATH".to_owned(), path.to_owned())];
        assert_eq!(candidates("sh", &env("/a:/b")), ["/a/sh", "/b/sh"]);
        assert_eq!(candidates("sh", &env("/a::")), ["/a/sh", "./sh", "./sh"]);
        assert_eq!(candidates("./run", &env("/a")), ["./run"]);
        assert_eq!(candidates("sh", &[]).len(), 6);
        assert_eq!(candidates("", &env("/a")), [""; 0]);
    }
}
