//! Git repositories (R-ADD-10..12).
//!
//! ```text
//! https://host/path.git            git://host/path   ssh://[user@]host/path   user@host:path
//!   [?key=value&…][#ref[:subdir]]
//! ```

use std::fmt;

use thiserror::Error;

use super::url::{Login, Parts, decoded, encoded, query, redacted, scheme};
use crate::paths;

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RemoteError {
    /// It can't be asked for.
    #[error("invalid URL `{0}`")]
    InvalidUrl(String),
    /// A parameter that git addresses don't have.
    #[error("unexpected query {0:?}")]
    UnexpectedQuery(String),
    /// A parameter that says nothing.
    #[error("query {0:?} has no value")]
    NoValue(String),
    /// A parameter that says several things.
    #[error("query {0:?} has multiple values")]
    SeveralValues(String),
    /// A parameter whose value makes no sense.
    #[error("invalid {key} value: {value:?}{}", expected(key))]
    InvalidValue {
        /// The parameter.
        key: String,
        /// Its value.
        value: String,
    },
    /// Two parts of the address say different things.
    #[error("{what} conflicts: {first:?} vs {second:?}")]
    Conflict {
        /// `ref` or `subdir`.
        what: &'static str,
        /// What the first part says.
        first: String,
        /// What the second part says.
        second: String,
    },
    /// A branch and a tag at once.
    #[error("branch conflicts with tag")]
    BranchAndTag,
    /// A name that git would take for an option.
    #[error("invalid git ref {0:?}")]
    InvalidRef(String),
}

/// What an address says of a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitUrl {
    /// What git is given: without password, query and fragment.
    pub remote: String,
    /// The password for it, with its user. For `ssh` the user stays in [`remote`](GitUrl::remote) and this is `None`.
    pub login: Option<Login>,
    /// A branch, a tag, another ref or a commit; `None` for what the remote's HEAD says.
    pub reference: Option<String>,
    /// What the commit's id must begin with.
    pub checksum: Option<String>,
    /// A directory, without slashes around it; `None` for all.
    pub subdir: Option<String>,
    /// Whether `.git` stays.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched too.
    pub submodules: Option<bool>,
    /// The times of the files; only contexts look at it (R-ADD-11).
    pub times: GitTimes,
    /// Whether the checksum is the commit to fetch, whatever the ref says.
    pub fetch_by_commit: bool,
    /// Whether it could be a path: `github.com/a/b`, which is a repository only where a context is named.
    pub looks_local: bool,
}

/// The times of the files of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GitTimes {
    /// When they were checked out.
    #[default]
    Checkout,
    /// That of the commit.
    Commit,
}

/// What to check out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// As in [`GitUrl::remote`].
    pub remote: String,
    /// As in [`GitUrl::login`].
    pub login: Option<Login>,
    /// As in [`GitUrl::reference`].
    pub reference: Option<String>,
    /// As in [`GitUrl::checksum`].
    pub checksum: Option<String>,
    /// As in [`GitUrl::subdir`].
    pub subdir: Option<String>,
    /// Whether `.git` stays.
    pub keep_git_dir: bool,
    /// Whether submodules are fetched too.
    pub submodules: bool,
    /// The times of the files.
    pub times: GitTimes,
    /// As in [`GitUrl::fetch_by_commit`].
    pub fetch_by_commit: bool,
}

impl GitUrl {
    /// What a source of ADD, or a context, says; `None` if it is no git repository.
    ///
    /// # Errors
    /// What is wrong with the query of a repository's address.
    pub fn parse(text: &str) -> Result<Option<Self>, RemoteError> {
        if text.starts_with("./") || text.starts_with("../") {
            return Ok(None);
        }
        if text.starts_with("github.com/") {
            let address = format!("https://{text}");
            let Some(parts) = Parts::of(&address) else {
                return Ok(None);
            };
            let url = GitUrl {
                looks_local: true,
                ..GitUrl::of(&parts)?
            };
            return Ok(Some(url));
        }
        let Some(scheme) = scheme(text) else {
            return GitUrl::scp_like(text);
        };
        let scheme = scheme.to_ascii_lowercase();
        let Some(parts) = Parts::of(text) else {
            return Ok(None);
        };
        let is_git = match &*scheme {
            "git" | "ssh" => true,
            "http" | "https" => decoded(parts.path).is_some_and(|path| path.ends_with(".git")),
            _ => false,
        };
        match is_git {
            true => GitUrl::of(&parts).map(Some),
            false => Ok(None),
        }
    }

