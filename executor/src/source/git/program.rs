//! The `git` program, run so that neither a repository nor this machine's own settings can make it do more than it should.
//!
//! - It sees no configuration but what is given here: none of the system, the user or the remote, no hooks, no filters (so
//!   git-lfs leaves its pointers as they are), no credential helpers, and never a question to a terminal.
//! - It speaks http, https, git and ssh. Repositories of this machine are for those who typed the address of one; a
//!   submodule never leads to one.
//! - Passwords and tokens are in its environment alone, bound to the remote they are for: not in arguments, which every user
//!   of the machine can list, nor in a file.
//! - It has a process group of its own, which ends with the build.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kiln_planner::GitSource;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::GitError;
use crate::cancel::Cancel;
use crate::error::Cause;
use crate::event::{Stream, Task};
use crate::source::remote::Fetcher;

/// Where programs are when nobody says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of git's messages is kept, in bytes.
const MOST_WORDS: usize = 64 << 10;
/// How much git may print as a result, in bytes: the refs of a large remote.
const MOST_OUTPUT: u64 = 256 << 20;
/// Longest piece of git's messages in an error, in characters.
const MOST_SHOWN: usize = 600;

/// Settings that hold whatever git is asked to do.
const SETTINGS: [&str; 24] = [
    "protocol.allow=never",
    "protocol.http.allow=always",
    "protocol.https.allow=always",
    "protocol.git.allow=always",
    "protocol.ssh.allow=always",
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.fsmonitor=false",
    "core.symlinks=true",
    "core.fileMode=true",
    "core.autocrlf=false",
    "credential.helper=",
    "init.defaultBranch=master",
    "init.templateDir=",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    // What came is whole or not there.
    "fetch.unpackLimit=1",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    // A connection over which nothing comes is given up after a minute.
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
    "safe.bareRepository=all",
];

/// What git may know of the machine; the caller reads the environment.
#[derive(Debug, Clone, Default)]
pub struct GitSettings {
    /// `PATH`: where git and its helpers are.
    pub path: Option<OsString>,
    /// Variables that are passed on: proxies, certificate authorities.
    pub variables: Vec<(OsString, OsString)>,
    /// The socket of the SSH agent that may be used; without one, no key of the user's is.
    pub ssh_agent: Option<PathBuf>,
}

/// Git, ready to work for one source.
pub(crate) struct GitProgram<'a> {
    settings: &'a GitSettings,
    halt: &'a Cancel,
    /// Who hears what git prints.
    task: Option<&'a Task<'a>>,
    /// The remote, for messages.
    pub(super) remote: String,
    allows_files: bool,
    /// Configuration that nobody else may see.
    secret: Vec<(String, String)>,
    known_hosts: PathBuf,
}

/// Which repository a command works on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct At<'a> {
    /// `--git-dir`
    pub(super) git_dir: Option<&'a Path>,
    /// `--work-tree`, which is the working directory too.
    pub(super) work_tree: Option<&'a Path>,
    /// The index, if not the repository's own.
    pub(super) index: Option<&'a Path>,
}

/// A command that failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// What git said, all of it that was kept.
    pub(super) words: String,
}

/// Why a command gave no output.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Git itself says no.
    Failed(Failure),
    /// There was no git, or the build was stopped.
    Cause(Cause),
}

impl<'a> GitProgram<'a> {
    pub(crate) fn new(
        source: &GitSource,
        fetcher: &Fetcher<'a>,
        task: Option<&'a Task<'a>>,
    ) -> Result<Self, Cause> {
        let header = authorization(source, fetcher)?;
        let setting = |header| {
            let name = format!("http.{}.extraHeader", scope(&source.remote));
            (name, format!("Authorization: {header}"))
        };
        Ok(GitProgram {
            settings: &fetcher.services.git,
            halt: fetcher.halt,
            task,
            remote: source.remote.clone(),
            allows_files: source.remote.starts_with("file://"),
            secret: header.map(setting).into_iter().collect(),
            known_hosts: fetcher.services.store.root().join("remotes/known_hosts"),
        })
    }

