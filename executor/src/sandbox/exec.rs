//! Becoming the program: look-up in `PATH` inside the root, then execve(2).

use super::error::Failure;
use crate::sys::Order;
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Replaces this process by the program; returns only the reason why that could not be (R-RT-15). The memory is in order while it tries.
pub(super) fn execute(argv: &[String], env: &[(String, String)], order: &Order) -> Failure {
    let program = argv.first().cloned().unwrap_or_default();
    let argv: Vec<CString> = argv
        .iter()
        .filter_map(|arg| CString::new(arg.as_str()).ok())
        .collect();
    let envp: Vec<CString> = env
        .iter()
        .filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok())
        .collect();
    let mut refused = None;
    for candidate in candidates(&program, env) {
        let Ok(path) = CString::new(candidate.as_str()) else {
            continue;
        };
        let was_searched_for = candidate != program;
        if was_searched_for && !candidate.starts_with('/') {
            match is_program(&candidate) {
                false => continue,
                true => return found_relative(program),
            }
        }
        order.set(true);
        let Err(errno) = nix::unistd::execve(&path, &argv, &envp);
        order.set(false);
        match verdict(&path, errno) {
            Verdict::NotHere => {}
            Verdict::Refused(reason) => refused = refused.or(Some(reason)),
            Verdict::Final(reason) => return Failure::ProgramNotExecutable { program, reason },
        }
    }
    match refused {
        Some(reason) => Failure::ProgramNotExecutable { program, reason },
        None => Failure::ProgramNotFound { program },
    }
}

/// The paths to try, in order.
fn candidates(program: &str, env: &[(String, String)]) -> Vec<String> {
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

fn is_program(path: &str) -> bool {
    Path::new(path)
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
