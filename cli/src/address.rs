//! Contexts that are not on this machine, as they are typed: repositories and URLs (R-CTX-1, R-CTX-8).

use std::error::Error;

use kiln_planner::{GitUrl, HttpUrl};

/// Where something is to be fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A git repository.
    Git(Box<GitUrl>),
    /// A file.
    Http(Box<HttpUrl>),
}

impl Address {
    /// `None` for what is a path.
    ///
    /// # Errors
    /// What is wrong with an address that can be nothing else.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, String> {
        // Whoever types it may read this machine, so that a repository here is one too.
        let git = GitUrl::parse_trusted(text).map_err(|error| in_words(&error))?;
        if let Some(git) = git {
            return Ok(Some(Self::Git(Box::new(git))));
        }
        if !is_http(text) {
            return Ok(None);
        }
        let url = HttpUrl::parse(text).map_err(|error| in_words(&error))?;
        Ok(Some(Self::Http(Box::new(url))))
    }
}

/// Whether a text is the URL of a file.
pub(crate) fn is_http(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// An error and what is behind it, on one line.
pub(crate) fn in_words(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |error: &&dyn Error| (**error).source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_told_from_paths() {
        // R-CTX-1, R-CTX-8
        for (text, expected) in [
            (".", "path"),
            ("dir/x.git", "path"),
            ("./git@host:x", "path"),
            ("https://h/x.tar.gz", "http"),
            ("http://h/Dockerfile", "http"),
            ("https://h/x.git#v1:sub", "git"),
            ("git@h:x", "git"),
            ("ssh://h/x", "git"),
            ("github.com/a/b", "git"),
            ("file:///srv/x.git", "git"),
        ] {
            let kind = match Address::parse(text).unwrap() {
                None => "path",
                Some(Address::Git(_)) => "git",
                Some(Address::Http(_)) => "http",
            };
            assert_eq!(kind, expected, "{text}");
        }
    }
}