    /// Runs a command; its output.
    pub(super) fn run<S: AsRef<OsStr>>(
        &self,
        at: At<'_>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Vec<u8>, Trouble> {
        if self.halt.requested() {
            return Err(Trouble::Cause(Cause::Canceled));
        }
        let mut command = self.command(at);
        command.args(arguments);
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Trouble::Cause(
                GitError::NoProgram {
                    remote: self.remote.clone(),
                }
                .into(),
            ),
            _ => Trouble::Cause(GitError::Start(error).into()),
        })?;
        self.wait(child)
    }

    /// Runs a command on this machine; what fails there is no remote's fault.
    pub(super) fn run_here<S: AsRef<OsStr>>(
        &self,
        act: &'static str,
        at: At<'_>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Vec<u8>, Cause> {
        let remote = self.remote.clone();
        self.run(at, arguments).map_err(|trouble| match trouble {
            Trouble::Cause(cause) => cause,
            Trouble::Failed(failure) => GitError::Local {
                act,
                remote,
                words: failure.shown(),
            }
            .into(),
        })
    }

    /// The error of a remote that failed.
    pub(super) fn remote_failed(&self, act: &'static str, trouble: Trouble) -> Cause {
        match trouble {
            Trouble::Cause(cause) => cause,
            Trouble::Failed(failure) => GitError::Remote {
                act,
                remote: self.remote.clone(),
                words: failure.shown(),
            }
            .into(),
        }
    }

    fn command(&self, at: At<'_>) -> Command {
        let mut command = Command::new("git");
        let path = self.settings.path.as_deref();
        command
            .env_clear()
            .env("PATH", path.unwrap_or(OsStr::new(DEFAULT_PATH)))
            .env("LC_ALL", "C")
            .env("HOME", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_SSH_COMMAND", self.ssh())
            .envs(
                self.settings
                    .variables
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if !self.secret.is_empty() {
            command.env("GIT_CONFIG_COUNT", self.secret.len().to_string());
        }
        for (number, (name, value)) in self.secret.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), name);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        if let Some(index) = at.index {
            command.env("GIT_INDEX_FILE", index);
        }
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        // `user`: for what was typed, not for what a submodule says.
        let files = if self.allows_files { "user" } else { "never" };
        command.args(["-c", &format!("protocol.file.allow={files}")]);
        if let Some(work_tree) = at.work_tree {
            command.arg("--work-tree").arg(work_tree);
            command.current_dir(work_tree);
        } else {
            // Not in whatever repository kiln was started in.
            command.current_dir("/");
        }
        if let Some(git_dir) = at.git_dir {
            command.arg("--git-dir").arg(git_dir);
        }
        command
    }

    /// How git speaks ssh: with the agent that was offered and no other key, and with hosts that stay who they were. The keys
    /// of hosts that are met for the first time are kept in the store.
    fn ssh(&self) -> OsString {
        let mut command = OsString::from(
            "ssh -F /dev/null -o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=20 \
             -o StrictHostKeyChecking=accept-new -o IdentityFile=none",
        );
        match &self.settings.ssh_agent {
            Some(socket) => push_option(&mut command, "IdentityAgent=", socket, ""),
            None => command.push(" -o IdentityAgent=none"),
        }
        push_option(
            &mut command,
            "UserKnownHostsFile=",
            &self.known_hosts,
            " ~/.ssh/known_hosts",
        );
        command
    }

    fn wait(&self, mut child: Child) -> Result<Vec<u8>, Trouble> {
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let group = Pid::from_child(&child);
        let running = Arc::new(Mutex::new(Some(group)));
        let _hook = self.halt.on_request({
            let running = Arc::clone(&running);
            move || {
                if let Some(group) = *running.lock().unwrap_or_else(PoisonError::into_inner) {
                    // It may have ended by itself.
                    let _ = kill_process_group(group, Signal::TERM);
                }
            }
        });
        let (output, words) = thread::scope(|scope| {
            let words = scope.spawn(|| self.listen(stderr));
            let mut output = Vec::new();
            let read = stdout.take(MOST_OUTPUT).read_to_end(&mut output);
            (read.map(|_| output), words.join().unwrap_or_default())
        });
        // While it is not reaped, its number is nobody else's.
        let _ = waitid(
            WaitId::Pid(group),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        );
        *running.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let status = child.wait();
        if self.halt.requested() {
            return Err(Trouble::Cause(Cause::Canceled));
        }
        match (status, output) {
            (Ok(status), Ok(output)) if status.success() => Ok(output),
            (Err(error), _) | (_, Err(error)) => Err(Trouble::Cause(GitError::Start(error).into())),
            _ => Err(Trouble::Failed(Failure { words })),
        }
    }

    /// Passes on what git prints and keeps the end of it.
    fn listen(&self, mut stderr: impl Read) -> String {
        let mut kept = Vec::new();
        let mut piece = vec![0; 8 << 10];
        loop {
            match stderr.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => {
                    if let Some(task) = self.task {
                        task.log(Stream::Stderr, &piece[..count]);
                    }
                    kept.extend_from_slice(&piece[..count]);
                    let surplus = kept.len().saturating_sub(MOST_WORDS);
                    kept.drain(..surplus);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        String::from_utf8_lossy(&kept).into_owned()
    }
}

impl Failure {
    /// Whether git says one of these.
    pub(super) fn says(&self, signs: &[&str]) -> bool {
        signs.iter().any(|sign| self.words.contains(sign))
    }

    /// What it says for people: its errors, on one line, without control characters.
    fn shown(&self) -> String {
        let lines = || {
            self.words
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
        };
        let is_error = |line: &&str| {
            let signs = ["fatal:", "error:", "remote:", "ERROR:", "ssh:"];
            signs.iter().any(|sign| line.starts_with(sign)) || line.contains("Permission denied")
        };
        let mut told: Vec<&str> = lines().filter(is_error).collect();
        if told.is_empty() {
            told = lines().collect();
        }
        told.dedup();
        let text = told.join("; ");
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        match text.char_indices().rev().nth(MOST_SHOWN) {
            Some((start, _)) => format!("…{}", &text[start..]),
            None => text,
        }
    }
}

/// ` -o 'name"value" more'`, as both the shell and ssh read it.
fn push_option(command: &mut OsString, name: &str, value: &Path, more: &str) {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut quoted = format!("{name}\"").into_bytes();
    for byte in value.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend([b'\\', *byte]),
            b'%' => quoted.extend(b"%%"),
            b'\'' => quoted.extend(b"'\\''"),
            _ => quoted.push(*byte),
        }
    }
    quoted.push(b'"');
    quoted.extend(more.as_bytes());
    command.push(" -o '");
    command.push(OsString::from_vec(quoted));
    command.push("'");
}

