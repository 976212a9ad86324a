//! What can go wrong with a repository, and what may help.

use std::io;

use thiserror::Error;

use crate::error::ErrorKind;

/// A repository whose files could not be had. Addresses in it are without passwords.
#[derive(Debug, Error)]
pub enum GitError {
    /// There is no git program.
    #[error("the program `git` is not installed, and `{remote}` is a git repository")]
    NoProgram {
        /// The repository.
        remote: String,
    },
    /// The git program could not be started.
    #[error("could not start the program `git`")]
    Start(#[source] io::Error),
    /// The remote could not be asked, or did not give what was asked for.
    #[error("could not {act} `{remote}`{}", said(words))]
    Remote {
        /// `list the refs of`, `fetch`…
        act: &'static str,
        /// The repository.
        remote: String,
        /// What git said.
        words: String,
    },
    /// Work on this machine failed.
    #[error("could not {act} `{remote}`{}", said(words))]
    Local {
        /// `check out`…
        act: &'static str,
        /// The repository.
        remote: String,
        /// What git said.
        words: String,
    },
    /// The ref is not there.
    #[error("repository `{remote}` does not contain ref {reference}")]
    NoRef {
        /// The repository.
        remote: String,
        /// The ref.
        reference: String,
    },
    /// The remote doesn't say which branch is its own.
    #[error("could not find default branch for repository `{0}`")]
    NoDefaultBranch(String),
    /// The commit is not the one that was asked for (R-ADD-8).
    #[error("expected checksum to match {expected}, got {found}")]
    Checksum {
        /// What its id should begin with.
        expected: String,
        /// Its id.
        found: String,
    },
    /// `fetch-by-commit` without a whole commit id.
    #[error("fetch-by-commit requires {0}")]
    FetchByCommit(&'static str),
    /// The directory is not in the repository, or is none.
    #[error("`{subdir}` is no directory of repository `{remote}`")]
    Subdir {
        /// The repository.
        remote: String,
        /// The directory.
        subdir: String,
    },
}

impl GitError {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            GitError::NoProgram { .. } | GitError::Start(_) | GitError::Local { .. } => {
                ErrorKind::Environment
            }
            GitError::Remote { .. } => ErrorKind::Registry,
            GitError::NoRef { .. }
            | GitError::NoDefaultBranch(_)
            | GitError::Checksum { .. }
            | GitError::FetchByCommit(_)
            | GitError::Subdir { .. } => ErrorKind::Build,
        }
    }

    /// Something to try.
    pub(crate) fn help(&self) -> Option<String> {
        let help = match self {
            GitError::NoProgram { .. } => {
                "install it: `apt-get install git`, `dnf install git` or `apk add git`"
            }
            GitError::Remote { words, .. } => return remote_help(words).map(str::to_owned),
            GitError::NoRef { .. } => {
                "it is a branch, a tag, a name below `refs/`, or a whole commit id"
            }
            GitError::NoDefaultBranch(_) => "name a branch: `#main` after the address",
            GitError::Checksum { .. } => {
                "either the ref moved, then give its new commit, or it is not the one that was meant"
            }
            _ => return None,
        };
        Some(help.to_owned())
    }
}

/// What helps against a remote's refusal, by git's and ssh's words.
fn remote_help(words: &str) -> Option<&'static str> {
    const HELP: [(&[&str], &str); 5] = [
        (
            &[
                "could not read Username",
                "could not read Password",
                "Authentication failed",
                "returned error: 401",
                "returned error: 403",
            ],
            "it may not exist, or need a token: `--secret id=GIT_AUTH_TOKEN,env=NAME`",
        ),
        (
            &["Permission denied (", "no such identity"],
            "offer an SSH agent with a key for it: `--ssh default`",
        ),
        (
            &[
                "Host key verification failed",
                "REMOTE HOST IDENTIFICATION HAS CHANGED",
            ],
            "the host has another key than the one that is known of it: see that it is the right host, then correct `~/.ssh/known_hosts`",
        ),
        (
            &["certificate", "SSL"],
            "the certificate of a private authority is given with `SSL_CERT_FILE`",
        ),
        (
            &[
                "Could not resolve host",
                "Failed to connect",
                "unable to connect",
                "Connection refused",
                "timed out",
            ],
            "check the address and the network; a whole commit id that was fetched before is not asked for again",
        ),
    ];
    let helps = |(signs, _): &&(&[&str], &str)| signs.iter().any(|sign| words.contains(sign));
    HELP.iter().find(helps).map(|(_, help)| *help)
}

fn said(words: &str) -> String {
    match words.is_empty() {
        true => String::new(),
        false => format!(": {words}"),
    }
}