    /// As [`parse`](GitUrl::parse), for an address that the person who builds has typed: a repository of this machine,
    /// `file:///path.git`, is one too. In a Dockerfile it would let whoever wrote that read this machine.
    ///
    /// # Errors
    /// As [`parse`](GitUrl::parse).
    pub fn parse_trusted(text: &str) -> Result<Option<Self>, RemoteError> {
        let Some(rest) = text.strip_prefix("file:///") else {
            return GitUrl::parse(text);
        };
        // The address of nobody, for the rest of it to be taken apart as any.
        let address = format!("git://localhost/{rest}");
        let Some(parts) = Parts::of(&address) else {
            return Ok(None);
        };
        if !decoded(parts.path).is_some_and(|path| path.ends_with(".git")) {
            return Ok(None);
        }
        let url = GitUrl::of(&parts)?;
        Ok(Some(GitUrl {
            remote: format!("file://{}", encoded(parts.path)),
            ..url
        }))
    }

    /// What to check out, as far as the address says it.
    #[must_use]
    pub fn source(&self) -> GitSource {
        GitSource {
            remote: self.remote.clone(),
            login: self.login.clone(),
            reference: self.reference.clone(),
            checksum: self.checksum.clone(),
            subdir: self.subdir.clone(),
            keep_git_dir: self.keep_git_dir.unwrap_or(false),
            submodules: self.submodules.unwrap_or(true),
            times: self.times,
            fetch_by_commit: self.fetch_by_commit,
        }
    }

    fn of(parts: &Parts<'_>) -> Result<Self, RemoteError> {
        let fragment = decoded(parts.fragment).unwrap_or_default();
        let keeps_user = parts.scheme == "ssh";
        let user = match &parts.login {
            Some(login) if keeps_user => format!("{}@", encoded(&login.user)),
            _ => String::new(),
        };
        let host = parts.host;
        let path = encoded(parts.path);
        let mut url = GitUrl::new(format!("{}://{user}{host}{path}", parts.scheme));
        url.login = parts.login.clone().filter(|_| !keeps_user);
        url.set_fragment(&fragment);
        url.set_query(&query(parts.query))?;
        url.checked()
    }