/// The header that says who asks: the first secret that is given, else as the address says (R-ADD-9).
fn authorization(source: &GitSource, fetcher: &Fetcher<'_>) -> Result<Option<String>, Cause> {
    let Some(host) = host(&source.remote) else {
        return Ok(None);
    };
    let basic = |user: &str, password: &str| {
        format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
    };
    for suffix in [format!(".{host}"), String::new()] {
        if let Some(header) = fetcher.secret(&format!("GIT_AUTH_HEADER{suffix}"))? {
            return Ok(Some(header));
        }
        if let Some(token) = fetcher.secret(&format!("GIT_AUTH_TOKEN{suffix}"))? {
            return Ok(Some(basic("x-access-token", &token)));
        }
    }
    let login = source.login.as_ref();
    Ok(login.map(|login| basic(&login.user, login.password.as_deref().unwrap_or_default())))
}

/// The host, with its port, of a remote that is asked over HTTP.
fn host(remote: &str) -> Option<&str> {
    let rest = remote
        .strip_prefix("https://")
        .or_else(|| remote.strip_prefix("http://"))?;
    rest.split('/').next()
}

/// For which addresses a header is good: the remote and what is below it. At GitHub, where submodules mostly are
/// neighbours, for all of it.
fn scope(remote: &str) -> &str {
    let everything = ["https://github.com/", "https://www.github.com/"];
    let known = everything
        .iter()
        .find(|prefix| remote.starts_with(**prefix));
    known.copied().unwrap_or(remote)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn options_of_ssh_survive_the_shell() {
        let mut command = OsString::from("printf '%s|'");
        push_option(&mut command, "A=", Path::new("/it's \"50%\" $HOME"), " ~/b");
        let output = Command::new("sh").arg("-c").arg(command).output().unwrap();
        let expected = r#"-o|A="/it's \"50%%\" $HOME" ~/b|"#;
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }

    #[test]
    fn a_header_is_for_its_remote_and_for_all_of_github() {
        for (remote, expected) in [
            ("https://h/a/r.git", "https://h/a/r.git"),
            ("https://github.com/a/r.git", "https://github.com/"),
            (
                "https://github.com.evil/a/r.git",
                "https://github.com.evil/a/r.git",
            ),
        ] {
            assert_eq!(scope(remote), expected);
        }
        assert_eq!(host("https://h:8080/r.git"), Some("h:8080"));
        assert_eq!(host("git@h:r.git"), None);
    }

    #[test]
    fn what_git_says_is_told_in_one_line() {
        let shown = |words: &str| {
            let words = words.to_owned();
            Failure { words }.shown()
        };
        let words = "hint: x\nfatal: no\u{1b}[2J\nfatal: no\u{1b}[2J\nand more\n";
        assert_eq!(shown(words), "fatal: no [2J");
        assert_eq!(shown("odd\nwords\n"), "odd; words");
        assert_eq!(shown(""), "");
        assert!(
            shown(&format!("fatal: {}", "x".repeat(5000)))
                .chars()
                .count()
                < 700
        );
    }
}
