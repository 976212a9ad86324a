//! What a source of ADD, or a context, names outside of this machine: a URL to download or a git repository
//! (R-ADD-1, R-ADD-10).
//!
//! Nothing is asked of anybody here. What an address says is taken apart once, and what must not be shown, a password
//! that is written into it, is kept out of everything that can be printed.

mod git;
mod http;
mod url;

pub use git::{GitSource, GitTimes, GitUrl, RemoteError};
pub use http::{HttpSource, HttpUrl};
pub use url::Login;

/// What an address names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// A file to download.
    Http(HttpUrl),
    /// A repository.
    Git(GitUrl),
}

impl Remote {
    /// What a source of ADD names; `None` for a path in the build context.
    ///
    /// # Errors
    /// What is wrong with an address that can be nothing else.
    pub fn of(source: &str) -> Result<Option<Remote>, RemoteError> {
        match GitUrl::parse(source)? {
            // Such a path was a repository once, and still is for a context.
            Some(git) if git.looks_local => Ok(None),
            Some(git) => Ok(Some(Remote::Git(git))),
            None if source.starts_with("http://") || source.starts_with("https://") => {
                Ok(Some(Remote::Http(HttpUrl::parse(source)?)))
            }
            None => Ok(None),
        }
    }

    /// The address without its password, and without the values of parameters that are secrets.
    #[must_use]
    pub fn redacted(source: &str) -> String {
        url::without_secrets(source, |_| "xxxxx".to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // R-ADD-1, R-ADD-10
    #[test]
    fn kinds_of_sources_are_told_apart() {
        for (source, expected) in [
            ("a.tar.gz", "path"),
            ("./git@x", "path"),
            ("../git@h:x", "path"),
            ("git@x", "path"),
            ("github.com/a/b", "path"),
            ("file:///srv/r.git", "path"),
            ("ftp://h/f", "path"),
            ("HTTP://h/f", "path"),
            ("HTTP://h/r.git", "git"),
            ("http://h/p/f.txt?x=1", "http"),
            ("https://h/r.git", "git"),
            ("https://h/r.git#v1:sub", "git"),
            ("https://h/r.git?branch=b", "git"),
            ("https://h/r.git/x", "http"),
            ("https://h/r.git/", "http"),
            ("https://h/r.gi%74", "git"),
            ("https://h/f?x=.git", "http"),
            ("git://h/r", "git"),
            ("ssh://git@h/r", "git"),
            ("git@github.com:a/b", "git"),
            ("a_b-c@h-1.x:", "git"),
            ("a.b@h:p", "path"),
        ] {
            let kind = match Remote::of(source).unwrap() {
                None => "path",
                Some(Remote::Http(_)) => "http",
                Some(Remote::Git(_)) => "git",
            };
            assert_eq!(kind, expected, "{source}");
        }
    }
}