    /// `user@host:path[?query][#fragment]`
    fn scp_like(text: &str) -> Result<Option<Self>, RemoteError> {
        let is_word = |text: &str, extra: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || extra.contains(c);
            !text.is_empty() && text.chars().all(allowed)
        };
        let Some((user, rest)) = text.split_once('@') else {
            return Ok(None);
        };
        let Some((host, rest)) = rest.split_once(':') else {
            return Ok(None);
        };
        if !is_word(user, "-_") || !is_word(host, "-.") || text.contains('\n') {
            return Ok(None);
        }
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url = GitUrl::new(format!("{user}@{host}:{path}"));
        url.set_fragment(fragment);
        url.set_query(&query(parameters))?;
        url.checked().map(Some)
    }

    fn new(remote: String) -> Self {
        GitUrl {
            remote,
            login: None,
            reference: None,
            checksum: None,
            subdir: None,
            keep_git_dir: None,
            submodules: None,
            times: GitTimes::default(),
            fetch_by_commit: false,
            looks_local: false,
        }
    }

    /// `[ref][:subdir]`
    fn set_fragment(&mut self, fragment: &str) {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        self.reference = Some(reference.to_owned()).filter(|reference| !reference.is_empty());
        self.subdir = directory(subdir);
    }

    fn set_query(&mut self, parameters: &[(String, String)]) -> Result<(), RemoteError> {
        let (mut tag, mut branch) = (None, None);
        for (at, (key, value)) in parameters.iter().enumerate() {
            if parameters[..at].iter().any(|(other, _)| other == key) {
                return Err(RemoteError::SeveralValues(key.clone()));
            }
            let may_be_empty = ["submodules", "keep-git-dir", "fetch-by-commit"].contains(&&**key);
            if value.is_empty() && !may_be_empty {
                return Err(RemoteError::NoValue(key.clone()));
            }
            match &**key {
                "ref" => self.set_reference(value)?,
                "tag" => tag = Some(value),
                "branch" => branch = Some(value),
                "subdir" => self.set_subdir(value)?,
                "checksum" | "commit" => self.checksum = Some(value.clone()),
                "keep-git-dir" => self.keep_git_dir = Some(flag(key, value)?),
                "submodules" => self.submodules = Some(flag(key, value)?),
                "fetch-by-commit" => self.fetch_by_commit = flag(key, value)?,
                "mtime" => self.times = times(value)?,
                _ => return Err(RemoteError::UnexpectedQuery(key.clone())),
            }
        }
        if tag.is_some() && branch.is_some() {
            return Err(RemoteError::BranchAndTag);
        }
        for (name, prefix) in [(tag, "refs/tags/"), (branch, "refs/heads/")] {
            if let Some(name) = name {
                let short = name.strip_prefix(prefix).unwrap_or(name);
                self.set_reference(&format!("{prefix}{short}"))?;
            }
        }
        Ok(())
    }

    fn set_reference(&mut self, reference: &str) -> Result<(), RemoteError> {
        match &self.reference {
            Some(first) if first != reference => Err(conflict("ref", first, reference)),
            _ => {
                self.reference = Some(reference.to_owned());
                Ok(())
            }
        }
    }

    fn set_subdir(&mut self, subdir: &str) -> Result<(), RemoteError> {
        match &self.subdir {
            Some(first) if first != subdir => Err(conflict("subdir", first, subdir)),
            _ => {
                self.subdir = directory(subdir);
                Ok(())
            }
        }
    }

    fn checked(self) -> Result<Self, RemoteError> {
        match &self.reference {
            Some(reference) if reference.starts_with('-') => {
                Err(RemoteError::InvalidRef(reference.clone()))
            }
            _ => Ok(self),
        }
    }
}

/// As a person would write it, without the password.
impl fmt::Display for GitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.remote))?;
        let reference = self.reference.as_deref().unwrap_or_default();
        match &self.subdir {
            Some(subdir) => write!(f, "#{reference}:{subdir}"),
            None if reference.is_empty() => Ok(()),
            None => write!(f, "#{reference}"),
        }
    }
}

/// A directory as the checkout has it; `None` for all of it.
fn directory(text: &str) -> Option<String> {
    let path = paths::clean_rooted(text);
    Some(path[1..].to_owned()).filter(|path| !path.is_empty())
}

fn conflict(what: &'static str, first: &str, second: &str) -> RemoteError {
    RemoteError::Conflict {
        what,
        first: first.to_owned(),
        second: second.to_owned(),
    }
}

/// Yes and no in Go's spellings; nothing at all is a yes.
fn flag(key: &str, value: &str) -> Result<bool, RemoteError> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(invalid(key, value)),
    }
}

fn times(value: &str) -> Result<GitTimes, RemoteError> {
    match value {
        "checkout" => Ok(GitTimes::Checkout),
        "commit" => Ok(GitTimes::Commit),
        _ => Err(invalid("mtime", value)),
    }
}

fn invalid(key: &str, value: &str) -> RemoteError {
    RemoteError::InvalidValue {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn expected(key: &str) -> &'static str {
    match key {
        "mtime" => " (must be \"checkout\" or \"commit\")",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
